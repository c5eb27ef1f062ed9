package Baton::Process;

# A process that a test started: its output, its end. Whatever it forks is known by its process
# group, or else by a variable of its environment, so that nothing outlives the test.

use v5.36;
use Baton::Loop qw(watch unwatch wait_for);
use Carp        qw(croak);
use Exporter    qw(import);
use Fcntl       qw(F_DUPFD);
# Loaded before our END block is: temporary folders go after the processes that use them.
use File::Temp ();
use IO::Handle  ();
use POSIX       qw(:sys_wait_h);

our @EXPORT_OK = qw(pidfd children_of wait_exit_of);

# The same number on every architecture (pidfd_open(2), Linux 5.3).
use constant SYS_PIDFD_OPEN => 434;

# Where start() puts the first of the fds it passes on, as SD_LISTEN_FDS_START of
# sd_listen_fds(3).
use constant FIRST_PASSED => 3;

my $MARK = 'BATON_TEST_PROCESS';

my %running;

# A handle that becomes readable when the process ends, whoever its parent is; undef: it is gone.
sub pidfd($pid)
{
    my $fd = syscall(SYS_PIDFD_OPEN, $pid + 0, 0);
    return undef if $fd < 0;
    open my $handle, '<&=', $fd or die "pidfd of $pid: $!\n";
    return $handle;
}

# Waits until every one of these processes, children or not, has ended.
sub wait_exit_of($pids, $seconds = 10)
{
    my %left;
    for my $pid (@$pids) {
        my $handle = pidfd($pid) // next;
        $left{$pid} = 1;
        watch($handle, sub { unwatch($handle); delete $left{$pid} });
    }
    wait_for("end of all of the processes @$pids", sub { !%left }, $seconds);
}

