# A backend is killed and started again under load, again and again: with HoldTimeout= no GET fails.
#
# BATON_HOLD_ROUNDS is how often (10).

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Loop    qw(in_time);
use Baton::Metrics ();
use Baton::Origin  ();
use Baton::Process ();
use Baton::Test;
use JSON::PP    ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SLOW    = $ENV{BATON_TEST_SLOW}   || 1;
my $ROUNDS  = $ENV{BATON_HOLD_ROUNDS} || 10;
my $CLIENTS = 40;

sub serve($address, $more = '')
{
    return start(
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
        config => <<~END);
            [Server]
            Workers=2
            [Listen http]
            [Listen admin]
            Admin=yes
            [Route all]
            Path=/
            Upstream=shop
            [Upstream shop]
            HoldTimeout=@{[10 * $SLOW]}s
            Server=$address
            $more
            END
}

sub begin_load($server, @groups)
{
    my $load = Baton::Process->start(
        command => [
            load_client(), '--until-stdin-closes', '--timeout', 20 * $SLOW . 's',
            (map { ('--group', $_) } @groups), 'http://' . $server->address . '/'
        ],
        input => 'pipe');
    $load->wait_out(qr/^running$/m);
    return $load;
}

sub report_now($load)
{
    $load->signal('USR1');
    return JSON::PP::decode_json($load->wait_err(qr/^\{.*\}\n/m));
}

# Waits until so many answers more have come.
sub wait_answers($load, $count)
{
    my $wanted   = report_now($load)->{responses} + $count;
    my $deadline = in_time(20);
    until (report_now($load)->{responses} >= $wanted) {
        die "no $count answers more\n" . $load->err if clock_gettime(CLOCK_MONOTONIC) > $deadline;
    }
}

# Waits until every client has asked for something that nobody answers.
sub wait_all_waiting($load)
{
    my $deadline = in_time(20);
    while (1) {
        my $report = report_now($load);
        return if $report->{requests} - $report->{responses} == $CLIENTS;
        die "clients that do not wait\n" . $load->err if clock_gettime(CLOCK_MONOTONIC) > $deadline;
    }
}

# Waits until nobody is left who was there when the backend came back: one worker may dial it sooner than
# the other. A request that meets its end more often than Retries= allows is given up, and rightly.
sub wait_served($server, $load)
{
    wait_answers($load, 200);
    $server->wait_status('end of the waiting', sub ($status) { $status->{upstreams}[0]{waiting} == 0 });
    wait_answers($load, $CLIENTS);
}

# Any moment of the next so many milliseconds is as good: this is no wait for anything.
sub spin($milliseconds)
{
    my $until = clock_gettime(CLOCK_MONOTONIC) + rand($milliseconds) / 1000;
    1 while clock_gettime(CLOCK_MONOTONIC) < $until;
}

