package Baton::Notify;

# The manager's end of sd_notify(3): a socket for NOTIFY_SOCKET=, and the messages it got.

use v5.36;
use Baton::Loop qw(watch unwatch wait_for);
use Socket;

sub new($class, $path)
{
    socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "socket: $!\n";
    bind $socket, pack_sockaddr_un($path) or die "$path: $!\n";
    my $self = bless { path => $path, socket => $socket, messages => [], at => 0 }, $class;
    watch(
        $socket,
        sub {
            my $sender = recv $socket, my $message, 65536, MSG_DONTWAIT;
            push @{$self->{messages}}, $message if defined $sender;
        });
    return $self;
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
