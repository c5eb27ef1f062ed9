package Baton::Inbox;

# The inbox of a running server, which connections move through: a test holds its sending end too,
# and can make it small.

use v5.36;
use Baton::Process qw(pidfd);
use Carp           qw(croak);
use Socket;

# The same number on every architecture (pidfd_getfd(2), Linux 5.6).
use constant SYS_PIDFD_GETFD => 438;

# Of the server's sockets of packets, the one with the largest buffer.
sub of($class, $server)
{
    my $process = pidfd($server->pid);
    my ($largest, $inbox) = (0);
    for my $fd (map { m{(\d+)$} } glob '/proc/' . $server->pid . '/fd/*') {
        my $copy = syscall SYS_PIDFD_GETFD, fileno $process, 0 + $fd, 0;
        next if $copy < 0; # closed meanwhile
        open my $handle, '+<&=', $copy or croak "fd $copy: $!";
        next if (option($handle, SO_TYPE) // 0) != SOCK_SEQPACKET;
        my $size = option($handle, SO_SNDBUF);
        ($largest, $inbox) = ($size, $handle) if $size > $largest;
    }
    return bless { handle => $inbox // croak 'no inbox' }, $class;
}

# undef: it is no socket.
sub option($handle, $name)
{
    my $value = getsockopt($handle, SOL_SOCKET, $name) // return undef;
    return unpack 'i', $value;
}

# Room for so many bytes, of which every message takes some hundred; at least for a few messages.
sub resize($self, $bytes)
{
    setsockopt $self->{handle}, SOL_SOCKET, SO_SNDBUF, $bytes or croak "SO_SNDBUF: $!";
}

1;
