package Baton::Server;

# `baton serve` as its manager sees it: sockets passed by name, notifications, log, signals.

use v5.36;
use Baton::Control ();
use Baton::Http    ();
use Baton::Loop    qw(in_time);
use Baton::Notify  ();
use Baton::Process qw(children_of wait_exit_of);
use Carp           qw(croak);
use JSON::PP       ();
use Socket         qw(:DEFAULT inet_ntop);
use Time::HiRes    qw(clock_gettime CLOCK_MONOTONIC);

# Makes a listening stream socket: what systemd does for a .socket unit.
sub listen_on($text)
{
    my ($family, $sockaddr) = Baton::Http::address($text);
    socket my $socket, $family, SOCK_STREAM, 0 or croak "socket: $!";
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $socket, $sockaddr or croak "binding $text: $!";
    listen $socket, 4096 or croak "listening on $text: $!";
    return $socket;
}

# Where it listens, in the notation of Address=.
sub address_of($socket)
{
    my $sockaddr = getsockname $socket;
    my $family   = sockaddr_family($sockaddr);
    return 'unix:' . (unpack_sockaddr_un($sockaddr) =~ s/^\0/@/r) if $family == AF_UNIX;
    return join ':', inet_ntoa((unpack_sockaddr_in($sockaddr))[1]),
        (unpack_sockaddr_in($sockaddr))[0]
        if $family == AF_INET;
    my ($port, $host) = unpack_sockaddr_in6($sockaddr);
    return '[' . inet_ntop(AF_INET6, $host) . "]:$port";
}

