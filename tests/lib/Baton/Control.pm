package Baton::Control;

# A client of the control socket that sends the bytes it is given.

use v5.36;
use Baton::Loop qw(watch unwatch wait_for);
use Carp        qw(croak);
use Errno       qw(EAGAIN EINTR);
use Socket;

sub connect($class, $path)
{
    socket my $socket, AF_UNIX, SOCK_SEQPACKET, 0 or croak "socket: $!";
    CORE::connect $socket, pack_sockaddr_un($path) or croak "connecting to $path: $!";
    $socket->blocking(0);
    return bless { socket => $socket, path => $path, bytes => '' }, $class;
}

sub send($self, $request)
{
    defined CORE::send $self->{socket}, $request, MSG_NOSIGNAL
        or croak "asking at $self->{path}: $!";
    return $self;
}

# Reads what is there. True: the server has closed the connection.
sub read_now($self)
{
    while (1) {
        my $got = sysread $self->{socket}, $self->{bytes}, 1 << 20, length $self->{bytes};
        next if $got;
        return 1 if defined $got;
        return 0 if $! == EAGAIN;
        croak "reading from $self->{path}: $!" if $! != EINTR;
    }
}

# The whole answer, once the server has closed the connection: "ok\n" or "failed\n", and a text.
sub answer($self, $seconds = 10)
{
    my $ended;
    watch($self->{socket}, sub { $ended = $self->read_now });
    my $waited =
        eval { wait_for("answer from $self->{path}", sub { $ended }, $seconds) };
    unwatch($self->{socket});
    die $@ unless $waited;
    return $self->{bytes};
}

sub is_quiet($self)
{
    return !$self->read_now && $self->{bytes} eq '';
}

sub close($self)
{
    close delete $self->{socket};
}

1;
