# A reload moves every connection that has to do with a backend, whatever it is doing: the client
# keeps its connection and the backend its own, no request is sent a second time, and no byte is
# lost.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Loop    qw(turn);
use Baton::Metrics ();
use Baton::Test;

my $LARGE = join '', map { pack 'N', $_ } 1 .. 4 << 20;
my $site  = folder('index.html' => 'home');

my ($server, $barrier, $backend, $raw, $away, $rawaway);

my %routes = (
    all => "[Route all]\nHost=all.example\nUpstream=all\n[Upstream all]\nServer=%s\nMaxFails=0\n",
    away => "[Route away]\nHost=away.example\nUpstream=away\n[Upstream away]\nServer=%s\nHoldTimeout=1h\n",
    raw => "[Upstream raw]\nServer=%s\n",
    rawaway => "[Upstream rawaway]\nServer=%s\nHoldTimeout=1h\n",
);
my %listens = (
    http => '',
    other => '',
    admin => "Admin=yes\n",
    raw => "Tunnel=raw\n",
    rawaway => "Tunnel=rawaway\n",
    front => "AcceptProxy=yes\n",
    both => "AcceptProxy=yes\nTunnel=raw\n",
);

# Where it binds its listeners itself, so that they can be removed.
my %bound;

# Without the parts that are named.
sub configuration(%without)
{
    my %address = (all => $backend, away => $away, raw => $raw, rawaway => $rawaway);
    return join '', "[Server]\nWorkers=2\nMaxBodySize=64M\nHeaderTimeout=1h\nDrainTimeout=0\n",
        map({"[Listen $_]\n$listens{$_}" . ($bound{$_} ? "Address=$bound{$_}\n" : '')} grep { !$without{"listen $_"} } sort keys %listens),
        map({ sprintf $routes{$_}, $address{$_}->address } grep { !$without{$_} } sort keys %routes),
        "[Route site]\nRoot=$site\n";
}

sub serve(%o)
{
    %bound   = map { ($_ => $o{bound} ? free_address() : undef) } keys %listens;
    $backend = Baton::Backend->new(early => 1)->hold;
    $raw     = Baton::Backend->new(raw => 1);
    $away    = Baton::Backend->new->stop;
    $rawaway = Baton::Backend->new(raw => 1)->stop;
    my @passed = map { ($_ => '127.0.0.1:0') } 'http', grep { $_ ne 'http' } sort keys %listens;
    $server  = start(config => configuration(), sockets => $o{bound} ? [] : \@passed);
    $barrier = dial('admin');
    $barrier->get('/livez');
}

sub dial($name = 'http', %o)
{
    return Baton::Http->connect($bound{$name} // $server->address($name), %o);
}

# Neither client nor backend hears anything of the reload, so there is nothing to wait for: this only
# lets happen what can.
sub settle
{
    for (1 .. 8) {
        dial()->get('/', Host => 'site.example', Connection => 'close');
        turn();
    }
}

# How many connections moved. Of the workers that served before none is left.
sub reload($name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @former = $server->workers;
    my $reload = $server->reload;
    is $reload->status, 0, $name or diag $reload->err;
    eval { wait_exit_of(\@former, 2); 1 } or fail "the former workers are gone: $@";
    my ($moved) = $reload->out =~ /connections: (\d+) moved, 0 still finishing, 0 cut$/
        or fail 'says what moved: ' . $reload->out;
    return $moved;
}

sub head($method, $target = '/', @lines)
{
    unshift @lines, 'Host: all.example' unless grep {/^Host/} @lines;
    return join "\r\n", "$method $target HTTP/1.1", @lines, '', '';
}

# A client that sends the bytes, and the request as the backend gets it.
sub begin($t, $bytes, %o)
{
    $t->{client} = dial($o{at} // 'http', $o{slow} ? (receive_buffer => 16384) : ());
    $t->{client}->send($bytes);
    $t->{request} = $backend->wait_request;
}

# What it says to its client next.
sub says($t, $bytes)
{
    $t->{request}->send($bytes);
}

sub gets($t, $bytes, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = eval { $t->{client}->read_bytes(length $bytes) } // "$@";
    ok $got eq $bytes, $name or diag length $got > 500 ? substr($got, 0, 200) : $got;
}

sub answered($t, $body, $name = 'the answer')
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $answer = eval { $t->{client}->read_answer } // return fail "$name: $@";
    is $answer->status . ' ' . $answer->body, "200 $body", $name if length $body < 500;
    ok $answer->body eq $body, $name if length $body >= 500;
    return $answer;
}

# The connection goes on with another request.
sub goes_on($t)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $backend->skip_requests;
    $t->{client}->send(head(GET => '/next'));
    $backend->wait_request->answer(body => 'next');
    answered($t, 'next', 'and the next');
}

