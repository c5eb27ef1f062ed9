# Workers of either generation are killed while connections move: at most what a killed one held
# itself is lost, of files as of tunnels and what else goes to backends. What lies in the inbox belongs
# to nobody and arrives.
#
# BATON_CHAOS_ROUNDS is how many reloads (50); BATON_CHAOS_SECONDS is when no further one begins, of
# either subtest; BATON_CHAOS_SEED repeats their choices.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Inbox   ();
use Baton::Metrics ();
use Baton::Origin  ();
use Baton::Proc    qw(sockets_of state_of);
use Baton::Test;
use List::Util  qw(sample shuffle);
use Socket;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SLOW    = $ENV{BATON_TEST_SLOW} || 1;
my $ROUNDS  = $ENV{BATON_CHAOS_ROUNDS} || 50 / $SLOW;
my $SECONDS = $ENV{BATON_CHAOS_SECONDS} || 'inf';
my $SEED    = $ENV{BATON_CHAOS_SEED} // int 1e6 * rand;
my $WORKERS = 3;
my $CLIENTS = 180;
my $REQUEST = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
my $LARGE   = join '', map { pack 'N', $_ } 1 .. 2 << 20;
my $site    = folder('index.html' => 'home', 'large.bin' => $LARGE);

my $NUMBERS = Baton::Origin::numbers(8 << 20);
my $UPGRADE = join "\r\n", 'GET /websocket HTTP/1.1', 'Host: x', 'Connection: Upgrade',
    'Upgrade: websocket', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version: 13', '', '';
my $PIECE   = 'x' x 1000;
my $PIECES  = 10;
my $origin  = Baton::Origin->start;

srand $SEED;
alarm 600 * $SLOW + $ROUNDS;

# The numbers of the rounds that there is time for.
sub rounds($count)
{
    my $until = clock_gettime(CLOCK_MONOTONIC) + $SECONDS;
    my $number = 0;
    return sub { $number < $count && clock_gettime(CLOCK_MONOTONIC) < $until ? ++$number : 0 };
}

sub serve
{
    return start(
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
        config => <<~END);
            [Server]
            Workers=$WORKERS
            CrashLimit=1000
            HeaderTimeout=1h
            BodyTimeout=1h
            IdleTimeout=1h
            SendTimeout=1h
            [Listen http]
            [Listen admin]
            Admin=yes
            [Route site]
            Root=$site
            [Route websocket]
            Path=/websocket
            Upstream=shop
            [Route numbers]
            Path=/slow
            Upstream=shop
            [Route upload]
            Path=/upload
            Upstream=shop
            [Upstream shop]
            Server=@{[$origin->address]}
            SendTimeout=1h
            ResponseTimeout=1h
            END
}

my $server = serve();
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
    {
        begin => sub ($c) {
            $c->send("GET /slow?size=8M&framing=length HTTP/1.1\r\nHost: x\r\n\r\n")->read_head(10);
            $c->{at} = 0;
        },
        go_on => sub ($c) {
            my $bytes = $c->read_bytes(10_000);
            die 'other bytes from the backend' if $bytes ne substr $NUMBERS, $c->{at}, 10_000;
            $c->{at} += 10_000;
        },
    },
    {
        begin => sub ($c) { die 'no upgrade' if $c->send($UPGRADE)->read_answer->status != 101 },
        go_on => sub ($c) {
            # A frame of text, the mask of which is all zero, and what comes back (RFC 6455 §5.2).
            my $text = sprintf 'message %d', ++$c->{messages};
            $c->send(pack('CCN', 0x81, 0x80 | length $text, 0) . $text);
            die 'another echo' if $c->read_bytes(2 + length $text) ne pack('CC', 0x81, length $text) . $text;
        },
    },
    {
        begin => sub ($c) { begin_upload($c) },
        go_on => sub ($c) {
            $c->send($PIECE);
            return if ++$c->{pieces} < $PIECES;
            my ($length) = split ' ', $c->read_answer->body;
            die 'another length' if $length != $PIECES * length $PIECE;
            begin_upload($c);
        },
    },
);

sub begin_upload($c)
{
    $c->send("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: " . $PIECES * length($PIECE) . "\r\n\r\n");
    $c->{pieces} = 0;
}

