# What the manager is told: sd_notify(3), and sd_watchdog_enabled(3).

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Binary ();
use Baton::Test;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $root = folder('index.html' => 'hello');
# More than the socket buffers of both ends hold.
my $LARGE = 16 << 20;
open my $large, '>', "$root/large" or die $!;
truncate $large, $LARGE or die $!;

sub configuration(@server)
{
    return join "\n", '[Server]', 'Workers=2', @server, '[Listen http]', '[Route site]', "Root=$root", '';
}

# A reload's exit code, once all that the manager is told of it has come.
sub reload($server)
{
    my $status = $server->reload->status;
    $server->status;
    return $status;
}

# One letter for each message about the state: what is ready, reloading, stopping; x: what asks for
# more time; the others say nothing of it.
sub states($server)
{
    my %letters = (READY => 'R', RELOADING => 'r', STOPPING => 'S', EXTEND_TIMEOUT_USEC => 'x');
    return join '', map { /^(READY|RELOADING|STOPPING|EXTEND_TIMEOUT_USEC)=/m ? $letters{$1} : '' } $server->notifications;
}

sub microseconds
{
    return clock_gettime(CLOCK_MONOTONIC) * 1_000_000;
}

# Only the supervisor may speak: a retiring worker that did could stop the unit.
sub comes_from_supervisor($server)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @strangers = grep { $_ != $server->pid } $server->{notify}->senders;
    is_deeply \@strangers, [], 'no worker has said anything';
}

# The status that the last message with one had.
sub last_status($server)
{
    return +(map { /^STATUS=(.*)$/m } $server->notifications)[-1];
}

subtest 'start, reloads, stop' => sub {
    my $binary = Baton::Binary->new;
    my $server = $binary->start(config => configuration());
    is states($server), 'R', 'ready once';
    is last_status($server), 'Serving generation 1: 2 workers, 0 connections', 'with a status';
    my $client = $server->connect;
    is $client->get('/')->body, 'hello', 'a client';

    my $before = microseconds();
    is reload($server), 0, 'a reload';
    my $told = $server->wait_notify(qr/^RELOADING=1$/m);
    my ($when) = $told =~ /^MONOTONIC_USEC=(\d+)$/m;
    ok $when && $before <= $when && $when <= microseconds(), 'it says when it began';
    like $told, qr/^STATUS=Reloading$/m, 'and what it does';
    like states($server), qr/^RrR+$/, 'then it is ready again';
    # What is on its way from one worker to another is nobody's connection for a moment.
    like last_status($server), qr/^Serving generation 2: 2 workers, [01] connections?$/, 'with a new status';
    is_deeply [grep { /^STATUS=.*generation 2: (?!2 workers)/m } $server->notifications], [], 'which was never wrong';

    my @refusals = (
        ['a wrong configuration', sub { $server->configure('nonsense') }],
        ['no configuration', sub { unlink $server->{config} }],
        ['no binary', sub { $binary->remove }],
        ['another binary', sub { $binary->link_to('/bin/true') }],
        ['a binary that vanishes', sub { $binary->script(qq(rm "\$0"\nexec \@baton@ "\$@")) }],
        ['a worker that dies', sub { $binary->fault('die 2') }],
        ['an address in use', sub { $server->configure(configuration() . "[Listen more]\nAddress=" . $server->address . "\n") }],
    );
    for my $refusal (@refusals) {
        my ($name, $spoil) = @$refusal;
        my $states = states($server);
        $spoil->();
        is reload($server), 1, "$name is refused";
        is states($server), "${states}rR", 'it is ready again';
        like last_status($server),
            qr/^Serving generation 2: 2 workers, [01] connections?(?:; draining: .*)?; the last reload was refused, see the log$/,
            'and says that it was refused';
        $server->configure(configuration());
        $binary->restore;
    }
    my $states = states($server);
    $server->signal('HUP');
    $server->wait_status('generation', sub ($status) { $status->{reloads} == 2 });
    $server->wait_at_rest(2, 1);
    like states($server), qr/^${states}rR+$/, 'SIGHUP says the same as a reload';
    like last_status($server), qr/^Serving generation \d+: 2 workers, [01] connections?$/, 'and a good one ends the refusal';

    $states = states($server);
    is $server->stop, 0, 'exit code';
    is states($server), "${states}xS", 'that it stops comes last';
    is last_status($server), 'Stopping: finishing the requests received', 'with a status';
    comes_from_supervisor($server);
};

