# A stop: what was received is finished, and the last line of the log says what became of it.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Binary ();
use Baton::Loop   qw(in_time);
use Baton::Test;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $root = folder('index.html' => 'hello');
# More than the socket buffers of both ends hold.
my $LARGE = 16 << 20;
open my $large, '>', "$root/large" or die $!;
truncate $large, $LARGE or die $!;

my $REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

sub configuration(@server)
{
    return join "\n", '[Server]', 'Workers=2', @server, '[Listen http]', '[Listen admin]',
        'Admin=yes', '[Route site]', "Root=$root", '';
}

sub start_here(@server)
{
    return start(
        config => configuration(@server),
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0']);
}

sub idle_connection($server)
{
    my $client = $server->connect;
    is $client->get('/')->body, 'hello', 'a request is answered';
    return $client;
}

# A download that the client has only begun to read.
sub begin_download($server)
{
    my $client = $server->connect(undef, receive_buffer => 65536);
    $client->send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    $client->read_more;
    return $client;
}

# The server closes the connection, and so does the client: it is waited for (LingerTimeout=).
sub ends($client)
{
    my $closed = $client->is_closed;
    $client->close;
    return $closed;
}

sub finishes($download, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is length $download->read_answer->body, $LARGE, $name;
    ok ends($download), 'and then it is closed';
}

# What the last line of the log says.
sub last_line_is($server, $numbers, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($line) = $server->log =~ /^baton\[@{[$server->pid]}\]: (.*)\n\z/m;
    my $text = sprintf 'Stopped: %d requests served on %d connections; at the end %d connections finished, %d idle closed, %d cut, 0 parked', @$numbers;
    is $line, $text, $name;
}

sub wait_stopping($server)
{
    $server->wait_notify(qr/^STOPPING=1$/m);
    $server->status; # so the workers have been told
}

for my $signal (qw(TERM INT QUIT)) {
    subtest "SIG$signal" => sub {
        my $server = start_here();
        my @idle   = map { idle_connection($server) } 1 .. 3;
        is $server->get('/')->status, 200, 'one more, on a connection that ends before';
        $server->signal($signal);
        is $server->wait_exit, 0, 'exit code';
        ok ends($_), 'an idle connection is closed' for @idle;
        like $server->log, qr/^baton\[\d+\]: SIG$signal: stopping$/m, 'it is logged';
        last_line_is($server, [4, 4, 0, 3, 0], 'the numbers');
        ok !-e $server->control, 'the control socket is removed';
    };
}

subtest 'Ctrl-C' => sub {
    my $server   = start_here();
    my $download = begin_download($server);
    # The terminal signals every process of the group.
    kill INT => -$server->pid;
    wait_stopping($server);
    finishes($download, 'what is under way is finished');
    is $server->wait_exit, 0, 'exit code';
};

# Stops the workers, so that what arrives lies unread; whether they then see the requests before
# the stop, or the stop before the requests, is chance.
sub freeze($server)
{
    my @workers = map { $_->{pid} } @{$server->status->{workers}};
    kill STOP => @workers;
    return @workers;
}

subtest 'requests under way' => sub {
    # One worker: when it has closed one connection, it knows of the stop for all.
    my $server   = start_here('Workers=1');
    my $download = begin_download($server);
    my $idle     = idle_connection($server);
    my $partial  = $server->connect->send("GET / HTTP/1.1\r\n");
    $server->wait_status('three connections', sub ($status) { $status->{connections} == 3 });
    $server->signal('TERM');
    ok ends($idle), 'an idle connection is closed';
    ok $server->process->running, 'the others are waited for';
    my $answer = $partial->send("Host: localhost\r\n\r\n")->read_answer;
    is $answer->body, 'hello', 'a request that had begun is answered';
    ok $answer->closes && ends($partial), 'as the last of its connection';
    finishes($download, 'a download is finished');
    is $server->wait_exit, 0, 'exit code';
    last_line_is($server, [3, 3, 2, 1, 0], 'the numbers');
};

subtest 'requests that lie unread' => sub {
    my $server  = start_here();
    my @clients = map { idle_connection($server) } 1 .. 10;
    my @workers = freeze($server);
    $_->send($REQUEST) for @clients;
    $server->signal('TERM');
    wait_stopping($server);
    kill CONT => @workers;
    is scalar(grep { eval { $_->read_answer->body eq 'hello' } } @clients), 10, 'are answered';
    is scalar(grep { ends($_) } @clients), 10, 'and then the connections are closed';
    is $server->wait_exit, 0, 'exit code';
};

subtest 'who is queued when it stops' => sub {
    my $address = free_address();
    my $server  = start(config => configuration() =~ s/(?<=Listen http\]\n)/Address=$address\n/r, sockets => [admin => '127.0.0.1:0']);
    my @workers = freeze($server);
    my @queued  = map { Baton::Http->connect($address)->send($REQUEST) } 1 .. 20;
    $server->signal('TERM');
    wait_stopping($server);
    kill CONT => @workers;
    is scalar(grep { eval { $_->read_answer->body eq 'hello' } } @queued), 20, 'at an address of its own is answered';
    is $server->wait_exit, 0, 'exit code';
    like $server->log, qr/^baton\[\d+\]: Stopped: 20 requests served on 20 connections; .* 0 cut, 0 parked\n\z/m, 'the numbers';

    $server  = start_here();
    @workers = freeze($server);
    @queued  = map { $server->connect->send($REQUEST) } 1 .. 20;
    $server->signal('TERM');
    wait_stopping($server);
    kill CONT => @workers;
    is $server->wait_exit, 0, 'exit code';
    my $next = start(config => configuration(), sockets => $server->sockets);
    is scalar(grep { eval { $_->read_answer->body eq 'hello' } } @queued), 20, 'at a socket that was passed is answered, by this server or the next';
    is $next->stop, 0, 'exit code';
};

