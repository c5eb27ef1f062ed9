# The access log: a line for every request, whatever the client does, and none that a client forged.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Metrics ();
use Baton::Test;
use JSON::PP   ();
use List::Util qw(sum0);

my $site = folder('hello.txt' => "hello\n", 'numbers.bin' => 'n' x 10_000);
open my $large, '>', "$site/large.bin" or die $!;
truncate $large, 64 << 20 or die $!;

my $HELLO = "GET /hello.txt HTTP/1.1\r\nHost: x\r\n";

sub configuration($log, $workers = 1)
{
    return <<~END;
        [Server]
        Workers=$workers
        SendTimeout=300ms
        HeaderTimeout=300ms
        DrainTimeout=0
        $log
        [Listen http]
        [Listen local]
        [Listen admin]
        Admin=yes
        [Route site]
        Root=$site
        END
}

my $server;

# Starts one, with the log in a file that is named after the format.
sub serve($format, %o)
{
    my $path = $o{path} // folder() . "/$format.log";
    my $log  = "AccessLog=$format\n" . ($path eq '' ? '' : "AccessLogFile=$path\n");
    $server = start(
        config => configuration($log, $o{workers} // 1),
        sockets => [
            http => '127.0.0.1:0',
            local => 'unix:' . folder() . '/local.sock',
            admin => '127.0.0.1:0'
        ]);
    return $path;
}

# What the only worker has read before this is called is in the log when it returns: lines are
# written at the end of each turn of its loop.
sub settle
{
    my $connection = $server->connect('admin');
    $connection->get('/livez', Connection => $_) for qw(keep-alive close);
}

# The lines of a file, but for those of settle() and Baton::Metrics.
sub lines_of($path)
{
    my $text = read_file($path);
    is substr($text, -1), "\n", 'the last line is whole' if $text ne '';
    return grep { !m{/livez|/metrics} } split /\n/, $text;
}

# The requests that both formats are tested with: [status, bytes] of each line, and the request.
my @requests = (
    [200, 6, "$HELLO\r\n"],
    [200, 0, "HEAD /hello.txt HTTP/1.1\r\nHost: x\r\n\r\n", 'HEAD'],
    [206, 3, "${HELLO}Range: bytes=1-3\r\n\r\n"],
    [304, 0, "${HELLO}If-None-Match: *\r\n\r\n"],
    [404, 14, "GET /nothing?query=1 HTTP/1.1\r\nHost: y\r\n\r\n"],
    [200, 6, "${HELLO}User-Agent: an agent\r\nReferer: http://x/\r\n\r\n"],
    [200, 6, "${HELLO}User-Agent: a\t\"quoted\"\\\xff\xc3\xa4\x7e\r\nReferer: \r\n\r\n"],
    [405, 23, "POST /hello.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"],
    [200, 6, "GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"],
    [200, 6, "GET http://other/hello.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
);
my @refused = (
    [400, 16, "GET /\"\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n"],
    [400, 16, "GET /a HTTP/1.1\nGET /forged HTTP/1.1\r\nHost: x\r\n\r\n"],
    [400, 16, "\x16\x03\x01\n\n\"\r\n"],
    [501, 20, "F\"H / HTTP/1.1\r\n\r\n" =~ s/"/'/r],
    [408, 20, 'GET /late'],
    [414, 17, 'GET /' . 'x' x 20_000],
);

sub send_requests
{
    my $connection = $server->connect;
    is $connection->send($_->[2])->read_answer($_->[3] // 'GET')->status, $_->[0] for @requests;
    for (@refused) {
        $connection = $server->connect->send($_->[2]);
        is $connection->read_answer->status, $_->[0];
    }
    $server->connect('local')->get('/hello.txt');
    settle();
}

subtest 'combined' => sub {
    my $path = serve('combined');
    send_requests();
    my @lines = lines_of($path);
    my $date  = qr{\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}};
    my $text  = qr{"((?:[^"\\]|\\x[0-9a-f]{2})*)"};
    my @heads;
    for (@lines) {
        my ($peer, $request, $status, $bytes, $referrer, $agent) =
            m{^(\S+) - - \[$date\] $text (\d{3}) (\d+) $text $text$}
            or fail "a line of the format: $_";
        push @heads, [$peer, $request, $status, $bytes, $referrer, $agent];
        unlike $_, qr/[^\x20-\x7e]/, 'printable';
    }
    is_deeply [map { [@$_[2, 3]] } @heads], [map({ [@$_[0, 1]] } @requests, @refused), [200, 6]],
        'status and bytes of each';
    is $heads[0][0], '127.0.0.1', 'address';
    is $heads[-1][0], 'unix:', 'none over AF_UNIX';
    is_deeply [map { $_->[1] } @heads[0, 1, 4, 8, 9]],
        [
            'GET /hello.txt HTTP/1.1',
            'HEAD /hello.txt HTTP/1.1',
            'GET /nothing?query=1 HTTP/1.1',
            'GET /hello.txt HTTP/1.0',
            'GET http://other/hello.txt HTTP/1.1'
        ],
        'requests';
    is_deeply [map { $_->[1] } @heads[10 .. 15]],
        ['GET', 'GET /a', '', "F'H", 'GET /late', 'GET /' . 'x' x 16_379],
        'of what was refused, as much as was read';
    is_deeply [@{$heads[0]}[4, 5]], ['-', '-'], 'no Referer, no User-Agent';
    is_deeply [@{$heads[5]}[4, 5]], ['http://x/', 'an agent'], 'both';
    is_deeply [@{$heads[6]}[4, 5]], ['-', 'a\x09\x22quoted\x22\x5c\xff\xc3\xa4~'], 'escaped';
    is $server->stop, 0, 'exit code';
};

subtest 'json' => sub {
    my $path = serve('json');
    send_requests();
    my @lines   = lines_of($path);
    my @objects = map { JSON::PP::decode_json($_) } @lines;
    is_deeply [map { [@$_{qw(status bytes)}] } @objects],
        [map({ [@$_[0, 1]] } @requests, @refused), [200, 6]], 'status and bytes of each';
    is_deeply [grep {/[^\x20-\x7e]/} @lines], [], 'printable';
    like delete $objects[5]{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'time';
    like delete $objects[5]{duration_usec}, qr/^\d+$/, 'duration';
    is_deeply $objects[5],
        {
            peer => '127.0.0.1',
            method => 'GET',
            target => '/hello.txt',
            host => 'x',
            protocol => 'HTTP/1.1',
            status => 200,
            bytes => 6,
            referrer => 'http://x/',
            agent => 'an agent',
        },
        'all members';
    is $objects[6]{agent}, "a\t\"quoted\"\\\xff\xc3\xa4~", 'escaped';
    is $objects[9]{host}, 'other', 'the host of the target';
    is_deeply [@{$objects[11]}{qw(method target protocol)}], ['GET', '/a', ''], 'a head that was not read to its end';
    is $server->stop, 0, 'exit code';
};

subtest 'downloads that end early' => sub {
    my $path  = serve('json');
    my ($pid) = $server->workers;
    my $get   = "GET /large.bin HTTP/1.1\r\nHost: x\r\nUser-Agent: %s\r\n\r\n";
    my $begin = sub ($name) {
        my $connection = $server->connect(undef, receive_buffer => 4096);
        $connection->send(sprintf $get, $name);
        is $connection->read_head(10)->status, 200, "$name: it begins";
        return $connection;
    };
    my $before = Baton::Metrics->scrape($server);
    my $read   = $begin->('the client resets');
    my $got    = length $read->read_bytes(100_000);
    $read->reset;
    my $unread = $begin->('the client does not read');
    Baton::Metrics->wait_ended($server, $before, 'send_timeout');

    # Before the first byte could be sent, all of it has happened.
    kill STOP => $pid;
    $server->connect->send(sprintf $get, 'the client is gone')->reset;
    kill CONT => $pid;
    my $after = Baton::Metrics->wait_ended($server, $before, 'client_abandoned', 2);

    my $shrinks = $begin->('the file shrinks');
    truncate $large, 1 << 20;
    1 while eval { $shrinks->read_more };
    Baton::Metrics->wait_ended($server, $before, 'error');
    truncate $large, 64 << 20;
    settle();

    my %lines = map { ($_->{agent} => $_) } map { JSON::PP::decode_json($_) } lines_of($path);
    is_deeply [sort keys %lines],
        ['the client does not read', 'the client is gone', 'the client resets', 'the file shrinks'],
        'each has its line';
    is_deeply [map { $_->{status} } values %lines], [(200) x 4], 'with the status that was sent';
    my %bytes = map { ($_ => $lines{$_}{bytes}) } keys %lines;
    ok $bytes{'the client resets'} >= $got && $bytes{'the client resets'} < 64 << 20, 'at least what was read';
    ok $bytes{'the client does not read'} > 0 && $bytes{'the client does not read'} < 64 << 20, 'what was sent';
    is $bytes{'the client is gone'}, 0, 'nothing';
    ok $lines{'the client does not read'}{duration_usec} >= 300_000, 'until its end';
    is $server->stop, 0, 'exit code';
};

subtest 'what a stop cuts' => sub {
    my $path = serve('json');
    my $half = $server->connect->send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell");
    my $read = $server->connect(undef, receive_buffer => 4096);
    $read->send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")->read_head(10);
    is $server->stop, 0, 'exit code';
    is $half->read_answer->status, 503, 'a request without an answer';
    my %lines = map { ($_->{target} => $_) } map { JSON::PP::decode_json($_) } lines_of($path);
    is_deeply [map { $_->{status} } @lines{'/', '/large.bin'}], [503, 200], 'both have their line';
    my $bytes = $lines{'/large.bin'}{bytes};
    ok $bytes > 0 && $bytes < 64 << 20, 'and what was sent';
};

subtest 'SIGUSR1 after a rotation' => sub {
    my $path  = serve('combined', workers => 2);
    my $count = 0;
    my @connections = map { $server->connect } 1 .. 20;
    my $ask = sub {
        $connections[$count++ % @connections]->get('/hello.txt');
    };
    $ask->() for 1 .. 100;
    rename $path, "$path.1" or die $!;
    $ask->() for 1 .. 100;
    ok !-e $path, 'before the signal they write to the old file';
    $server->signal('USR1');
    my $old;
    wait_for('lines in the new file', sub { $ask->(); -s $path });
    # The other worker may not have got as far.
    wait_for('no more lines in the old file', sub {
        my $size = -s "$path.1";
        $ask->() for @connections;
        return $size == -s "$path.1";
    });
    $ask->() for 1 .. 100;
    is $server->stop, 0, 'exit code';
    my @lines = (lines_of("$path.1"), lines_of($path));
    is scalar(@lines), $count, 'each request has its line, in one of them';
    my $line = qr{^127\.0\.0\.1 - - \[[^]]+\] "GET /hello\.txt HTTP/1\.1" 200 6 "-" "-"$};
    is_deeply [grep { !/$line/ } @lines], [], 'and all are whole';
    is((stat $path)[2] & 0777, 0640, 'mode of the new file');
};

subtest 'a file that cannot be opened again' => sub {
    my $path = serve('combined');
    $server->get('/hello.txt');
    rename $path, "$path.1" or die $!;
    mkdir $path or die $!;
    $server->signal('USR1');
    $server->wait_log(qr/cannot open the access log \Q$path\E: Is a directory/);
    $server->get('/hello.txt');
    settle();
    is scalar(my @lines = lines_of("$path.1")), 2, 'the old one is kept';
    is $server->stop, 0, 'exit code';
};

subtest 'a full disk' => sub {
    serve('combined', path => '/dev/full');
    my $before = Baton::Metrics->scrape($server);
    $server->get('/hello.txt') for 1 .. 10;
    is $server->get('/hello.txt')->body, "hello\n", 'requests are served';
    settle();
    my ($earlier, $now) = map { $_->value('access_log_lost_total') } $before, Baton::Metrics->scrape($server);
    is $now - $earlier, 14, 'each lost line is counted: eleven, two of settle(), one scrape';
    is $server->stop, 0, 'exit code';
};

subtest 'to the log' => sub {
    serve('combined', path => '');
    $server->get('/hello.txt', 'User-Agent' => 'x');
    like $server->wait_log(qr/^.*hello.*$/m),
        qr{^127\.0\.0\.1 - - \[[^]]+\] "GET /hello\.txt HTTP/1\.1" 200 6 "-" "x"$}, 'a line of its own';
    is $server->stop, 0, 'exit code';
};

subtest 'off' => sub {
    $server = start(config => "[Server]\nWorkers=1\n[Listen http]\n[Route site]\nRoot=$site\n");
    $server->get('/hello.txt');
    is $server->stop, 0, 'exit code';
    unlike $server->log, qr/hello/, 'nothing';
};

unlike $server->log, qr{ died: }, 'no worker died';
done_testing;
