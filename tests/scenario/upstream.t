# Which backend a request goes to: balancing, pools, limits, retries, probes, and what happens while
# none can be reached.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Loop    qw(turn in_time);
use Baton::Metrics ();
use Baton::Test;
use List::Util  qw(sum0 uniq);
use Socket      qw(:DEFAULT);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($server, $barrier);

# A server whose only route goes to an upstream with these keys.
sub serve($upstream, %o)
{
    stop() if $server;
    my $more = $o{more} // '';
    $server = start(
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0', local => 'unix:' . folder() . '/local.sock'],
        config => <<~END);
            [Server]
            Workers=1
            DrainTimeout=0
            MaxBodySize=8M
            [Listen http]
            [Listen local]
            [Listen admin]
            Admin=yes
            [Route all]
            Upstream=all
            $more
            [Upstream all]
            $upstream
            END
    $barrier = $server->connect('admin');
}

sub stop
{
    is $server->stop, 0, 'exit code';
    unlike $server->log, qr{ died: }, 'no worker died';
}

# What was sent before this is called has gone through the only worker, to a backend that was dialled
# for it, and back, when this returns: each of these steps takes one turn of either loop.
sub settle
{
    for (1 .. 8) {
        $barrier->get('/livez');
        turn();
    }
}

sub request($method, $target = '/', @lines)
{
    return join "\r\n", "$method $target HTTP/1.1", 'Host: all.example', @lines, '', '';
}

sub backends($count, @options)
{
    return map { Baton::Backend->new(@options) } 1 .. $count;
}

sub servers(@backends)
{
    return join "\n", map { 'Server=' . (ref $_ ? $_->address : $_) } @backends;
}

# How many requests each has got since this was called the last time.
my %before;

