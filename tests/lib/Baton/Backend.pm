package Baton::Backend;

# A backend for tests of the proxy: HTTP/1.1 on the tests' event loop, so it answers while the test
# waits for anything else. It reads requests strictly: what RFC 9112 does not allow dies.
#
#   my $backend = Baton::Backend->new;                # an address nobody else has
#   my $other   = Baton::Backend->new(address => "unix:$folder/web.sock");
#   start(config => "...\n[Upstream shop]\nServer=@{[$backend->address]}\n");
#
# What it answers: by default 200 with "hello\n". From now on, or to the next request alone, or by
# what is asked:
#
#   $backend->answer(status => 404, fields => ['X-Case' => 1], body => 'none');
#   $backend->answer_next(body => 'once', framing => 'chunked');      # any number of them
#   $backend->answer(sub ($request) { return (body => $request->target) });
#
# Later, when the test says so:
#
#   $backend->hold;                                   # requests wait
#   my $request = $backend->wait_request;             # the next one that came
#   is $request->field('Host'), 'shop';
#   $request->answer(body => 'late');
#   $request->send("HTTP/1.1 200 OK\r\n")->send("Content-Length: 1\r\n\r\n");    # piece by piece
#   $request->close; $request->reset; $request->is_abandoned; $request->is_sent;
#   my $tunnel = $request->take;                      # the connection, as Baton::Http
#
# What makes an answer:
#   status, reason, version ('1.1'), fields [NAME => VALUE, ...], body
#   framing   length (default), chunked, close (the body ends with the connection), none
#   chunk     bytes in each chunk; trailers [NAME => VALUE, ...]
#   interim   [STATUS, ...] before it; or [[STATUS, NAME => VALUE, ...], ...]
#   raw       these bytes in place of all that
#   cut       only that many bytes of it, and then the end
#   close     says "Connection: close", and closes
#   end       'close' or 'reset' the connection after it, unannounced
#   hold      1: no answer yet, as hold() does for all
#
# Without a server:
#
#   $backend->stop;                                   # refuses; connections are closed
#   $backend->listen;                                 # again, at the same address
#
# Options of new(): address; early => 1: requests are answered once their head is there, and their
# body grows; raw => 1: no HTTP, for tunnels: wait_connection() returns the next Baton::Http;
# record => 1: keeps all bytes that came.
# A PROXY header (version 1 or 2) before a request is cut off, and is $request->proxy.

use v5.36;
use Baton::Http   ();
use Baton::Loop   qw(watch unwatch wait_for);
use Baton::Server ();
use Carp          qw(croak);
use Errno         qw(EAGAIN ECONNRESET EINTR EPIPE);
use IO::Poll      qw(POLLIN POLLOUT);
use Socket        qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);

