package Baton::Loop;

# Waiting. A test waits for events and never for time: every wait of this library ends in
# wait_for(), which sleeps in poll(2) on everything that is watched until its condition holds or
# its deadline passes. So while a test waits for an answer, the output of every process it started
# is read too, and none of them blocks on a full pipe.

use v5.36;
use Carp        qw(croak);
use Errno       qw(EINTR);
use Exporter    qw(import);
use IO::Poll    qw(POLLIN POLLOUT POLLPRI POLLERR POLLHUP POLLNVAL);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

our @EXPORT_OK = qw(watch unwatch wait_for turn in_time);

# A failed wait is reported where the test stands, not inside this library.
$Carp::Internal{$_}++
    for map {"Baton::$_"} qw(Loop Process Notify Http Server Guest Test Backend);

# Sanitizers and slow machines stretch every deadline.
my $slow = $ENV{BATON_TEST_SLOW} || 1;

my $poll = IO::Poll->new;
my %callback;

# Calls $callback whenever one of $events happens at the handle (default: it is readable).
sub watch($handle, $callback, $events = POLLIN)
{
    $callback{$handle} = $callback;
    $poll->mask($handle => $events);
}

sub unwatch($handle)
{
    delete $callback{$handle};
    $poll->mask($handle => 0);
}

sub in_time($seconds)
{
    return clock_gettime(CLOCK_MONOTONIC) + $seconds * $slow;
}

sub dispatch($deadline)
{
    my $left = $deadline - clock_gettime(CLOCK_MONOTONIC);
    my $ready = $poll->poll($left > 0 ? $left : 0);
    return if $ready < 0 && $! == EINTR;
    die "poll: $!\n" if $ready < 0;
    for my $handle ($poll->handles(POLLIN | POLLOUT | POLLPRI | POLLERR | POLLHUP | POLLNVAL)) {
        # An earlier callback may have ended the watch.
        $callback{$handle}->() if $callback{$handle};
    }
}

# Calls back for what has happened by now, without waiting for more.
sub turn
{
    dispatch(0);
}

# Returns what $condition returns as soon as that is true. $what is the end of the sentence "no
# ..." that the failure says.
sub wait_for($what, $condition, $seconds = 10)
{
    my $deadline = in_time($seconds);
    while (1) {
        my $result = $condition->();
        return $result if $result;
        croak "no $what within " . $seconds * $slow . ' s'
            if clock_gettime(CLOCK_MONOTONIC) >= $deadline;
        croak "no $what, and nothing left to wait for" unless %callback;
        dispatch($deadline);
    }
}

1;