# The inode of the server's end of each connection, by the client's port: proc(5), /proc/net/tcp.
# It stays the same wherever the connection moves, and is 0 when no process holds it any more, though
# the client may still have much to read.
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
        my $c = $server->connect('http', receive_buffer => 1 << 18);
        $c->{kind} = $kinds[rand @kinds];
        die 'another answer' if $c->send($REQUEST)->read_answer->body ne 'home';
        $c->{kind}{begin}->($c);
        push @new,     $c;
        push @clients, $c;
    }
    my $inode = inodes();
    for my $c (@new) {
        $c->{port}  = (unpack_sockaddr_in getsockname $c->{socket})[0];
        $c->{inode} = $inode->{$c->{port}} || die 'no inode';
    }
}

# Killing ---------------------------------------------------------------------------------------

# The children of the supervisor, read at once.
sub children
{
    my $pid = $server->pid;
    return split ' ', read_file("/proc/$pid/task/$pid/children");
}

# The workers of the next generation, as soon as all are there: the check before is over then.
sub next_workers($reload, @former)
{
    my %former = map { ($_ => 1) } @former;
    while ((state_of($reload->pid) // 'Z') ne 'Z') {
        my @next = grep { !$former{$_} } children();
        return @next if @next >= $WORKERS;
    }
    return;
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
    # Until it is a zombie, what it held is open: who asks now would take it for alive.
    for my $pid (@victims) {
        while ((state_of($pid) // 'Z') !~ /[ZX]/) { }
    }
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
    my $inode = inodes();
    for my $c (shuffle @clients) {
        my $lives = ($inode->{$c->{port}} // 0) == $c->{inode} && eval { $c->{kind}{go_on}->($c); 1 };
        my $why   = $@;
        if ($lives) {
            $count{held}++ if $held->{$c->{inode}};
            push @left, $c;
        } elsif ($held->{$c->{inode}}) {
            $count{lost}++;
        } else {
            fail "round $number, $plan->{name}: a connection is lost that no victim held";
            my ($kind) = grep { $kinds[$_] == $c->{kind} } 0 .. $#kinds;
            diag "A client of kind $kind. $why", $server->log;
        }
    }
    @clients = @left;
    # One whose end is near has done its part.
    for my $c (grep { ($_->{at} // 0) > 8_000_000 } @clients) {
        @clients = grep { $_ != $c } @clients;
    }
}

subtest 'workers are killed during reloads' => sub {
    replenish();
    my ($next, $done) = (rounds($ROUNDS), 0);
    while (Test::More->builder->is_passing && (my $number = $next->())) {
        round($number);
        $done = $number;
    }
    ok Test::More->builder->is_passing, "$done reloads" or diag "BATON_CHAOS_SEED=$SEED";
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
};

# A stop in the middle of a reload: nobody comes after, so whoever is left answers whatever was
# received, also what lies in the inbox.
subtest 'stopped during reloads' => sub {
    my $next = rounds($ROUNDS / 5);
    while (my $number = $next->()) {
        $server = serve();
        Baton::Inbox->of($server)->resize(rand() < 0.7 ? 1 : 100_000);
        my @downloads = map { $server->connect('http', receive_buffer => 1 << 18)->send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n") } 1 .. 10;
        my @heads = map { $server->connect->send(substr $REQUEST, 0, 20) } 1 .. 60;
        my @idle  = map { $server->connect } 1 .. 20;
        $_->get('/') for @idle; # so the others have been accepted, too
        my $reload = $server->start_command('reload');
        next_workers($reload, $server->workers);
        spin(8);
        $server->signal('TERM');
        $reload->wait_exit;
        my $right = eval {
            for my $c (@heads) {
                die 'another answer' if $c->send(substr $REQUEST, 20)->read_answer->body ne 'home';
                $c->close;
            }
            for my $c (@downloads) {
                die 'other bytes' if $c->read_answer->body ne $LARGE;
                $c->close;
            }
            1;
        };
        if (!$right) {
            fail "round $number: $@";
            diag "BATON_CHAOS_SEED=$SEED\n", $server->log;
            last;
        }
        $_->close for @idle;
        is $server->wait_exit, 0, "round $number: exit code";
    }
};

done_testing;
