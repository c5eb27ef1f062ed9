# Limits: what a client may take of time, memory and connections, and what happens at their end.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Metrics ();
use Baton::Test;
use List::Util  qw(max);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

# In seconds, each another one: which limit it was shows.
my %LIMIT = (Header => 0.3, Body => 0.4, Idle => 0.5, Send => 0.6, Linger => 0.7);
# By which a limit may come late, where others have the machine.
my $LATE = 3 * ($ENV{BATON_TEST_SLOW} || 1);
# A request, of which at least a byte is missing.
my $HALF = "GET / HTTP/1.1\r\nHost: x\r\n";

my $site = folder('index.html' => 'home');
open my $large, '>', "$site/large.bin" or die $!;
truncate $large, 64 << 20 or die $!;

sub serve(%o)
{
    return start(
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
        config => configuration($o{server} // ''),
    );
}

sub configuration($server)
{
    return <<~END;
        [Server]
        Workers=1
        $server
        [Listen http]
        [Listen admin]
        Admin=yes
        [Route site]
        Root=$site
        END
}

my @timeouts = map { "${_}Timeout=" . $LIMIT{$_} * 1000 . 'ms' } sort keys %LIMIT;
my $server   = serve(server => join "\n", 'HeadSize=64K', @timeouts);

sub now
{
    return clock_gettime(CLOCK_MONOTONIC);
}

# What was sent to the only worker has been read when this returns.
sub settle
{
    my $connection = $server->connect('admin');
    $connection->get('/livez', Connection => $_) for qw(keep-alive close);
}

sub in_limit($name, $began)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $took = now() - $began;
    ok $took >= $LIMIT{$name} && $took < $LIMIT{$name} + $LATE, "${name}Timeout=$LIMIT{$name}: after $took";
}

# Runs $case, which makes one connection, until that has ended: after the time of the limit, once, and
# for this reason.
sub ends_in_time($limit, $reason, $case)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = Baton::Metrics->wait_open($server);
    my $began  = now();
    $case->();
    my $after = Baton::Metrics->wait_ended($server, $before, $reason);
    in_limit($limit, $began);
    my $ended = $after->growth($before, 'connections_ended_total');
    delete $ended->{client_asked}; # of settle() and of those that scrape
    is_deeply $ended, { $reason => 1 }, "counted once, as $reason";
}

# An event that begins a limit anew. $first is done, then $second before the limit has passed, and
# then $end, at least the limit after $second.
sub begins_anew($limit, $first, $second, $end)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for (1 .. 10) {
        my $connection = $server->connect;
        my $began      = now();
        $first->($connection);
        eval { $connection->read_more($LIMIT{$limit} / 2 / ($ENV{BATON_TEST_SLOW} || 1)) };
        my $again = now();
        eval { $second->($connection) };
        next if now() - $began >= $LIMIT{$limit}; # the machine was busy: this tells nothing
        $end->($connection);
        in_limit($limit, $again);
        return;
    }
    fail 'this machine is too slow';
}

subtest 'HeaderTimeout=' => sub {
    ends_in_time Header => 'header_timeout', sub { ok $server->connect->is_closed, 'without a byte' };
    ends_in_time Header => 'header_timeout', sub {
        my $connection = $server->connect->send($HALF);
        my $answer     = $connection->read_answer;
        is $answer->status, 408, 'half a head';
        ok $answer->closes && $connection->is_closed, 'then the end';
    };
    ends_in_time Header => 'header_timeout', sub {
        my $connection = $server->connect->send($HALF . 'X: ');
        while (!defined $connection->read_now) {
            $connection->send('x');
            settle();
        }
        is $connection->read_answer->status, 408, 'byte for byte';
    };
    ends_in_time Header => 'header_timeout', sub {
        my $connection = $server->connect->send("${HALF}\r\n$HALF");
        is $connection->read_answer->status, 200, 'a head';
        is $connection->read_answer->status, 408, 'and half a head';
    };
    begins_anew Header =>
        sub ($connection) { },
        sub ($connection) { $connection->send('G') },
        sub ($connection) { is $connection->read_answer->status, 408, 'from the first byte on' };
    begins_anew Header =>
        sub ($connection) { $connection->send($HALF) },
        sub ($connection) { $connection->send("\r\n$HALF")->read_answer },
        sub ($connection) { is $connection->read_answer->status, 408, 'each head on its own' };
};

