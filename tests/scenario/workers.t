# Workers that die, hang, or lose their supervisor.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Test;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $root = folder('index.html' => 'hello');
# More than the socket buffers of both ends hold.
my $LARGE = 16 << 20;
open my $large, '>', "$root/large" or die $!;
truncate $large, $LARGE or die $!;

sub configuration(@server)
{
    return join "\n", '[Server]', @server, '[Listen http]', '[Route site]', "Root=$root", '';
}

sub pids($server)
{
    return map { $_->{pid} } @{$server->status->{workers}};
}

# Connections which have each had an answer and are idle now.
sub idle_connections($server, $count)
{
    my @connections = map { $server->connect } 1 .. $count;
    is scalar(grep { $_->get('/')->body eq 'hello' } @connections), $count, "$count connections are served";
    return @connections;
}

# Those that still are, the others having been closed.
sub alive(@connections)
{
    return grep { eval { $_->get('/')->body eq 'hello' } } @connections;
}

# A download that the client has only begun to read.
sub begin_download($server)
{
    my $client = $server->connect(undef, receive_buffer => 65536);
    $client->send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    $client->read_more;
    return $client;
}

# By worker, lowest number first.
sub counts($status)
{
    return map { $_->{connections} } sort { $a->{worker} <=> $b->{worker} } @{$status->{workers}};
}

subtest 'they share what comes' => sub {
    my $server = start(config => configuration('Workers=2'));
    my ($pid)  = map { $_->{pid} } grep { $_->{worker} == 1 } @{$server->status->{workers}};
    kill STOP => $pid;
    my @clients = map { $server->connect } 1 .. 40;
    $_->send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") for @clients;
    $server->wait_status('all accepted by the other one', sub ($now) { (counts($now))[1] == 40 });
    is scalar(grep { $_->read_answer->body eq 'hello' } @clients), 40, 'who hangs is not waited for';
    kill CONT => $pid;
    push @clients, idle_connections($server, 40);
    my @counts = counts($server->status);
    is $counts[0] + $counts[1], 80, 'all are there';
    cmp_ok $counts[0], '>=', 30, 'who has fewer gets the next ones: 40 more, and they have ' . join ' and ', @counts;
    is $server->stop, 0, 'exit code';
};

subtest 'one is killed' => sub {
    my $server  = start(config => configuration('Workers=3'));
    my @clients = idle_connections($server, 60);
    my $status  = $server->status;
    is @{$status->{workers}}, 3, 'three workers';
    my ($victim) = sort { $b->{connections} <=> $a->{connections} } @{$status->{workers}};
    my @others = grep { $_ != $victim->{pid} } map { $_->{pid} } @{$status->{workers}};
    kill KILL => $victim->{pid};
    $server->wait_log(qr/Worker $victim->{worker} of generation 1 \(PID $victim->{pid}\) died: it was killed by SIGKILL$/m);
    my $after = $server->status;
    my ($new) = grep { $_->{worker} == $victim->{worker} } @{$after->{workers}};
    ok $new, 'it is replaced at once' and isnt $new->{pid}, $victim->{pid}, 'by another process';
    is $after->{worker_crashes}, 1, 'the crash is counted';
    my @left = alive(@clients);
    is @left, 60 - $victim->{connections}, 'the connections of the others are unharmed';
    $server->wait_status('three that serve', sub ($now) { 3 == grep { $_->{state} eq 'current' } @{$now->{workers}} });
    my %now = map { ($_ => 1) } pids($server);
    ok !(grep { !$now{$_} } @others), 'and so are they';
    push @left, idle_connections($server, 10);
    is $server->stop, 0, 'exit code';
    my $left = @left;
    like $server->log, qr/Stopped: \d+ requests served on 70 connections; at the end 0 connections finished, $left idle closed, 0 cut/,
        'the last line counts those that were left';
};

# Kills each worker as it appears. Returns how long each time it took for the next to appear.
sub kill_all_that_come($server)
{
    my (%killed, @seconds);
    my $died = clock_gettime(CLOCK_MONOTONIC);
    while ($server->process->running) {
        my $status = eval { $server->status } // last;
        my ($pid) = grep { !$killed{$_} } map { $_->{pid} } @{$status->{workers}} or next;
        push @seconds, clock_gettime(CLOCK_MONOTONIC) - $died if %killed;
        $killed{$pid} = 1;
        $died = clock_gettime(CLOCK_MONOTONIC);
        kill KILL => $pid;
    }
    return @seconds;
}