subtest 'the second signal' => sub {
    for my $signal (qw(TERM INT QUIT)) {
        my $server   = start_here();
        my $download = begin_download($server);
        my $idle     = idle_connection($server);
        $server->signal('TERM');
        wait_stopping($server);
        ok ends($idle), 'an idle connection is closed';
        $server->signal($signal);
        is $server->wait_exit, 1, 'exit code';
        eval { $download->read_answer };
        like $@, qr/ended after|reset/, 'what was under way is cut';
        like $server->log, qr/^baton\[\d+\]: A second signal to stop: ending at once$/m, 'it is logged';
        last_line_is($server, [2, 2, 0, 1, 1], 'and counted');
    }
    my $server = start_here('ReadinessDelay=1h');
    my $idle   = idle_connection($server);
    $server->signal('TERM');
    $server->wait_log(qr/SIGTERM: stopping/);
    $server->signal('TERM');
    is $server->wait_exit, 1, 'it ends ReadinessDelay= too';
};

subtest 'DrainTimeout=' => sub {
    my $server   = start_here('DrainTimeout=1s');
    my $download = begin_download($server);
    my $partial  = $server->connect->send("GET / HTTP/1.1\r\n");
    $server->wait_status('two connections', sub ($status) { $status->{connections} == 2 });
    my $began = clock_gettime(CLOCK_MONOTONIC);
    $server->signal('TERM');
    is $server->wait_exit, 0, 'exit code';
    cmp_ok clock_gettime(CLOCK_MONOTONIC) - $began, '>=', 1, 'it had its time';
    eval { $download->read_answer };
    like $@, qr/ended after|reset/, 'what was under way is cut';
    is $partial->read_answer->status, 503, 'a client without an answer gets a 503';
    like $server->log, qr/^baton\[\d+\] worker 1\.\d: The time to drain is over: closing \d connections?$/m, 'it is logged';
    last_line_is($server, [1, 2, 0, 0, 2], 'and counted');
};

subtest 'ReadinessDelay=' => sub {
    my $server = start_here('ReadinessDelay=2s');
    my $client = $server->connect;
    my $probe  = $server->connect('admin');
    is $client->get('/')->status, 200, 'a request';
    is $probe->get('/readyz')->status, 200, 'ready';
    my $began = clock_gettime(CLOCK_MONOTONIC);
    $server->signal('TERM');
    $server->wait_status('stop', sub ($status) { $status->{stopping} });
    is $probe->get('/readyz')->status, 503, 'not ready any more';
    is $server->connect('admin')->get('/readyz')->status, 503, 'whoever is asked' for 1 .. 4;
    is $probe->get('/livez')->status, 200, 'but alive';
    for my $connection ($client, $server->connect) {
        my $answer = $connection->get('/');
        is $answer->body, 'hello', 'requests are served';
        ok !$answer->closes, 'and connections kept';
    }
    ok !(grep {/^STOPPING=1/} $server->notifications), 'it does not stop yet';
    is $server->reload->status, 1, 'but nothing is reloaded';
    is $server->wait_exit, 0, 'exit code';
    cmp_ok clock_gettime(CLOCK_MONOTONIC) - $began, '>=', 2, 'it had its time';
    ok ends($client), 'then it stops';
};

subtest 'baton stop' => sub {
    my $server   = start_here();
    my $download = begin_download($server);
    my $stop     = $server->start_command('stop');
    wait_stopping($server);
    my $another = $server->connect_control->send('stop');
    $server->status;
    ok $stop->running && $another->is_quiet, 'it waits, and another one too';
    is $server->command('reload')->status, 1, 'a reload is refused';
    finishes($download, 'what is under way is finished');
    is $stop->wait_exit, 0, 'then it ends';
    is $stop->out, "Stopped\n", 'and says so';
    is $another->answer, "ok\nStopped", 'to both';
    is $server->wait_exit, 0, 'exit code of the server';
    my $late = $server->command('stop');
    is $late->status, 1, 'without a server it fails';
    like $late->err, qr/^baton: no server answers on the control socket \Q@{[$server->control]}\E: No such file or directory$/, 'and says why';
};

sub wait_for_children($server, $count)
{
    my $deadline = in_time(10);
    my @children;
    do { @children = $server->workers } while @children != $count && in_time(0) < $deadline;
    is @children, $count, "$count workers";
}

subtest 'a stop during a reload' => sub {
    my $binary = Baton::Binary->new;
    for my $how ('in its check', 'while its workers start') {
        my $server = $binary->restore->start(config => configuration('StartTimeout=1h'), sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0']);
        my $client = idle_connection($server);
        $how eq 'in its check' ? $binary->hold : $binary->fault('hang 2');
        my $reload = $server->start_command('reload');
        $server->wait_notify(qr/^RELOADING=1$/m);
        # The one that hangs holds whatever the supervisor held: to ask it now would be to wait for both.
        wait_for_children($server, 4) if $how ne 'in its check';
        $server->signal('TERM');
        is $server->wait_exit, 0, "$how: exit code";
        is $reload->wait_exit, 1, 'the reload fails';
        like $reload->err, qr/^the server is stopping$/, 'and says why';
        ok ends($client), 'idle connections are closed';
        last_line_is($server, [1, 1, 0, 1, 0], 'the numbers');
    }
};

done_testing;
