package Baton::Guest;

# A machine of its own: a really booted systemd, over a throwaway overlay of this machine's root or
# of another release's. It has its own processes, cgroup v2, loopback network and journal; nothing
# it changes outlives it. Needs root.
#
#   my $guest = Baton::Guest->new;
#   $guest->install;
#   $guest->must('systemctl', 'enable', '--now', 'baton.socket');
#   is $guest->connect('127.0.0.1:80')->get('/')->status, 200;
#   is $guest->shut_down, 0;

use v5.36;
use Baton::Http    ();
use Baton::Notify  ();
use Baton::Process ();
use Carp           qw(croak);
use JSON::PP       ();
use POSIX          ();
use Test::More     ();

# setns(2) has a number of its own where the table of system calls is an old one.
my %SETNS     = (x86_64 => 308, i686 => 346, armv7l => 375, ppc64le => 350, s390x => 339);
my $SYS_SETNS = $SETNS{(POSIX::uname())[4]} // 268;

my $RELEASE = $ENV{BATON_GUEST_RELEASE} // '';

my %booted;

# Why there can't be a guest (of another release) here; undef: there can. Nobody who only runs the
# tests has to download a release.
sub missing($class, $release = $RELEASE)
{
    return 'a guest needs root' if $> != 0;
    for my $tool (qw(systemd-nspawn nsenter unshare)) {
        return "a guest needs $tool" unless grep { -x "$_/$tool" } split /:/, $ENV{PATH};
    }
    return "tests/guest/cache $release has not been run"
        if $release && !$ENV{BATON_CI} && !-e "/var/cache/baton-test/$release.packages";
    return undef;
}

# Boots one, and waits until it is up. Options:
#   release  the Debian release it runs ("trixie"); '': what this machine runs; default:
#            $BATON_GUEST_RELEASE
#   target   the target it boots to; default: on this machine's root no service but the system's
#            own, else multi-user.target
sub new($class, %o)
{
    state $count = 0;
    my $root    = Baton::Test::source_root();
    my $name    = "baton-$$-" . ++$count;
    my $release = $o{release} // $RELEASE;
    my $lower   = $release ? release_root($release) : '/';
    # Another file system is not part of the overlay.
    my @bind = $release || (stat '/')[0] != (stat $root)[0] ? "--bind-ro=$root" : ();
    my $target = $o{target} // ($release ? 'multi-user.target' : 'sysinit.target');
    my $notify = Baton::Notify->new(Baton::Test::scratch() . "/$name");

    my $self = bless {
        name => $name,
        release => $release,
        notify => $notify,
        keeper => Baton::Process->start(
            command => [
                qw(unshare --mount --propagation private), "$root/tests/guest/keeper",
                $name, $lower, $target, @bind
            ],
            input => 'pipe',
            ends_with_input => 1,
            environment => { NOTIFY_SOCKET => $notify->path }),
    }, $class;
    ($self->{leader}) = $self->wait_notify(qr/^X_NSPAWN_LEADER_PID=\d+$/m) =~ /PID=(\d+)/;
    $self->wait_notify(qr/^READY=1$/m);
    $booted{$name} = $self;
    return $self;
}

sub release_root($release)
{
    my $cache = Baton::Process->run(
        command => [Baton::Test::source_root() . '/tests/guest/cache', $release],
        seconds => 600);
    croak "building the root of $release:\n" . $cache->err if $cache->status != 0;
    return $cache->out =~ s/\n//r;
}

sub wait_notify($self, $pattern)
{
    return $self->{notify}->wait(
        $pattern, 60,
        sub {
            my $keeper = $self->{keeper};
            croak "no guest:\n" . $keeper->err . $keeper->out unless $keeper->running;
        });
}

sub name($self)
{
    return $self->{name};
}

# This machine's numbers of the guest's PID 1, and of the process that keeps it.
sub leader($self)
{
    return $self->{leader};
}

sub keeper($self)
{
    return $self->{keeper}->pid;
}

# A path of the guest as this machine sees it. Symbolic links on the way must be relative.
sub path($self, $path)
{
    return "/proc/$self->{leader}/root$path";
}

sub write_file($self, $path, $content)
{
    Baton::Test::write_file($self->path($path), $content);
}

# Starts a command in there: a Baton::Process, with the options of its start() and a clean
# environment.
sub start($self, $command, %o)
{
    my $environment = $o{environment} // {};
    # The shell forks the process that is in the guest's PID namespace. nsenter would do so too, but
    # it stops itself when that is stopped, as a shutdown does before it kills; and a stopped
    # nsenter does not reap its child, for which the shutdown waits.
    my $process = Baton::Process->start(
        %o,
        command => [
            qw(nsenter --all --no-fork --wd --target), $self->{leader},
            qw(env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin),
            (map {"$_=$environment->{$_}"} sort keys %$environment),
            'sh', '-c', '"$@"; exit $?', 'sh', @$command
        ]);
    push @{$self->{commands}}, $process;
    return $process;
}

# Runs a command to its end: its status, out, err.
sub run($self, @command)
{
    my $process = $self->start(\@command);
    $process->wait_exit(60);
    return $process;
}

# The same, and the command must succeed. Returns what it wrote, without the last newline.
sub must($self, @command)
{
    my $process = $self->run(@command);
    croak "@command exited with " . $process->status . ":\n" . $process->out . $process->err
        if $process->status != 0;
    return $process->out =~ s/\n\z//r;
}

