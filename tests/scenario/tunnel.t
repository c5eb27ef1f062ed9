# Connections that carry something else than requests: after an upgrade (RFC 9110 §7.8), on listeners
# with Tunnel=, and the PROXY header before either.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Loop    qw(turn);
use Baton::Metrics ();
use Baton::Test;
use JSON::PP    ();
use Socket      qw(:DEFAULT inet_pton);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $folder  = folder();
my $LOG     = "$folder/access.log";
my $backend = Baton::Backend->new(early => 1);
my $raw     = Baton::Backend->new(raw => 1);
my $away    = Baton::Backend->new(raw => 1)->stop;

my $server = start(
    sockets => [map { ($_ => '127.0.0.1:0') } qw(http admin raw away brief front both told)],
    config => <<~END);
        [Server]
        Workers=1
        HeaderTimeout=500ms
        MaxBodySize=8M
        AccessLog=json
        AccessLogFile=$LOG
        DrainTimeout=0
        [Listen http]
        [Listen admin]
        Admin=yes
        [Listen raw]
        Tunnel=raw
        [Listen away]
        Tunnel=away
        [Listen brief]
        Tunnel=brief
        [Listen front]
        AcceptProxy=yes
        [Listen both]
        AcceptProxy=yes
        Tunnel=raw
        [Listen told]
        AcceptProxy=yes
        Tunnel=told
        [Route all]
        Upstream=all
        [Route idle]
        Host=idle.example
        Upstream=idle
        [Upstream all]
        Server=@{[$backend->address]}
        MaxFails=0
        [Upstream idle]
        Server=@{[$backend->address]}
        TunnelTimeout=200ms
        [Upstream raw]
        Server=@{[$raw->address]}
        [Upstream told]
        Server=@{[$raw->address]}
        SendProxy=v1
        [Upstream away]
        Server=@{[$away->address]}
        MaxWaiting=2
        [Upstream brief]
        Server=@{[$away->address]}
        HoldTimeout=100ms
        END
my $barrier = $server->connect('admin');
$barrier->get('/livez'); # from now on it has the patience of IdleTimeout=

sub settle
{
    for (1 .. 8) {
        $barrier->get('/livez');
        turn();
    }
}

my $SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

sub upgrade($target = '/chat', @lines)
{
    unshift @lines, 'Host: chat.example' unless grep {/^Host/} @lines;
    return join "\r\n", "GET $target HTTP/1.1", @lines, 'Connection: keep-alive, Upgrade', 'Upgrade: websocket',
        'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', '';
}

# A client and the end of its tunnel at the backend, after the upgrade.
sub open_websocket(@lines)
{
    $backend->hold->skip_requests;
    my $client  = $server->connect->send(upgrade('/chat', @lines));
    my $request = $backend->wait_request;
    $request->send($SWITCH);
    is $client->read_head(10)->status, 101, 'switched';
    return ($client, $request->take);
}

# The same through a listener with Tunnel=.
sub open_raw(@)
{
    my $client = $server->connect('raw');
    return ($client, $raw->wait_connection);
}

my %open = (websocket => \&open_websocket, listener => \&open_raw);
my $LARGE = join '', map { pack 'N', $_ } 1 .. 2 << 20;

# Sends without waiting, and then waits for the other end to have it all.
sub carries($name, $from, $to, $bytes)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($rest, $got) = ($bytes, '');
    while (length $got < length $bytes) {
        if (length $rest) {
            my $sent = CORE::send $from->{socket}, $rest, 0;
            substr $rest, 0, $sent, '' if $sent;
        }
        my $more = $to->read_now(1 << 20);
        $to->read_more if !defined $more && !length $rest;
        $got .= substr $to->{bytes}, 0, length $to->{bytes}, '';
    }
    ok $got eq $bytes, $name;
}

# Upgrades ---------------------------------------------------------------------------------------

