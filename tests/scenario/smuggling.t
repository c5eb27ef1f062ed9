# Request smuggling and response splitting through the proxy (RFC 9112 §11): nothing that two
# parsers could read differently reaches a backend, and no client is answered with what was meant for
# another. What a backend gets is compared byte for byte.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Loop    qw(turn);
use Baton::Proc    qw(state_of);
use Baton::Test;

my $backend = Baton::Backend->new(record => 1);
my $server  = start(
    sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
    config => <<~END);
        [Server]
        Workers=1
        MaxBodySize=64K
        [Listen http]
        [Listen admin]
        Admin=yes
        [Route all]
        Upstream=shop
        [Upstream shop]
        Server=@{[$backend->address]}
        MaxFails=0
        END
my $barrier = $server->connect('admin');

# What was sent before this is called has gone through the only worker, to a backend that was dialled
# for it, and back, when this returns: each of these steps takes one turn of either loop.
sub settle
{
    for (1 .. 8) {
        $barrier->get('/livez');
        turn();
    }
}

# Each answer says which request it is to.
sub by_target($request)
{
    return (fields => ['X-Target' => $request->target], body => $request->method . ' ' . $request->target . ' ' . $request->body);
}
$backend->answer(\&by_target);

my $HOST   = "Host: shop.example\r\n";
my $HIDDEN = "GET /hidden HTTP/1.1\r\n$HOST\r\n";

# What the gateway adds to each.
my $ADDED = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.example\r\nVia: 1.1 baton\r\n";

my @seen;

