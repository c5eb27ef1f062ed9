# As PID 1, of a container: here, of a PID namespace.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Proc    qw(state_of);
use Baton::Process ();
use Baton::Test;

my $unshare = Baton::Process->run(command => [qw(unshare --pid --fork --mount-proc true)]);
cannot_run('no PID namespace can be made: ' . $unshare->err) if $unshare->status != 0;

my $root    = folder('index.html' => 'hello');
my $address = free_address();

# unshare is not what is tested, but what the test started: it stands between.
my $binary = folder(baton => "#!/bin/sh\nexec unshare --pid --fork --mount-proc @{[baton()]} \"\$@\"\n") . '/baton';
chmod 0755, $binary;

sub start_as_first(@server)
{
    local $ENV{BATON} = $binary;
    my $server = start(
        config => join("\n", '[Server]', 'Workers=2', @server, '[Listen http]', "Address=$address", '[Route site]', "Root=$root", ''),
        sockets => []);
    my ($pid) = $server->workers;
    return ($server, $pid);
}

sub get($target = '/')
{
    return Baton::Http->connect($address)->get($target, Connection => 'close');
}

# What it is called in its own namespace: the last number of the line.
sub own_pid($pid)
{
    return read_file("/proc/$pid/status") =~ /^NSpid:.*\s(\d+)$/m ? $1 : undef;
}

# Runs a shell's commands in the namespace.
sub enter($pid, $commands, %o)
{
    return Baton::Process->start(command => ['nsenter', '--target', $pid, '--pid', 'sh', '-c', $commands], %o);
}

subtest 'it serves and reloads' => sub {
    my ($server, $pid) = start_as_first();
    is own_pid($pid), 1, 'PID 1';
    is get()->body, 'hello', 'serves';
    my $client = Baton::Http->connect($address);
    is $client->get('/')->body, 'hello', 'on a connection that stays, too';
    for my $generation (2 .. 4) {
        my $reload = $server->reload;
        is $reload->status, 0, "reload to generation $generation" or diag $reload->err;
        like $reload->out, qr/generation $generation serves with 2 workers; connections: 1 moved/, 'and says so';
        is $client->get('/')->body, 'hello', 'the connection goes on';
    }
    kill HUP => $pid;
    $server->wait_status('generation 5', sub ($status) { $status->{generation} == 5 });
    is own_pid($pid), 1, 'still PID 1';
    $server->wait_at_rest(2, 1);
    is scalar(my @workers = children_of($pid)), 2, 'with two workers';
    is get()->body, 'hello', 'and serves';
    # Nobody but itself may signal PID 1 of its namespace, unless it listens.
    kill TERM => $pid;
    is $server->wait_exit, 0, 'TERM: exit code';
    ok $client->is_closed, 'an idle connection is closed';
    like $server->log, qr/^baton\[1\]: Stopped: \d+ requests served on 3 connections; at the end 0 connections finished, 1 idle closed, 0 cut/m, 'gracefully';
};

subtest 'from within' => sub {
    my ($server, $pid) = start_as_first();
    my $client = Baton::Http->connect($address);
    is $client->get('/')->body, 'hello', 'it serves';
    is enter($pid, 'kill -HUP 1')->wait_exit, 0, 'kill -HUP 1';
    $server->wait_status('generation 2', sub ($status) { $status->{generation} == 2 });
    is $client->get('/')->body, 'hello', 'reloads';
    enter($pid, 'kill -TERM 1');
    is $server->wait_exit, 0, 'kill -TERM 1 stops it';
    ok $client->is_closed, 'gracefully';
};

subtest 'orphans' => sub {
    my ($server, $pid) = start_as_first();
    for my $turn ('at first', 'after a reload') {
        my $shell = enter($pid, 'exec 3<&0; (read line <&3; exit 7) & echo started', input => 'pipe');
        $shell->wait_out(qr/started/);
        wait_for('end of the shell', sub { !$shell->running });
        my @orphans = grep { read_file("/proc/$_/comm") eq "sh\n" } children_of($pid);
        is @orphans, 1, "an orphan is its child, $turn";
        $shell->write("go\n");
        wait_exit_of(\@orphans);
        $server->status; # so it has been told of the end
        is state_of($orphans[0]), undef, 'and is waited for at its end';
        is get()->body, 'hello', 'which means nothing else';
        is $server->reload->status, 0, 'a reload';
    }
    is $server->status->{worker_crashes}, 0, 'nothing is taken for a crash';
    kill TERM => $pid;
    is $server->wait_exit, 0, 'exit code';
};

subtest 'a worker dies' => sub {
    my ($server, $pid) = start_as_first();
    my ($victim) = children_of($pid);
    kill KILL => $victim;
    $server->wait_log(qr/died: it was killed by SIGKILL/);
    $server->wait_at_rest(2);
    is get()->body, 'hello', 'it is replaced';
    ok !(grep { $_ == $victim } children_of($pid)), 'and waited for';
    my @workers = children_of($pid);
    kill KILL => $pid;
    wait_exit_of([$pid, @workers]);
    pass 'when PID 1 dies, all do';
};

done_testing;