subtest 'BodyTimeout=' => sub {
    my $half = "${HALF}Content-Length: 9\r\n\r\n1234";
    ends_in_time Body => 'body_timeout', sub {
        my $connection = $server->connect->send($half);
        my $answer     = $connection->read_answer;
        is $answer->status, 408, 'half a body';
        ok $answer->closes && $connection->is_closed, 'then the end';
    };
    begins_anew Body =>
        sub ($connection) { $connection->send($half) },
        sub ($connection) { $connection->send('5') },
        sub ($connection) { is $connection->read_answer->status, 408, 'from the last byte on' };
};

subtest 'IdleTimeout=' => sub {
    ends_in_time Idle => 'idle_timeout', sub {
        my $connection = $server->connect;
        is $connection->get('/')->status, 200, 'a request';
        ok $connection->is_closed, 'and none more';
    };
    begins_anew Idle =>
        sub ($connection) { $connection->get('/') },
        sub ($connection) { $connection->get('/') },
        sub ($connection) { ok $connection->is_closed, 'from the last answer on' };
};

# A client with a small window that has read the head of a large answer.
sub slow_reader
{
    my $connection = $server->connect(undef, receive_buffer => 4096);
    $connection->send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")->read_head(10);
    return $connection;
}

subtest 'SendTimeout=' => sub {
    my $connection;
    ends_in_time Send => 'send_timeout', sub { $connection = slow_reader() };
    my $got = eval { length $connection->read_to_end } // 0;
    ok $got < 64 << 20, 'what a client does not read ends';

    # Far less than what the kernel holds for it: only the kernel knows that it goes on.
    my $before = Baton::Metrics->scrape($server);
    my $began  = now();
    $connection = slow_reader();
    for my $turn (1 .. 18) {
        $connection->read_bytes(10_000);
        settle() while now() < $began + $turn * $LIMIT{Send} / 6;
    }
    my $ended = Baton::Metrics->scrape($server)->growth($before, 'connections_ended_total');
    is $ended->{send_timeout}, undef, 'but not what one reads slowly';
};

subtest 'LingerTimeout=' => sub {
    my $connection; # stays open here
    ends_in_time Linger => 'request_refused', sub {
        $connection = $server->connect->send("GET\r\n\r\n");
        is $connection->read_answer->status, 400, 'an answer';
        ok $connection->is_closed, 'and the end, at once';
    };
    ends_in_time Linger => 'request_refused', sub {
        $connection = $server->connect->send("GET\r\n\r\n");
        1 while eval { $connection->send('x' x 1000) };
        like $@, qr/reset|broken pipe/i, 'a client that sends and sends';
    };
};
is $server->stop, 0, 'exit code';

subtest 'a reload with shorter limits' => sub {
    $server = serve(server => 'HeaderTimeout=1min');
    my $old = $server->connect->send($HALF);
    settle();
    $server->configure(configuration('HeaderTimeout=' . $LIMIT{Header} * 1000 . 'ms'));
    is $server->reload->status, 0, 'reload';
    my $began = now();
    my $new = $server->connect->send($HALF);
    is $new->read_answer->status, 408, 'a new client is not kept waiting by an older one';
    in_limit(Header => $began);
    is $old->read_answer->status, 408, 'the older one has no more time either';
    $_->close for $old, $new;
    is $server->stop, 0, 'exit code';
};

# A request whose head takes exactly so many bytes.
sub head_of($size)
{
    my $head = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
    return $head . 'x' x ($size - length($head) - 4) . "\r\n\r\n";
}

