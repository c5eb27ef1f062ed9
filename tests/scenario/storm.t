# Reloads back to back, under every kind of client at once: none of them notices.
#
# BATON_STORM_RELOADS is how many (200).

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Binary  ();
use Baton::Metrics ();
use Baton::Proc    qw(fds_of resident_of);
use Baton::Process ();
use Baton::Test;
use File::Copy  qw(copy);
use JSON::PP    ();
use List::Util  qw(max sum0);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SLOW    = $ENV{BATON_TEST_SLOW} || 1;
my $RELOADS = $ENV{BATON_STORM_RELOADS} || 200 / $SLOW;
my $DEPTH   = 8;
my $LARGE   = folder('large.bin' => join '', map { pack 'N', $_ * 2654435761 & 0xffffffff } 1 .. 1 << 20);
my $site    = folder(
    'index.html' => 'home',
    map { ("$_.txt" => "number $_") } 0 .. $DEPTH - 1
);
link "$LARGE/large.bin", "$site/large.bin" or die $!;

my @clients = (
    'keepalive:200:think=0-50ms,expect=home',
    'connect:50:think=0-10ms,expect=home',
    'slowhead:20:piece=1-5,gap=1-5ms,expect=home',
    "download:20:rate=1M,path=/large.bin,file=$LARGE/large.bin",
    "pipeline:20:depth=$DEPTH,think=0-5ms,path=/{n}.txt,expect=number {n}",
);

sub configuration($workers)
{
    return <<~END;
        [Server]
        Workers=$workers
        [Listen http]
        [Listen admin]
        Admin=yes
        [Route site]
        Root=$site
        END
}

# Once nobody is connected: what the server's processes hold.
sub holdings($server)
{
    my $status = $server->wait_at_rest(2);
    my @pids   = ($server->pid, map { $_->{pid} } @{$status->{workers}});
    return { fds => [map { fds_of($_) } @pids], resident => sum0(map { resident_of($_) } @pids) };
}

my $binary = Baton::Binary->new;
my $server = $binary->start(
    config => configuration(2),
    sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0']);
is $server->reload->status, 0, 'a reload before the storm';
my $before = holdings($server);

my $load = Baton::Process->start(
    command => [
        load_client(), '--until-stdin-closes', '--timeout', 10 * $SLOW . 's',
        (map { ('--group', $_) } @clients), 'http://' . $server->address . '/'
    ],
    input => 'pipe');
$load->wait_out(qr/^running$/m, 30);

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
        $server->configure(configuration($workers));
    }
    my $began = clock_gettime(CLOCK_MONOTONIC);
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
    ok $group->{responses} > 0, "$group->{kind}: $group->{responses} answers";
    is $group->{failed}, 0, '... all of them right';
    is $group->{closed}, 0, '... and no connection closed';
    # But for those that say so, each client has the one it began with.
    next if $group->{kind} eq 'connect';
    is $group->{connections_opened}, (split /:/, $group->{group})[1], '... nor replaced';
}
diag explain $report->{first_failures} if @{$report->{first_failures} // []};

# A generation is gone before the one after the next begins.
my ($alive, $most, %gone) = (0, 0);
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
    for qw(announced request_refused client_abandoned error drain_cut worker_died stopped_idle);
my $moved = $metrics->family('connections_moved_total');
cmp_ok $moved->{$_}, '>', 0, "some moved in the state $_: $moved->{$_}" for qw(idle head reply);

$server->configure(configuration(2));
$binary->restore;
is $server->reload->status, 0, 'a reload after the storm';
my $after = holdings($server);
is_deeply $after->{fds}, $before->{fds}, 'it holds what it held before';
my $growth = $after->{resident} - $before->{resident};
cmp_ok $growth, '<', 1024 * $SLOW, "and so much more memory: $growth KiB";
is $server->stop, 0, 'exit code';

done_testing;