# All was answered, and with 200.
sub is_unharmed($server, $load, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $load->finish;
    my $status = $load->wait_exit(30);
    my $report = JSON::PP::decode_json(($load->out =~ /^(\{.*\})$/m)[0] // '{}');
    is $status, 0, "$name: $report->{responses} answers, and none failed" or diag explain($report->{first_failures}), $server->log;
    is_deeply $report->{status}, { 200 => $report->{responses} }, 'each of them 200';
    is $report->{closed}, 0, 'no connection was closed';
    is $report->{connections_opened}, $report->{clients}, 'nor replaced';
    return $report;
}

# $kill->() and $resume->() once in each round; between them all clients come to wait.
sub suffer($server, $load, $kill, $resume)
{
    for my $round (1 .. $ROUNDS) {
        $kill->();
        wait_all_waiting($load);
        # What waits moves into the next workers, too.
        is $server->reload->status, 0, "round $round: a reload while requests wait" if $round % 3 == 0;
        $resume->();
        wait_served($server, $load);
    }
}

my @groups = ("keepalive:$CLIENTS:think=0-20ms,expect=hello");

for my $address ('127.0.0.1:0', 'unix:' . folder() . '/backend.sock') {
    subtest "killed, at $address" => sub {
        my $origin = Baton::Origin->start([$address], []);
        my $server = serve($origin->address);
        my $load   = begin_load($server, @groups);
        suffer($server, $load, sub { $origin->kill }, sub { $origin->resume });
        is_unharmed($server, $load, "$ROUNDS times away");

        # And as fast as it goes, at any moment.
        $load = begin_load($server, @groups);
        for (1 .. 3 * $ROUNDS) {
            $origin->kill->resume;
            wait_served($server, $load);
            spin(30);
        }
        is_unharmed($server, $load, 3 * $ROUNDS . ' times at once');

        my $metrics = Baton::Metrics->wait_open($server);
        diag join ', ', map { $metrics->value("${_}_total") . " $_" } qw(held retries backend_unreached backend_failures);
        is $metrics->imbalance, 0, 'every connection is accounted for';
        is $server->stop, 0, 'exit code';
    };
}

# Whatever the clients are doing.
subtest 'every second' => sub {
    my $origin = Baton::Origin->start(['127.0.0.1:0'], []);
    my $server = serve($origin->address);
    my $load   = begin_load($server, @groups);
    my $failed = 0;
    for (1 .. $ROUNDS) {
        $origin->kill->resume;
        # A client that is there for a second: what it is told counts, too.
        $failed += Baton::Process->run(
            command => [load_client(), qw(--duration 1s --group keepalive:1:think=0-20ms), 'http://' . $server->address . '/'],
            seconds => 20)->status;
    }
    is_unharmed($server, $load, "$ROUNDS times");
    is $failed, 0, 'nor did one fail that came meanwhile';
    is $server->stop, 0, 'exit code';
};

subtest 'one of two' => sub {
    my @origins = map { Baton::Origin->start(['127.0.0.1:0'], []) } 1 .. 2;
    my $server  = serve($origins[0]->address, 'Server=' . $origins[1]->address);
    my $load    = begin_load($server, @groups);
    for my $round (1 .. 2 * $ROUNDS) {
        my $origin = $origins[$round % 2];
        $origin->kill;
        wait_answers($load, 100);
        $origin->resume;
        wait_answers($load, 100);
    }
    is_unharmed($server, $load, 2 * $ROUNDS . ' times one of two away');
    is $server->stop, 0, 'exit code';
};

# A server that ends as its manager wants it to: it finishes what it has begun, and closes the rest.
subtest 'nginx, restarted' => sub {
    local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
    if (!grep { -x "$_/nginx" } split /:/, $ENV{PATH}) {
        plan skip_all => 'nginx is not installed' unless $ENV{BATON_CI};
        return fail 'nginx is installed';
    }
    my $folder  = folder('site/index.html' => 'hello');
    my $address = free_address();
    write_file("$folder/nginx.conf", <<~END);
        daemon off;
        worker_processes 2;
        pid $folder/nginx.pid;
        error_log stderr crit;
        events { worker_connections 512; }
        http {
            access_log off;
            client_body_temp_path $folder/body;
            server { listen $address; root $folder/site; keepalive_requests 50; }
        }
        END
    chmod 0755, $folder, "$folder/site";
    my $nginx;
    my $begin = sub {
        $nginx = Baton::Process->start(command => ['nginx', '-p', $folder, '-e', 'stderr', '-c', "$folder/nginx.conf"]);
        Baton::Http->wait_listening($address, $nginx);
    };
    $begin->();
    my $server = serve($address);
    my $load = begin_load($server, @groups);
    # As Debian's nginx.service: it finishes what it has begun; and connections that nobody has asked
    # for anything on yet do not keep it.
    suffer($server, $load, sub { $nginx->signal('QUIT') }, sub { $nginx->signal('TERM'); $nginx->wait_exit; $begin->() });
    is_unharmed($server, $load, "$ROUNDS times ended in good order");
    $load = begin_load($server, @groups);
    suffer($server, $load, sub { $nginx->kill }, $begin);
    is_unharmed($server, $load, "$ROUNDS times killed, with all its workers");
    is $server->stop, 0, 'exit code';
};

# With nobody there for longer than that, it fails: the clients above were not just lucky.
subtest 'for longer than HoldTimeout=' => sub {
    my $address = free_address();
    my $server  = start(
        sockets => [http => '127.0.0.1:0'],
        config => "[Listen http]\n[Route all]\nUpstream=shop\n[Upstream shop]\nHoldTimeout=100ms\nServer=$address\n");
    is $server->get('/')->status, 503, 'nobody came';
    is $server->stop, 0, 'exit code';
};

done_testing;