# What the backend has received since this was called the last time, on all of its connections: each
# piece is of one connection, and begins where the former left off.
sub arrived
{
    settle();
    my @all = $backend->received;
    my @new = grep { $_ ne '' } map { substr $all[$_], length($seen[$_] // '') } 0 .. $#all;
    @seen = @all;
    return @new;
}

# A strict reader: the requests in the bytes, as [method, target, body]; the last element is the rest
# that is no whole request, if there is any. Whatever is not as we make it dies.
sub requests_of($bytes)
{
    my @requests;
    my $token = qr/[!#\$%&'*+\-.^_`|~0-9A-Za-z]+/;
    while ($bytes =~ /\G($token) (\S+) HTTP\/1\.1\r\n((?:$token: (?:[^\x00-\x1f\x7f]|\t)*\r\n)*)\r\n/gc) {
        my ($method, $target, $fields) = ($1, $2, $3);
        my $at      = pos $bytes;
        my @lengths = $fields =~ /^Content-Length: (.*?)\r$/img;
        my @codings = $fields =~ /^Transfer-Encoding: (.*?)\r$/img;
        my @hosts   = $fields =~ /^Host: (.*?)\r$/img;
        die "framing of '$fields'" if @lengths + @codings > 1 || @hosts != 1;
        my $body = '';
        if (@lengths) {
            die "a length of '@lengths'" if $lengths[0] !~ /^\d+$/;
            return @requests, 'part of a body' if length($bytes) - $at < $lengths[0];
            $body = substr $bytes, $at, $lengths[0];
            pos($bytes) = $at + $lengths[0];
        } elsif (@codings) {
            die "a coding of '@codings'" if $codings[0] ne 'chunked';
            my $size;
            while ($bytes =~ /\G([1-9a-f][0-9a-f]*)\r\n/gc) {
                $size = hex $1;
                my $from = pos $bytes;
                return @requests, 'part of a chunk' if length($bytes) - $from < $size + 2;
                $body .= substr $bytes, $from, $size;
                die 'a chunk that does not end' if substr($bytes, $from + $size, 2) ne "\r\n";
                pos($bytes) = $from + $size + 2;
            }
            return @requests, 'part of a chunked body' if $bytes !~ /\G0\r\n(?:$token: [^\x00-\x1f\x7f]*\r\n)*\r\n/gc;
        }
        push @requests, [$method, $target, $body];
    }
    return (pos($bytes) // 0) == length $bytes ? @requests : (@requests, 'a rest: ' . substr $bytes, pos($bytes) // 0);
}

# Sends the bytes; all that the client gets, until the server closes or, where that is not what it
# does, the answer to a last request.
sub answers_to($bytes)
{
    my $connection = $server->connect->send($bytes);
    $connection->finish if $bytes eq '';
    my @answers;
    while (1) {
        my ($method) = @answers ? 'GET' : $bytes =~ /^\s*(HEAD) /;
        my $answer = eval { $connection->read_answer($method // 'GET', 1) } // last;
        push @answers, $answer;
        last if $answer->closes;
        settle();
        last if $connection->is_quiet;
    }
    return @answers;
}

# What is refused, and never seen by a backend ---------------------------------------------------

my $GET = "GET /first HTTP/1.1\r\n";
my $POST = "POST /first HTTP/1.1\r\n";
my $length = length "0\r\n\r\n$HIDDEN";

# Each is followed by an empty line, "0\r\n\r\n", and a request that one of two readers would find.
my %fields = (
    'CL.TE' => "Content-Length: $length\r\nTransfer-Encoding: chunked",
    'TE.CL' => "Transfer-Encoding: chunked\r\nContent-Length: 5",
    'CL.TE with an unknown coding' => "Content-Length: $length\r\nTransfer-Encoding: xchunked",
    'CL.TE, nothing' => "Content-Length: 0\r\nTransfer-Encoding: chunked",
    'two lengths' => "Content-Length: 5\r\nContent-Length: $length",
    'two lengths, spelled otherwise' => "Content-Length: 5\r\nCONTENT-LENGTH: $length",
    'the same length twice' => "Content-Length: 5\r\nContent-Length: 5",
    'a list of lengths' => 'Content-Length: 5, 5',
    'a list of differing lengths' => "Content-Length: 5, $length",
    'a list with an empty element' => 'Content-Length: 5,',
    'a signed length' => 'Content-Length: +5',
    'a negative length' => 'Content-Length: -5',
    'minus nothing' => 'Content-Length: -0',
    'a length in hexadecimal' => 'Content-Length: 0x5',
    'a length with a fraction' => 'Content-Length: 5.0',
    'a length with an exponent' => 'Content-Length: 5e0',
    'a length with a space within' => 'Content-Length: 5 5',
    'a length in quotes' => 'Content-Length: "5"',
    'an empty length' => 'Content-Length:',
    'a length of more than 64 bits' => 'Content-Length: 18446744073709551621',
    'a length of many digits' => 'Content-Length: 1' . '0' x 100,
    'a length with a space before the colon' => 'Content-Length : 5',
    'a length with a tab before the colon' => "Content-Length\t: 5",
    'a folded length' => "Content-Length:\r\n 5",
    'a length behind VT' => "Content-Length: \x0b5",
    'a length behind NEL' => "Content-Length: \x855",
    'a length behind NBSP' => "Content-Length: \xa05",
    'an unknown coding' => 'Transfer-Encoding: xchunked',
    'a coding with a suffix' => 'Transfer-Encoding: chunkedx',
    'identity' => 'Transfer-Encoding: identity',
    'identity, chunked' => 'Transfer-Encoding: identity, chunked',
    'gzip, chunked' => 'Transfer-Encoding: gzip, chunked',
    'gzip, chunked in two fields' => "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    'chunked, but not last' => 'Transfer-Encoding: chunked, identity',
    'chunked, not last, in two fields' => "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    'chunked twice' => 'Transfer-Encoding: chunked, chunked',
    'chunked in two fields' => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    'chunked with a parameter' => 'Transfer-Encoding: chunked;q=1',
    'chunked with an empty parameter' => 'Transfer-Encoding: chunked;',
    'chunked with an empty element' => 'Transfer-Encoding: chunked,',
    'chunked behind an empty element' => 'Transfer-Encoding: ,chunked',
    'a quoted coding' => 'Transfer-Encoding: "chunked"',
    "a coding in single quotes" => "Transfer-Encoding: 'chunked'",
    'a coding behind VT' => "Transfer-Encoding: \x0bchunked",
    'a coding behind FF' => "Transfer-Encoding: \x0cchunked",
    'a coding before NUL' => "Transfer-Encoding: chunked\0",
    'a coding before VT' => "Transfer-Encoding: chunked\x0b",
    'a coding with a long s' => "Transfer-Encoding: chun\xe2\x84\xaaed",
    'an empty coding' => 'Transfer-Encoding:',
    'a folded coding' => "Transfer-Encoding:\r\n chunked",
    'a coding folded with a tab' => "Transfer-Encoding:\r\n\tchunked",
    'a coding folded behind' => "Transfer-Encoding: chunked\r\n , identity",
    'a coding with a space before the colon' => 'Transfer-Encoding : chunked',
    'a coding with a tab before the colon' => "Transfer-Encoding\t: chunked",
    'a coding with VT before the colon' => "Transfer-Encoding\x0b: chunked",
    'a coding without a colon' => 'Transfer-Encoding chunked',
    'a name with NUL' => "Transfer-Encoding\0: chunked",
    'a name behind a space' => ' Transfer-Encoding: chunked',
    'a name behind a tab' => "\tTransfer-Encoding: chunked",
    'a name behind NUL' => "\0Transfer-Encoding: chunked",
    'a name with high bytes' => "Transfer\xadEncoding: chunked",
    'a name with a parenthesis' => 'Transfer-Encoding(): chunked',
    'a coding behind a bare CR' => "X: y\rTransfer-Encoding: chunked",
    'a coding behind a bare LF' => "X: y\nTransfer-Encoding: chunked",
    'a coding behind CR CR LF' => "X: y\r\r\nTransfer-Encoding: chunked",
    'a coding behind NUL' => "X: y\0\r\nTransfer-Encoding: chunked",
    'an end of two LF' => "X: y\n\nTransfer-Encoding: chunked",
    'an end of LF CR LF' => "X: y\n\r\nTransfer-Encoding: chunked",
    'two Hosts' => 'Host: other.example',
    'the same Host twice' => 'Host: shop.example',
    'another Host, spelled otherwise' => 'HOST: other.example',
);

# Whether the backend has got nothing of a request.
sub got_nothing
{
    my @new = arrived();
    return !@new || do { diag explain \@new; 0 };
}

subtest 'heads' => sub {
    for my $name (sort keys %fields) {
        for my $start ($GET, $POST) {
            my @answers = answers_to("$start$HOST$fields{$name}\r\n\r\n0\r\n\r\n$HIDDEN");
            is scalar(@answers), 1, "$name: one answer";
            like $answers[0] && $answers[0]->status, qr/^(?:400|501|413)$/, '... a refusal';
            ok $answers[0] && $answers[0]->closes, '... and the last';
            ok got_nothing(), '... and nothing reaches a backend';
        }
    }
    my %heads = (
        'chunked in HTTP/1.0' => "POST / HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n$HIDDEN",
        'no Host' => "GET / HTTP/1.1\r\n\r\n$HIDDEN",
        'a Host with a path' => "GET / HTTP/1.1\r\nHost: shop.example/x\r\n\r\n$HIDDEN",
        'a Host with a user' => "GET / HTTP/1.1\r\nHost: a\@shop.example\r\n\r\n$HIDDEN",
        'a Host of two' => "GET / HTTP/1.1\r\nHost: shop.example, other.example\r\n\r\n$HIDDEN",
        'a Host with a tab' => "GET / HTTP/1.1\r\nHost: shop.example\tother.example\r\n\r\n$HIDDEN",
        'a target with a space' => "GET /a b HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a target with a tab' => "GET /a\tb HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a target with CR' => "GET /a\rb HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a target with LF' => "GET /a\nb HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a target with NUL' => "GET /a\0b HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a target with high bytes' => "GET /\xc3\xa4 HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a target without a slash' => "GET a HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'an at sign in front' => "GET \@other.example/ HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'another scheme' => "GET file:///etc/passwd HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a user in an absolute form' => "GET http://u\@shop.example/ HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a backslash in an authority' => "GET http://shop.example\\x/ HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a fragment' => "GET /#/ HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a version without a dot' => "GET / HTTP/11\r\n$HOST\r\n$HIDDEN",
        'a version of two digits' => "GET / HTTP/1.10\r\n$HOST\r\n$HIDDEN",
        'a version in lower case' => "GET / http/1.1\r\n$HOST\r\n$HIDDEN",
        'HTTP/0.9' => "GET /\r\n$HIDDEN",
        'two spaces' => "GET  / HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a space at the end of the line' => "GET / HTTP/1.1 \r\n$HOST\r\n$HIDDEN",
        'VT for a space' => "GET\x0b/ HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'LF for all line ends' => "GET / HTTP/1.1\nHost: shop.example\n\n$HIDDEN",
        'CR for all line ends' => "GET / HTTP/1.1\rHost: shop.example\r\r$HIDDEN",
        'h2c prior knowledge' => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n$HIDDEN",
        'CONNECT' => "CONNECT shop.example:80 HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'CONNECT with a body' => "CONNECT shop.example:80 HTTP/1.1\r\n${HOST}Content-Length: @{[length $HIDDEN]}\r\n\r\n$HIDDEN",
        'an unknown method' => "GETX / HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a CRLF in front, twice' => "\r\n\r\nGET / HTTP/1.1\r\n$HOST\r\n$HIDDEN",
        'a folded line' => "GET / HTTP/1.1\r\n${HOST}X: y\r\n z\r\n\r\n$HIDDEN",
        'an endless head' => "GET / HTTP/1.1\r\n${HOST}X: " . 'x' x 70_000 . "\r\n\r\n$HIDDEN",
        'more fields than are allowed' => "GET / HTTP/1.1\r\n${HOST}" . "X: y\r\n" x 101 . "\r\n$HIDDEN",
        'a body that is too large' => "POST / HTTP/1.1\r\n${HOST}Content-Length: 65537\r\n\r\n$HIDDEN",
    );
    for my $name (sort keys %heads) {
        my @answers = answers_to($heads{$name});
        my $status = $answers[0] && $answers[0]->status;
        like $status, qr/^(?:400|405|413|414|431|501|505)$/, "$name: a refusal";
        my @new = arrived();
        if ($name =~ /^CONNECT/) { # refused as a request like others: what follows is one of its own
            ok @answers == 1 || @new == 1 && $answers[1]->field('X-Target') eq '/hidden', '... and no tunnel';
        } else {
            is scalar(@answers), 1, '... and nothing more';
            is_deeply \@new, [], '... and nothing reaches a backend';
        }
    }
};

# Each is malformed in the body: the head has gone on by then, but never the end of the body.
my %bodies = (
    'a size that overflows' => "10000000000000005\r\nhello\r\n0\r\n\r\n",
    'a size of many zeros' => '0' x 17 . "5\r\nhello\r\n0\r\n\r\n",
    'no size' => "\r\nhello\r\n0\r\n\r\n",
    'a signed size' => "+5\r\nhello\r\n0\r\n\r\n",
    'a size with 0x' => "0x5\r\nhello\r\n0\r\n\r\n",
    'a negative size' => "-1\r\nhello\r\n0\r\n\r\n",
    'a size with _' => "0_5\r\nhello\r\n0\r\n\r\n",
    'a size that is none' => "g\r\nhello\r\n0\r\n\r\n",
    'a space before the size' => " 5\r\nhello\r\n0\r\n\r\n",
    'a size with a space within' => "5 5\r\nhello\r\n0\r\n\r\n",
    'LF behind the size' => "5\nhello\r\n0\r\n\r\n",
    'CR behind the size' => "5\rhello\r\n0\r\n\r\n",
    'CR CR LF behind the size' => "5\r\r\nhello\r\n0\r\n\r\n",
    'VT behind the size' => "5\x0b\r\nhello\r\n0\r\n\r\n",
    'NUL behind the size' => "5\0\r\nhello\r\n0\r\n\r\n",
    'LF in an extension' => "5;x\nhello\r\n0\r\n\r\n",
    'CR in an extension' => "5;x\r5\r\nhello\r\n0\r\n\r\n",
    'LF in a quoted extension' => "5;x=\"\n\"\r\nhello\r\n0\r\n\r\n",
    'NUL in an extension' => "5;x=\0\r\nhello\r\n0\r\n\r\n",
    'a chunk longer than its size' => "5\r\nhello!\r\n0\r\n\r\n",
    'a chunk shorter than its size' => "6\r\nhello\r\n0\r\n\r\n",
    'LF behind a chunk' => "5\r\nhello\n0\r\n\r\n",
    'nothing behind a chunk' => "5\r\nhello0\r\n\r\n",
    'LF behind the last chunk' => "5\r\nhello\r\n0\n\r\n",
    'LF at the end' => "5\r\nhello\r\n0\r\n\n",
    'CR at the end' => "5\r\nhello\r\n0\r\n\r\r\n",
    'a trailer that is folded' => "0\r\nX: y\r\n z\r\n\r\n",
    'a folded trailer in front' => "0\r\n X: y\r\n\r\n",
    'a trailer without a colon' => "0\r\nX\r\n\r\n",
    'a trailer with a space before the colon' => "0\r\nX : y\r\n\r\n",
    'a trailer with NUL' => "0\r\nX: \0\r\n\r\n",
    'a trailer with a bare CR' => "0\r\nX: a\rb\r\n\r\n",
    'a trailer with LF' => "0\r\nX: a\nb: c\r\n\r\n",
    'extensions without end' => '5;' . 'x' x 60_000 . "\r\nhello\r\n0\r\n\r\n",
    'many extensions' => "1;x=y\r\na\r\n" x 20_000 . "0\r\n\r\n",
    'trailers without end' => "0\r\n" . "X: y\r\n" x 20_000 . "\r\n",
    'more than is allowed' => "10001\r\n" . 'x' x 65_537 . "\r\n",
);

subtest 'bodies' => sub {
    for my $name (sort keys %bodies) {
        for my $apart (0, 1) {
            my $connection = $server->connect->send("$POST${HOST}Transfer-Encoding: chunked\r\n\r\n");
            settle() if $apart;
            $connection->send("3\r\nabc\r\n") if $apart;
            settle() if $apart;
            eval { $connection->send($bodies{$name} . $HIDDEN) };
            my $answer = eval { $connection->read_answer };
            like $answer && $answer->status, qr/^(?:400|413)$/, "$name: a refusal";
            is eval { $connection->read_to_end }, '', '... and the end';
            for (arrived()) {
                my @requests = requests_of($_);
                is scalar(@requests), 1, '... and no whole request reaches a backend';
                like $requests[0], qr/^part of a/, '... only a part of one' or diag explain \@requests;
                unlike $_, qr/hidden/, '... without what is hidden';
            }
        }
    }
    wait_for('end of their connections', sub { !grep { $_->{request} } values %{$backend->{connections}} });
    pass 'whose connections are closed';
};

# What is unusual, and made plain ----------------------------------------------------------------

my $CHUNKED = "${POST}${HOST}Transfer-Encoding: chunked\r\n\r\n";
my $plain = sub ($head, $body, $more = '') {
    return "$head$HOST${more}${ADDED}Transfer-Encoding: chunked\r\n\r\n" . ($body eq '' ? '' : sprintf "%x\r\n%s\r\n", length $body, $body) . "0\r\n";
};

# What is sent, and what the backend gets of it; bodies as they come in one piece.
my %unusual = (
    'an empty line in front' => ["\r\n$GET$HOST\r\n", "$GET$HOST$ADDED\r\n"],
    'tabs and spaces around a value' => ["${GET}Host:\t shop.example \t\r\nX:\ty \r\n\r\n", "${GET}${HOST}X: y\r\n$ADDED\r\n"],
    'no space behind the colon' => ["${GET}Host:shop.example\r\n\r\n", "$GET$HOST$ADDED\r\n"],
    'a later minor version' => ["GET /first HTTP/1.9\r\n$HOST\r\n", "$GET$HOST$ADDED\r\n"],
    'absolute form and another Host' => ["GET http://shop.example/first HTTP/1.1\r\nHost: other.example\r\n\r\n", "$GET$HOST$ADDED\r\n"],
    'absolute form and an empty Host' => ["GET http://shop.example/first HTTP/1.1\r\nHost:\r\n\r\n", "$GET$HOST$ADDED\r\n"],
    'absolute form of https' => ["GET https://shop.example/first HTTP/1.1\r\n$HOST\r\n", "$GET$HOST$ADDED\r\n"],
    'absolute form with a query alone' => ["GET http://shop.example?first HTTP/1.1\r\n$HOST\r\n", "GET /?first HTTP/1.1\r\n$HOST$ADDED\r\n"],
    'a length with leading zeros' => ["$POST${HOST}Content-Length: 0005\r\n\r\nhello", "$POST$HOST${ADDED}Content-Length: 5\r\n\r\nhello"],
    'a length of a GET' => ["$GET${HOST}Content-Length: 5\r\n\r\nhello", "$GET$HOST${ADDED}Content-Length: 5\r\n\r\nhello"],
    'a length that Connection names' => ["$POST${HOST}Connection: content-length\r\nContent-Length: 5\r\n\r\nhello", "$POST$HOST${ADDED}Content-Length: 5\r\n\r\nhello"],
    'a coding that Connection names' => ["$POST${HOST}Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", $plain->($POST, 'hello') . "\r\n"],
    'a Host that Connection names' => ["$GET${HOST}Connection: host, x-forwarded-for\r\n\r\n", "$GET$HOST$ADDED\r\n"],
    'a coding in capitals' => ["$POST${HOST}TRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", $plain->($POST, 'hello') . "\r\n"],
    'a coding behind a tab' => ["$POST${HOST}Transfer-Encoding:\tchunked\t \r\n\r\n5\r\nhello\r\n0\r\n\r\n", $plain->($POST, 'hello') . "\r\n"],
    'underscores' => ["$GET${HOST}Content_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Forwarded_For: 6.6.6.6\r\nX_Other: 1\r\n\r\n", "$GET${HOST}X_Other: 1\r\n$ADDED\r\n"],
    'dots and other signs' => ["$GET${HOST}Content.Length: 5\r\nTransfer~Encoding: chunked\r\nX-Forwarded+Host: evil\r\nHost_: a\r\n\r\n", "$GET${HOST}Host_: a\r\n$ADDED\r\n"],
    'h2c' => ["$GET${HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", "$GET$HOST$ADDED\r\n"],
    'H2C in a list' => ["$GET${HOST}Connection: Upgrade\r\nUpgrade: H2C, websocket\r\n\r\n", "$GET$HOST${ADDED}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"],
    'CR LF in percent-encoding' => ["GET /a%0d%0aX:%20y HTTP/1.1\r\n$HOST\r\n", "GET /a%0d%0aX:%20y HTTP/1.1\r\n$HOST$ADDED\r\n"],
    'a size with leading zeros' => ["${CHUNKED}000000000005\r\nhello\r\n000\r\n\r\n", $plain->($POST, 'hello') . "\r\n"],
    'a size in capitals' => ["${CHUNKED}A\r\nhellohello\r\n0\r\n\r\n", $plain->($POST, 'hellohello') . "\r\n"],
    'spaces behind the size' => ["${CHUNKED}5 \t\r\nhello\r\n0  \r\n\r\n", $plain->($POST, 'hello') . "\r\n"],
    'extensions' => ["${CHUNKED}5;a=b;c=\"d\r\"\r\nhello\r\n0;x\r\n\r\n" =~ s/\r"/"/r, $plain->($POST, 'hello') . "\r\n"],
    'an extension that looks like a chunk' => ["${CHUNKED}5;0\\r\\n\\r\\n=GET\r\nhello\r\n0\r\n\r\n", $plain->($POST, 'hello') . "\r\n"],
    'forbidden trailers' => ["${CHUNKED}5\r\nhello\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX: y\r\n\r\n", $plain->($POST, 'hello') . "X: y\r\n\r\n"],
    'a request in a body' => ["$POST${HOST}Content-Length: @{[length $HIDDEN]}\r\n\r\n$HIDDEN", "$POST$HOST${ADDED}Content-Length: @{[length $HIDDEN]}\r\n\r\n$HIDDEN"],
    'a request in a chunk' => ["${CHUNKED}@{[sprintf '%x', length $HIDDEN]}\r\n$HIDDEN\r\n0\r\n\r\n", $plain->($POST, $HIDDEN) . "\r\n"],
);

subtest 'what is made plain' => sub {
    for my $name (sort keys %unusual) {
        my ($bytes, $expected) = @{$unusual{$name}};
        my @answers = answers_to($bytes);
        is_deeply [map { $_->status } @answers], [200], "$name: one answer" or diag explain \@answers;
        is_deeply [arrived()], [$expected], '... to what the backend got';
    }
};

# Random streams: valid requests with all that may vary; what is refused ends the stream.
sub random_request($number)
{
    my $target = '/' . $number;
    my @fields = ('Host: shop.example');
    push @fields, 'X-Pad: ' . 'x' x rand 3000 if rand() < 0.3;
    push @fields, 'Connection: keep-alive, X-Pad' if rand() < 0.2;
    my $size = int rand(rand() < 0.5 ? 10 : 9000);
    my $body = join '', map { ("\r\n", '0', "\r\n\r\n", 'GET / HTTP/1.1', 'x')[rand 5] } 1 .. $size / 4;
    my $kind = int rand 4;
    return ([GET => $target, ''], join "\r\n", "GET $target HTTP/1.1", @fields, '', '') if $kind == 0;
    return ([POST => $target, $body], join "\r\n", "POST $target HTTP/1.1", @fields, 'Content-Length: ' . length $body, '', $body) if $kind == 1;
    my $coded = '';
    my $rest = $body;
    while ($rest ne '') {
        my $piece = substr $rest, 0, 1 + rand(rand() < 0.5 ? 5 : 3000), '';
        $coded .= sprintf "%s%x%s\r\n%s\r\n", '0' x rand 3, length $piece, ('', ' ', ';a=b', '; c="d"')[rand 4], $piece;
    }
    my $trailer = rand() < 0.3 ? "X-T: u\r\n" : '';
    return ([PUT => $target, $body], join "\r\n", "PUT $target HTTP/1.1", @fields, 'transfer-encoding: chunked', '', "${coded}0\r\n$trailer\r\n");
}

subtest 'streams of requests' => sub {
    my $seed = $ENV{BATON_TEST_SEED} // 1;
    for my $seed ($seed .. $seed + 5) {
        srand $seed;
        my (@expected, $bytes);
        for my $number (1 .. 60) {
            my ($request, $text) = random_request($number);
            push @expected, $request;
            $bytes .= $text;
        }
        my $size = 1 + int rand(rand() < 0.5 ? 200 : 50_000);
        my $connection = $server->connect;
        $connection->send($_) for unpack "(a$size)*", $bytes;
        my @wrong = grep {
            my $answer = $connection->read_answer;
            my ($method, $target, $body) = @$_;
            $answer->field('X-Target') ne $target || $answer->body ne "$method $target $body";
        } @expected;
        is_deeply \@wrong, [], "seed $seed: each has its own answer";
        ok $connection->is_quiet, '... and there is none more';
        my %by_target = map { ($_->[1] => $_) } map { requests_of($_) } arrived();
        is_deeply [map { $by_target{"/$_"} } 1 .. 60], \@expected, '... and the backend got just these';
    }
};

# Responses --------------------------------------------------------------------------------------

my $POISON = "HTTP/1.1 200 OK\r\nX-Target: /poison\r\nContent-Length: 6\r\n\r\npoison";

# After whatever has happened, other clients get what is theirs.
sub others_are_well($name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @wrong;
    for my $number (1 .. 3) {
        my $answer = $server->connect->get("/other$number", Host => 'shop.example');
        push @wrong, $answer->body if ($answer->field('X-Target') // '') ne "/other$number" || $answer->body ne "GET /other$number ";
    }
    is "@wrong", '', $name;
}

my $OK = "HTTP/1.1 200 OK\r\n";
my %responses = (
    'CL and TE' => "${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    'two lengths' => "${OK}Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    'the same length twice' => "${OK}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    'a list of lengths' => "${OK}Content-Length: 5, 5\r\n\r\nhello",
    'a signed length' => "${OK}Content-Length: +5\r\n\r\nhello",
    'a negative length' => "${OK}Content-Length: -5\r\n\r\nhello",
    'a length in hexadecimal' => "${OK}Content-Length: 0x5\r\n\r\nhello",
    'a length of more than 64 bits' => "${OK}Content-Length: 18446744073709551621\r\n\r\nhello",
    'an empty length' => "${OK}Content-Length:\r\n\r\nhello",
    'another coding' => "${OK}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    'gzip, chunked' => "${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    'chunked twice' => "${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    'identity' => "${OK}Transfer-Encoding: identity\r\n\r\nhello",
    'a coding behind VT' => "${OK}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    'a coding of HTTP/1.0' => "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    'a space before the colon' => "${OK}Content-Length : 5\r\n\r\nhello",
    'a folded length' => "${OK}Content-Length:\r\n 5\r\n\r\nhello",
    'bare LF' => "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    'bare CR' => "${OK}X: a\rContent-Length: 5\r\n\r\nhello",
    'NUL' => "${OK}X: a\0b\r\nContent-Length: 5\r\n\r\nhello",
    '101 that nobody asked for' => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n$POISON",
    'a final one that looks like 1xx' => "HTTP/1.1 1000 OK\r\nContent-Length: 0\r\n\r\n",
);

subtest 'ambiguous responses' => sub {
    for my $name (sort keys %responses) {
        $backend->answer_next(raw => $responses{$name} . $POISON);
        my @answers = answers_to("POST /asked HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n");
        is_deeply [map { $_->status } @answers], [502], "$name: refused";
        others_are_well('... and nobody gets the rest');
    }
};

# The end of the response is clear; what follows is nobody's. It comes with it, later, or in the
# moment in which the connection is used again.
my %surplus = (
    'behind a length' => [GET => "${OK}X-Target: /asked\r\nContent-Length: 5\r\n\r\nhello"],
    'behind no length' => [GET => "${OK}X-Target: /asked\r\nContent-Length: 0\r\n\r\n"],
    'behind chunks' => [GET => "${OK}X-Target: /asked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    'behind 204' => [GET => "HTTP/1.1 204 No Content\r\nX-Target: /asked\r\n\r\n"],
    'behind 204 with a length' => [GET => "HTTP/1.1 204 No Content\r\nX-Target: /asked\r\nContent-Length: 6\r\n\r\n"],
    'behind 304' => [GET => "HTTP/1.1 304 Not Modified\r\nX-Target: /asked\r\nContent-Length: @{[length $POISON]}\r\n\r\n"],
    'behind the answer to HEAD' => [HEAD => "${OK}X-Target: /asked\r\nContent-Length: @{[length $POISON]}\r\n\r\n"],
    'behind the answer to HEAD, chunked' => [HEAD => "${OK}X-Target: /asked\r\nTransfer-Encoding: chunked\r\n\r\n"],
    'behind 103 with a length' => [GET => "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n${OK}X-Target: /asked\r\nContent-Length: 0\r\n\r\n"],
);

# Asks on a new connection, where the backend is held. Returns the client, and the backend's request.
sub ask($method, $target)
{
    $backend->skip_requests->answer_next(hold => 1);
    my $client = $server->connect->send("$method $target HTTP/1.1\r\n$HOST\r\n");
    return ($client, $backend->wait_request);
}

subtest 'more than was asked for' => sub {
    for my $name (sort keys %surplus) {
        my ($method, $response) = @{$surplus{$name}};
        for my $when ('with it', 'later') {
            my ($client, $request) = ask($method, '/asked');
            $request->send($response . ($when eq 'later' ? '' : $POISON));
            my $answer = $client->read_answer($method);
            is $answer->field('X-Target'), '/asked', "$name, $when: the answer";
            settle();
            ok $client->is_quiet, '... and nothing more';
            $request->connection->send($POISON) if $when eq 'later';
            settle();
            others_are_well('... nor does anybody else');
            ok eval { $request->wait_abandoned; 1 }, '... whose connection is closed';
            ok $client->is_quiet, '... still';
            is $client->get('/mine', Host => 'shop.example')->field('X-Target'), '/mine', '... the next one is its own';
        }
    }
};

# The worker is stopped: when it goes on, both are there at once, what nobody asked for and the
# request that its connection would be used for.
subtest 'at the same time' => sub {
    my ($pid) = $server->workers;
    for my $what ('more', 'the end', 'a reset') {
        for my $first ('the backend', 'the client') {
            others_are_well('at first');
            my ($client, $request) = ask(GET => '/asked');
            $request->answer(by_target($request));
            is $client->read_answer->field('X-Target'), '/asked', 'an answer';
            settle();
            kill STOP => $pid;
            while ((state_of($pid) // 'Z') !~ /[TZX]/) { } # a matter of microseconds, and no event
            my @steps = (
                sub { $what eq 'more' ? $request->connection->send($POISON) : $what eq 'the end' ? $request->close : $request->reset },
                sub { $client->send("GET /own HTTP/1.1\r\n$HOST\r\n") });
            $_->() for $first eq 'the client' ? reverse @steps : @steps;
            kill CONT => $pid;
            my $answer = $client->read_answer;
            is $answer->field('X-Target'), '/own', "$what from the backend, $first first: the client gets its own";
            is $answer->status, 200, '... an answer';
            others_are_well('... as do others');
        }
    }
};

subtest 'backend tells of two' => sub {
    my ($client, $request) = ask(GET => '/asked');
    $client->send("GET /second HTTP/1.1\r\n$HOST\r\n");
    settle();
    $request->send("${OK}X-Target: /asked\r\nContent-Length: 0\r\n\r\n$POISON");
    is $client->read_answer->field('X-Target'), '/asked', 'the first of a pipeline';
    is $client->read_answer->field('X-Target'), '/second', 'the second is not what was behind it';
    others_are_well('others are well');
};

is $server->stop, 0, 'exit code';
unlike $server->log, qr{ died: }, 'no worker died';
done_testing;