# proc(5): pid, command, state, parent, process group. Zombies and the vanished are left out.
sub stat_of($pid, $proc = '/proc')
{
    open my $file, '<', "$proc/$pid/stat" or return;
    my ($state, $parent, $group) = (<$file> // '') =~ /.*\) (\S) (\d+) (\d+) / or return;
    return if $state =~ /[ZX]/;
    return { parent => $parent, group => $group };
}

# The living ones, by their pids, that $wanted->($stat, $pid) is true for.
sub processes($proc, $wanted)
{
    opendir my $folder, $proc or die "$proc: $!\n";
    return sort { $a <=> $b }
        grep { my $stat = stat_of($_, $proc); $stat && $wanted->($stat, $_) }
        grep {/^\d+$/} readdir $folder;
}

sub has_mark($pid, $mark)
{
    open my $file, '<', "/proc/$pid/environ" or return 0;
    local $/ = "\0";
    return scalar grep { $_ eq "$MARK=$mark\0" } <$file>;
}

# The pids of the processes that $pid forked, as the given /proc numbers them.
sub children_of($pid, $proc = '/proc')
{
    return processes($proc, sub ($stat, $) { $stat->{parent} == $pid });
}

# Starts @{$o{command}}. Further options:
#   input        text the process finds at its standard input, or 'pipe' for write() and finish()
#   environment  { NAME => value }; undef removes the variable
#   pass         handles that the process finds at fd 3, 4, ..., with LISTEN_PID= set to its pid
#   directory    where it runs
#   ends_with_input  at the end of its standard input it cleans up and exits: kill() waits for that
sub start($class, %o)
{
    my %ours;
    pipe $ours{out}, my $out or die "pipe: $!\n";
    pipe $ours{err}, my $err or die "pipe: $!\n";
    my $in;
    if (($o{input} // '') eq 'pipe') {
        pipe $in, $ours{in} or die "pipe: $!\n";
        $ours{in}->autoflush(1);
    } else {
        $in = input_file($o{input} // '');
    }

    my $pid = fork // die "fork: $!\n";
    become(\%o, $in, $out, $err) if $pid == 0;

    my $self = bless {
        pid => $pid,
        name => "@{$o{command}}",
        in => $ours{in},
        ends_with_input => $o{ends_with_input},
        at => {},
    }, $class;
    # Both sides do it: whoever comes first.
    POSIX::setpgid($pid, $pid);
    $running{$pid} = $self;
    $self->collect($_, $ours{$_}) for qw(out err);
    $self->{pidfd} = pidfd($pid) // die "pidfd_open: $!\n";
    watch($self->{pidfd}, sub { $self->reap });
    return $self;
}

sub input_file($text)
{
    open my $file, '+>', undef or die "temporary file: $!\n";
    print {$file} $text;
    seek $file, 0, 0;
    return $file;
}

sub become($o, $in, $out, $err)
{
    POSIX::setpgid(0, 0);
    my $ok = eval {
        chdir $o->{directory} or die "$o->{directory}: $!\n" if $o->{directory};
        POSIX::dup2(fileno $in,  0);
        POSIX::dup2(fileno $out, 1);
        POSIX::dup2(fileno $err, 2);
        pass($o->{pass}) if $o->{pass};
        %ENV = (%ENV, %{$o->{environment} // {}}, $MARK => $$);
        delete @ENV{grep { !defined $ENV{$_} } keys %ENV};
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        no warnings 'exec';
        exec { $o->{command}[0] } @{$o->{command}} or die "$o->{command}[0]: $!\n";
    };
    syswrite STDERR, $@;
    POSIX::_exit(127);
}

sub pass($handles)
{
    # First out of the way, so that none is overwritten by another one's dup2().
    my @high = map { fcntl($_, F_DUPFD, 100 + @$handles) or die "F_DUPFD: $!\n" } @$handles;
    for my $n (0 .. $#high) {
        POSIX::dup2($high[$n], FIRST_PASSED + $n) // die "dup2: $!\n";
        POSIX::close($high[$n]);
    }
    $ENV{LISTEN_PID} = $$;
}

sub collect($self, $stream, $handle)
{
    $self->{$stream} = '';
    $self->{open}{$stream} = $handle;
    watch(
        $handle,
        sub {
            return if sysread $handle, $self->{$stream}, 65536, length $self->{$stream};
            unwatch($handle);
            delete $self->{open}{$stream};
        });
}

sub reap($self)
{
    return if waitpid($self->{pid}, WNOHANG) != $self->{pid};
    $self->{status} = WIFEXITED($?) ? WEXITSTATUS($?) : 128 + WTERMSIG($?);
    unwatch($self->{pidfd});
    delete $self->{pidfd};
}

sub pid($self)
{
    return $self->{pid};
}

# What the process wrote so far.
sub out($self)
{
    return $self->{out};
}

sub err($self)
{
    return $self->{err};
}

sub running($self)
{
    return !defined $self->{status};
}

sub signal($self, $name)
{
    CORE::kill $name, $self->{pid} or croak "SIG$name for $self->{name}: $!" if $self->running;
}

# To the standard input of a process that was started with input => 'pipe'.
sub write($self, $text)
{
    print {$self->{in}} $text or croak "writing to $self->{name}: $!";
}

# Ends its standard input.
sub finish($self)
{
    close delete $self->{in} if $self->{in};
}

# Waits for text that matches, past what the last such call on this stream found, and returns it.
sub wait_output($self, $stream, $pattern, $seconds = 10)
{
    my $found;
    my $search = sub {
        pos($self->{$stream}) = $self->{at}{$stream} // 0;
        if ($self->{$stream} =~ /($pattern)/gc) {
            $found = $1;
            $self->{at}{$stream} = pos $self->{$stream};
            return 1;
        }
        die "its end came first\n" if !$self->{open}{$stream};
        return 0;
    };
    eval { wait_for("/$pattern/ in what $self->{name} writes", $search, $seconds) }
        or croak "waiting for /$pattern/: ", $@, "What $self->{name} wrote: $self->{$stream}";
    return $found;
}

sub wait_out($self, $pattern, $seconds = 10)
{
    return $self->wait_output('out', $pattern, $seconds);
}

sub wait_err($self, $pattern, $seconds = 10)
{
    return $self->wait_output('err', $pattern, $seconds);
}

# Returns the exit code, or 128 + the number of the signal that ended the process, once it has
# ended and all it wrote is read.
sub wait_exit($self, $seconds = 10)
{
    wait_for("end of $self->{name}", sub { !$self->running }, $seconds);
    wait_for("end of the output of $self->{name}", sub { !%{$self->{open}} }, $seconds);
    delete $running{$self->{pid}} unless $self->leftovers;
    return $self->{status};
}

# The living processes that it forked, and those forked.
sub leftovers($self)
{
    my $mine = $self->{pid};
    return processes('/proc',
        sub ($stat, $pid) { $pid != $mine && ($stat->{group} == $mine || has_mark($pid, $mine)) });
}

# Runs the command to its end. Returns it: ->wait_exit is its exit code.
sub run($class, %o)
{
    my $seconds = delete $o{seconds} // 10;
    my $self    = $class->start(%o);
    $self->wait_exit($seconds);
    return $self;
}

sub status($self)
{
    return $self->{status};
}

# Kills the group, and waits until each of its processes is gone.
sub kill($self)
{
    if ($self->{ends_with_input}) {
        $self->finish;
    } else {
        CORE::kill 'KILL', -$self->{pid};
    }
    wait_for("end of $self->{name}", sub { !$self->running }) if $self->running;
    my @left = $self->leftovers;
    CORE::kill 'KILL', @left;
    wait_exit_of(\@left);
    delete $running{$self->{pid}};
}

my $test = $$;

# What ends a test ends its processes: END blocks run on a signal only if it is caught. And when
# prove is gone, a last word to it must not be the end.
$SIG{PIPE} = 'IGNORE';
for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub { exit 1 };
}

END {
    # The exit code is the test's.
    local ($?, $@);
    for my $process (values %running) {
        eval { $process->kill; 1 } or warn "$process->{name}: $@" if $$ == $test;
    }
}

1;