# Starts it and waits until it is ready. Options:
#   config       text of the configuration file
#   arguments    further ones for `baton serve`
#   sockets      [ NAME => ADDRESS or listening handle, ... ], passed in this order; default: one
#                named http on 127.0.0.1. A port of 0 lets the kernel choose one
#   environment  { NAME => value }
#   ready        0: do not wait for READY=1
#   notify       0: no NOTIFY_SOCKET
#   control      where its control socket is going to be, without an option that says so
#   seconds      how long to wait for READY=1
sub start($class, %o)
{
    my $folder = Baton::Test::folder();
    my $self = bless {
        folder => $folder,
        config => "$folder/baton.conf",
        control => $o{control} // "$folder/control.sock",
        notify => Baton::Notify->new("$folder/notify"),
        sockets => passed($o{sockets} // [http => '127.0.0.1:0']),
    }, $class;
    $self->configure($o{config}) if defined $o{config};
    $self->spawn(%o);
    if ($o{ready} // 1) {
        my $ready = eval { $self->wait_notify(qr/^READY=1$/m, $o{seconds} // 10) };
        croak $@ . $self->log unless $ready;
    }
    return $self;
}

sub passed($wanted)
{
    my @sockets;
    for (my $n = 0; $n < @$wanted; $n += 2) {
        my ($name, $where) = @$wanted[$n, $n + 1];
        push @sockets, { name => $name, handle => ref $where ? $where : listen_on($where) };
    }
    return \@sockets;
}

sub spawn($self, %o)
{
    my @sockets     = @{$self->{sockets}};
    my %environment = (
        NOTIFY_SOCKET => ($o{notify} // 1) ? $self->{notify}->path : undef,
        LISTEN_FDS => @sockets ? scalar @sockets : undef,
        LISTEN_FDNAMES => @sockets ? join(':', map { $_->{name} } @sockets) : undef,
        %{$o{environment} // {}},
    );
    $self->{process} = Baton::Process->start(
        command => [
            Baton::Test::baton(), 'serve',
            defined $o{config} ? ('-c', $self->{config}) : (),
            defined $o{control} ? () : ('--control', $self->{control}),
            @{$o{arguments} // []}
        ],
        environment => \%environment,
        @sockets ? (pass => [map { $_->{handle} } @sockets]) : (),
    );
}

# Replaces the configuration file, at once as an editor does.
sub configure($self, $text)
{
    Baton::Test::write_file("$self->{config}.new", $text);
    rename "$self->{config}.new", $self->{config} or croak "$self->{config}: $!";
}

sub folder($self)
{
    return $self->{folder};
}

sub process($self)
{
    return $self->{process};
}

sub pid($self)
{
    return $self->{process}->pid;
}

# The pids of the supervisor's children.
sub workers($self)
{
    return children_of($self->pid);
}

# The listening sockets, as the option of start() wants them: for a later instance.
sub sockets($self)
{
    return [map { ($_->{name}, $_->{handle}) } @{$self->{sockets}}];
}

# The address of the first passed socket of that name (default: of the first).
sub address($self, $name = undef)
{
    my ($socket) = grep { !defined $name || $_->{name} eq $name } @{$self->{sockets}};
    croak 'no socket named ' . ($name // '') unless $socket;
    return address_of($socket->{handle});
}

# A new connection, Baton::Http.
sub connect($self, $name = undef, %o)
{
    return Baton::Http->connect($self->address($name), %o);
}

# One request on a connection of its own, to the first socket. Returns the answer.
sub get($self, $target, @fields)
{
    return $self->connect->get($target, Connection => 'close', @fields);
}

# `baton COMMAND` about this server, run to its end: a Baton::Process.
sub command($self, $command, @arguments)
{
    return Baton::Process->run(
        command => [Baton::Test::baton(), $command, '--control', $self->{control}, @arguments],
        seconds => 30);
}

# The same, started: it ends when the server has answered.
sub start_command($self, $command, @arguments)
{
    return Baton::Process->start(
        command => [Baton::Test::baton(), $command, '--control', $self->{control}, @arguments]);
}

sub reload($self)
{
    return $self->command('reload');
}

# The path of its control socket.
sub control($self)
{
    return $self->{control};
}

# A new connection to its control socket.
sub connect_control($self)
{
    return Baton::Control->connect($self->{control});
}

# What `baton status --json` prints.
sub status($self)
{
    my $answer = $self->connect_control->send('status json')->answer;
    return JSON::PP::decode_json($answer =~ s/^ok\n//r);
}

# Asks until $condition->($status) is true, and returns that status. Whatever the supervisor's loop
# had to do before it was asked is done then.
sub wait_status($self, $what, $condition, $seconds = 10)
{
    my $deadline = in_time($seconds);
    while (1) {
        my $status = $self->status;
        return $status if $condition->($status);
        croak "no $what within $seconds s: " . JSON::PP::encode_json($status) . "\n" . $self->log
            if clock_gettime(CLOCK_MONOTONIC) > $deadline;
    }
}

# Waits until that many workers serve, no other is left, and no client is connected.
sub wait_at_rest($self, $workers, $connections = 0)
{
    return $self->wait_status(
        "rest of $workers workers",
        sub ($status) {
            my @workers = @{$status->{workers}};
            return @workers == $workers
                && $status->{connections} == $connections
                && !grep { $_->{state} ne 'current' } @workers;
        });
}

sub log($self)
{
    return $self->{process}->err;
}

# Waits for text that matches in the log, past what the last such call found.
sub wait_log($self, $pattern, $seconds = 10)
{
    return $self->{process}->wait_err($pattern, $seconds);
}

sub notifications($self)
{
    return $self->{notify}->messages;
}

# As Baton::Notify's wait(); the end of the process ends it.
sub wait_notify($self, $pattern, $seconds = 10)
{
    return $self->{notify}->wait(
        $pattern, $seconds,
        sub { croak "baton ended instead:\n" . $self->log unless $self->{process}->running });
}

sub signal($self, $name)
{
    $self->{process}->signal($name);
}

# Waits for its end and for that of its workers, and returns the exit code (128 + signal).
sub wait_exit($self, $seconds = 10)
{
    my $status = $self->{process}->wait_exit($seconds);
    wait_exit_of([$self->{process}->leftovers]);
    return $status;
}

sub stop($self, $signal = 'TERM', $seconds = 10)
{
    $self->signal($signal);
    return $self->wait_exit($seconds);
}

1;
