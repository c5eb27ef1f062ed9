package Baton::Notify;

# The manager's end of sd_notify(3): a socket for NOTIFY_SOCKET=, and the messages it got.

use v5.36;
use Baton::Loop qw(watch unwatch wait_for);
use POSIX       ();
use Socket;

# Perl has no recvmsg(2), which alone tells who sent a message: SCM_CREDENTIALS of unix(7).
my $SYS_RECVMSG = { x86_64 => 47, aarch64 => 212 }->{(POSIX::uname())[4]}
    // die "recvmsg(2) has no known number on this machine\n";
use constant { SO_PASSCRED => 16, MESSAGE_SIZE => 65536, CREDENTIALS_SIZE => 32 };

sub new($class, $path)
{
    socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "socket: $!\n";
    bind $socket, pack_sockaddr_un($path) or die "$path: $!\n";
    setsockopt $socket, SOL_SOCKET, SO_PASSCRED, 1 or die "SO_PASSCRED: $!\n";
    my $self =
        bless { path => $path, socket => $socket, messages => [], senders => [], at => 0 }, $class;
    watch($socket, sub { 1 while $self->receive });
    return $self;
}

# Reads one message, if there is any. Fds that come with it find no room in the control buffer, and
# the kernel closes them.
sub receive($self)
{
    # Buffers of their own for the kernel to write to: the strings of "\0" x N would be shared.
    vec(my $bytes   = '', MESSAGE_SIZE - 1, 8) = 0;
    vec(my $control = '', CREDENTIALS_SIZE - 1, 8) = 0;
    my $vector = pack 'P L!', $bytes, MESSAGE_SIZE;
    # struct msghdr: name, its length, vector, its length, control, its length, flags.
    my $header = pack 'L! L! P L! P L! L!', 0, 0, $vector, 1, $control, length $control, 0;
    my $length = syscall $SYS_RECVMSG, fileno $self->{socket}, $header, MSG_DONTWAIT;
    return 0 if $length < 0;
    push @{$self->{messages}}, substr $bytes, 0, $length;
    # struct cmsghdr: its length, level, type; then struct ucred: the PID first.
    push @{$self->{senders}}, unpack 'x[L!] x8 l', $control;
    return 1;
}

sub path($self)
{
    return $self->{path};
}

# All messages so far, each a text of lines.
sub messages($self)
{
    return @{$self->{messages}};
}

# The PIDs of those who sent them, in the same order.
sub senders($self)
{
    return @{$self->{senders}};
}

# Waits for a message that matches, past the one that the last such call found, and returns it.
# $otherwise is called when there is none yet: it may die.
sub wait($self, $pattern, $seconds = 10, $otherwise = sub {})
{
    my $messages = $self->{messages};
    wait_for(
        "notification /$pattern/",
        sub {
            while ($self->{at} < @$messages) {
                return 1 if $messages->[$self->{at}++] =~ $pattern;
            }
            $otherwise->();
            return 0;
        },
        $seconds);
    return $messages->[$self->{at} - 1];
}

1;
