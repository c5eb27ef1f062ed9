# The load client's tunnels, streams and uploads, before a server that misbehaves: as load.t.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Origin ();
use Baton::Rogue;
use Baton::Test;

my %OPCODE = (text => 1, binary => 2, close => 8, ping => 9, pong => 10);

# A server of WebSockets: $taken as in shake_hands().
sub serve_websocket($taken)
{
    return serve(request => sub ($c, $head) { shake_hands($c, $head, $taken) });
}

# What a good one does with a frame.
sub echo($c, $opcode, $payload, $final)
{
    $opcode = $OPCODE{pong} if $opcode == $OPCODE{ping};
    put($c, frame($opcode, $payload, $final));
    shut($c) if $opcode == $OPCODE{close};
}

sub load_websocket($server, @arguments)
{
    return load($server, '--timeout', '500ms', @arguments, '--group', 'websocket:1:size=100-200');
}

subtest 'WebSockets that do all right' => sub {
    my %seen;
    my $server = serve_websocket(
        sub ($c, $opcode, $payload, $final) {
            $seen{$opcode}++;
            $seen{fragment}++ if !$final;
            $seen{character}++ if $opcode == $OPCODE{text} && $final && utf8::decode(my $copy = $payload);
            echo($c, $opcode, $payload, $final);
        });
    my @got = load($server, '--requests', 402, '--group', 'websocket:2:size=0-70K,think=0-1ms');
    # And one at the end on each connection.
    counts \@got, 0, {}, { requests => 404, responses => 404, echoes => 402, connections_opened => 2, closed_requested => 2 },
        'everything comes back';
    is_deeply $got[1]{status}, { 101 => 2 }, 'two upgrades';
    cmp_ok $seen{$OPCODE{$_}}, '>', $_ eq 'close' ? 1 : 20, "some are $_" for qw(text binary ping close);
    cmp_ok $seen{fragment}, '>', 20, 'some come in fragments';
    is $seen{$OPCODE{close}}, 2, 'each says Close';
    end($server);

    # Whole messages come back whole, as from a library that knows messages only; and it pings.
    my ($message, $kind, $pongs) = ('', 0, 0);
    $server = serve_websocket(
        sub ($c, $opcode, $payload, $final) {
            $pongs++ if $opcode == $OPCODE{pong} && $payload eq 'there?';
            return if $opcode == $OPCODE{pong};
            return echo($c, $opcode, $payload, $final) if $opcode >= $OPCODE{close};
            ($kind, $message) = ($opcode || $kind, $message . $payload);
            return if !$final;
            put($c, frame($OPCODE{ping}, 'there?') . frame($kind, $message));
            $message = '';
        });
    @got = load_websocket($server, '--requests', 101);
    counts \@got, 0, {}, { echoes => 101 }, 'without fragments';
    cmp_ok $pongs, '>=', 100, 'its pings are answered';
    end($server);
};