subtest 'all are killed as they come' => sub {
    my $server = start(config => configuration('Workers=1', 'CrashLimit=5'));
    my @seconds = kill_all_that_come($server);
    is @seconds, 5, 'CrashLimit= are replaced';
    cmp_ok $seconds[2], '>=', 0.1, 'not at once from the third on';
    cmp_ok $seconds[3], '>=', 0.2, 'but later';
    cmp_ok $seconds[4], '>=', 0.4, 'and later';
    is $server->wait_exit, 1, 'exit code';
    like $server->log, qr/^baton\[\d+\]: Workers keep dying, CrashLimit= is reached: stopping$/m, 'and why';
    ok +(grep {/^STOPPING=1/} $server->notifications), 'which the manager is told';
};

subtest 'a crash ends no reload' => sub {
    my $server = start(config => configuration('Workers=1', 'CrashLimit=2'));
    for my $turn (1 .. 3) {
        kill KILL => pids($server);
        $server->wait_log(qr/died: it was killed by SIGKILL/);
        is $server->reload->status, 0, 'a reload succeeds';
        $server->wait_at_rest(1);
    }
    is $server->get('/')->body, 'hello', 'crashes of generations that are gone do not count';
    is $server->stop, 0, 'exit code';
};

subtest 'one hangs' => sub {
    my $server  = start(config => configuration('Workers=2', 'WorkerTimeout=500ms'));
    my @clients = idle_connections($server, 40);
    my $status  = $server->status;
    my ($victim, $other) = sort { $b->{connections} <=> $a->{connections} } @{$status->{workers}};
    kill STOP => $victim->{pid};
    $server->wait_log(qr/Worker $victim->{worker} of generation 1 \(PID $victim->{pid}\) did not answer within WorkerTimeout=: aborted$/m);
    $server->wait_log(qr/Worker $victim->{worker} of generation 1 \(PID $victim->{pid}\) died: it did not answer within WorkerTimeout=$/m);
    my $after = $server->wait_status('two that serve', sub ($now) { 2 == grep { $_->{state} eq 'current' } @{$now->{workers}} });
    ok +(grep { $_ == $other->{pid} } pids($server)), 'the other goes on';
    ok !(grep { $_ == $victim->{pid} } pids($server)), 'it is replaced';
    is alive(@clients), $other->{connections}, 'the connections of the other are unharmed';
    is $after->{worker_crashes}, 1, 'it counts as a crash';
    is $server->stop, 0, 'exit code';
};

subtest 'a signal to one of them means nothing' => sub {
    my $server  = start(config => configuration('Workers=2'));
    my @workers = sort { $a <=> $b } pids($server);
    my @clients = idle_connections($server, 4);
    kill $_ => @workers for qw(HUP INT QUIT TERM USR1 PIPE);
    is alive(@clients), 4, 'their connections are served';
    is_deeply [sort { $a <=> $b } pids($server)], \@workers, 'by them';
    is $server->stop, 0, 'exit code';
};

subtest 'their supervisor is killed' => sub {
    my $server   = start(config => configuration('Workers=2'));
    my @workers  = pids($server);
    my ($idle, $asks) = idle_connections($server, 2);
    my $download = begin_download($server);
    kill STOP => @workers;
    $asks->send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    $server->signal('KILL');
    wait_for('end of the supervisor', sub { !$server->process->running });
    kill CONT => @workers;
    is length $download->read_answer->body, $LARGE, 'an answer under way is finished';
    is $asks->read_answer->body, 'hello', 'a request that they had not read yet is answered';
    ok $asks->is_closed, 'as the last on its connection';
    ok $idle->is_closed, 'an idle connection is closed';
    wait_exit_of(\@workers, 5);
    pass 'and they leave';
    is $server->process->wait_exit, 137, 'like it';
    like $server->log, qr/^baton\[\d+\] worker 1\.\d: The supervisor is gone: finishing \d+ connections?$/m, 'saying so';
};

subtest 'auto' => sub {
    my $binary = folder(baton => "#!/bin/sh\nexec taskset -c 0 " . baton() . ' "$@"') . '/baton';
    chmod 0755, $binary;
    local $ENV{BATON} = $binary;
    my $server = start(config => configuration());
    is scalar(pids($server)), 1, 'as many as there are CPUs to use: here it is one';
    is $server->stop, 0, 'exit code';
};

done_testing;
