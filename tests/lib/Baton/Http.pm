package Baton::Http;

# A client of HTTP/1 that takes nothing for granted: it sends the bytes it is given, and refuses
# an answer that RFC 9112 does not allow.

use v5.36;
use Baton::Loop qw(watch unwatch wait_for in_time);
use Baton::Proc qw(state_of);
use Carp        qw(croak);
use Errno       qw(EAGAIN ECONNRESET EINPROGRESS EINTR);
use IO::Poll    qw(POLLIN POLLOUT);
use Socket      qw(:DEFAULT :addrinfo IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $TOKEN = qr/[!#\$%&'*+\-.^_`|~0-9A-Za-z]+/;

# The address in the notation of Address= ("127.0.0.1:80", "[::1]:80", "unix:/run/x.sock",
# "unix:@name") as socket(2) and connect(2) want it: family, sockaddr.
sub address($text)
{
    return (AF_UNIX, pack_sockaddr_un($1 =~ s/^@/\0/r)) if $text =~ /^unix:(.+)/;
    my ($host, $port) = $text =~ /^(?|\[(.+)\]|([^:]+)):(\d+)$/ or croak "no address: $text";
    my ($error, $found) =
        getaddrinfo($host, $port, { flags => AI_NUMERICHOST, socktype => SOCK_STREAM });
    croak "$text: $error" if $error;
    return @$found{qw(family addr)};
}

# Connects, and waits until that is done. Options:
#   receive_buffer  SO_RCVBUF, set before connecting: a small window makes a slow reader
#   from            an IPv4 address of this machine to connect from
#   seconds         how long to wait
sub connect($class, $address, %o)
{
    my ($family, $sockaddr) = address($address);
    socket my $socket, $family, SOCK_STREAM, 0 or croak "socket: $!";
    $socket->blocking(0);
    setsockopt $socket, SOL_SOCKET, SO_RCVBUF, $o{receive_buffer} or croak "SO_RCVBUF: $!"
        if $o{receive_buffer};
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if $family != AF_UNIX;
    bind $socket, pack_sockaddr_in(0, inet_aton($o{from})) or croak "binding $o{from}: $!" if $o{from};
    my $self = $class->new($socket, $address);
    if (!CORE::connect($socket, $sockaddr)) {
        croak "connecting to $address: $!" if $! != EINPROGRESS;
        $self->wait_ready("connection to $address", POLLOUT, $o{seconds});
        $! = unpack 'i', getsockopt $socket, SOL_SOCKET, SO_ERROR;
        croak "connecting to $address: $!" if $!;
    }
    return $self;
}

# Tries until somebody listens there: $process, which has just been started, says nothing of it.
sub wait_listening($class, $address, $process, $seconds = 10)
{
    my $deadline = in_time($seconds);
    until (eval { $class->connect($address)->close; 1 }) {
        croak "$address: no process any more" if (state_of($process->pid) // 'Z') eq 'Z';
        croak "nobody listens at $address: $@" if clock_gettime(CLOCK_MONOTONIC) > $deadline;
    }
}

# Over a connected stream socket.
sub new($class, $socket, $name = 'the server')
{
    $socket->blocking(0);
    return bless { socket => $socket, name => $name, bytes => '' }, $class;
}

sub wait_ready($self, $what, $events, $seconds = 10)
{
    my $ready;
    watch($self->{socket}, sub { $ready = 1 }, $events);
    my $waited = eval { wait_for($what, sub { $ready }, $seconds // 10) };
    unwatch($self->{socket});
    die $@ unless $waited;
}

# Sends all of it. Returns the connection.
sub send($self, $bytes, $seconds = 10)
{
    while (length $bytes) {
        my $sent = CORE::send $self->{socket}, $bytes, MSG_NOSIGNAL;
        if (defined $sent) {
            substr $bytes, 0, $sent, '';
        } elsif ($! == EAGAIN) {
            $self->wait_ready("room to send to $self->{name}", POLLOUT, $seconds);
        } elsif ($! != EINTR) {
            croak "sending to $self->{name}: $!";
        }
    }
    return $self;
}

# No more bytes will be sent (shutdown(2)).
sub finish($self)
{
    shutdown $self->{socket}, SHUT_WR;
    return $self;
}

sub close($self)
{
    close delete $self->{socket};
}

# Closes so that the other end sees a reset.
sub reset($self)
{
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    $self->close;
}

# Reads what is there now. Returns the number of bytes, 0 at the end, undef when there is nothing.
sub read_now($self, $most = 65536)
{
    my $got = sysread $self->{socket}, $self->{bytes}, $most, length $self->{bytes};
    return $got if defined $got;
    return undef if $! == EAGAIN || $! == EINTR;
    $self->{was_reset} = 1 if $! == ECONNRESET;
    croak "reading from $self->{name}: $!";
}

# Waits for more bytes. Returns their number, 0 at the end.
sub read_more($self, $seconds = 10, $most = 65536)
{
    while (1) {
        my $got = $self->read_now($most);
        return $got if defined $got;
        $self->wait_ready("byte from $self->{name}", POLLIN, $seconds);
    }
}

sub need($self, $length, $seconds)
{
    while (length $self->{bytes} < $length) {
        $self->read_more($seconds)
            or croak "$self->{name} ended after " . length($self->{bytes}) . " of $length bytes";
    }
}

# Exactly that many bytes, raw.
sub read_bytes($self, $length, $seconds = 10)
{
    $self->need($length, $seconds);
    return substr $self->{bytes}, 0, $length, '';
}

# All bytes until the other end closes.
sub read_to_end($self, $seconds = 10)
{
    1 while $self->read_more($seconds);
    return substr $self->{bytes}, 0, length $self->{bytes}, '';
}

# Nothing has arrived: no byte, no end.
sub is_quiet($self)
{
    return $self->{bytes} eq '' && !defined $self->read_now;
}

# Whether the other end closes now, and says nothing before.
sub is_closed($self, $seconds = 10)
{
    return $self->{bytes} eq '' && $self->read_more($seconds) == 0;
}

sub read_line($self, $seconds)
{
    my $end;
    $self->need(length($self->{bytes}) + 1, $seconds)
        while ($end = index $self->{bytes}, "\r\n") < 0;
    my $line = substr $self->{bytes}, 0, $end + 2, '';
    substr $line, -2, 2, '';
    croak "a bare CR or LF in a line: '$line'" if $line =~ /[\r\n]/;
    return $line;
}

sub read_fields($self, $seconds)
{
    my @fields;
    while ((my $line = $self->read_line($seconds)) ne '') {
        my ($name, $value) = $line =~ /^($TOKEN):[ \t]*(.*?)[ \t]*$/ or croak "no field: '$line'";
        croak "control characters in a field: '$line'" if $value =~ /[\x00-\x08\x0a-\x1f\x7f]/;
        push @fields, [$name, $value];
    }
    return \@fields;
}

sub read_chunks($self, $answer, $seconds)
{
    while (1) {
        my $line = $self->read_line($seconds);
        my ($digits) = $line =~ /^([0-9A-Fa-f]{1,15})(?:[ \t]*;.*)?$/ or croak "no chunk: '$line'";
        my $size = hex $digits or last;
        $answer->{body} .= $self->read_bytes($size, $seconds);
        croak 'a chunk that does not end where it says' if $self->read_bytes(2, $seconds) ne "\r\n";
    }
    $answer->{trailers} = $self->read_fields($seconds);
}

sub read_head($self, $seconds)
{
    my $line = $self->read_line($seconds);
    my ($minor, $status, $reason) =
        $line =~ m{^HTTP/1\.([01]) ([1-5]\d\d) ([^\x00-\x08\x0a-\x1f\x7f]*)$}
        or croak "no status line: '$line'";
    return bless {
        minor => $minor,
        status => $status,
        reason => $reason,
        fields => $self->read_fields($seconds),
        body => '',
    }, 'Baton::Http::Answer';
}

# Reads one complete answer (Baton::Http::Answer, below). $method decides about the body: the
# answer to HEAD has none. Interim answers (1xx) are collected in {interim}.
sub read_answer($self, $method = 'GET', $seconds = 10)
{
    my @interim;
    my $answer = $self->read_head($seconds);
    while ($answer->{status} < 200 && $answer->{status} != 101) {
        push @interim, $answer;
        $answer = $self->read_head($seconds);
    }
    $answer->{interim} = \@interim;

    my $length = $answer->content_length;
    my $coding = $answer->field('Transfer-Encoding');
    croak 'both Content-Length and Transfer-Encoding' if defined $length && defined $coding;
    return $answer if $method eq 'HEAD' || $answer->{status} =~ /^(?:101|204|304)$/;
    if (defined $coding) {
        croak "Transfer-Encoding: $coding" if lc $coding ne 'chunked';
        $self->read_chunks($answer, $seconds);
    } elsif (defined $length) {
        $answer->{body} = $self->read_bytes($length, $seconds);
    } else {
        croak 'a body without a length on a connection that stays open' if !$answer->closes;
        $answer->{body} = $self->read_to_end($seconds);
    }
    return $answer;
}

# Sends one request and reads its answer. Fields: name => value, ...; a name may come twice. Adds
# Host unless given; undef as its value leaves it out.
sub request($self, $method, $target, @fields)
{
    my $host;
    my $head = "$method $target HTTP/1.1\r\n";
    while (my ($name, $value) = splice @fields, 0, 2) {
        $host = 1 if lc $name eq 'host';
        $head .= "$name: $value\r\n" if defined $value;
    }
    $head .= "Host: localhost\r\n" unless $host;
    return $self->send("$head\r\n")->read_answer($method);
}

sub get($self, $target, @fields)
{
    return $self->request('GET', $target, @fields);
}

package Baton::Http::Answer;

use v5.36;
use Carp qw(croak);

sub status($self)
{
    return $self->{status};
}

sub body($self)
{
    return $self->{body};
}

# The values of a field, joined as RFC 9110 §5.3 joins them; undef: there is no such field.
sub field($self, $name)
{
    my @values = map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$self->{fields}};
    return @values ? join(', ', @values) : undef;
}

sub content_length($self)
{
    my $length = $self->field('Content-Length') // return undef;
    croak "Content-Length: $length" if $length !~ /^\d{1,18}$/;
    return $length;
}

# Whether the server says that it closes the connection after this answer.
sub closes($self)
{
    my $options = lc($self->field('Connection') // '');
    return 1 if $options =~ /\bclose\b/;
    return $self->{minor} == 0 && $options !~ /\bkeep-alive\b/;
}

1;
