package Baton::Rogue;

# Tests of the load client: a server that does what a test tells it, right or wrong, in the test's
# own process; and the load client run against it.
#
#   my $server = serve(request => sub ($c, $head) { put($c, answer('hello')); shut($c) });
#   my @got    = load($server, '--requests', 5, '--group', 'keepalive:1');
#   counts \@got, 1, { closed_early => 2 }, { requests => 5 }, 'closed, unannounced';
#   end($server);

use v5.36;
use Baton::Loop    qw(watch unwatch);
use Baton::Process ();
use Baton::Test;
use Exporter   qw(import);
use JSON::PP   ();
use List::Util qw(sum);
use Socket     qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);

our @EXPORT = qw(
    $HELLO $OK $CHUNKED answer serve accept_now put put_slowly shut reset_connection end
    shake_hands frame take_frame
    begin load outcome report_now counts fnv
);

# unix(7): bytes that the other side has not read yet.
use constant SIOCOUTQ => 0x5411;

$SIG{PIPE} = 'IGNORE';

sub answer($content, @fields)
{
    my $length = 'Content-Length: ' . length $content;
    return join "\r\n", 'HTTP/1.1 200 OK', $length, @fields, '', $content;
}

our $HELLO   = answer('hello');
our $OK      = "HTTP/1.1 200 OK\r\n";
our $CHUNKED = "${OK}Transfer-Encoding: chunked\r\n\r\n";

# A server, driven by the waits of this test. Options:
#   request  called with the connection and the head of each request; default: answers "hello"
#   piece    called with the connection for whatever has arrived, instead
#   unix     its address, instead of a port
#   backlog  of listen(2)
#   held     accepts nobody until accept_now()
sub serve(%o)
{
    my $server = { connections => [], request => sub ($c, $head) { put($c, $HELLO) }, %o };
    socket my $socket, $o{unix} ? AF_UNIX : AF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
    bind $socket, $o{unix} ? pack_sockaddr_un($o{unix}) : pack_sockaddr_in(0, INADDR_LOOPBACK)
        or die "bind: $!\n";
    listen $socket, $o{backlog} // SOMAXCONN or die "listen: $!\n";
    $server->{socket} = $socket;
    $server->{target} =
        $o{unix} ? ['--unix', $o{unix}] : ['http://127.0.0.1:' . port($socket) . '/'];
    accept_now($server) unless $o{held};
    return $server;
}

sub port($socket)
{
    return (unpack_sockaddr_in getsockname $socket)[0];
}

sub accept_now($server)
{
    watch(
        $server->{socket},
        sub {
            accept my $socket, $server->{socket} or die "accept: $!\n";
            setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 unless $server->{unix};
            my $c = { server => $server, socket => $socket, in => '', requests => 0 };
            $c->{number} = push @{$server->{connections}}, $c;
            watch($socket, sub { arrive($c) });
        });
}

sub arrive($c)
{
    if (!sysread $c->{socket}, $c->{in}, 65536, length $c->{in}) {
        return shut($c);
    }
    my $piece = $c->{piece} // $c->{server}{piece};
    return $piece->($c) if $piece;
    while ($c->{socket} && $c->{in} =~ s/\A(.*?\r\n\r\n)//s) {
        $c->{requests}++;
        $c->{server}{request}->($c, $1);
    }
}

sub put($c, $bytes)
{
    while (length $bytes) {
        my $n = syswrite $c->{socket}, $bytes or return;
        substr $bytes, 0, $n, '';
    }
}

# Byte by byte, each once the other side has read the one before: SIOCOUTQ of unix(7).
sub put_slowly($c, $bytes)
{
    for my $byte (split //, $bytes) {
        put($c, $byte);
        my $unread = pack 'i', 1;
        while (unpack 'i', $unread) {
            ioctl $c->{socket}, SIOCOUTQ, $unread or die "SIOCOUTQ: $!\n";
        }
    }
}

sub shut($c)
{
    my $socket = delete $c->{socket} or return;
    unwatch($socket);
    close $socket;
}

# Closing with SO_LINGER of no seconds resets the connection: tcp(7).
sub reset_connection($c)
{
    setsockopt $c->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    shut($c);
}