subtest 'WebSockets that do not begin' => sub {
    my $accept = 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=';
    my $switch = 'HTTP/1.1 101 Switching Protocols';
    my @bad    = (
        ['another key', $switch, 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Accept: x'],
        ['no key',      $switch, 'Connection: Upgrade', 'Upgrade: websocket'],
        ['no upgrade',  $switch, 'Connection: Upgrade', $accept],
        ['no option',   $switch, 'Upgrade: websocket',  $accept],
        ['a length',    $switch, 'Connection: Upgrade', 'Upgrade: websocket', $accept, 'Content-Length: 0'],
    );
    for (@bad) {
        my ($name, @lines) = @$_;
        my $server = serve(request => sub ($c, $head) { put($c, join "\r\n", @lines, '', '') });
        my @got    = load_websocket($server, '--requests', 1);
        counts \@got, 1, { bad_response => 1 }, { unanswered => 1 }, $name;
        end($server);
    }
    my $server = serve();
    my @got    = load_websocket($server, '--requests', 2);
    counts \@got, 1, { bad_status => 2 }, { responses => 2, connections_opened => 1 }, 'a refusal';
    end($server);
    $server = serve(request => sub ($c, $head) { put($c, "$switch\r\n\r\n") });
    @got    = load($server, '--requests', 1, '--group', 'keepalive:1');
    counts \@got, 1, { bad_response => 1 }, { unanswered => 1 }, 'a switch that nobody asked for';
    end($server);
};

subtest 'WebSockets that go wrong' => sub {
    my $data   = sub ($opcode) { $opcode < $OPCODE{close} };
    my @wrongs = (
        ['another byte', 'wrong_bytes', sub ($opcode, $payload, $final) { substr $payload, -1, 1, "\x{7f}" if length $payload; frame($opcode, $payload, $final) }],
        ['a byte less', 'wrong_bytes', sub ($opcode, $payload, $final) { frame($opcode, substr($payload, 1), $final) }],
        ['a byte more', 'wrong_bytes', sub ($opcode, $payload, $final) { frame($opcode, $payload . 'x', $final) }],
        ['the other kind', 'wrong_bytes', sub ($opcode, $payload, $final) { frame($opcode ? 3 - $opcode : 0, $payload, $final) }],
        ['masked', 'bad_response', sub ($opcode, $payload, $final) { my $f = frame($opcode, $payload, $final); substr($f, 1, 1) |.= "\x80"; "${f}mask" }],
        ['a reserved bit', 'bad_response', sub ($opcode, $payload, $final) { my $f = frame($opcode, $payload, $final); substr($f, 0, 1) |.= "\x40"; $f }],
        ['twice', 'bad_response', sub ($opcode, $payload, $final) { frame($opcode, $payload, $final) x 2 }],
        ['an unknown opcode', 'bad_response', sub ($opcode, $payload, $final) { frame(5, $payload, $final) }],
        ['nothing', 'timeouts', sub ($opcode, $payload, $final) { '' }],
        ['half of it', 'timeouts', sub ($opcode, $payload, $final) { my $f = frame($opcode, $payload, $final); substr $f, 0, length($f) / 2 }],
    );
    for (@wrongs) {
        my ($name, $failure, $spoil) = @$_;
        # Only the first message of a connection is a whole one for sure.
        my $server = serve_websocket(
            sub ($c, $opcode, $payload, $final) {
                return echo($c, $opcode, $payload, $final) if !$data->($opcode) || $c->{spoilt}++ > 0;
                put($c, $spoil->($opcode, $payload, $final));
            });
        my @got = load_websocket($server, '--requests', 2);
        is $got[0], 1, "$name: seen";
        is $got[1]{failures}{$failure}, $got[1]{failed}, "... as $failure" or diag explain $got[1]{first_failures};
        end($server);
    }

    # A pong that says something else.
    my $server = serve_websocket(
        sub ($c, $opcode, $payload, $final) {
            $payload = 'oops' if $opcode == $OPCODE{ping};
            echo($c, $opcode, $payload, $final);
        });
    my @got = load_websocket($server, '--requests', 100);
    is_deeply [$got[1]{failed} > 5, $got[1]{failures}{wrong_bytes}], [1, $got[1]{failed}], 'another pong';
    end($server);

    # And none.
    $server = serve_websocket(
        sub ($c, $opcode, $payload, $final) {
            echo($c, $opcode, $payload, $final) if $opcode != $OPCODE{ping};
        });
    @got = load($server, '--requests', 20, '--timeout', '50ms', '--group', 'websocket:1');
    is_deeply [$got[1]{failed} > 1, $got[1]{failures}{timeouts}], [1, $got[1]{failed}], 'no pong';
    end($server);
};

subtest 'tunnels that end' => sub {
    for ([closed_early => \&shut], [reset => \&reset_connection]) {
        my ($failure, $end) = @$_;
        my $server = serve_websocket(
            sub ($c, $opcode, $payload, $final) {
                return $end->($c) if $c->{frames}++;
                echo($c, $opcode, $payload, $final);
            });
        my @got = load_websocket($server, '--requests', 6);
        is_deeply [$got[0], $got[1]{failures}{$failure}], [1, $got[1]{failed}], "$failure before the echo";
        cmp_ok $got[1]{failed}, '>', 0, '... is a failure';
        end($server);

        $server = serve(piece => sub ($c) { $end->($c) });
        @got    = load($server, '--requests', 4, '--group', 'raw:2');
        counts \@got, 1, { $failure => 4 }, { unanswered => 4, connections_opened => 4 }, "raw: $failure";
        end($server);

        for my $group ('websocket:2:think=1min', 'raw:2:think=1min') {
            $server = $group =~ /^raw/ ? serve(piece => sub ($c) { put($c, $c->{in}); $c->{in} = '' }) : serve_websocket(\&echo);
            my $load = begin($server, '--group', $group);
            $load->wait_out(qr/^running$/m);
            $end->($server->{connections}[0]);
            is report_now($load)->{closed}, 1, "$group: an end while nothing was asked counts";
            $load->finish;
            @got = outcome($load);
            is_deeply [$got[0], @{$got[1]}{qw(failed closed closed_requested)}], [1, 0, 1, 1], '... and the other is ended by the client';
            end($server);
        }
    }

    # The last message, and the end.
    my $server = serve_websocket(
        sub ($c, $opcode, $payload, $final) {
            $opcode == $OPCODE{close} ? shut($c) : echo($c, $opcode, $payload, $final);
        });
    my @got = load_websocket($server, '--requests', 3);
    is_deeply [$got[0], $got[1]{failures}{closed_early}, $got[1]{failed}], [1, 1, 1], 'no Close in return';
    end($server);
    $server = serve_websocket(
        sub ($c, $opcode, $payload, $final) {
            $opcode == $OPCODE{close} ? reset_connection($c) : echo($c, $opcode, $payload, $final);
        });
    @got = load_websocket($server, '--requests', 3);
    is_deeply [$got[0], $got[1]{failures}{reset}, $got[1]{failed}], [1, 1, 1], 'a reset in return';
    end($server);
    $server = serve_websocket(
        sub ($c, $opcode, $payload, $final) {
            return echo($c, $opcode, $payload, $final) if $opcode >= $OPCODE{close} || !$final;
            put($c, frame($opcode, $payload) . frame($OPCODE{close}, "\x03\xe9"));
            shut($c);
        });
    my $load = begin($server, '--group', 'websocket:1:think=1min');
    $load->wait_out(qr/^running$/m);
    $load->finish;
    @got = outcome($load);
    is $got[0], 1, 'a Close that the server says';
    cmp_ok $got[1]{closed} + $got[1]{failed}, '>', 0, '... is no end that was asked for';
    end($server);
};

subtest 'raw tunnels' => sub {
    my $server = serve(piece => sub ($c) { put($c, $c->{in}); $c->{in} = '' });
    my @got    = load($server, '--requests', 50, '--group', 'raw:2:size=1-100K,think=0-1ms');
    counts \@got, 0, {}, { echoes => 52, responses => 52, connections_opened => 2, closed_requested => 2 }, 'everything comes back';
    end($server);

    my @wrongs = (
        ['another byte', 'wrong_bytes', sub ($bytes) { substr($bytes, 0, 1) ^.= "\1"; $bytes }],
        ['a byte more', 'wrong_bytes', sub ($bytes) { "${bytes}x" }],
        ['a byte less', 'timeouts', sub ($bytes) { substr $bytes, 1 }],
    );
    for (@wrongs[0, 1]) {
        my ($name, $failure, $spoil) = @$_;
        $server = serve(piece => sub ($c) { put($c, $spoil->($c->{in})); $c->{in} = '' });
        @got    = load($server, '--requests', 2, '--group', 'raw:1:size=10');
        counts \@got, 1, { $failure => 2 }, { unanswered => 2 }, $name;
        end($server);
    }
    $server = serve(piece => sub ($c) { put($c, substr $c->{in}, 0, -1); $c->{in} = '' });
    @got    = load($server, '--requests', 2, '--timeout', '50ms', '--group', 'raw:1:size=10');
    counts \@got, 1, { timeouts => 2 }, { unanswered => 2 }, 'a byte less';
    end($server);

    $server = serve(piece => sub ($c) { put($c, $c->{in}); $c->{in} = '' });
    my $load = begin($server, '--group', 'raw:1:think=1min');
    $load->wait_out(qr/^running$/m);
    put($server->{connections}[0], 'x');
    is report_now($load)->{failures}{bad_response}, 1, 'a byte that nobody asked for';
    $load->finish;
    is((outcome($load))[0], 1, '... is a failure');
    end($server);
};

sub event($number)
{
    return "id: $number\ndata: event $number\n\n";
}

# A stream that consists of this text, in a chunk.
sub serve_events($text, $then = sub ($c) { })
{
    return serve(request => sub ($c, $head) { put($c, $CHUNKED . sprintf("%x\r\n%s\r\n", length $text, $text)); $then->($c) });
}

subtest 'events' => sub {
    my $server = serve_events(join '', map { event($_) } 1 .. 100);
    my $load   = begin($server, '--group', 'events:2');
    $load->wait_out(qr/^running$/m);
    is report_now($load)->{unanswered}, 0, 'no end, and nothing wrong';
    $load->finish;
    # Now it knows, and one more is awaited of each.
    report_now($load) for 1 .. 2;
    my $more = sprintf "%x\r\n%s\r\n", length event(101), event(101);
    put($_, $more) for @{$server->{connections}};
    my @got = outcome($load);
    counts \@got, 0, {}, { responses => 2, events => 202, closed_requested => 2, connections_opened => 2 }, 'until the end';
    is_deeply $got[1]{status}, { 200 => 2 }, 'the status';
    end($server);

    my @wrongs = (
        ['a gap',        event(1) . event(3)],
        ['a repetition', event(1) . event(1)],
        ['other data',   event(1) . "id: 2\ndata: event 1\n\n"],
        ['no id',        "data: event 1\n\n"],
        ['another start', event(2)],
        ['garbage',      event(1) . "what?\n"],
    );
    for (@wrongs) {
        my ($name, $text) = @$_;
        $server = serve_events($text);
        @got    = load($server, '--requests', 2, '--timeout', '500ms', '--group', 'events:1');
        counts \@got, 1, { wrong_bytes => 2 }, { unanswered => 2 }, $name;
        end($server);
    }

    $server = serve_events(event(1), sub ($c) { put($c, "0\r\n\r\n") });
    @got    = load($server, '--requests', 2, '--group', 'events:1');
    is_deeply [$got[0], $got[1]{failures}{closed_early} > 0, $got[1]{failures}{closed_early}], [1, 1, $got[1]{failed}], 'an end that is one';
    end($server);
    $server = serve(request => sub ($c, $head) { put($c, "$OK\r\n" . event(1)); shut($c) });
    @got    = load($server, '--duration', '100ms', '--group', 'events:1');
    is_deeply [$got[0], $got[1]{failures}{closed_early} > 0, $got[1]{failures}{closed_early}], [1, 1, $got[1]{failed}], 'an end by closing';
    end($server);
    for ([closed_early => \&shut], [reset => \&reset_connection]) {
        my ($failure, $end) = @$_;
        $server = serve_events(event(1), $end);
        @got    = load($server, '--duration', '100ms', '--group', 'events:1');
        is_deeply [$got[0], $got[1]{failures}{$failure} > 0, $got[1]{failures}{$failure}], [1, 1, $got[1]{failed}], "$failure in the middle";
        end($server);
    }
    $server = serve_events(event(1));
    @got    = load($server, '--duration', '200ms', '--timeout', '50ms', '--group', 'events:1');
    is_deeply [$got[0], $got[1]{failures}{timeouts} > 0, $got[1]{failures}{timeouts}], [1, 1, $got[1]{failed}], 'silence';
    end($server);
    $server = serve();
    @got    = load($server, '--requests', 1, '--group', 'events:1');
    is $got[0], 1, 'no stream';
    end($server);
};

# The content of an upload, from its whole request; undef while that is not there.
sub content_of($c)
{
    return undef if $c->{in} !~ /\A(.*?\r\n\r\n)(.*)\z/s;
    my ($head, $rest) = ($1, $2);
    if ($head =~ /^Content-Length: (\d+)\r$/m) {
        return length $rest < $1 ? undef : $rest;
    }
    my $content = '';
    while ($rest =~ s/\A([0-9a-f]+)\r\n//) {
        return undef if length $rest < 2 + hex $1;
        return $content if hex $1 == 0;
        $content .= substr $rest, 0, hex $1, '';
        die 'no chunk' if $rest !~ s/\A\r\n//;
    }
    return undef;
}

subtest 'uploads' => sub {
    for my $more ('', ',coding=chunked', ',piece=1000-2000,gap=1ms', ',coding=chunked,piece=1000,gap=0') {
        my $content;
        my $server = serve(
            piece => sub ($c) {
                $content = content_of($c) // return;
                $c->{in} = '';
                put($c, answer(length($content) . ' ' . fnv($content) . "\n"));
            });
        my @got = load($server, '--requests', 3, '--group', "upload:1:size=20K$more");
        counts \@got, 0, {}, { responses => 3, connections_opened => 1 }, "all there$more";
        is length $content, 20480, 'so much';
        end($server);
    }
    my @wrongs = (
        ['a byte less', 'wrong_bytes', sub ($content) { '9999 ' . fnv(substr $content, 1) . "\n" }],
        ['another byte', 'wrong_bytes', sub ($content) { substr($content, 5, 1) ^.= "\1"; '9999 ' . fnv($content) . "\n" }],
        ['no answer to that', 'bad_response', sub ($content) { 'thanks' }],
    );
    for (@wrongs) {
        my ($name, $failure, $spoil) = @$_;
        my $server = serve(
            piece => sub ($c) {
                my $content = content_of($c) // return;
                $c->{in} = '';
                put($c, answer($spoil->($content)));
            });
        my @got = load($server, '--requests', 2, '--group', 'upload:1:size=9999');
        counts \@got, 1, { $failure => 2 }, { responses => 2 }, $name;
        end($server);
    }
    my $server = serve(piece => sub ($c) { put($c, $HELLO) unless $c->{answered}++ });
    my @got    = load($server, '--requests', 1, '--group', 'upload:1:size=9999,piece=100,gap=20ms');
    is_deeply [$got[0], $got[1]{failed}], [1, 1], 'an answer before the end of it';
    end($server);
    $server = serve(piece => sub ($c) { shut($c) });
    @got    = load($server, '--requests', 1, '--group', 'upload:1:size=9999,piece=100,gap=20ms');
    counts \@got, 1, { closed_early => 1 }, { unanswered => 1 }, 'a close before the end of it';
    end($server);
};

subtest 'slow answers' => sub {
    my $server = serve(request => sub ($c, $head) { put($c, "${OK}Content-Length: 5\r\n\r\nhe") });
    my $load   = begin($server, '--timeout', '5s', '--group', 'slow:1:think=1min,expect=hello');
    $load->wait_out(qr/^running$/m);
    put($server->{connections}[0], 'llo');
    wait_for('answer', sub { report_now($load)->{responses} });
    $load->finish;
    counts [outcome($load)], 0, {}, { responses => 1 }, 'the first content counts';
    end($server);
    $server = serve(request => sub ($c, $head) { put($c, "${OK}Content-Length: 5\r\n\r\nhe"); shut($c) });
    my @got = load($server, '--requests', 1, '--group', 'slow:1:expect=hello');
    counts \@got, 1, { closed_early => 1 }, { unanswered => 1 }, 'half of one';
    end($server);
};

subtest 'the backend of the other tests' => sub {
    my $origin  = Baton::Origin->start;
    my $numbers = folder(numbers => Baton::Origin::numbers(100_001)) . '/numbers';
    my @groups  = (
        'keepalive:2:expect=hello', 'keepalive:1:method=HEAD,expect=hello', 'connect:2:expect=hello', 'pipeline:1:expect=hello', 'slowhead:1:expect=hello',
        'websocket:5:path=/websocket,size=0-100K', 'raw:5:to=' . $origin->raw_address . ',size=1-300K',
        'events:2:path=/events?ms=1', 'upload:1:size=300K', 'upload:1:coding=chunked',
        (map { "slow:1:path=/slow?size=100001&$_,file=$numbers" } 'ms=5&pieces=3', 'ms=10&pieces=7&framing=length', 'framing=length', 'framing=close'),
    );
    my $server = { target => ['http://' . $origin->address . '/'] };
    my @got    = load($server, '--duration', '300ms', map { ('--group', $_) } @groups);
    counts \@got, 0, {}, { closed => 0 }, 'does all right';
    ok $_->{responses} > 0, "$_->{group}: $_->{responses} answers" for @{$got[1]{groups}};
    $origin->kill->resume;
    is Baton::Http->connect($origin->address)->get('/')->body, 'hello', 'and again, at the same address';
};

subtest 'the command line' => sub {
    my $refused = sub ($pattern, $group) {
        my $load = Baton::Process->run(command => [load_client(), '--requests', 1, '--group', $group, 'http://127.0.0.1:1/']);
        is $load->status, 2, $group;
        like $load->err, $pattern, '... is told';
    };
    $refused->(qr/raw has no 'path'/,           'raw:1:path=/');
    $refused->(qr/websocket has no 'expect'/,   'websocket:1:expect=a');
    $refused->(qr/events has no 'think'/,       'events:1:think=1ms');
    $refused->(qr/keepalive has no 'size'/,     'keepalive:1:size=1');
    $refused->(qr/'0-5' is no value for size/,  'raw:1:size=0-5');
    $refused->(qr/'5-9' is no value for size/,  'upload:1:size=5-9');
    $refused->(qr/'5M-1K' is no value/,         'websocket:1:size=5M-1K');
    $refused->(qr/'gzip' is no value/,          'upload:1:coding=gzip');
    $refused->(qr/'nowhere' is no value for to/, 'raw:1:to=nowhere');
};

done_testing;
