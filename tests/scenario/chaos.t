# Workers of either generation are killed while connections move: at most what a killed one held
# itself is lost. What lies in the inbox belongs to nobody and arrives.
#
# BATON_CHAOS_ROUNDS is how many reloads (50); BATON_CHAOS_SEED repeats their choices.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Inbox   ();
use Baton::Metrics ();
use Baton::Proc    qw(sockets_of state_of);
use Baton::Test;
use List::Util  qw(sample shuffle);
use Socket;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SLOW    = $ENV{BATON_TEST_SLOW} || 1;
my $ROUNDS  = $ENV{BATON_CHAOS_ROUNDS} || 50 / $SLOW;
my $SEED    = $ENV{BATON_CHAOS_SEED} // int 1e6 * rand;
my $WORKERS = 3;
my $CLIENTS = 120;
my $REQUEST = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
my $LARGE   = join '', map { pack 'N', $_ } 1 .. 2 << 20;
my $site    = folder('index.html' => 'home', 'large.bin' => $LARGE);

srand $SEED;
alarm 600 * $SLOW + $ROUNDS;

my $server = start(
    sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
    config => <<~END);
        [Server]
        Workers=$WORKERS
        CrashLimit=1000
        [Listen http]
        [Listen admin]
        Admin=yes
        [Route site]
        Root=$site
        END
my $inbox = Baton::Inbox->of($server);

# Clients ---------------------------------------------------------------------------------------

# What a client does, and in each round again; dies if it is not what the server promises.
my @kinds = (
    {
        begin => sub ($c) { },
        go_on => sub ($c) { die 'another answer' if $c->send($REQUEST)->read_answer->body ne 'home' },
    },
    {
        begin => sub ($c) { $c->send(substr $REQUEST, 0, 20) },
        go_on => sub ($c) {
            $c->send(substr $REQUEST, 20);
            die 'another answer' if $c->read_answer->body ne 'home';
            $c->send(substr $REQUEST, 0, 20);
        },
    },
    {
        begin => sub ($c) {
            $c->send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")->read_head(10);
            $c->{at} = 0;
        },
        go_on => sub ($c) {
            my $bytes = $c->read_bytes(10_000);
            die 'other bytes' if $bytes ne substr $LARGE, $c->{at}, 10_000;
            $c->{at} += 10_000;
        },
    },
);

# The inode of the server's end of each connection, by the client's port: proc(5), /proc/net/tcp.
# It stays the same wherever the connection moves.
sub inodes
{
    my ($port) = $server->address =~ /:(\d+)$/;
    my %inode;
    for (split /\n/, read_file('/proc/net/tcp')) {
        my (undef, $local, $remote, @fields) = split;
        $inode{hex $1} = $fields[6]
            if $local =~ /:([0-9A-F]{4})$/ && hex $1 == $port && $remote =~ /:([0-9A-F]{4})$/;
    }
    return \%inode;
}

my @clients;

# As many as there were; each is known to a worker.
sub replenish
{
    my @new;
    while (@clients < $CLIENTS) {
        my $c = $server->connect('http', receive_buffer => 16384);
        $c->{kind} = $kinds[rand @kinds];
        die 'another answer' if $c->send($REQUEST)->read_answer->body ne 'home';
        $c->{kind}{begin}->($c);
        push @new,     $c;
        push @clients, $c;
    }
    my $inode = inodes();
    $_->{inode} = $inode->{(unpack_sockaddr_in getsockname $_->{socket})[0]} || die 'no inode' for @new;
}

# Killing ---------------------------------------------------------------------------------------

# The children of the supervisor, read at once.
sub children
{
    my $pid = $server->pid;
    return split ' ', read_file("/proc/$pid/task/$pid/children");
}

# The workers of the next generation, as soon as they are there; the check before it is none of them.
sub next_workers($reload, @former)
{
    my %former = map { ($_ => 1) } @former;
    while ($reload->running) {
        my @next = grep { !$former{$_} && read_link("/proc/$_/exe") eq read_link('/proc/' . $server->pid . '/exe') } children();
        return @next if @next >= $WORKERS;
        wait_for('turn', sub { 1 });
    }
    return;
}