my $TOKEN    = qr/[!#\$%&'*+\-.^_`|~0-9A-Za-z]+/;
my $PROXY_V2 = "\r\n\r\n\0\r\nQUIT\n";
my %REASONS  = (
    100 => 'Continue', 101 => 'Switching Protocols', 103 => 'Early Hints', 200 => 'OK', 204 => 'No Content',
    206 => 'Partial Content', 304 => 'Not Modified', 404 => 'Not Found', 500 => 'Internal Server Error',
    502 => 'Bad Gateway', 503 => 'Service Unavailable');

sub new($class, %o)
{
    my $self = bless {
        address => $o{address} // Baton::Test::free_address(),
        early => $o{early},
        raw => $o{raw},
        record => $o{record},
        received => [],
        answer => [],
        next => [],
        requests => [],
        taken => 0,
        accepted => 0,
        connections => {},
        waiting => [],
    }, $class;
    return $self->listen;
}

# In the notation of Server=.
sub address($self)
{
    return $self->{address};
}

# ---- listening ----

sub listen($self)
{
    return $self if $self->{socket};
    $self->remove_file;
    $self->{socket} = Baton::Server::listen_on($self->{address});
    $self->{socket}->blocking(0);
    watch($self->{socket}, sub { $self->accept });
    return $self;
}

sub remove_file($self)
{
    unlink $1 if $self->{address} =~ m{^unix:(/.+)};
}

# Whoever connects is refused. Those in the queue of the socket see a reset.
sub stop_listening($self)
{
    my $socket = delete $self->{socket} // return $self;
    unwatch($socket);
    close $socket;
    $self->remove_file;
    return $self;
}

# As a backend that ends: connections are closed too.
sub stop($self)
{
    $self->stop_listening;
    $self->close_connections;
    return $self;
}

sub close_connections($self)
{
    $_->close for values %{$self->{connections}};
}

sub accept($self)
{
    while (accept my $socket, $self->{socket}) {
        $socket->blocking(0);
        # What is sent is there at once, even if what was sent before is not acknowledged yet.
        setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if $self->{address} !~ /^unix:/;
        $self->{accepted}++;
        if ($self->{raw}) {
            push @{$self->{waiting}}, Baton::Http->new($socket, 'the client of a backend');
        } else {
            Baton::Backend::Connection->new($self, $socket);
        }
    }
}

# ---- what came ----

# All requests so far.
sub requests($self)
{
    return @{$self->{requests}};
}

# How many connections were accepted so far.
sub accepted($self)
{
    return $self->{accepted};
}

# How many are open now.
sub connections($self)
{
    return scalar keys %{$self->{connections}};
}

# With the option record: all that came, one string for each connection, in the order in which these
# were accepted.
sub received($self)
{
    return map {$$_} @{$self->{received}};
}

# The next request that no such call has returned yet. Waits for it.
sub wait_request($self, $seconds = 10)
{
    wait_for("request at $self->{address}",
        sub { @{$self->{requests}} > $self->{taken} }, $seconds);
    return $self->{requests}[$self->{taken}++];
}

# wait_request() returns none of those that have come so far.
sub skip_requests($self)
{
    $self->{taken} = $self->requests;
    return $self;
}

# Waits until so many requests have come since the start, and returns all.
sub wait_requests($self, $count, $seconds = 10)
{
    wait_for("$count requests at $self->{address}",
        sub { @{$self->{requests}} >= $count }, $seconds);
    return $self->requests;
}

# With the option raw: the next connection, Baton::Http.
sub wait_connection($self, $seconds = 10)
{
    wait_for("connection at $self->{address}", sub { @{$self->{waiting}} }, $seconds);
    return shift @{$self->{waiting}};
}

# Waits until so many connections are open.
sub wait_connections($self, $count, $seconds = 10)
{
    wait_for("$count connections at $self->{address}",
        sub { $self->connections == $count }, $seconds);
}

# ---- what it answers ----

sub answer($self, @answer)
{
    $self->{answer} = \@answer;
    return $self;
}

sub answer_next($self, @answer)
{
    push @{$self->{next}}, \@answer;
    return $self;
}

sub hold($self)
{
    return $self->answer(hold => 1);
}

sub arrived($self, $request)
{
    push @{$self->{requests}}, $request;
    my @answer = @{shift @{$self->{next}} // $self->{answer}};
    @answer = $answer[0]->($request) if @answer && ref $answer[0] eq 'CODE';
    my %answer = (body => "hello\n", @answer);
    $request->answer(%answer) unless $answer{hold};
}

package Baton::Backend::Connection;

use v5.36;
use Baton::Loop qw(watch unwatch);
use Carp        qw(croak);
use Errno       qw(EAGAIN EINTR);
use IO::Poll    qw(POLLIN POLLOUT);
use Socket;

sub new($class, $backend, $socket)
{
    my $self = bless {
        backend => $backend,
        socket => $socket,
        in => '',
        out => '',
        reading => 1,
    }, $class;
    $backend->{connections}{$self} = $self;
    push @{$backend->{received}}, $self->{received} = \(my $none = '') if $backend->{record};
    $self->watch_again;
    return $self;
}

sub watch_again($self)
{
    my $socket = $self->{socket} // return;
    my $events = ($self->{reading} ? POLLIN : 0) | (length $self->{out} ? POLLOUT : 0);
    return unwatch($socket) unless $events;
    watch($socket, sub { $self->on_event }, $events);
}

sub on_event($self)
{
    $self->flush if length $self->{out};
    $self->read_now if $self->{socket} && $self->{reading};
}

sub read_now($self)
{
    my $had = length $self->{in};
    my $got = sysread $self->{socket}, $self->{in}, 65536, $had;
    return if !defined $got && ($! == EAGAIN || $! == EINTR);
    return $self->close unless defined $got;
    ${$self->{received}} .= substr $self->{in}, $had if $self->{received};
    return $self->parse if $got;
    $self->{ended} = 1;
    # Half a request will never be a whole one.
    return $self->close if $self->{request} || !($self->{unanswered} || length $self->{out});
    $self->{reading} = 0;
    $self->watch_again;
}

sub send($self, $bytes)
{
    return unless $self->{socket};
    $self->{out} .= $bytes;
    $self->flush;
}

sub flush($self)
{
    while (length $self->{out}) {
        my $sent = CORE::send $self->{socket}, $self->{out}, MSG_NOSIGNAL;
        if (defined $sent) {
            substr $self->{out}, 0, $sent, '';
        } elsif ($! == EAGAIN) {
            last;
        } elsif ($! != EINTR) {
            return $self->close;
        }
    }
    return $self->close($self->{end} eq 'reset') if $self->{end} && !length $self->{out};
    $self->watch_again;
}

# Once all is sent.
sub end_with($self, $end)
{
    $self->{end} = $end;
    $self->flush if $self->{socket};
}

sub close($self, $reset = 0)
{
    my $socket = delete $self->{socket} // return;
    unwatch($socket);
    setsockopt $socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $reset;
    close $socket;
    delete $self->{backend}{connections}{$self};
}

sub take($self)
{
    my $socket = delete $self->{socket} // croak 'the connection is closed';
    unwatch($socket);
    delete $self->{backend}{connections}{$self};
    my $http = Baton::Http->new($socket, 'the client of a backend');
    $http->{bytes} = $self->{in};
    return $http;
}

# ---- reading requests ----

sub parse($self)
{
    while ($self->{socket}) {
        my $request = $self->{request} //= $self->parse_head // return;
        $request->read_body(\$self->{in}) or return;
        delete $self->{request};
        $request->{complete} = 1;
        $self->{backend}->arrived($request) unless $self->{backend}{early};
    }
}

sub cut_proxy_header($self)
{
    return if $self->{started};
    if ($self->{in} =~ s/^(PROXY [^\r\n]*)\r\n//) {
        $self->{proxy} = $1;
    } elsif (substr($self->{in}, 0, 12) eq $PROXY_V2 && length $self->{in} >= 16) {
        my $length = 16 + unpack 'n', substr $self->{in}, 14, 2;
        return if length $self->{in} < $length;
        $self->{proxy} = substr $self->{in}, 0, $length, '';
    }
}

sub parse_head($self)
{
    $self->cut_proxy_header;
    return undef if substr($self->{in}, 0, 12) eq $PROXY_V2;
    my $end = index $self->{in}, "\r\n\r\n";
    return undef if $end < 0;
    $self->{started} = 1;
    my $head    = substr $self->{in}, 0, $end + 4, '';
    my $request = Baton::Backend::Request->new($self, $head);
    $self->{unanswered}++;
    $self->{backend}->arrived($request) if $self->{backend}{early};
    return $request;
}

package Baton::Backend::Request;

use v5.36;
use Baton::Loop qw(wait_for);
use Carp        qw(croak);

sub new($class, $connection, $head)
{
    my ($line, @lines) = split /\r\n/, $head;
    my ($method, $target, $minor) = $line =~ m{^($TOKEN) (\S+) HTTP/1\.([01])$}
        or croak "no request line: '$line'";
    my $self = bless {
        connection => $connection,
        proxy => $connection->{proxy},
        head => $head,
        method => $method,
        target => $target,
        minor => $minor,
        fields => [map { read_field($_) } @lines],
        body => '',
        chunks => [],
        trailers => [],
    }, $class;
    my ($length, $coding) = ($self->field('Content-Length'), $self->field('Transfer-Encoding'));
    croak "both Content-Length and Transfer-Encoding: $head" if defined $length && defined $coding;
    croak "Transfer-Encoding: $coding" if defined $coding && lc $coding ne 'chunked';
    croak "Content-Length: $length"    if defined $length && $length !~ /^\d+$/;
    $self->{chunked} = defined $coding;
    $self->{left}    = $length // 0;
    return $self;
}

sub read_field($line)
{
    my ($name, $value) = $line =~ /^($TOKEN):[ \t]*(.*?)[ \t]*$/ or croak "no field: '$line'";
    croak "control characters in a field: '$line'" if $value =~ /[\x00-\x08\x0a-\x1f\x7f]/;
    return [$name, $value];
}

# True: the body is complete.
sub read_body($self, $in)
{
    return $self->read_chunks($in) if $self->{chunked};
    my $piece = substr $$in, 0, $self->{left}, '';
    $self->{body} .= $piece;
    $self->{left} -= length $piece;
    return $self->{left} == 0;
}

sub read_chunks($self, $in)
{
    while (!$self->{last}) {
        $$in =~ /^([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n/ or return no_chunk($in);
        my ($size, $at) = (hex $1, $+[0]);
        $self->{last} = 1 if $size == 0;
        if ($size == 0) {
            substr $$in, 0, $at, '';
            last;
        }
        return 0 if length $$in < $at + $size + 2;
        push @{$self->{chunks}}, $size;
        $self->{body} .= substr $$in, $at, $size;
        croak 'a chunk that does not end where it says' if substr($$in, $at + $size, 2) ne "\r\n";
        substr $$in, 0, $at + $size + 2, '';
    }
    while ($$in =~ s/^([^\r\n]*)\r\n//) {
        return 1 if $1 eq '';
        push @{$self->{trailers}}, read_field($1);
    }
    return 0;
}

sub no_chunk($in)
{
    croak 'no chunk: ' . substr $$in, 0, 80 if $$in =~ /\r\n/ || length $$in > 4096;
    return 0;
}

# ---- what it says ----

sub method($self)
{
    return $self->{method};
}

sub target($self)
{
    return $self->{target};
}

# All of the head, as it came.
sub head($self)
{
    return $self->{head};
}

# What has come of the body.
sub body($self)
{
    return $self->{body};
}

sub is_complete($self)
{
    return $self->{complete};
}

# With the option early: waits for the end of the body, and returns it.
sub wait_body($self, $seconds = 10)
{
    wait_for('end of a body', sub { $self->{complete} }, $seconds);
    return $self->{body};
}

# [[NAME, VALUE], ...]
sub fields($self)
{
    return $self->{fields};
}

sub trailers($self)
{
    return $self->{trailers};
}

# The values of a field, joined as RFC 9110 §5.3 joins them; undef: there is no such field.
sub field($self, $name)
{
    my @values = map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$self->{fields}};
    return @values ? join(', ', @values) : undef;
}

# The PROXY header that its connection began with: a line, or all bytes of one of version 2.
sub proxy($self)
{
    return $self->{proxy};
}

# The same for all requests of one connection.
sub connection($self)
{
    return $self->{connection};
}

# ---- answering it ----

sub fields_text(@fields)
{
    my $text = '';
    while (my ($name, $value) = splice @fields, 0, 2) {
        $text .= "$name: $value\r\n";
    }
    return $text;
}

sub interim_text($interim)
{
    my ($status, @fields) = ref $interim ? @$interim : $interim;
    return "HTTP/1.1 $status @{[$REASONS{$status} // 'Interim']}\r\n" . fields_text(@fields) . "\r\n";
}

sub chunks_text($answer)
{
    my $body = $answer->{body};
    my $size = $answer->{chunk} // (length $body || 1);
    my $text = '';
    while (length(my $piece = substr $body, 0, $size, '')) {
        $text .= sprintf "%x\r\n%s\r\n", length $piece, $piece;
    }
    return "${text}0\r\n" . fields_text(@{$answer->{trailers} // []}) . "\r\n";
}

sub compose($self, $answer)
{
    my $status  = $answer->{status}  // 200;
    my $framing = $answer->{framing} // 'length';
    my $version = $answer->{version} // '1.1';
    my $reason  = $answer->{reason}  // $REASONS{$status} // 'Some';
    my $bare    = $status < 200 || $status == 204 || $status == 304;
    my $text    = join '', map { interim_text($_) } @{$answer->{interim} // []};
    $text .= "HTTP/$version $status $reason\r\n" . fields_text(@{$answer->{fields} // []});
    $text .= 'Content-Length: ' . length($answer->{body}) . "\r\n" if $framing eq 'length' && !$bare;
    $text .= "Transfer-Encoding: chunked\r\n"                      if $framing eq 'chunked' && !$bare;
    $text .= "Connection: close\r\n"                               if $answer->{close};
    $text .= "\r\n";
    return $text if $bare || $self->{method} eq 'HEAD';
    return $text . ($framing eq 'chunked' ? chunks_text($answer) : $answer->{body});
}

sub answer($self, %answer)
{
    $answer{body} //= '';
    my $text = $answer{raw} // $self->compose(\%answer);
    $text = substr $text, 0, $answer{cut} if defined $answer{cut};
    $answer{end} //= 'close'
        if defined $answer{cut} || $answer{close} || ($answer{framing} // '') eq 'close' || $self->wants_close;
    $self->done;
    $self->{connection}->send($text);
    $self->{connection}->end_with($answer{end}) if $answer{end};
    return $self;
}

sub wants_close($self)
{
    my $options = lc($self->field('Connection') // '');
    return $options =~ /\bclose\b/ || ($self->{minor} == 0 && $options !~ /\bkeep-alive\b/);
}

sub done($self)
{
    $self->{connection}{unanswered}-- unless $self->{answered}++;
}

# Whether any of an answer was sent.
sub is_answered($self)
{
    return $self->{answered};
}

# Bytes of an answer; the connection stays open.
sub send($self, $bytes)
{
    $self->done;
    $self->{connection}->send($bytes);
    return $self;
}

# Closes once what was sent is sent.
sub close($self)
{
    $self->{connection}->end_with('close');
}

sub reset($self)
{
    $self->{connection}->close(1);
}

# Nothing more is read until start_reading(): its client meets a full socket.
sub stop_reading($self)
{
    $self->{connection}{reading} = 0;
    $self->{connection}->watch_again;
}

sub start_reading($self)
{
    $self->{connection}{reading} = 1;
    $self->{connection}->watch_again;
}

# Whether the other side has closed the connection.
sub is_abandoned($self)
{
    return !$self->{connection}{socket} || $self->{connection}{ended};
}

sub wait_abandoned($self, $seconds = 10)
{
    wait_for('end of a connection to a backend', sub { $self->is_abandoned }, $seconds);
}

# Whether all that was sent has left.
sub is_sent($self)
{
    return !length $self->{connection}{out};
}

# The connection becomes the test's: for a tunnel, after the answer 101.
sub take($self)
{
    return $self->{connection}->take;
}

1;