sub shares(@backends)
{
    my @now    = map { scalar $_->requests } @backends;
    my @shares = map { $now[$_] - ($before{$backends[$_]} // 0) } 0 .. $#backends;
    @before{@backends} = @now;
    return \@shares;
}

# Answers each its own target, so that nothing is mixed up.
my @own = (sub ($request) { return (body => $request->target) });

# Asks again and again, until the condition holds.
sub ask_until($what, $condition, $seconds = 10)
{
    my $deadline = in_time($seconds);
    until ($condition->()) {
        die "no $what within $seconds s\n" if clock_gettime(CLOCK_MONOTONIC) > $deadline;
        settle();
    }
}

# Balancing --------------------------------------------------------------------------------------

subtest 'round robin' => sub {
    my @backends = backends(3);
    serve(servers(@backends));
    my $connection = $server->connect;
    $connection->get('/') for 1 .. 30;
    is_deeply shares(@backends), [10, 10, 10], 'in turn';
    for my $method (qw(POST PUT)) {
        is $connection->send(request($method => '/', 'Content-Length: 1') . 'x')->read_answer->status, 200, $method for 1 .. 9;
        is_deeply shares(@backends), [3, 3, 3], '... as well';
    }
    $_->get('/') for map { $server->connect } 1 .. 30;
    is_deeply shares(@backends), [10, 10, 10], 'for all clients together';

    my ($a, $b, $c) = @backends;
    serve("Server=@{[$a->address]} weight=3\nServer=@{[$b->address]}\nServer=@{[$c->address]} weight=2");
    $connection = $server->connect;
    shares(@backends);
    my @rounds;
    for (1 .. 10) {
        $connection->get('/') for 1 .. 6;
        push @rounds, shares(@backends);
    }
    is_deeply \@rounds, [([3, 1, 2]) x 10], 'by weight, in each round';
};

subtest 'least connections' => sub {
    my @backends = backends(2);
    serve("Balance=least-connections\n" . servers(@backends));
    $_->hold for @backends;
    shares(@backends);
    my @clients = map { my $c = $server->connect->send(request(GET => "/$_")); settle(); $c } 1 .. 6;
    is_deeply shares(@backends), [3, 3], 'evenly';
    $_->answer(body => '') for $backends[0]->requests;
    settle();
    push @clients, map { my $c = $server->connect->send(request(GET => "/$_")); settle(); $c } 1 .. 4;
    is_deeply shares(@backends), [$backends[0]->requests - 3, $backends[1]->requests - 3], 'counted';
    is scalar($backends[0]->requests), 3 + 4 - ($backends[1]->requests - 3), 'all have arrived';
    cmp_ok scalar($backends[0]->requests), '>=', 6, 'to the one that has less to do';

    my ($a, $b) = backends(2);
    $_->hold for $a, $b;
    serve("Balance=least-connections\nServer=@{[$a->address]} weight=3\nServer=@{[$b->address]}");
    @clients = map { my $c = $server->connect->send(request(GET => "/$_")); settle(); $c } 1 .. 12;
    is_deeply shares($a, $b), [9, 3], 'by weight';
};

subtest 'hash of the address' => sub {
    my @backends = backends(4);
    serve("Balance=hash\nHoldTimeout=0\n" . servers(@backends));
    shares(@backends);
    my $whose = sub (@addresses) {
        my %whose;
        for my $address (@addresses) {
            for (1 .. 2) {
                my $answer = $server->connect('http', from => $address)->get('/');
                is $answer->status, 200, "$address: answered" if $answer->status != 200;
                my $shares = shares(@backends);
                my ($n) = grep { $shares->[$_] } 0 .. $#backends;
                is $whose{$address} // $n, $n, "$address: the same one" if ($whose{$address} // $n) != $n;
                $whose{$address} = $n;
            }
        }
        return \%whose;
    };
    my @addresses = map {"127.0.0.$_"} 1 .. 40;
    my $before    = $whose->(@addresses);
    is scalar(uniq values %$before), 4, 'each has some';
    is_deeply $whose->(@addresses), $before, 'always the same';
    $backends[2]->stop;
    settle();
    my $without = $whose->(@addresses);
    my @moved   = grep { $without->{$_} != $before->{$_} } @addresses;
    is_deeply \@moved, [grep { $before->{$_} == 2 } @addresses], 'one that is away moves its own clients alone';
    $backends[2]->listen;
    ask_until('return of a backend', sub { $server->connect('http', from => $moved[0])->get('/'); shares(@backends)->[2] > 0 });
    is_deeply $whose->(@addresses), $before, 'and has them back later';
};

# Connections ------------------------------------------------------------------------------------

# So many requests at once, answered when all of them are there.
sub at_once($backend, $count)
{
    $backend->skip_requests->hold;
    my @clients  = map { $server->connect->send(request(GET => "/$_")) } 1 .. $count;
    my @requests = map { $backend->wait_request } 1 .. $count;
    $_->answer(body => 'done') for @requests;
    is $_->read_answer->body, 'done', 'an answer' for @clients;
    $backend->answer;
    settle();
}

subtest 'kept connections' => sub {
    my ($backend) = backends(1);
    serve(servers($backend) . "\nMaxIdle=2");
    at_once($backend, 5);
    is $backend->accepted, 5, 'one for each request';
    is $backend->connections, 2, 'MaxIdle= of them are kept';
    at_once($backend, 5);
    is $backend->accepted, 8, '... and used';
    $server->get('/') for 1 .. 5;
    is $backend->accepted, 8, '... again and again';
    $backend->close_connections;
    settle();
    is $server->get('/')->status, 200, 'those that were closed are not';
    is $backend->accepted, 9, '... there are others';
    is $backend->connections, 1, 'one';

    serve(servers($backend) . "\nMaxIdle=0");
    $server->get('/') for 1 .. 3;
    settle();
    is $backend->connections, 0, 'MaxIdle=0';

    serve(servers($backend) . "\nIdleTimeout=100ms");
    at_once($backend, 3);
    is $backend->connections, 3, 'kept';
    $backend->wait_connections(0);
    pass 'for IdleTimeout=';
    is $server->get('/')->status, 200, 'then there are others';
};

# A kept connection may be closed in the moment in which a request is sent on it.
subtest 'the closing race' => sub {
    my ($backend) = backends(1);
    serve(servers($backend) . "\nRetries=0\nMaxFails=0");
    my $connection = $server->connect;
    my $put        = request(PUT => '/', 'Content-Length: 5') . 'hello';
    my %again      = (GET => request('GET'), HEAD => request('HEAD'), DELETE => request('DELETE'), OPTIONS => request('OPTIONS'), PUT => $put, 'a GET with a body' => $put =~ s/PUT/GET/r);
    for my $name (sort keys %again) {
        my ($method) = $again{$name} =~ /^(\w+)/;
        for my $end (qw(close reset)) {
            $connection->get('/');
            my $accepted = $backend->accepted;
            $backend->skip_requests->answer_next(cut => 0, end => $end);
            is $connection->send($again{$name})->read_answer($method)->status, 200, "$name, $end: answered";
            my @requests = map { $backend->wait_request } 1 .. 2;
            is $requests[0]->head, $requests[1]->head, '... the second time';
            is $requests[1]->body, $again{$name} =~ /hello/ ? 'hello' : '', '... with its body';
            isnt $requests[0]->connection, $requests[1]->connection, '... on another connection';
            is $backend->accepted, $accepted + 1, '... a fresh one';
        }
    }
    $connection->get('/');
    my $count = $backend->requests;
    $backend->answer(cut => 0);
    is $connection->send(request('GET'))->read_answer->status, 502, 'a fresh one that fails is the end';
    is scalar($backend->requests), $count + 2, '... with Retries=0';

    for my $method (qw(POST PATCH)) {
        $backend->answer;
        at_once($backend, 3);
        my ($accepted, $requests) = ($backend->accepted, scalar $backend->requests);
        is $connection->send(request($method => '/', 'Content-Length: 5') . 'hello')->read_answer->status, 200, "$method has";
        is $backend->accepted, $accepted + 1, '... a connection of its own';
        $backend->answer(cut => 0);
        is $connection->send(request($method => '/', 'Content-Length: 5') . 'hello')->read_answer->status, 502, '... which fails';
        is scalar($backend->requests), $requests + 2, '... and is not repeated';
    }
    # What is no longer all here cannot be repeated either.
    $backend->answer;
    $connection->get('/');
    my $large = 'x' x 1_000_000;
    my ($accepted, $requests) = ($backend->accepted, scalar $backend->requests);
    is $connection->send(request(PUT => '/', 'Content-Length: ' . length $large) . $large)->read_answer->status, 200, 'nor has a large PUT';
    is $backend->accepted, $accepted + 1, '... a kept connection';
    $backend->answer(cut => 0);
    is $connection->send(request(PUT => '/', 'Content-Length: ' . length $large) . $large)->read_answer->status, 502, '... nor a second attempt';
    is scalar($backend->requests), $requests + 2, '... if it fails';
    $backend->answer;
};

subtest 'MaxConnections=' => sub {
    my ($backend) = backends(1);
    serve(servers($backend) . "\nMaxConnections=2");
    $backend->hold;
    my @clients = map { my $c = $server->connect->send(request(GET => "/$_")); settle(); $c } 1 .. 6;
    is scalar($backend->requests), 2, 'so many requests at a time';
    is $backend->accepted, 2, '... and connections';
    $clients[3]->close; # a place in the queue is free again
    settle();
    my @order;
    for my $n (1 .. 5) {
        my $request = $backend->wait_request;
        push @order, $request->target;
        $request->answer(body => $request->target);
        settle();
        cmp_ok $backend->connections, '<=', 2, 'never more';
    }
    is_deeply [sort @order], [qw(/1 /2 /3 /5 /6)], 'all but the one that left';
    is_deeply [@order[2 .. 4]], [qw(/3 /5 /6)], 'the queue keeps its order';
    is $clients[$_ - 1]->read_answer->body, "/$_", "$_: its answer" for 1, 2, 3, 5, 6;
    is $backend->accepted, 2, 'on the same connections';

    # A kept connection gives way to one that is needed.
    serve(servers($backend) . "\nMaxConnections=1");
    $backend->answer(@own);
    is $server->get('/kept')->body, '/kept', 'one is kept';
    my $accepted = $backend->accepted;
    is $server->connect->send(request(POST => '/p', 'Content-Length: 0'))->read_answer->body, '/p', 'a POST';
    is $backend->accepted, $accepted + 1, '... has a fresh one';
    settle();
    is $backend->connections, 1, '... in place of the other';

    serve(servers($backend) . "\nMaxConnections=1\nHoldTimeout=0");
    $backend->skip_requests->hold;
    my $first = $server->connect->send(request('GET'));
    my $request = $backend->wait_request;
    is $server->get('/')->status, 503, 'without HoldTimeout= nobody waits for another';
    like $server->wait_log(qr/gets 503.*/), qr/it has MaxConnections= connections/, '... says the log';
    $request->answer(body => 'x');
    is $first->read_answer->body, 'x', 'who has it goes on';
};

# Failing ----------------------------------------------------------------------------------------

subtest 'a second attempt at another server' => sub {
    my ($bad, $good) = backends(2);
    $bad->answer(cut => 0);
    $good->answer(@own);
    serve(servers($bad, $good) . "\nMaxFails=0");
    my $connection = $server->connect;
    for my $method (qw(GET HEAD PUT DELETE OPTIONS TRACE)) {
        my @statuses = map { $connection->send(request($method => "/$_", 'Content-Length: 1') . 'x')->read_answer($method)->status } 1 .. 6;
        is_deeply \@statuses, [(200) x 6], "$method: always answered";
        my $shares = shares($bad, $good);
        is $shares->[1], 6, '... by the good one';
        cmp_ok $shares->[0], '>=', 1, '... even if the bad one was asked first';
    }
    my @statuses = map { $connection->send(request(POST => "/$_", 'Content-Length: 1') . 'x')->read_answer->status } 1 .. 6;
    is_deeply [sort @statuses], [(200) x 3, (502) x 3], 'POST is not repeated';
    is_deeply shares($bad, $good), [3, 3], '... by anybody';
    # An answer that says that the server cannot is an answer.
    $bad->answer(status => 503, body => 'busy');
    @statuses = map { $connection->get('/')->status } 1 .. 6;
    is_deeply [sort @statuses], [(200) x 3, (503) x 3], 'nor what was answered';

    my @bad = backends(5);
    $_->answer(cut => 0) for @bad;
    for my $retries (0, 1, 3) {
        serve(servers(@bad) . "\nRetries=$retries\nMaxFails=0");
        shares(@bad);
        is $server->get('/')->status, 502, "Retries=$retries: in the end it fails";
        is sum0(@{shares(@bad)}), 1 + $retries, '... after so many attempts';
    }
    # One by one, no server is asked twice.
    my $shares = do { $server->get('/'); shares(@bad) };
    cmp_ok +(sort { $b <=> $a } @$shares)[0], '<=', 2, 'at different servers' or diag explain $shares;
};

subtest 'MaxFails= and FailTimeout=' => sub {
    my ($bad, $good) = backends(2);
    $bad->answer(cut => 0);
    serve(servers($bad, $good) . "\nMaxFails=3\nFailTimeout=1h");
    $server->get('/') for 1 .. 30;
    is_deeply shares($bad, $good), [3, 30], 'avoided after three failures';
    $good->stop;
    settle();
    is $server->get('/')->status, 502, 'but where there is no other';
    cmp_ok shares($bad)->[0], '>=', 1, '... it is asked';
    $bad->answer;
    is $server->get('/')->status, 200, '... and may answer';
    $good->listen;

    serve(servers($bad, $good) . "\nMaxFails=1\nFailTimeout=200ms");
    $bad->answer(cut => 0);
    $server->get('/') for 1 .. 2;
    shares($bad, $good);
    $bad->answer;
    ask_until('another try', sub { $server->get('/')->status == 200 && shares($bad)->[0] > 0 });
    pass 'FailTimeout= is over';
    my @shares = do { shares($bad, $good); $server->get('/') for 1 .. 10; @{shares($bad, $good)} };
    is_deeply \@shares, [5, 5], 'and all is well again';

    serve(servers($bad, $good) . "\nMaxFails=2\nFailTimeout=1h");
    $bad->answer(sub ($request) { return $request->target eq '/bad' ? (cut => 0) : (body => 'x') });
    for (1 .. 5) { # one of two, never two in a row
        $server->get('/bad') for 1 .. 2;
        $server->get('/') for 1 .. 2;
    }
    cmp_ok shares($bad)->[0], '>=', 8, 'answers in between make up for failures';
};

subtest 'one that is not there' => sub {
    my ($here) = backends(1);
    serve(servers(free_address(), $here, 'unix:' . folder() . '/none.sock'));
    is_deeply [map { $server->get('/')->status } 1 .. 30], [(200) x 30], 'no client can tell';
    is $server->connect->send(request(POST => '/', 'Content-Length: 1') . 'x')->read_answer->status, 200, 'nor who sends a POST' for 1 .. 5;
    is scalar($here->requests), 35, 'the other has all';
};

# Does not accept, and its queue is full: what wants to connect waits for its time to be over.
sub black_hole
{
    socket my $socket, AF_INET, SOCK_STREAM, 0 or die "socket: $!";
    bind $socket, pack_sockaddr_in(0, inet_aton('127.0.0.1')) or die "bind: $!";
    listen $socket, 0 or die "listen: $!";
    my @full;
    for (1 .. 4) {
        socket my $client, AF_INET, SOCK_STREAM, 0 or die "socket: $!";
        $client->blocking(0);
        connect $client, getsockname $socket;
        push @full, $client;
    }
    return ($socket, @full);
}

subtest 'ConnectTimeout=' => sub {
    my @hole    = black_hole();
    my $address = Baton::Server::address_of($hole[0]);
    my ($here)  = backends(1);
    serve(servers($address, $here) . "\nConnectTimeout=100ms");
    is_deeply [map { $server->get('/')->status } 1 .. 6], [(200) x 6], 'the other is asked then';
    serve(servers($address) . "\nConnectTimeout=100ms\nHoldTimeout=0");
    is $server->get('/')->status, 502, 'there is no other';
    like $server->wait_log(qr/gets 502.*/), qr/\Q$address\E: Connection timed out/, '... says the log';
};

# Probes -----------------------------------------------------------------------------------------

subtest 'probes' => sub {
    my ($backend) = backends(1);
    my ($health, @probes) = (200);
    my $answer = sub ($request) {
        return (body => 'x') if $request->target ne '/health?q';
        push @probes, ref $health ? shift @$health // 200 : $health;
        return $probes[-1] eq 'none' ? (hold => 1) : (status => $probes[-1], body => '');
    };
    $backend->answer($answer);
    my $probes = "Probe=/health?q\nProbeInterval=100ms\nProbeFall=3\nProbeRise=2\nProbeTimeout=100ms\nHoldTimeout=0\nMaxFails=0";
    serve(servers($backend) . "\n$probes");
    my $probe = $backend->wait_request;
    is $probe->head, join("\r\n", 'GET /health?q HTTP/1.1', 'Host: ' . $backend->address, 'User-Agent: Baton', 'Connection: close', '', ''), 'a probe';
    is $server->get('/')->status, 200, 'up at first';
    $health = [500, 500, 200, 500, 'none', 302, 404, 404, 399];
    ask_until('end of the failures', sub { @$health == 0 && $server->get('/')->status == 200 });
    is scalar(grep { $server->get('/')->status != 200 } 1 .. 5), 0, 'two failures in a row are not three';

    my $from = @probes;
    $health = 500;
    ask_until('it is down', sub { $server->get('/')->status == 502 });
    my @failed = @probes[$from .. $#probes];
    is scalar(grep { $_ == 500 } @failed), 3, 'down after three of them';
    like $server->wait_log(qr/gets 502.*/), qr/its probe was answered with 500/, '... says the log';
    $from   = @probes;
    $health = [200, 500, 200, 200];
    ask_until('it is up', sub { $server->get('/')->status == 200 });
    is scalar(@probes) - $from, 4, 'up after two good ones in a row';
    $health = 'none';
    ask_until('word of a late answer', sub { $server->get('/'); $server->log =~ /gets 502.*its probe was not answered within ProbeTimeout=/ });
    pass 'no answer is a failure';
    $health = 200;
    ask_until('it is up', sub { $server->get('/')->status == 200 });
    $backend->stop;
    $backend->listen;

    my ($one, $two) = backends(2);
    my %health = ($one => 200, $two => 200);
    for my $backend ($one, $two) {
        $backend->answer(sub ($request) { return $request->target eq '/p' ? (status => $health{$backend}, body => '') : (body => 'x') });
    }
    serve(servers($one, $two) . "\nProbe=/p\nProbeInterval=100ms\nProbeFall=1\nProbeRise=1\nProbeStatus=204\nProbeHost=probe.example");
    is +($one->wait_request)->field('Host'), 'probe.example', 'ProbeHost=';
    my $served = sub ($backend) { return scalar grep { $_->target ne '/p' } $backend->requests };
    $health{$two} = 204;
    my $only = sub ($backend) { my $before = $served->($backend); $server->get('/') for 1 .. 4; return $served->($backend) - $before == 4 };
    ask_until('only one is up', sub { $only->($two) });
    pass 'ProbeStatus=: 200 is not 204';
    @health{$one, $two} = (204, 200);
    ask_until('only the other is up', sub { $only->($one) });
    pass 'and then the other way';
    $health{$one} = 200;
    my $held;
    ask_until('none is up', sub { $held = $server->connect->send(request('GET')); settle(); $held->is_quiet });
    $health{$one} = 204;
    is $held->read_answer->status, 200, 'with none that is up requests are held until one is';
};

# Holding ----------------------------------------------------------------------------------------

# Where a backend was, and will be again.
my %places = (
    'a port that is refused' => sub { free_address() },
    'a unix socket that is missing' => sub { 'unix:' . folder() . '/web.sock' },
);

subtest 'held until a backend comes' => sub {
    for my $name (sort keys %places) {
        my $backend = Baton::Backend->new(address => $places{$name}->());
        $backend->answer(@own)->stop;
        serve(servers($backend) . "\nMaxConnections=1");
        my $large   = 'x' x 200_000;
        my @clients = map {
            my $client = $server->connect;
            $client->send($_ % 2 ? request(GET => "/$_") : request(POST => "/$_", 'Content-Length: 200000') . $large);
            settle();
            $client;
        } 1 .. 6;
        $clients[0]->send(request(GET => '/pipelined'));
        ok $_->is_quiet, "$name: waits" for @clients;
        $clients[2]->close;
        settle();
        $backend->listen;
        is $clients[$_ - 1]->read_answer->body, "/$_", "... and is served: $_" for 1, 2, 4, 5, 6;
        is $clients[0]->read_answer->body, '/pipelined', '... and what came behind it';
        is_deeply [map { $_->target } $backend->requests], [qw(/1 /2 /4 /5 /6 /pipelined)], 'in their order';
        ok +($backend->requests)[1]->body eq $large, 'with their bodies';
        my $metrics = Baton::Metrics->scrape($barrier);
        is $metrics->value('held_total'), 7, 'counted: one at a time';

        $backend->stop;
        settle();
        my $waits = $server->connect->send(request(GET => '/later'));
        settle();
        ok $waits->is_quiet, 'and once more';
        $backend->listen;
        is $waits->read_answer->body, '/later', '... served';
    }
};

subtest 'held, whichever comes' => sub {
    my @backends = map { $_->answer(@own)->stop } backends(3);
    serve(servers(@backends));
    my @clients = map { $server->connect->send(request(GET => "/$_")) } 1 .. 10;
    settle();
    ok $_->is_quiet, 'waits' for @clients;
    $backends[1]->listen;
    is $clients[$_ - 1]->read_answer->body, "/$_", 'served' for 1 .. 10;
    is_deeply [map { scalar $_->requests } @backends], [0, 10, 0], 'by the one that came';
};

subtest 'MaxWaiting=' => sub {
    my ($backend) = backends(1);
    $backend->answer(@own)->stop;
    serve(servers($backend) . "\nMaxWaiting=2");
    my @clients = map { my $c = $server->connect->send(request(GET => "/$_")); settle(); $c } 1 .. 3;
    my $answer = $clients[2]->read_answer;
    is $answer->status, 503, 'the third is refused';
    like $answer->field('Retry-After'), qr/^\d+$/, '... and told when to come again';
    ok !$answer->closes, '... on this connection';
    like $server->wait_log(qr/gets 503.*/), qr/MaxWaiting= requests wait already/, '... says the log';
    $clients[0]->close;
    settle();
    $clients[2]->send(request(GET => '/3'));
    settle();
    ok $clients[2]->is_quiet, 'who leaves makes room';
    $backend->listen;
    is $clients[$_]->read_answer->body, '/' . ($_ + 1), 'served' for 1, 2;
};

subtest 'HoldTimeout=' => sub {
    my ($backend) = backends(1);
    $backend->answer(@own)->stop;
    serve(servers($backend) . "\nHoldTimeout=100ms");
    my $connection = $server->connect->send(request(GET => '/1') . request(GET => '/2'));
    for (1 .. 2) {
        my $answer = $connection->read_answer;
        is $answer->status, 503, 'is over';
        like $answer->field('Retry-After'), qr/^\d+$/, '... said with a time';
    }
    $connection->send(request(POST => '/3', 'Content-Length: 200000') . 'x' x 200_000);
    is $connection->read_answer->status, 503, 'with a body';
    ok $connection->is_closed, '... that is not read';
    serve(servers($backend) . "\nHoldTimeout=0");
    is $server->get('/')->status, 502, 'none';
    is_deeply [map { $_->read_answer->status } map { $server->connect->send(request('GET')) } 1 .. 20], [(502) x 20], 'for all';
    $backend->listen;
    ask_until('return of a backend', sub { $server->get('/')->status == 200 });
    pass 'it is found again';
};

# Names, PROXY -----------------------------------------------------------------------------------

subtest 'a name' => sub {
    my $address = Baton::Server::address_of(Baton::Server::listen_on('127.0.0.1:0'));
    my $backend = Baton::Backend->new(address => $address);
    my ($port)  = $address =~ /(\d+)$/;
    serve("Server=localhost:$port");
    is $server->get('/')->status, 200, 'localhost, at once';
    is $server->get('/')->status, 200, '... and again';
    is +($backend->requests)[0]->field('Host'), 'localhost', 'Host is the client\'s';
    serve("Server=localhost:$port\nHoldTimeout=0");
    ask_until('look-up of localhost', sub { $server->get('/')->status == 200 });
    pass 'without HoldTimeout=';
    serve("Server=none.invalid:80\nHoldTimeout=0");
    is $server->get('/')->status, 502, 'one that does not exist';
    serve("Server=none.invalid:80\nServer=localhost:$port");
    is_deeply [map { $server->get('/')->status } 1 .. 6], [(200) x 6], 'another is asked';
};

subtest 'SendProxy=' => sub {
    my ($backend) = backends(1);
    for my $version (qw(v1 v2)) {
        serve(servers($backend) . "\nSendProxy=$version");
        my $address  = $server->address('http');
        my ($port)   = $address =~ /:(\d+)$/;
        my $accepted = $backend->accepted;
        $backend->skip_requests;
        for my $from ('127.0.0.1', '127.0.0.9') {
            my $connection = $server->connect('http', from => $from);
            my ($own) = unpack_sockaddr_in(getsockname $connection->{socket});
            my $expected =
                $version eq 'v1'
                ? "PROXY TCP4 $from 127.0.0.1 $own $port"
                : "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" . inet_aton($from) . inet_aton('127.0.0.1') . pack('nn', $own, $port);
            for (1 .. 2) {
                is $connection->get('/')->status, 200, "$version: answered";
                is unpack('H*', $backend->wait_request->proxy), unpack('H*', $expected), '... after a header of its client';
            }
        }
        is $backend->accepted, $accepted + 4, '... on a connection of its own each time';
        $server->connect('local')->get('/');
        my $unknown = $version eq 'v1' ? 'PROXY UNKNOWN' : "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        is unpack('H*', $backend->wait_request->proxy), unpack('H*', $unknown), 'of one that has no address';
        $backend->answer_next(cut => 0);
        is $server->get('/')->status, 200, 'a second attempt';
        is scalar(uniq map { $_->proxy } map { $backend->wait_request } 1 .. 2), 1, '... has the same header';
    }
};

# One for all ------------------------------------------------------------------------------------

# While others wait for all kinds of backends that do not answer, these requests are answered: in
# what order things happen is all that is looked at.
subtest 'slow backends' => sub {
    my ($fast, $silent, $slow) = (backends(2), Baton::Backend->new(early => 1));
    my @hole = black_hole();
    my %upstreams = (
        silent => servers($silent),
        slow => servers($slow),
        hole => servers(Baton::Server::address_of($hole[0])),
        away => servers(free_address()),
        name => 'Server=none.invalid:80',
    );
    my $more = join "\n", map {"[Route $_]\nHost=$_.example\nUpstream=$_\n[Upstream $_]\n$upstreams{$_}\nHoldTimeout=1h"} sort keys %upstreams;
    serve(servers($fast), more => $more);
    $_->hold for $silent, $slow;
    $fast->answer(@own);
    my @clients;
    for my $name (sort keys %upstreams) {
        for (1 .. 40) {
            my $client = $server->connect;
            my $host   = "Host: $name.example\r\n";
            $client->send($_ % 2 ? "GET / HTTP/1.1\r\n$host\r\n" : "POST / HTTP/1.1\r\n${host}Content-Length: 100000\r\n\r\n" . 'x' x 50_000);
            push @clients, $client;
        }
    }
    settle();
    $_->stop_reading for $slow->requests;
    my $connection = $server->connect;
    my @wrong = grep { $connection->get("/$_")->body ne "/$_" } 1 .. 300;
    is "@wrong", '', '300 requests are answered';
    is scalar(grep { !$_->is_quiet } @clients), 0, '... and none of the 200 others yet';
    # Those whose bodies fill our buffers are not seen to leave before they are served.
    $clients[2 * $_]->close for 0 .. 99;
    is Baton::Metrics->wait_open($barrier, 2 + 100)->imbalance, 0, 'those that leave are noticed';
};

stop();
done_testing;