sub read_link($path)
{
    return readlink($path) // '';
}

# Any moment of the next so many milliseconds is as good: this is no wait for anything.
sub spin($milliseconds)
{
    my $until = clock_gettime(CLOCK_MONOTONIC) + rand($milliseconds) / 1000;
    1 while clock_gettime(CLOCK_MONOTONIC) < $until;
}

# Kills them, and returns the inodes of what they held: of what they hold while they are stopped.
sub kill_holders(@victims)
{
    kill STOP => @victims;
    my %held;
    for my $pid (@victims) {
        while ((state_of($pid) // 'Z') !~ /[TZX]/) { }
        $held{$_} = 1 for sockets_of($pid);
    }
    kill KILL => @victims;
    return \%held;
}

# Whom, and when.
my @plans = (
    { name => 'one that retires', who => sub ($former, $next) { sample(1, @$former) }, spin => 6 },
    { name => 'all that retire', who => sub ($former, $next) { @$former }, spin => 6 },
    { name => 'one that follows', who => sub ($former, $next) { sample(1, @$next) }, spin => 10 },
    { name => 'all that follow', who => sub ($former, $next) { @$next }, spin => 10 },
    { name => 'one of each', who => sub ($former, $next) { (sample(1, @$former), sample(1, @$next)) }, spin => 8 },
);

my %count = map { ($_ => 0) } qw(lost held refused killed);

sub round($number)
{
    my $plan = $plans[rand @plans];
    # Small, it is full of connections for long.
    $inbox->resize(rand() < 0.7 ? 1 : 100_000);
    replenish();
    my @former = $server->workers;
    my $reload = $server->start_command('reload');
    my @next   = next_workers($reload, @former);
    spin($plan->{spin});
    my @victims = grep { my $pid = $_; grep { $_ == $pid } children() } $plan->{who}->(\@former, \@next);
    my $held = kill_holders(@victims);
    $count{killed} += @victims;
    $count{refused}++ if $reload->wait_exit(30) != 0;
    $server->wait_status(
        "rest after round $number",
        sub ($status) {
            my @workers = @{$status->{workers}};
            return @workers == $WORKERS && !grep { $_->{state} ne 'current' } @workers;
        });
    my @left;
    for my $c (shuffle @clients) {
        my $lives = eval { $c->{kind}{go_on}->($c); 1 };
        my $why   = $@;
        if ($lives) {
            $count{held}++ if $held->{$c->{inode}};
            push @left, $c;
        } elsif ($held->{$c->{inode}}) {
            $count{lost}++;
        } else {
            fail "round $number, $plan->{name}: a connection is lost that no victim held";
            diag $why, $server->log;
        }
    }
    @clients = @left;
    # One whose end is near has done its part.
    for my $c (grep { ($_->{at} // 0) > length($LARGE) - 100_000 } @clients) {
        @clients = grep { $_ != $c } @clients;
    }
}

for my $number (1 .. $ROUNDS) {
    round($number);
    last if !Test::More->builder->is_passing;
}
ok Test::More->builder->is_passing, "$ROUNDS reloads" or diag "BATON_CHAOS_SEED=$SEED";
diag "$count{killed} workers were killed; $count{lost} of their connections were lost, $count{held} were with another already or in the inbox; $count{refused} reloads were refused";
cmp_ok $count{lost}, '>', 0, 'it was dangerous';
replenish();
is $server->reload->status, 0, 'a reload';
$_->{kind}{go_on}->($_) for @clients;
$_->close for @clients;
my $metrics = Baton::Metrics->wait_open($server);
is $metrics->value('moves_refused_total'), 0, 'none was refused';
is $metrics->value("connections_ended_total{reason=\"$_\"}"), 0, "none ended: $_"
    for qw(announced request_refused error drain_cut stopped_idle);
is $server->stop, 0, 'exit code';

done_testing;
