# However much goes through the proxy, and however slowly it is taken, it costs kilobytes.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Loop    qw(turn);
use Baton::Proc    qw(resident_of);
use Baton::Test;

# The sanitizers keep what was freed for a while.
my $MOST  = 2048 * ($ENV{BATON_TEST_SLOW} || 1);
my $SIZE  = 128 << 20;
my $PIECE = 'x' x (1 << 20);

my $raw    = Baton::Backend->new(raw => 1);
my $server = start(
    sockets => [map { ($_ => '127.0.0.1:0') } qw(http admin tunnel)],
    config => <<~END);
        [Server]
        Workers=1
        MaxBodySize=1T
        [Listen http]
        [Listen admin]
        Admin=yes
        [Listen tunnel]
        Tunnel=raw
        [Route all]
        Upstream=raw
        [Upstream raw]
        Server=@{[$raw->address]}
        END
my ($pid)   = $server->workers;
my $barrier = $server->connect('admin');

sub settle
{
    for (1 .. 8) {
        $barrier->get('/livez');
        turn();
    }
}

# The worker's memory in KiB, and how much it has grown at the most since it was first looked at.
my $base;
my $most = 0;

sub grown
{
    my $now = resident_of($pid);
    $base //= $now;
    $most = $now - $base if $now - $base > $most;
    return $most;
}

# What a socket takes until nothing goes any more, turn after turn. Returns how many bytes that were.
sub fill($connection, $limit = $SIZE)
{
    my $sent = 0;
    for (my $idle = 0; $idle < 5 && $sent < $limit;) {
        my $left = $limit - $sent;
        my $n    = CORE::send $connection->{socket}, $left < length $PIECE ? substr $PIECE, 0, $left : $PIECE, 0;
        $n ? ($idle = 0, $sent += $n) : ($idle++, settle());
    }
    return $sent;
}

# Sends as many bytes as are left to one side, while the other reads all of them.
sub pass_on($from, $to, $left, $expected)
{
    my ($got, $buffer) = (0, '');
    my ($in, $out)     = ('', '');
    while ($got < $expected) {
        vec($in,  fileno $to->{socket},   1) = 1;
        vec($out, fileno $from->{socket}, 1) = $left > 0 ? 1 : 0;
        select my $readable = $in, my $writable = $out, undef, 10 or die "nothing goes any more\n";
        if (vec $writable, fileno $from->{socket}, 1) {
            my $n = CORE::send $from->{socket}, $left < length $PIECE ? substr $PIECE, 0, $left : $PIECE, 0;
            $left -= $n // 0;
        }
        if (vec $readable, fileno $to->{socket}, 1) {
            my $n = sysread($to->{socket}, $buffer, 1 << 20) or last;
            $got += $n;
            grown() if $got % (4 << 20) < $n;
        }
    }
    return $got;
}

# Begins an exchange. Returns the client, and its end at the backend, where the head has been read.
sub begin($head)
{
    my $client = $server->connect->send("$head\r\nHost: x\r\n\r\n");
    my $end    = $raw->wait_connection;
    $end->read_line(10);
    $end->read_fields(10);
    return ($client, $end);
}

my %ways = (
    'an upload by length' => sub {
        my ($client, $end) = begin("PUT / HTTP/1.1\r\nContent-Length: $SIZE");
        return ($client, $end, $SIZE);
    },
    'a download by length' => sub {
        my ($client, $end) = begin('GET / HTTP/1.1');
        $end->send("HTTP/1.1 200 OK\r\nContent-Length: $SIZE\r\n\r\n");
        $client->read_head(10);
        return ($end, $client, $SIZE);
    },
    'a download until close, in chunks to the client' => sub {
        my ($client, $end) = begin('GET / HTTP/1.1');
        $end->send("HTTP/1.1 200 OK\r\n\r\n");
        $client->read_head(10);
        return ($end, $client, $SIZE);
    },
    'an upload of one chunk' => sub {
        my ($client, $end) = begin("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked");
        $client->send(sprintf "%x\r\n", $SIZE);
        return ($client, $end, $SIZE);
    },
    'a tunnel' => sub {
        my $client = $server->connect('tunnel');
        return ($client, $raw->wait_connection, $SIZE);
    },
);

# So that all that is made once is there.
for my $name (sort keys %ways) {
    my ($from, $to) = $ways{$name}->();
    fill($from, 4 << 20);
    pass_on($from, $to, 0, 4 << 20);
}

for my $name (sort keys %ways) {
    ($base, $most) = (undef, 0);
    my ($from, $to, $size) = $ways{$name}->();
    grown();
    my $sent = fill($from);
    grown();
    ok $sent > 0 && $sent < $size, "$name: it waits after $sent bytes";
    my $got = pass_on($from, $to, $size - $sent, $size);
    cmp_ok $got, '>=', $size, '... and all of them go on when they are taken';
    grown();
    cmp_ok $most, '<', $MOST, "... for $most KiB";
    $_->close for $from, $to;
}

subtest 'many that wait' => sub {
    ($base, $most) = (undef, 0);
    my @open;
    for my $n (1 .. 20) {
        for my $name (sort keys %ways) {
            my ($from, $to) = $ways{$name}->();
            push @open, $from, $to;
            grown() if $n == 1;
            # A little more than the kernel takes.
            fill($from, 16 << 20) if $n <= 4;
        }
    }
    grown();
    cmp_ok $most, '<', 100 * 100, 'at most 100 KiB for each of a hundred, of which twenty are full' or diag $most;
    $_->close for @open;
};

is $server->stop, 0, 'exit code';
unlike $server->log, qr/ died: /, 'no worker died';
done_testing;