subtest 'an upgrade' => sub {
    $backend->hold;
    my $client  = $server->connect->send(upgrade());
    my $request = $backend->wait_request;
    my %fields  = map { (lc $_->[0] => $_->[1]) } @{$request->fields};
    is_deeply [@fields{qw(connection upgrade sec-websocket-key sec-websocket-version)}],
        ['upgrade', 'websocket', 'dGhlIHNhbXBsZSBub25jZQ==', 13], 'is asked for';
    settle();
    ok $client->is_quiet, 'and waited for';
    $request->send($SWITCH);
    my $answer = $client->read_head(10);
    is_deeply $answer->{fields}, [['Sec-WebSocket-Accept', 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='], ['Upgrade', 'websocket'], ['Connection', 'upgrade']], 'the answer' or diag explain $answer;
    my $end = $request->take;
    for (1 .. 3) {
        is $end->send("from the backend $_")->{bytes}, '', 'bytes';
        is $client->read_bytes(18), "from the backend $_", '... to the client';
        $client->send("from the client $_");
        is $end->read_bytes(17), "from the client $_", '... to the backend';
    }
    carries('a lot of them, one way',   $client, $end,    $LARGE);
    carries('a lot of them, the other', $end,    $client, $LARGE);
    $client->send("GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n");
    is $end->read_bytes(33), "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", 'none of them is looked at';
    my $before = Baton::Metrics->scrape($barrier);
    is $before->value('tunnels_total'), 1, 'counted';
    $client->close;
    ok $end->is_closed, 'the client leaves';
    $end->close;
    my $after = Baton::Metrics->wait_ended($barrier, $before, 'tunnel_closed');
    is $after->imbalance, 0, 'all is accounted for';
    my ($line) = map { JSON::PP::decode_json($_) } grep {m{/chat}} split /\n/, read_file($LOG);
    is $line->{status}, 101, 'the access log';
};

subtest 'bytes with the heads' => sub {
    $backend->hold;
    my $client  = $server->connect->send(upgrade() . 'early');
    my $request = $backend->wait_request;
    settle();
    is $request->connection->{in}, '', 'not before the answer';
    $request->send($SWITCH . 'hello');
    is $client->read_head(10)->status, 101, 'switched';
    is $client->read_bytes(5), 'hello', 'the backend\'s first bytes come with the answer';
    my $end = $request->take;
    is $end->read_bytes(5), 'early', 'and the client\'s go to the backend';

    # As much as finds room before, and more.
    $client = $server->connect->send(upgrade());
    $request = $backend->wait_request;
    my $sent = 0;
    while (1) {
        my $n = CORE::send $client->{socket}, substr($LARGE, $sent, 100_000), 0;
        settle() unless $n;
        $n //= CORE::send($client->{socket}, substr($LARGE, $sent, 100_000), 0) // last;
        $sent += $n;
        last if $sent == length $LARGE;
    }
    $request->send($SWITCH);
    is $client->read_head(10)->status, 101, 'switched';
    $end = $request->take;
    ok $end->read_bytes($sent) eq substr($LARGE, 0, $sent), "$sent early bytes";
    carries('and all that follow', $client, $end, $LARGE);

    $client = $server->connect->send(upgrade('/', 'Content-Length: 5') . 'hel');
    $request = $backend->wait_request;
    $client->send('lotail');
    is $request->wait_body, 'hello', 'the body of an upgrade';
    $request->send($_), settle() for split /(?<=\n)/, $SWITCH;
    is $client->read_head(10)->status, 101, 'switched';
    is $request->take->read_bytes(4), 'tail', 'and what follows it';

    $client = $server->connect;
    for (split //, upgrade()) {
        $client->send($_);
        turn();
    }
    $request = $backend->wait_request;
    for (split //, $SWITCH . 'x') {
        $request->send($_);
        turn();
    }
    is $client->read_head(10)->status, 101, 'byte by byte';
    is $client->read_bytes(1), 'x', '... to the last';
};

subtest 'an upgrade that is refused' => sub {
    $backend->skip_requests->hold;
    my $client = $server->connect;
    for my $status (200, 400, 426) {
        $client->send(upgrade());
        my $request = $backend->wait_request;
        $request->answer(status => $status, body => 'no', fields => [Upgrade => 'foo', Connection => 'upgrade']);
        my $answer = $client->read_answer;
        is $answer->status . $answer->body, "${status}no", "with $status";
        is $answer->field('Upgrade'), $status == 426 ? 'foo' : undef, '... Upgrade';
        ok !$answer->closes, '... and the connection goes on';
    }
    $client->send(upgrade() . "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    $backend->wait_request->answer(body => 'no');
    is $client->read_answer->body, 'no', 'what follows is a request';
    my $request = $backend->wait_request;
    is $request->target, '/next', '... as others';
    $request->answer(body => 'next');
    is $client->read_answer->body, 'next', '... and answered';
    $client->send(upgrade() . "\x81\x05hello");
    $backend->wait_request->answer(body => 'no');
    is $client->read_answer->body, 'no', 'or none';
    is $client->read_answer->status, 400, '... and refused';
    is scalar($backend->requests), $backend->{taken}, '... and not sent on';
};

subtest 'an answer 101 that cannot be' => sub {
    $backend->hold;
    my %wrong = (
        'nobody asked' => ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", $SWITCH],
        'for h2c' => ["GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", $SWITCH =~ s/websocket/h2c/r],
        'HTTP/1.0' => ["GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", $SWITCH],
        'no Upgrade' => [upgrade(), "HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n"],
        'no Connection' => [upgrade(), "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"],
        'before the end of the request' => [upgrade('/', 'Content-Length: 5') . 'hel', $SWITCH],
    );
    for my $name (sort keys %wrong) {
        my $client = $server->connect->send($wrong{$name}[0]);
        my $request = $backend->wait_request;
        $request->send($wrong{$name}[1] . 'bytes');
        is $client->read_answer->status, 502, $name;
        $request->wait_abandoned;
    }
};

# Ends -------------------------------------------------------------------------------------------

subtest 'half a tunnel' => sub {
    for my $kind (sort keys %open) {
        for my $bytes ('', 'last words', $LARGE) {
            my $name = "$kind, " . length $bytes;
            for my $first (0, 1) {
                my @ends = $open{$kind}->();
                my ($one, $other) = $first ? reverse @ends : @ends;
                carries("$name: the last bytes", $one, $other, $bytes);
                $one->finish;
                ok $other->is_closed, '... and then the end';
                settle();
                ok $one->is_quiet, '... of one direction alone';
                carries("$name: the other goes on", $other, $one, $bytes . 'more');
                $other->finish;
                ok $one->is_closed, '... until its end';
                $_->close for @ends;
            }
        }
    }
    my $metrics = Baton::Metrics->wait_open($barrier);
    is $metrics->imbalance, 0, 'none is left';
};

# The end follows what could not be sent at once.
subtest 'an end behind unsent bytes' => sub {
    for my $kind (sort keys %open) {
        for my $first (0, 1) {
            my ($one, $other) = $first ? reverse $open{$kind}->() : $open{$kind}->();
            my $sent = 0;
            for (my $turns = 0; $turns < 3;) {
                my $n = CORE::send $one->{socket}, substr($LARGE, $sent % 1_000_000, 100_000), 0;
                $n ? ($turns = 0, $sent += $n) : ($turns++, settle());
            }
            $one->finish;
            settle();
            ok $other->send('x'), 'the other direction goes on meanwhile';
            is $one->read_bytes(1), 'x', '... there';
            my $got = length $other->read_to_end;
            is $got, $sent, "$kind: $got bytes, and then the end";
            $_->close for $one, $other;
        }
    }
};

subtest 'a reset' => sub {
    my $before = Baton::Metrics->wait_open($barrier);
    for my $kind (sort keys %open) {
        for my $first (0, 1) {
            my ($one, $other) = $first ? reverse $open{$kind}->() : $open{$kind}->();
            $one->reset;
            ok !eval { $other->read_more; 1 }, "$kind: it is no end";
            ok $other->{was_reset}, '... but a reset';
            $other->close;
        }
    }
    Baton::Metrics->wait_ended($barrier, $before, 'tunnel_closed', 4);
};

subtest 'TunnelTimeout=' => sub {
    my $before = Baton::Metrics->wait_open($barrier);
    my ($client, $end) = open_websocket('Host: idle.example');
    my $until = clock_gettime(CLOCK_MONOTONIC) + 0.5;
    my $count = 0;
    while (clock_gettime(CLOCK_MONOTONIC) < $until) {
        my ($one, $other) = ++$count % 100 < 50 ? ($client, $end) : ($end, $client);
        $one->send('x');
        $other->read_bytes(1);
    }
    pass "$count bytes kept it alive";
    ok $client->is_closed, 'without any it ends';
    ok $end->is_closed, '... on both sides';
    Baton::Metrics->wait_ended($barrier, $before, 'idle_timeout');
};

# Listeners with Tunnel= -------------------------------------------------------------------------

subtest 'a listener that is a tunnel' => sub {
    my $client = $server->connect('raw');
    my $end    = $raw->wait_connection;
    $end->send("220 ready\r\n");
    is $client->read_bytes(11), "220 ready\r\n", 'the backend speaks first';
    $client->send("GET / HTTP/1.1\r\n\r\n");
    is $end->read_bytes(18), "GET / HTTP/1.1\r\n\r\n", 'the client answers, in whatever';
    $end->close;
    ok $client->is_closed, 'closed';

    $client = $server->connect('raw')->send("first\0\xff");
    $end = $raw->wait_connection;
    is $end->read_bytes(7), "first\0\xff", 'the client speaks first';
    carries('much, one way',       $client, $end,    $LARGE);
    carries('much, the other way', $end,    $client, $LARGE);
    $client = $server->connect('raw')->send('all of it')->finish;
    is $raw->wait_connection->read_to_end, 'all of it', 'a client that says all and ends';
};

# A socket that we bind ourselves does not wait for the client's first byte (tcp(7), TCP_DEFER_ACCEPT:
# a second), nor does one that was an HTTP listener before.
subtest 'a listener that we bind' => sub {
    my ($tunnel, $other) = map { free_address() } 1 .. 2;
    my $configuration = sub (@keys) {
        return join "\n", '[Server]', 'Workers=1', '[Listen http]', "Address=$other", '[Listen tunnel]', "Address=$tunnel", @keys,
            '[Route all]', 'Upstream=raw', '[Upstream raw]', 'Server=' . $raw->address, '';
    };
    my $bound = start(config => $configuration->(), sockets => []);
    $bound->configure($configuration->('Tunnel=raw'));
    is $bound->reload->status, 0, 'a reload';
    my $client = Baton::Http->connect($tunnel);
    my $end    = $raw->wait_connection(0.8);
    $end->send('220');
    is $client->read_bytes(3), '220', 'the backend speaks first';
    $_->close for $client, $end;
    is $bound->stop, 0, 'exit code';
};

subtest 'a tunnel that waits for its backend' => sub {
    my $silent = $server->connect('away');
    my $speaks = $server->connect('away')->send('hello');
    settle();
    ok $_->is_quiet, 'held' for $silent, $speaks;
    ok $server->connect('away')->is_closed, 'not more than MaxWaiting=';
    like $server->wait_log(qr/A tunnel gets no backend.*/), qr/\[Upstream away\]: MaxWaiting= requests wait already/, '... says the log';
    $silent->close;
    settle();
    $silent = $server->connect('away');
    settle();
    ok $silent->is_quiet, 'who leaves makes room';
    $away->listen;
    my @ends = map { $away->wait_connection } 1 .. 2;
    my ($spoken) = grep { settle(); !$_->is_quiet } @ends;
    my ($other)  = grep { $_ != $spoken } @ends;
    is $spoken->read_bytes(5), 'hello', 'served: who spoke';
    $spoken->send('one');
    is $speaks->read_bytes(3), 'one', '... and is answered';
    $other->send('two');
    is $silent->read_bytes(3), 'two', 'and who waited for a word';
    $away->stop;

    my $client = $server->connect('brief')->send('hello');
    ok !eval { $client->read_more(10) }, 'HoldTimeout= is over';
    like $server->wait_log(qr/A tunnel gets no backend.*/), qr/\[Upstream brief\]: .*refused/, '... says the log';
    my $left = $server->connect('away')->send('hello')->finish;
    settle();
    $away->listen;
    my $end = $away->wait_connection;
    is $end->read_to_end, 'hello', 'who has said all may have ended meanwhile';
    $end->send('answer');
    is $left->read_bytes(6), 'answer', '... and is answered';
    $away->stop;
};

# The PROXY header -------------------------------------------------------------------------------

sub v2($command, $family, $block)
{
    return "\r\n\r\n\0\r\nQUIT\n" . pack('CCn', 0x20 | $command, $family, length $block) . $block;
}

my $IPV4 = inet_aton('192.0.2.7') . inet_aton('198.51.100.1') . pack('nn', 4711, 80);
my $IPV6 = inet_pton(AF_INET6, '2001:db8::7') . inet_pton(AF_INET6, '2001:db8::1') . pack('nn', 4711, 80);
my %good = (
    'v1, IPv4' => ["PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n", '192.0.2.7'],
    'v1, IPv6' => ["PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", '2001:db8::7'],
    'v1, unknown' => ["PROXY UNKNOWN\r\n", '127.0.0.1'],
    'v1, unknown with more' => ["PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", '127.0.0.1'],
    'v2, IPv4' => [v2(1, 0x11, $IPV4), '192.0.2.7'],
    'v2, IPv6' => [v2(1, 0x21, $IPV6), '2001:db8::7'],
    'v2, with TLVs' => [v2(1, 0x11, $IPV4 . "\x04\0\x03abc\x05\0\0"), '192.0.2.7'],
    'v2, local' => [v2(0, 0, ''), '127.0.0.1'],
    'v2, local with more' => [v2(0, 0x11, $IPV4), '127.0.0.1'],
    'v2, a unix socket' => [v2(1, 0x31, "\0" x 216), '127.0.0.1'],
);
my %bad = (
    'none' => "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    'TLS' => "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    'v1, no number' => "PROXY TCP4 192.0.2.7 198.51.100.1 x 80\r\n",
    'v1, a port too large' => "PROXY TCP4 192.0.2.7 198.51.100.1 65536 80\r\n",
    'v1, another family' => "PROXY UDP4 192.0.2.7 198.51.100.1 4711 80\r\n",
    'v1, IPv6 said to be IPv4' => "PROXY TCP4 2001:db8::7 2001:db8::1 4711 80\r\n",
    'v1, too few' => "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    'v1, too many' => "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80 81\r\n",
    'v1, two spaces' => "PROXY TCP4  192.0.2.7 198.51.100.1 4711 80\r\n",
    'v1, without end' => 'PROXY ' . 'x' x 120,
    'v1, LF' => "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    'v2, version 3' => "\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c$IPV4",
    'v2, another command' => v2(2, 0x11, $IPV4),
    'v2, too short' => v2(1, 0x11, substr $IPV4, 0, 11),
    'v2, a TLV too long' => v2(1, 0x11, "$IPV4\x04\0\x05abc"),
    'v2, too long' => v2(1, 0x11, $IPV4 . "\x04\x10\0" . 'x' x 4096),
);

subtest 'a PROXY header before requests' => sub {
    $backend->answer(sub ($request) { return (body => $request->field('X-Forwarded-For')) });
    $backend->skip_requests;
    my $request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for my $name (sort keys %good) {
        my ($header, $address) = @{$good{$name}};
        my $client = $server->connect('front')->send($header . $request x 2);
        is $client->read_answer->body, $address, "$name, with requests" for 1 .. 2;
        $client = $server->connect('front')->send($header);
        settle();
        is $client->get('/')->body, $address, '... alone';
        $client = $server->connect('front');
        for (split //, $header . $request) {
            $client->send($_);
            $barrier->get('/livez');
        }
        is $client->read_answer->body, $address, '... in single bytes';
        is $client->get('/')->body, $address, '... and for further requests';
    }
    for my $name (sort keys %bad) {
        my $before = scalar $backend->requests;
        my $client = $server->connect('front')->send($bad{$name});
        is eval { $client->read_to_end } // '', '', "$name: no answer";
        is scalar($backend->requests), $before, '... and no request';
    }
    my $before = Baton::Metrics->wait_open($barrier);
    my @late   = map { $server->connect('front')->send($_) } '', 'PROXY TCP4 ', substr v2(1, 0x11, $IPV4), 0, 17;
    ok $_->is_closed, 'HeaderTimeout=' for @late;
    Baton::Metrics->wait_ended($barrier, $before, 'header_timeout', 3);
    my %peers = map { ($_->{peer} => 1) } map { JSON::PP::decode_json($_) } split /\n/, read_file($LOG);
    ok $peers{'192.0.2.7'} && $peers{'2001:db8::7'}, 'the access log has the address';
    $backend->hold;
};

subtest 'a PROXY header before a tunnel' => sub {
    for my $name (sort keys %good) {
        my ($header, $address) = @{$good{$name}};
        my $client = $server->connect('both')->send("${header}hello");
        is $raw->wait_connection->read_bytes(5), 'hello', "$name: what follows goes on";
        $client = $server->connect('both');
        for (split //, $header) {
            $client->send($_);
            $barrier->get('/livez');
        }
        my $end = $raw->wait_connection;
        $end->send('hello');
        is $client->read_bytes(5), 'hello', '... in single bytes, and the backend speaks first';
        $client = $server->connect('told')->send("${header}hello");
        my $line = $raw->wait_connection->read_line(10);
        my $family = $address =~ /:/ ? 'TCP6' : 'TCP4';
        like $line, qr/^PROXY $family \Q$address\E /, '... and is passed on by SendProxy=';
    }
    for my $name (sort keys %bad) {
        my $before = $raw->accepted;
        my $client = $server->connect('both')->send($bad{$name});
        is eval { $client->read_to_end } // '', '', "$name: closed";
        settle();
        is $raw->accepted, $before, '... and no tunnel';
    }
};

is Baton::Metrics->wait_open($barrier)->imbalance, 0, 'every connection is accounted for';
is $server->stop, 0, 'exit code';
unlike $server->log, qr{ died: }, 'no worker died';
done_testing;