subtest 'a stop that takes its time' => sub {
    my $server = start(config => configuration());
    my $client = $server->connect(undef, receive_buffer => 65536);
    $client->send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")->read_more;
    $server->signal('TERM');
    my $told = $server->wait_notify(qr/^EXTEND_TIMEOUT_USEC=\d+$/m);
    my ($usec) = $told =~ /(\d+)/;
    my $began = microseconds();
    ok $server->wait_notify(qr/^STOPPING=1$/m), 'it stops';
    ok $server->wait_notify(qr/^EXTEND_TIMEOUT_USEC=$usec$/m), 'and asks for more time, again';
    cmp_ok microseconds() - $began, '<', $usec, 'before what it had asked for is over';
    is length $client->read_answer->body, $LARGE, 'what was under way is finished';
    $client->close;
    is $server->wait_exit, 0, 'exit code';
    like states($server), qr/^RxSx+$/, 'that it stops is said once';
    comes_from_supervisor($server);
};

subtest 'ReadinessDelay=' => sub {
    my $server = start(config => configuration('ReadinessDelay=500ms'));
    $server->signal('TERM');
    $server->wait_notify(qr/^EXTEND_TIMEOUT_USEC=/m);
    like $server->wait_notify(qr/^STATUS=/m), qr/^STATUS=Stopping generation 1: 2 workers, 0 connections$/m, 'has a status';
    ok !(grep {/^STOPPING=/m} $server->notifications), 'it is not stopping yet';
    is $server->wait_exit, 0, 'exit code';
    is states($server), 'RxS', 'then it is';
};

subtest 'no server' => sub {
    my $server = start(config => configuration('StartTimeout=1h', "AccessLog=json\nAccessLogFile=$root/none/log"), ready => 0);
    is $server->wait_exit, 1, 'when the workers cannot start: exit code';
    unlike states($server), qr/R/, 'it was never ready';
};

# The manager names in WATCHDOG_PID= the process that it starts; here, unless WATCHED= names another.
my $WATCHED = <<~'END';
    export WATCHDOG_PID=${WATCHED:-$$}
    exec -a "$0" @baton@ "$@"
    END
my $USEC = 400_000;

sub start_watched($binary, %environment)
{
    return $binary->script($WATCHED)->start(
        config => configuration('WorkerTimeout=500ms'),
        environment => { WATCHDOG_USEC => $USEC, %environment });
}

sub wait_watchdog($server, $times)
{
    $server->wait_notify(qr/^WATCHDOG=1$/m) for 1 .. $times;
}

subtest 'the watchdog' => sub {
    my $binary = Baton::Binary->new;
    my $server = start_watched($binary);
    my $began  = microseconds();
    wait_watchdog($server, 3);
    cmp_ok microseconds() - $began, '<', 3 * $USEC, 'is told that all is well, in time';
    $binary->restore;
    is reload($server), 0, 'a reload';
    $server->wait_notify(qr/^RELOADING=1$/m);
    wait_watchdog($server, 3);
    $binary->script(qq(rm "\$0"\nexec \@baton@ "\$@"));
    is reload($server), 1, 'and a refused one';
    $server->wait_notify(qr/^RELOADING=1$/m);
    wait_watchdog($server, 3);
    pass 'do not end that';
    my ($worker) = $server->workers;
    kill STOP => $worker;
    $server->wait_log(qr/PID $worker\) died: it did not answer within WorkerTimeout=/);
    $server->wait_at_rest(2);
    wait_watchdog($server, 3);
    pass 'nor does a worker that hangs';
    is $server->stop, 0, 'exit code';
    comes_from_supervisor($server);
};

subtest 'the watchdog of another process' => sub {
    my $binary = Baton::Binary->new;
    my $server = start_watched($binary, WATCHED => 1);
    is reload($server), 0, 'a reload';
    is $server->stop, 0, 'exit code';
    is_deeply [grep {/WATCHDOG/} $server->notifications], [], 'is told nothing';
};

subtest 'no manager' => sub {
    my $server = start(config => configuration('ReadinessDelay=10ms'), notify => 0, ready => 0, environment => { WATCHDOG_USEC => $USEC });
    $server->wait_log(qr/Serving: generation 1 /);
    is $server->get('/')->body, 'hello', 'it serves';
    is reload($server), 0, 'reloads';
    $server->configure('nonsense');
    is reload($server), 1, 'refuses';
    is $server->stop, 0, 'and stops all the same';
    is_deeply [$server->notifications], [], 'nobody is told anything';
};

done_testing;