# Sends what the socket takes; the rest stays in $t->{left}.
sub push_some($connection, $left)
{
    for (my $idle = 0; $idle < 5 && length $$left;) {
        my $sent = CORE::send $connection->{socket}, $$left, 0;
        $sent ? ($idle = 0, substr $$left, 0, $sent, '') : ($idle++, settle());
    }
}

my $SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

sub begin_websocket($t, %o)
{
    begin($t, head(GET => '/chat', 'Connection: Upgrade', 'Upgrade: websocket'), %o);
    says($t, $SWITCH);
    is $t->{client}->read_head(10)->status, 101, 'switched';
    $t->{end} = $t->{request}->take;
}

sub echo($t, $name = 'both ways')
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @ends = @$t{qw(client end)};
    for (1 .. 2) {
        $ends[0]->send('ping');
        is eval { $ends[1]->read_bytes(4) }, 'ping', $name;
        @ends = reverse @ends;
    }
}

my $V2 = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\xc6\x33\x64\1\x12\x67\0\x50";
my $OK = "HTTP/1.1 200 OK\r\n";
my $N  = 0; # of the round

# What a reload finds. Each one:
#   begin   with $t, where it keeps what it needs; {client} is the connection that has to stay
#   state   what /metrics calls it
#   round   after each reload; default: nothing has come
#   end     after all reloads
# Those in the second list wait for backends that come only then.
my @travellers = (
    {
        name  => 'waits for the head',
        begin => sub ($t) { begin($t, head(GET => '/')) },
        end   => sub ($t) { $t->{request}->answer(body => 'late'); answered($t, 'late'); goes_on($t) },
    },
    {
        name  => 'waits for the head, HTTP/1.0',
        begin => sub ($t) { begin($t, "GET / HTTP/1.0\r\nHost: all.example\r\n\r\n") },
        end   => sub ($t) { says($t, "${OK}Transfer-Encoding: chunked\r\n\r\n4\r\nlate\r\n0\r\n\r\n"); answered($t, 'late'); ok $t->{client}->is_closed, 'closed' },
    },
    {
        name  => 'waits for the head, HEAD',
        begin => sub ($t) { begin($t, head(HEAD => '/')) },
        end   => sub ($t) { says($t, "${OK}Content-Length: 99\r\n\r\n"); is $t->{client}->read_answer('HEAD')->content_length, 99, 'the answer'; goes_on($t) },
    },
    {
        name  => 'waits behind 103',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"); gets($t, "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n", 'early hints') },
        round => sub ($t) { says($t, "HTTP/1.1 103 Again\r\n\r\n"); gets($t, "HTTP/1.1 103 Again\r\n\r\n", 'another one') },
        end   => sub ($t) { $t->{request}->answer(body => 'late'); answered($t, 'late'); goes_on($t) },
    },
    {
        name  => 'waits for the head of a POST',
        begin => sub ($t) { begin($t, head(POST => '/', 'Content-Length: 5') . 'hello'); is $t->{request}->wait_body, 'hello', 'a body' },
        end   => sub ($t) { $t->{request}->answer(body => 'late'); answered($t, 'late'); goes_on($t) },
    },
    {
        name  => 'in the head',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, 'HTTP/1.1 200 O'); $t->{rest} = "K\r\nX-Long: " . 'x' x 100 . "\r\nContent-Length: 4\r\n\r\nlate" },
        round => sub ($t) { says($t, substr $t->{rest}, 0, 3, '') },
        end   => sub ($t) { says($t, $t->{rest}); answered($t, 'late'); goes_on($t) },
    },
    {
        name  => 'in a body by length',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, "${OK}Date: x\r\nContent-Length: 100\r\n\r\n"); gets($t, "${OK}Date: x\r\nContent-Length: 100\r\n\r\n", 'a head'); $t->{left} = 100 },
        round => sub ($t) { $t->{left}--; says($t, 'x'); gets($t, 'x', 'a byte') },
        end   => sub ($t) { says($t, 'y' x $t->{left}); gets($t, 'y' x $t->{left}, 'the rest'); goes_on($t) },
    },
    {
        name  => 'in a chunk',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, "${OK}Date: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n"); gets($t, "${OK}Date: x\r\nTransfer-Encoding: chunked\r\n\r\n", 'a head'); $t->{left} = 100 },
        round => sub ($t) { $t->{left}--; says($t, 'x'); gets($t, "1\r\nx\r\n", 'a byte') },
        end   => sub ($t) { my $n = $t->{left}; says($t, 'y' x $n . "\r\n0\r\n\r\n"); gets($t, sprintf("%x\r\n%s\r\n0\r\n\r\n", $n, 'y' x $n), 'the rest'); goes_on($t) },
    },
    {
        name  => 'in the size of a chunk',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, "${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1"); $t->{client}->read_head(10); gets($t, "3\r\nabc\r\n", 'the first') },
        end   => sub ($t) { says($t, "0\r\n0123456789abcdef\r\n0\r\n\r\n"); gets($t, "10\r\n0123456789abcdef\r\n0\r\n\r\n", 'the second'); goes_on($t) },
    },
    {
        name  => 'in the trailers',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, "${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\nX-U"); $t->{client}->read_head(10); gets($t, "3\r\nabc\r\n", 'the first') },
        end   => sub ($t) { says($t, ": 2\r\n\r\n"); gets($t, "0\r\nX-T: 1\r\nX-U: 2\r\n\r\n", 'the trailers'); goes_on($t) },
    },
    {
        name  => 'in a body until close',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, "$OK\r\nabc"); $t->{client}->read_head(10); gets($t, "3\r\nabc\r\n", 'the first') },
        round => sub ($t) { says($t, 'x'); gets($t, "1\r\nx\r\n", 'a byte') },
        end   => sub ($t) { $t->{request}->close; gets($t, "0\r\n\r\n", 'the end'); goes_on($t) },
    },
    {
        name  => 'in a body until close, HTTP/1.0',
        begin => sub ($t) { begin($t, "GET / HTTP/1.0\r\nHost: all.example\r\n\r\n"); says($t, "$OK\r\nabc"); $t->{client}->read_head(10); gets($t, 'abc', 'the first') },
        round => sub ($t) { says($t, 'x'); gets($t, 'x', 'a byte') },
        end   => sub ($t) { $t->{request}->close; ok $t->{client}->is_closed, 'the end' },
    },
    {
        name  => 'a stream of events',
        begin => sub ($t) { begin($t, head(GET => '/')); says($t, "${OK}Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"); is $t->{client}->read_head(10)->field('Content-Type'), 'text/event-stream', 'a stream' },
        round => sub ($t) { my $event = sprintf "data: %03d\n\n", $N; my $chunk = sprintf "%x\r\n%s\r\n", length $event, $event; says($t, $chunk); gets($t, $chunk, 'an event') },
        end   => sub ($t) { says($t, "0\r\n\r\n"); gets($t, "0\r\n\r\n", 'the end'); goes_on($t) },
    },
    {
        name  => 'in a request by length',
        begin => sub ($t) { begin($t, head(POST => '/', 'Content-Length: 100')); $t->{left} = 100 },
        round => sub ($t) { $t->{client}->send('x'); $t->{left}--; my $n = 100 - $t->{left}; wait_for('a byte', sub { length $t->{request}->body == $n }) },
        end   => sub ($t) { $t->{client}->send('x' x $t->{left}); is $t->{request}->wait_body, 'x' x 100, 'the body'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'in a large request',
        begin => sub ($t) { begin($t, head(PUT => '/', 'Content-Length: 300000') . 'x' x 100_000); $t->{left} = 200_000; wait_for('its part', sub { length $t->{request}->body == 100_000 }) },
        round => sub ($t) { $t->{client}->send('x' x 10); $t->{left} -= 10 },
        end   => sub ($t) { $t->{client}->send('x' x $t->{left}); ok $t->{request}->wait_body eq 'x' x 300_000, 'the body'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'in a chunk of a request',
        begin => sub ($t) { begin($t, head(POST => '/', 'Transfer-Encoding: chunked') . "3\r\nabc\r\n64\r\n"); $t->{left} = 100 },
        round => sub ($t) { $t->{client}->send('x'); $t->{left}--; my $n = 103 - $t->{left}; wait_for('a byte', sub { length $t->{request}->body == $n }) },
        end   => sub ($t) { $t->{client}->send('x' x $t->{left} . "\r\n0\r\nX-T: 1\r\n\r\n"); is $t->{request}->wait_body, 'abc' . 'x' x 100, 'the body'; is_deeply $t->{request}->trailers, [['X-T', '1']], 'trailers'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'in the size of a chunk of a request',
        begin => sub ($t) { begin($t, head(POST => '/', 'Transfer-Encoding: chunked') . "3\r\nabc\r\n1") },
        end   => sub ($t) { $t->{client}->send("0\r\n0123456789abcdef\r\n0\r\n\r\n"); is $t->{request}->wait_body, 'abc0123456789abcdef', 'the body'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'in the trailers of a request',
        begin => sub ($t) { begin($t, head(POST => '/', 'Transfer-Encoding: chunked') . "3\r\nabc\r\n0\r\nX-T: 1\r\nX-U") },
        end   => sub ($t) { $t->{client}->send(": 2\r\n\r\n"); is $t->{request}->wait_body, 'abc', 'the body'; is_deeply $t->{request}->trailers, [['X-T', '1'], ['X-U', '2']], 'trailers'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'asked for its body',
        begin => sub ($t) { begin($t, head(POST => '/', 'Expect: 100-continue', 'Content-Length: 5')); says($t, "HTTP/1.1 100 Continue\r\n\r\n"); gets($t, "HTTP/1.1 100 Continue\r\n\r\n", 'a hundred') },
        end   => sub ($t) { $t->{client}->send('hello'); is $t->{request}->wait_body, 'hello', 'the body'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'requests behind one that waits',
        begin => sub ($t) { begin($t, head(GET => '/1') . head(GET => '/2') . head(POST => '/3', 'Content-Length: 5') . 'he') },
        end   => sub ($t) {
            $backend->skip_requests;
            $t->{request}->answer(body => 'one');
            answered($t, 'one');
            my $second = $backend->wait_request;
            is $second->target, '/2', 'the second';
            $second->answer(body => 'two');
            answered($t, 'two');
            my $third = $backend->wait_request;
            $t->{client}->send('llo');
            is $third->wait_body, 'hello', 'the third';
            $third->answer(body => 'three');
            answered($t, 'three');
        },
    },
    {
        name  => 'a download that nobody reads',
        begin => sub ($t) { begin($t, head(GET => '/'), slow => 1); $t->{request}->answer(body => $LARGE); is $t->{client}->read_head(10)->content_length, length $LARGE, 'a length'; settle() },
        round => sub ($t) { },
        end   => sub ($t) { gets($t, $LARGE, 'every byte'); goes_on($t) },
    },
    {
        name  => 'a download in chunks that is read slowly',
        begin => sub ($t) { begin($t, head(GET => '/'), slow => 1); $t->{request}->answer(body => $LARGE, framing => 'chunked', chunk => 9999); $t->{client}->read_head(10); $t->{got} = '' },
        round => sub ($t) { $t->{got} .= $t->{client}->read_bytes(30_000) },
        end   => sub ($t) {
            substr $t->{client}{bytes}, 0, 0, $t->{got};
            my $answer = bless { body => '' }, 'Baton::Http::Answer';
            $t->{client}->read_chunks($answer, 10);
            ok $answer->body eq $LARGE, 'every byte';
            goes_on($t);
        },
    },
    {
        name  => 'an answer that is over for its backend',
        begin => sub ($t) { begin($t, head(GET => '/'), slow => 1); $t->{request}->answer(body => substr $LARGE, 0, 3_000_000); $t->{client}->read_head(10); wait_for('its end', sub { $t->{request}->is_sent }); settle() },
        round => sub ($t) { },
        end   => sub ($t) { gets($t, substr($LARGE, 0, 3_000_000), 'every byte'); goes_on($t) },
    },
    {
        name  => 'an upload that nobody takes',
        begin => sub ($t) { begin($t, head(PUT => '/', 'Content-Length: ' . length $LARGE)); $t->{request}->stop_reading; $t->{left} = $LARGE; push_some($t->{client}, \$t->{left}) },
        end   => sub ($t) { $t->{request}->start_reading; $t->{client}->send($t->{left}); ok $t->{request}->wait_body eq $LARGE, 'every byte'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'an upload in chunks that nobody takes',
        begin => sub ($t) { begin($t, head(PUT => '/', 'Transfer-Encoding: chunked')); $t->{request}->stop_reading; $t->{left} = sprintf("%x\r\n%s\r\n", length $LARGE, $LARGE) . "0\r\n\r\n"; push_some($t->{client}, \$t->{left}) },
        end   => sub ($t) { $t->{request}->start_reading; $t->{client}->send($t->{left}); ok $t->{request}->wait_body eq $LARGE, 'every byte'; $t->{request}->answer(body => 'got it'); answered($t, 'got it'); goes_on($t) },
    },
    {
        name  => 'both sides full',
        begin => sub ($t) {
            begin($t, head(PUT => '/', 'Content-Length: ' . length $LARGE), slow => 1);
            $t->{request}->stop_reading;
            $t->{request}->answer(body => $LARGE);
            $t->{client}->read_head(10);
            $t->{left} = $LARGE;
            push_some($t->{client}, \$t->{left});
        },
        round => sub ($t) { },
        end   => sub ($t) {
            $t->{request}->start_reading;
            gets($t, $LARGE, 'every byte of the answer');
            ok $t->{client}->is_closed, '... and closed, as was said';
        },
    },
    {
        name  => 'a tunnel',
        state => 'tunnel',
        begin => sub ($t) { begin_websocket($t); echo($t) },
        round => sub ($t) { echo($t) if $N % 2 },
        end   => sub ($t) { echo($t); $t->{client}->close; ok $t->{end}->is_closed, 'closed' },
    },
    {
        name  => 'a tunnel whose client has ended',
        state => 'tunnel',
        begin => sub ($t) { begin_websocket($t); $t->{client}->finish; ok $t->{end}->is_closed, 'half of it' },
        round => sub ($t) { $t->{end}->send('x'); gets($t, 'x', 'the other half') },
        end   => sub ($t) { $t->{end}->finish; ok $t->{client}->is_closed, 'closed' },
    },
    {
        name  => 'a tunnel whose backend has ended',
        state => 'tunnel',
        begin => sub ($t) { begin_websocket($t); $t->{end}->finish; ok $t->{client}->is_closed, 'half of it' },
        round => sub ($t) { $t->{client}->send('x'); is eval { $t->{end}->read_bytes(1) }, 'x', 'the other half' },
        end   => sub ($t) { $t->{client}->finish; ok $t->{end}->is_closed, 'closed' },
    },
    {
        name  => 'a tunnel that is full both ways',
        state => 'tunnel',
        begin => sub ($t) {
            begin_websocket($t, slow => 1);
            @$t{qw(up down)} = ($LARGE, $LARGE);
            push_some($t->{client}, \$t->{up});
            push_some($t->{end},    \$t->{down});
        },
        round => sub ($t) { },
        end   => sub ($t) {
            my @sent = map { length($LARGE) - length $_ } @$t{qw(up down)};
            gets($t, substr($LARGE, 0, $sent[1]), "$sent[1] bytes");
            ok $t->{end}->read_bytes($sent[0]) eq substr($LARGE, 0, $sent[0]), "$sent[0] bytes the other way";
            echo($t);
        },
    },
    {
        name  => 'a tunnel that ends when it is read',
        state => 'tunnel',
        begin => sub ($t) { begin_websocket($t, slow => 1); $t->{down} = $LARGE; push_some($t->{end}, \$t->{down}); $t->{end}->finish },
        round => sub ($t) { $t->{client}->send('x'); is eval { $t->{end}->read_bytes(1) }, 'x', 'the other half' },
        end   => sub ($t) { my $sent = length($LARGE) - length $t->{down}; ok $t->{client}->read_to_end eq substr($LARGE, 0, $sent), "$sent bytes, and the end" },
    },
    {
        name  => 'a listener that is a tunnel',
        state => 'tunnel',
        begin => sub ($t) { $t->{client} = dial('raw'); $t->{end} = $raw->wait_connection; echo($t) },
        end   => sub ($t) { echo($t); $t->{end}->reset; ok !eval { $t->{client}->read_more }, 'reset' },
    },
    {
        name  => 'in a PROXY header, version 1',
        state => 'proxy_header',
        begin => sub ($t) { $t->{client} = dial('front')->send('PROXY TCP4 192.0.2.7 198') },
        end   => sub ($t) {
            $backend->skip_requests;
            $t->{client}->send(".51.100.1 4711 80\r\n" . head(GET => '/'));
            my $request = $backend->wait_request;
            is $request->field('X-Forwarded-For'), '192.0.2.7', 'whose it is';
            $request->answer(body => 'x');
            answered($t, 'x');
        },
    },
    {
        name  => 'in a PROXY header, version 2, by bytes',
        state => 'proxy_header',
        begin => sub ($t) { $t->{client} = dial('both'); $t->{left} = $V2; $t->{client}->send(substr $t->{left}, 0, 3, '') },
        round => sub ($t) { $t->{client}->send(substr $t->{left}, 0, 1, ''); ok $t->{client}->is_quiet, 'nothing yet' },
        end   => sub ($t) { $t->{client}->send($t->{left} . 'hello'); $t->{end} = $raw->wait_connection; is $t->{end}->read_bytes(5), 'hello', 'what follows it'; echo($t) },
    },
    {
        name  => 'before a PROXY header',
        state => 'proxy_header',
        begin => sub ($t) { $t->{client} = dial('both') },
        end   => sub ($t) { $t->{client}->send("${V2}hello"); $t->{end} = $raw->wait_connection; is $t->{end}->read_bytes(5), 'hello', 'what follows it'; echo($t) },
    },
    {
        name  => 'behind a PROXY header',
        state => 'idle',
        begin => sub ($t) { $t->{client} = dial('front')->send($V2); settle() },
        end   => sub ($t) {
            $backend->skip_requests;
            $t->{client}->send(head(GET => '/'));
            my $request = $backend->wait_request;
            is $request->field('X-Forwarded-For'), '192.0.2.7', 'whose it is';
            $request->answer(body => 'x');
            answered($t, 'x');
        },
    },
    {
        name  => 'waits for a backend',
        state => 'waiting',
        begin => sub ($t) { $t->{client} = dial()->send(head(GET => '/1', 'Host: away.example')) },
        later => sub ($t) { answered($t, '/1 0') },
    },
    {
        name  => 'waits for a backend with a body and more',
        state => 'waiting',
        begin => sub ($t) { $t->{client} = dial()->send(head(POST => '/2', 'Host: away.example', 'Content-Length: 5') . 'hello' . head(GET => '/3', 'Host: away.example')) },
        later => sub ($t) { answered($t, '/2 5'); answered($t, '/3 0') },
    },
    {
        name  => 'waits for a backend with a part of a body',
        state => 'waiting',
        begin => sub ($t) { $t->{client} = dial()->send(head(POST => '/4', 'Host: away.example', 'Content-Length: 1000000') . 'x' x 500_000) },
        later => sub ($t) { $t->{client}->send('x' x 500_000); answered($t, '/4 1000000') },
    },
    {
        name  => 'waits for a backend with some chunks',
        state => 'waiting',
        begin => sub ($t) { $t->{client} = dial()->send(head(PUT => '/5', 'Host: away.example', 'Transfer-Encoding: chunked') . "5\r\nhel") },
        round => sub ($t) { $t->{client}->send('') },
        later => sub ($t) { $t->{client}->send("lo\r\n0\r\n\r\n"); answered($t, '/5 5') },
    },
    {
        name  => 'a tunnel that waits for its backend',
        state => 'tunnel',
        begin => sub ($t) { $t->{client} = dial('rawaway') },
        later => sub ($t) { my $end = silent_end(); $end->send('hi'); gets($t, 'hi', 'the backend speaks') },
    },
    {
        name  => 'a tunnel that waits, and has said something',
        state => 'tunnel',
        begin => sub ($t) { $t->{client} = dial('rawaway')->send('hello') },
        later => sub ($t) { my $end = speaking_end(); is $end->read_bytes(5), 'hello', 'what was said'; $end->send('hi'); gets($t, 'hi', 'the answer') },
    },
);

# The two tunnels that wait come in any order.
my @raw_ends;

sub ends
{
    push @raw_ends, $rawaway->wait_connection while @raw_ends < 2;
    settle();
    return @raw_ends;
}

sub silent_end
{
    return (grep { $_->{bytes} eq '' && !defined $_->read_now } ends())[0];
}

sub speaking_end
{
    return (grep { $_->{bytes} ne '' || $_->read_now } ends())[0];
}

# What each is doing, as the metrics call it. An answer that is small enough is the kernel's before
# it is the client's: its connection is idle, then.
sub expected_states
{
    my %states = (exchange => 1); # who looks is idle
    $states{$_->{state} // 'exchange'}++ for @travellers;
    $states{exchange} += delete $states{idle};
    return \%states;
}

# Reloads; what moved, by what it was doing.
sub moved_by_state($name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before  = Baton::Metrics->scrape($barrier);
    my $moved   = reload($name);
    my $adopted = $before->value('connections_adopted_total') + $moved;
    my $after   = Baton::Metrics->wait_for($barrier, 'arrival of all', sub ($now) { $now->value('connections_adopted_total') >= $adopted });
    my $states  = $after->growth($before, 'connections_moved_total');
    $states->{exchange} += delete $states->{idle};
    return $states;
}

sub is_quiet($who, $t)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok $t->{client}->is_quiet, "$who->{name}: nothing has come" or diag $t->{client}{bytes};
}

# Begins all of them. Returns what each keeps.
sub depart(@who)
{
    return map {
        my $t = {};
        subtest "$_->{name}: it begins" => sub { $_->{begin}->($t); pass };
        $t;
    } @who;
}

sub arrive($what, $who, $t)
{
    my $code = $who->{$what} // return;
    subtest "$who->{name}: $what" => sub { eval { $code->($t); pass; 1 } or fail $@ };
}

subtest 'ten reloads, whatever is under way' => sub {
    serve();
    my @state = depart(@travellers);
    settle();
    $backend->skip_requests;
    my %count = (requests => scalar $backend->requests, accepted => $backend->accepted, raw => $raw->accepted);
    for my $round (1 .. 10) {
        $N = $round;
        is_deeply moved_by_state("reload $round"), expected_states(), 'all moved, each as what it was';
        for my $n (0 .. $#travellers) {
            my ($who, $t) = ($travellers[$n], $state[$n]);
            eval {
                $who->{round} ? $who->{round}->($t) : is_quiet($who, $t);
                1;
            } or fail "$who->{name}: $@";
        }
    }
    is scalar($backend->requests), $count{requests}, 'no request has been sent again';
    is $backend->accepted,         $count{accepted}, '... and no connection made';
    is $raw->accepted,             $count{raw},      '... of either kind';
    is dial()->get('/', Host => 'site.example', Connection => 'close')->body, 'home', 'files are served';
    arrive('end', $travellers[$_], $state[$_]) for 0 .. $#travellers;
    $away->answer(sub ($request) { return (body => $request->target . ' ' . length $request->body) })->listen;
    $rawaway->listen;
    arrive('later', $travellers[$_], $state[$_]) for 0 .. $#travellers;
    is scalar($away->requests), 5, 'each request of those that waited came once';
    my $metrics = Baton::Metrics->scrape($barrier);
    is $metrics->imbalance, 0, 'every connection is accounted for';
    is $metrics->value("moves_${_}_total"), 0, "none was $_" for qw(refused unfit);
    is $metrics->value("connections_ended_total{reason=\"$_\"}"), 0, "none ended: $_" for qw(drain_cut worker_died);
    undef @state;
    is $server->stop, 0, 'exit code';
    unlike $server->log, qr/ died: /, 'no worker died';
};

# A connection that was reused when it moved is still one that may just be closing.
subtest 'the closing race after a move' => sub {
    serve();
    my $client = dial();
    for my $end (qw(close reset)) {
        $backend->skip_requests;
        $client->send(head(GET => '/first'));
        $backend->wait_request->answer(body => 'x');
        is $client->read_answer->body, 'x', 'a connection that is kept';
        my $accepted = $backend->accepted;
        $client->send(head(GET => '/again'));
        my $request = $backend->wait_request;
        is $backend->accepted, $accepted, '... and used';
        reload('a reload');
        $request->$end;
        my $second = $backend->wait_request;
        is $second->head, $request->head, 'sent again when it was closed';
        $second->answer(body => 'y');
        is $client->read_answer->body, 'y', '... and answered';
    }
    is $server->stop, 0, 'exit code';
};

subtest 'who leaves after a move is noticed' => sub {
    serve();
    my (@clients, @requests);
    for my $bytes (head(GET => '/'), head(POST => '/', 'Content-Length: 5') . 'hel', head(GET => '/chat', 'Connection: upgrade', 'Upgrade: websocket')) {
        push @clients, dial()->send($bytes);
        push @requests, $backend->wait_request;
    }
    says({ request => $requests[2] }, $SWITCH);
    $clients[2]->read_head(10);
    is reload('a reload'), 4, 'moved';
    $_->close for @clients;
    $_->wait_abandoned for @requests;
    pass 'so their backends are let go';
    is Baton::Metrics->wait_open($barrier)->imbalance, 0, 'all is accounted for';
    is $server->stop, 0, 'exit code';
};

# What the new configuration no longer has: what is under way goes on, what comes is of the new one.
subtest 'without its upstream and route' => sub {
    serve(bound => 1);
    my @who   = grep { ($_->{state} // 'exchange') =~ /^(?:exchange|tunnel)$/ && $_->{end} } @travellers;
    my @state = depart(@who);
    my $waits = dial()->send(head(GET => '/', 'Host: away.example'));
    my $posts = dial()->send(head(POST => '/', 'Host: away.example', 'Content-Length: 5') . 'hello');
    my $held  = dial('rawaway')->send('hello');
    my $fails = dial()->send(head(GET => '/'));
    my $one   = $backend->wait_request;
    settle();
    my %count = (requests => scalar $backend->requests, accepted => $backend->accepted, raw => $raw->accepted);
    my %without = (all => 1, away => 1, raw => 1, rawaway => 1, 'listen raw' => 1, 'listen rawaway' => 1, 'listen both' => 1);
    for my $round (1 .. 3) {
        $N = $round;
        $server->configure(configuration(%without));
        reload("reload $round");
        for my $n (0 .. $#who) {
            my ($who, $t) = ($who[$n], $state[$n]);
            eval { $who->{round} ? $who->{round}->($t) : is_quiet($who, $t); 1 }
                or fail "$who->{name}: $@";
        }
    }
    my $answer = $waits->read_answer;
    is $answer->status, 200, 'who waited for a backend is served by the route that is his now';
    is $answer->body, 'home', '... with a file';
    is $posts->read_answer->status, 405, '... or as that wants it';
    ok !eval { $held->read_more }, 'a tunnel without an upstream is none';
    $one->close;
    is $fails->read_answer->status, 502, 'who loses his backend has no other';
    {
        no warnings 'redefine';
        # The next request on each connection is one of the new configuration.
        local *goes_on = sub ($t) {
            is $t->{client}->send(head(GET => '/'))->read_answer->body, 'home', 'and the next is of the new configuration';
        };
        for my $n (0 .. $#who) {
            next if $who[$n]{name} eq 'requests behind one that waits';
            arrive('end', $who[$n], $state[$n]);
        }
    }
    is scalar($backend->requests), $count{requests}, 'no request has been sent again';
    is $backend->accepted,         $count{accepted}, '... and no connection made';
    undef @state;
    is $server->stop, 0, 'exit code';
    unlike $server->log, qr/ died: /, 'no worker died';
};

subtest 'without its listener' => sub {
    serve(bound => 1);
    my @named = map { my $name = $_; grep { $_->{name} eq $name } @travellers }
        ('waits for the head', 'in a body by length', 'in a request by length', 'a tunnel', 'a tunnel whose client has ended', 'in a PROXY header, version 1');
    my @state = depart(@named);
    my $waits = dial()->send(head(GET => '/1', 'Host: away.example'));
    settle();
    $server->configure(configuration('listen http' => 1, 'listen front' => 1));
    my @former = $server->workers;
    my $reload = $server->reload;
    is $reload->status, 0, 'a reload' or diag $reload->err;
    eval { wait_exit_of(\@former, 2); 1 } or fail 'the former workers are gone';
    like $reload->out, qr/connections: 8 moved, 0 still finishing, 0 cut/, 'all moved' or diag $reload->out;
    $state[0]{request}->answer(body => 'late');
    my $answer = $state[0]{client}->read_answer;
    is $answer->body, 'late', 'who waited has an answer';
    ok $answer->closes, '... which is the last one';
    ok $state[0]{client}->is_closed, '... closed';
    $state[1]{request}->send('x' x 100);
    gets($state[1], 'x' x 100, 'a body goes on to its end');
    $state[2]{client}->send('x' x 100);
    is $state[2]{request}->wait_body, 'x' x 100, 'a request, too';
    $state[2]{request}->answer(body => 'got it');
    is $state[2]{client}->read_answer->body, 'got it', '... and its answer';
    echo($state[3]);
    $state[4]{end}->send('x');
    gets($state[4], 'x', 'half a tunnel');
    $backend->skip_requests;
    $state[5]{client}->send(".51.100.1 4711 80\r\n" . head(GET => '/'));
    $backend->wait_request->answer(body => 'x');
    $answer = $state[5]{client}->read_answer;
    ok $answer->body eq 'x' && $answer->closes, 'behind a PROXY header';
    $away->answer(body => 'here')->listen;
    is $waits->read_answer->body, 'here', 'who was held is served';
    $_->close for map { $_->{client} } @state;
    is $server->stop, 0, 'exit code';
    unlike $server->log, qr/ died: /, 'no worker died';
};

done_testing;
