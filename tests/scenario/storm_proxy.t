# The storm through the proxy: reloads back to back under tunnels, streams, uploads and slow answers,
# beside the clients of storm.t. None of them notices.
#
# BATON_STORM_RELOADS is how many (200).

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Binary  ();
use Baton::Metrics ();
use Baton::Origin  ();
use Baton::Proc    qw(fds_of resident_of);
use Baton::Process ();
use Baton::Test;
use File::Copy  qw(copy);
use JSON::PP    ();
use List::Util  qw(max sum0);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SLOW    = $ENV{BATON_TEST_SLOW}     || 1;
my $RELOADS = $ENV{BATON_STORM_RELOADS} || 200 / $SLOW;
alarm 600 * $SLOW + 3 * $RELOADS;
my $NUMBERS = folder(numbers => Baton::Origin::numbers(1 << 18)) . '/numbers';
my $LARGE   = folder(numbers => Baton::Origin::numbers(4 << 20)) . '/numbers';
my $site    = folder('index.html' => 'home');

sub configuration($origin, $workers)
{
    return <<~END;
        [Server]
        Workers=$workers
        [Listen http]
        [Listen raw]
        Tunnel=echo
        [Listen admin]
        Admin=yes
        [Route site]
        Root=$site
        [Route api]
        Path=/api/
        Upstream=shop
        [Route websocket]
        Path=/websocket
        Upstream=shop
        [Route events]
        Path=/events
        Upstream=shop
        [Route slow]
        Path=/slow
        Upstream=shop
        [Upstream shop]
        Server=@{[$origin->address]}
        [Upstream echo]
        Server=@{[$origin->raw_address]}
        END
}

# Once nobody is connected: what the server's processes hold.
sub holdings($server)
{
    my $status = $server->wait_at_rest(2);
    my @pids   = ($server->pid, map { $_->{pid} } @{$status->{workers}});
    return { fds => [map { fds_of($_) } @pids], resident => sum0(map { resident_of($_) } @pids) };
}

my $origin = Baton::Origin->start;
my $binary = Baton::Binary->new;
my $server = $binary->start(
    config => configuration($origin, 2),
    sockets => [map { $_ => '127.0.0.1:0' } qw(http raw admin)]);
is $server->reload->status, 0, 'a reload before the storm';
my $before = holdings($server);

# As many as one machine of two processors can serve without its queues deciding everything.
my $raw     = $server->address('raw');
my @clients = (
    'keepalive:100:think=0-50ms,expect=home',
    'keepalive:100:think=0-100ms,path=/api/,expect=hello',
    'connect:25:think=0-10ms,path=/api/,expect=hello',
    'slowhead:20:piece=1-5,gap=1-5ms,path=/api/,expect=hello',
    'websocket:480:path=/websocket,size=0-4K,think=0-1s',
    'websocket:20:path=/websocket,size=0-128K,think=0-200ms,rcvbuf=16K',
    "raw:20:to=$raw,size=1-32K,think=0-200ms",
    "raw:20:to=$raw,size=1-64K,think=0-200ms,rcvbuf=16K",
    'events:20:path=/events?ms=20',
    'upload:10:path=/api/upload,size=256K,piece=1-8192,gap=1-5ms',
    'upload:5:path=/api/upload,size=100K,coding=chunked,piece=1-4096,gap=0-5ms',
    'upload:5:path=/api/upload,size=300K,think=0-100ms',
    "slow:10:path=/slow?ms=500&pieces=20&size=256K,file=$NUMBERS",
    "slow:10:path=/slow?ms=300&pieces=3&size=256K&framing=length,file=$NUMBERS",
    "download:10:path=/slow?size=4M,rate=2M,file=$LARGE",
);

my $load = Baton::Process->start(
    command => [
        load_client(), '--until-stdin-closes', '--timeout', 15 * $SLOW . 's',
        (map { ('--group', $_) } @clients), 'http://' . $server->address . '/'
    ],
    input => 'pipe');
$load->wait_out(qr/^running$/m, 60);

# Every now and then another build, and another number of workers.
my $build = folder() . '/another-build';
copy(baton(), $build) or die $!;
chmod 0755, $build;
my $workers = 2;
my (@took, $failed);
for my $reload (1 .. $RELOADS) {
    if ($reload % 20 == 0) {
        $binary->link_to($reload % 40 == 0 ? baton() : $build);
        $workers = 1 + $reload / 20 % 3;
        $server->configure(configuration($origin, $workers));
    }
    my $began   = clock_gettime(CLOCK_MONOTONIC);
    my $outcome = $server->reload;
    push @took, clock_gettime(CLOCK_MONOTONIC) - $began;
    next if $outcome->status == 0 && $outcome->out =~ / 0 still finishing, 0 cut$/;
    diag "reload $reload: ", $outcome->out, $outcome->err;
    last if ++$failed == 10;
}
@took = sort { $a <=> $b } @took;
ok !$failed, "$RELOADS reloads succeeded" or diag $server->log;
diag sprintf '%d reloads, each in %.0f ms (median), %.0f ms at the most', $RELOADS, 1000 * $took[@took / 2], 1000 * $took[-1];

$load->finish;
is $load->wait_exit(60), 0, 'no request failed, and no connection was closed';
my $report = JSON::PP::decode_json(($load->out =~ /^(\{.*\})$/m)[0] // '{}');
for my $group (@{$report->{groups}}) {
    my $what = $group->{echoes} ? "$group->{echoes} echoes" : $group->{events} ? "$group->{events} events" : "$group->{responses} answers";
    ok $group->{responses} > 0, "$group->{kind}: $what";
    is $group->{failed}, 0, '... all of them right';
    is $group->{closed}, 0, '... and no connection closed';
    # But for those that say so, each client has the one it began with.
    next if $group->{kind} eq 'connect';
    is $group->{connections_opened}, (split /:/, $group->{group})[1], '... nor replaced';
}
diag explain $report->{first_failures} if @{$report->{first_failures} // []};

# A generation is gone before the one after the next begins.
my ($most, %gone) = (0);
for ($server->log =~ /(Generation \d+ is gone|generation \d+ serves)/g) {
    my ($number) = /(\d+)/;
    if (/gone/) {
        $gone{$number} = 1;
    } else {
        $most = max($most, scalar grep { !$gone{$_} } 1 .. $number);
    }
}
cmp_ok $most, '<=', 2, 'never more than two generations';

my $metrics = Baton::Metrics->wait_open($server);
is $metrics->imbalance, 0, 'every connection is accounted for';
is $metrics->value('moves_refused_total'), 0, 'none was refused';
is $metrics->value("connections_ended_total{reason=\"$_\"}"), 0, "none ended: $_"
    for qw(announced request_refused error drain_cut worker_died stopped_idle);
my $moved = $metrics->family('connections_moved_total');
cmp_ok $moved->{$_}, '>', 0, "some moved in the state $_: $moved->{$_}" for qw(idle head exchange tunnel);

$server->configure(configuration($origin, 2));
$binary->restore;
is $server->reload->status, 0, 'a reload after the storm';
my $after = holdings($server);
is_deeply $after->{fds}, $before->{fds}, 'it holds what it held before';
my $growth = $after->{resident} - $before->{resident};
cmp_ok $growth, '<', 1024 * $SLOW, "and so much more memory: $growth KiB";
is $server->stop, 0, 'exit code';

done_testing;