# A connection to an address within (Baton::Http). A socket belongs to the network namespace it
# was made in, wherever its owner goes.
sub connect($self, $address, %o)
{
    open my $home, '<', '/proc/self/ns/net' or croak "/proc/self/ns/net: $!";
    enter_network("/proc/$self->{leader}/ns/net");
    my $connection = eval { Baton::Http->connect($address, %o) };
    my $error      = $@;
    enter_network("/proc/self/fd/@{[fileno $home]}");
    die $error unless $connection;
    return $connection;
}

sub enter_network($path)
{
    open my $namespace, '<', $path or croak "$path: $!";
    syscall($SYS_SETNS, fileno $namespace, 0) == 0 or croak "setns: $!";
}

# A unit's property, as systemctl(1) shows it.
sub property($self, $unit, $name)
{
    return $self->must('systemctl', 'show', '--property', $name, '--value', $unit);
}

# The pids of a process's children, by the guest's own numbers.
sub children_of($self, $pid)
{
    return Baton::Process::children_of($pid, $self->path('/proc'));
}

# Sends a signal to a process of the guest, by the guest's own number.
sub signal($self, $name, $pid)
{
    $self->must('sh', '-c', "kill -$name $pid");
}

# This machine's number of a process of the guest; undef: there is no such process.
sub pid_here($self, $pid)
{
    my $space = readlink "/proc/$self->{leader}/ns/pid";
    for my $here (map {m{(\d+)}} glob '/proc/[0-9]*') {
        next if (readlink("/proc/$here/ns/pid") // '') ne $space;
        my ($numbers) =
            (eval { Baton::Test::read_file("/proc/$here/status") } // '') =~ /^NSpid:.*\t(\d+)$/m;
        return $here if ($numbers // 0) == $pid;
    }
    return undef;
}

# Waits until a process of the guest, by the guest's own number, has ended.
sub wait_exit_of($self, $pid, $seconds = 10)
{
    my $here = $self->pid_here($pid) // return;
    Baton::Process::wait_exit_of([$here], $seconds);
}

# What a unit wrote to the journal, message by message.
sub journal($self, $unit)
{
    return $self->must('journalctl', '--boot', '--unit', $unit, '--output', 'cat', '--no-pager');
}

# Follows a unit's journal from its beginning: ->wait_out(qr/.../) waits for text in it.
sub follow_journal($self, $unit)
{
    return $self->start(
        ['journalctl', '--boot', '--unit', $unit, '--output', 'cat', '--lines', 'all', '--follow']);
}

# Installs Baton as a user would. For another release it is built in there first.
sub install($self)
{
    my $root = Baton::Test::source_root();
    my $make = $self->start(
        ['make', '--silent', '-C', $root, 'PREFIX=/usr', $self->build_arguments, 'install']);
    croak "make install:\n" . $make->err if $make->wait_exit(600) != 0;
}

# For make. What is tested is what was built, whatever has changed since.
sub build_arguments($self)
{
    my $build = Baton::Test::build_folder();
    return ('BUILD=/var/tmp/build', '--jobs=2') if $self->{release};
    return ("BUILD=$build", "--old-file=$build/baton");
}

# Starts this machine's load client in the guest's network, and waits until each of its clients had
# an answer. It is no process of the guest: a reboot of that does not end it.
sub start_load($self, @arguments)
{
    my $load = Baton::Process->start(
        command => [
            'nsenter', "--net=/proc/$self->{leader}/ns/net", Baton::Test::load_client(),
            '--until-stdin-closes', @arguments
        ],
        input => 'pipe');
    $load->wait_out(qr/^running$/m);
    return $load;
}

# Ends it. Returns what it counted.
sub finish_load($self, $load)
{
    $load->finish;
    # 1: a request failed, which the report says better.
    croak 'the load client: ' . $load->err if $load->wait_exit(60) > 1;
    return JSON::PP::decode_json((split /\n/, $load->out)[-1]);
}

# The last step of a shutdown does not notice the end of processes that are not its children: it
# would wait 10 s for them. Their shells, which are in no namespace of PIDs but ours, reap them.
sub end_commands($self)
{
    for my $shell (grep { $_->running } @{$self->{commands}}) {
        CORE::kill 'KILL', Baton::Process::children_of($shell->pid);
        $shell->wait_exit;
    }
}

# An orderly shutdown. Returns the exit code of systemd-nspawn.
sub shut_down($self)
{
    delete $booted{$self->{name}};
    $self->end_commands;
    # What systemctl poweroff does, see SIGNALS in systemd(1): but that is a process, too.
    CORE::kill POSIX::SIGRTMIN() + 4, $self->{leader};
    return $self->{keeper}->wait_exit(60);
}

# Starts everything anew but the kernel and PID 1 (systemd 254 and later), and waits until it is up.
sub soft_reboot($self)
{
    my @count = qw(systemctl show --property SoftRebootsCount --value);
    my $next  = $self->must(@count) + 1;
    $self->end_commands;
    $self->must('systemctl', 'soft-reboot');
    # PID 1 says READY=1 after a daemon-reload, too.
    do { $self->wait_notify(qr/^READY=1$/m) } until $self->run(@count)->out eq "$next\n";
}

# What a failed test is understood by.
END {
    my $failed = $? || !Test::More->builder->is_passing;
    local ($?, $@);
    if ($failed) {
        for my $guest (values %booted) {
            my $journal = $guest->run(qw(journalctl --boot --no-pager --lines 100));
            Test::More::diag("journal of $guest->{name}:\n" . $journal->out);
        }
    }
}

1;