# RFC 6455 §1.3, what the load client begins with, and then each of its frames to
# $taken->($c, $opcode, $payload, $final).
sub shake_hands($c, $head, $taken)
{
    die "no handshake: $head" if $head !~ m{^Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r$}mi;
    put($c, join "\r\n", 'HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket',
        'Connection: Upgrade', 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=', '', '');
    $c->{piece} = sub ($c) {
        while ($c->{socket} && (my @frame = take_frame($c))) {
            $taken->($c, @frame);
        }
    };
}

# A frame as a server sends it, unmasked (RFC 6455 §5.2).
sub frame($opcode, $payload, $final = 1)
{
    my $length = length $payload;
    my $first  = pack 'C', ($final ? 0x80 : 0) | $opcode;
    return $first . pack('C', $length) . $payload if $length < 126;
    return $first . pack('Cn',  126, $length) . $payload if $length < 65536;
    return $first . pack('CQ>', 127, $length) . $payload;
}

# Cuts the next frame of a client off: its opcode, its payload, and whether it is the last of its
# message; nothing while it is not whole.
sub take_frame($c)
{
    my ($first, $second) = unpack 'CC', $c->{in};
    return if !defined $second;
    die 'a frame that is not masked' if !($second & 0x80);
    my ($at, $length) = (2, $second & 0x7f);
    my $extended = $length == 127 ? 8 : $length == 126 ? 2 : 0;
    return if length $c->{in} < 6 + $extended;
    $length = unpack $extended == 8 ? 'Q>' : 'n', substr $c->{in}, 2, $extended if $extended;
    return if length $c->{in} < 6 + $extended + $length;
    my $mask    = substr $c->{in}, 2 + $extended, 4;
    my $payload = substr $c->{in}, 6 + $extended, $length;
    substr $c->{in}, 0, 6 + $extended + $length, '';
    $payload ^.= substr $mask x (1 + $length / 4), 0, $length;
    return ($first & 0x0f, $payload, $first >> 7);
}

sub end($server)
{
    shut($_) for @{$server->{connections}};
    unwatch($server->{socket});
    close $server->{socket};
}

sub begin($server, @arguments)
{
    return Baton::Process->start(
        command => [load_client(), '--until-stdin-closes', @arguments, @{$server->{target}}],
        input   => 'pipe');
}

# Its exit code and its report.
sub outcome($load)
{
    my $status = $load->wait_exit(30);
    my ($line) = $load->out =~ /^(\{.*\})$/m or die 'no report: ' . $load->out . $load->err;
    my $report = JSON::PP::decode_json($line);
    adds_up($report);
    return ($status, $report);
}

sub load($server, @arguments)
{
    return outcome(
        Baton::Process->run(
            command => [load_client(), @arguments, @{$server->{target}}], seconds => 30));
}

# What must hold in every report.
sub adds_up($report)
{
    my @groups = @{$report->{groups}};
    my @wrong;
    for my $r ($report, @groups) {
        push @wrong, 'requests' if $r->{requests} != sum @$r{qw(responses unanswered unprocessed)};
        push @wrong, 'failed'   if $r->{failed} != sum values %{$r->{failures}};
        push @wrong, 'status'   if $r->{responses} != sum $r->{echoes}, values %{$r->{status}};
        push @wrong, 'closed'   if $r->{closed} != $r->{closed_idle};
    }
    my @counters = grep { !/^(group|kind|requests_per_second)$/ } keys %{$groups[0]};
    for my $counter (grep { !ref $groups[0]{$_} } @counters) {
        push @wrong, $counter if $report->{$counter} != sum map { $_->{$counter} } @groups;
    }
    is "@wrong", '', 'the report adds up' if @wrong;
}

# The exit code, the failures (those left out: 0), and whichever other counters are given.
sub counts($got, $exit, $failures, $counters, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, $report) = @$got;
    my %failures = map { $report->{failures}{$_} ? ($_ => $report->{failures}{$_}) : () }
        keys %{$report->{failures}};
    is_deeply [$status, \%failures, { map { $_ => $report->{$_} } keys %$counters }],
        [$exit, $failures, $counters], $name
        or diag explain $report->{first_failures}, $report->{status};
}

# The report that SIGUSR1 asks for.
sub report_now($load)
{
    $load->signal('USR1');
    return JSON::PP::decode_json($load->wait_err(qr/^\{.*\}\n/m));
}

# FNV-1a, 64 bits.
sub fnv($text)
{
    use integer;
    no warnings 'portable';
    my $hash = 0xcbf29ce484222325;
    $hash = ($hash ^ ord $_) * 0x100000001b3 for split //, $text;
    return sprintf '%016x', $hash;
}

1;