subtest 'HeadSize= and MaxFields=' => sub {
    $server = serve(server => "HeadSize=2K\nMaxFields=10");
    my $connection = $server->connect;
    my $fields = sub ($count) { "GET / HTTP/1.1\r\nHost: x\r\n" . "X: y\r\n" x ($count - 1) . "\r\n" };
    is $connection->send(head_of(2048))->read_answer->status, 200, 'exactly as large';
    is $connection->send($fields->(10))->read_answer->status, 200, 'exactly as many';
    $connection->send(head_of(2048) x 50);
    is_deeply [map { $connection->read_answer->status } 1 .. 50], [(200) x 50], 'many such';
    $connection->send("\r\n" . head_of(2046));
    is $connection->read_answer->status, 200, 'an empty line before it counts';

    my $line = sub ($size) { 'GET /' . 'x' x ($size - 16) . " HTTP/1.1\r\n" };
    my @table = (
        [431, 'a byte more', head_of(2049)],
        [431, 'without an end', "${HALF}X: " . 'x' x 3000],
        [431, 'an empty line more', "\r\n" . head_of(2047)],
        [414, 'a line without an end', 'GET /' . 'x' x 3000],
        [414, 'a line that leaves no room', substr($line->(2049), 0, -1)],
        [431, 'a line that leaves little', $line->(2040) . "Host: x\r\n\r\n"],
        [431, 'a field more', $fields->(11)],
        [431, 'a million fields', $HALF . "X: y\r\n" x 1_000_000]);
    for (@table) {
        my ($status, $name, $bytes) = @$_;
        $connection = $server->connect->send($bytes);
        my $answer = $connection->read_answer;
        is $answer->status, $status, "$name: $status";
        ok $answer->closes && $connection->is_closed, 'and the end';
        $connection->close;
    }
    is $server->stop, 0, 'exit code';
};

# Beside a header timeout that does not come into it.
subtest 'MaxConnections=' => sub {
    $server = serve(server => 'MaxConnections=5');
    my @idle = map { $server->connect } 1 .. 5;
    is $_->get('/')->status, 200, 'a connection' for @idle;
    my @waiting = map { $server->connect->send("$HALF\r\n") } 1 .. 2;
    settle();
    ok $_->is_quiet, 'one more has to wait' for @waiting;
    my $full = Baton::Metrics->scrape($server);
    is $full->value('accept_pauses_total{cause="max_connections"}'), 1, 'counted';
    is $idle[0]->get('/')->status, 200, 'the five are served, and so is who looks after the server';

    (pop @idle)->close;
    my ($next, $last) = @waiting;
    is $next->read_answer->status, 200, 'one goes, one comes';
    settle();
    ok $last->is_quiet, 'and no second one';
    $next->close;
    is $last->read_answer->status, 200, 'the last one';
    is Baton::Metrics->scrape($server)->imbalance, 0, 'balance';
    is $server->stop, 0, 'exit code';
};

subtest 'out of file descriptors' => sub {
    local $ENV{BATON} = folder(baton => "#!/bin/sh\nulimit -n 64\nexec '" . baton() . "' \"\$@\"\n") . '/baton';
    chmod 0755, $ENV{BATON};
    $server = serve();
    my $admin = $server->connect('admin');
    $admin->get('/livez');
    my @connections = map { $server->connect } 1 .. 100;
    my $paused = sub ($now) { $now->value('accept_pauses_total{cause="resources"}') >= 1 };
    Baton::Metrics->wait_for($admin, 'pause', $paused);
    like $connections[0]->get('/')->status, qr/^(?:200|503)$/, 'a request has an answer meanwhile';
    my $last = pop @connections;
    $last->send("$HALF\r\n");
    $_->close for splice @connections, 1;
    is $last->read_answer->status, 200, 'those that had to wait are served when there are some again';
    is $connections[0]->get('/')->status, 200, 'and so are the others';
    my $metrics = Baton::Metrics->wait_open($admin, 3);
    is $metrics->imbalance, 0, 'balance';
    is $server->stop, 0, 'exit code';
};

# Of the only worker, in bytes.
sub memory_of_worker
{
    my ($pid) = $server->workers;
    my ($kilobytes) = read_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m or die;
    return $kilobytes << 10;
}

subtest '2,000 idle connections' => sub {
    my $count = 2000;
    $server = serve();
    my $before = memory_of_worker();
    my @connections = map { $server->connect } 1 .. $count;
    is_deeply [grep { $_->get('/')->status != 200 } @connections], [], 'a request on each';
    is_deeply [grep { $_->get('/')->status != 200 } reverse @connections], [], 'and another';
    my $metrics = Baton::Metrics->scrape($server);
    is $metrics->open_connections, $count + 1, 'all open';
    my $each = (memory_of_worker() - $before) / $count;
    ok $each < 1024 || $ENV{BATON_TEST_SLOW}, "each of them takes $each bytes";
    $_->close for @connections;
    Baton::Metrics->wait_ended($server, $metrics, 'client_closed', $count);
    is Baton::Metrics->scrape($server)->imbalance, 0, 'balance';
    is $server->stop, 0, 'exit code';
};

unlike $server->log, qr{ died: }, 'no worker died';
done_testing;
