# Forwarding as RFC 9110 and RFC 9112 want it of a gateway: what a backend gets of a request, what
# a client gets of a response, and what either learns when the other leaves.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Loop    qw(turn);
use Baton::Metrics ();
use Baton::Test;
use JSON::PP ();
use Socket   qw(SOL_SOCKET SO_SNDBUF SO_RCVBUF);

my $folder  = folder('files/hello.txt' => "hello\n", '502.html' => 'sorry: 502', '503.html' => 'sorry: 503');
my $LOG     = "$folder/access.log";
my $backend = Baton::Backend->new;
my $early   = Baton::Backend->new(early => 1);
my $AWAY    = free_address();

my $configuration = <<~END;
    [Server]
    Workers=1
    MaxBodySize=8M
    TrustedProxies=127.0.0.8/29 unix
    AccessLog=json
    AccessLogFile=$LOG
    [Listen http]
    [Listen local]
    [Listen admin]
    Admin=yes
    [Route shop]
    Upstream=shop
    [Route files]
    Path=/files/
    Root=$folder
    [Route named]
    Host=named.example
    Upstream=shop
    UpstreamHost=inner.example:8080
    Forwarded=yes
    [Route early]
    Host=early.example
    Upstream=early
    [Route small]
    Host=small.example
    Upstream=shop
    MaxBodySize=10
    [Route away]
    Host=away.example
    Upstream=away
    [Route pages]
    Host=pages.example
    Upstream=away
    Root=$folder
    ErrorPage=502 /502.html
    ErrorPage=503 /503.html
    [Route held]
    Host=held.example
    Upstream=held
    Root=$folder
    ErrorPage=503 /503.html
    [Route slow]
    Host=slow.example
    Upstream=slow
    [Route once]
    Host=once.example
    Upstream=once
    [Upstream shop]
    Server=@{[$backend->address]}
    MaxFails=0
    [Upstream early]
    Server=@{[$early->address]}
    MaxFails=0
    [Upstream once]
    Server=@{[$backend->address]}
    Retries=0
    MaxFails=0
    MaxIdle=0
    [Upstream slow]
    Server=@{[$early->address]}
    ResponseTimeout=200ms
    SendTimeout=200ms
    MaxFails=0
    [Upstream away]
    Server=$AWAY
    HoldTimeout=0
    [Upstream held]
    Server=$AWAY
    HoldTimeout=50ms
    END

my ($server, $barrier);

sub serve
{
    is $server->stop, 0, 'exit code' if $server;
    unlink "$folder/local.sock";
    $server = start(
        sockets => [http => '127.0.0.1:0', local => "unix:$folder/local.sock", admin => '127.0.0.1:0'],
        config => $configuration);
    $barrier = $server->connect('admin');
}

serve();

# Whatever was sent to the only worker before this is called has been read when it returns.
sub settle
{
    for (1 .. 4) {
        $barrier->get('/livez');
        turn();
    }
}

sub request($method, $target, @lines)
{
    unshift @lines, 'Host: shop.example' unless grep {/^Host:/} @lines;
    return join "\r\n", "$method $target HTTP/1.1", @lines, '', '';
}

# Sends the bytes on a connection of their own. Returns the request as the backend got it, and the
# answer.
sub through($bytes, $connection = $server->connect, $from = $backend)
{
    my ($method) = $bytes =~ /^(\w+)/;
    my $answer   = $connection->send($bytes)->read_answer($method);
    return ($from->wait_request, $answer);
}

# The fields of a request or an answer that are not always there.
my %usual = map { ($_ => 1) } qw(host via x-forwarded-for x-forwarded-proto x-forwarded-host content-length date);

sub special($message)
{
    return [map {"$_->[0]: $_->[1]"} grep { !$usual{lc $_->[0]} } @{$message->{fields}}];
}

# What the server answers the bytes, where no backend gets them.
sub status_of($bytes, $connection = $server->connect)
{
    return $connection->send($bytes)->read_answer->status;
}

sub chunked($size, $body, @trailers)
{
    my $text = '';
    while (length(my $piece = substr $body, 0, $size, '')) {
        $text .= sprintf "%x\r\n%s\r\n", length $piece, $piece;
    }
    return join "\r\n", "${text}0", @trailers, '', '';
}

my $LARGE = join '', map { pack 'N', $_ } 1 .. 200_000;

# Sent to who reads slowly, it fills all that lies between.
my $FLOOD = 'x' x (16 << 20);

# Requests --------------------------------------------------------------------------------------

subtest 'the head that a backend gets' => sub {
    my ($request) = through(request(GET => '/a//b/../c;d?e=%20f&g', 'User-Agent:u', "X-Empty:\t", "X-Case: \t a  b \t"));
    is $request->head, join("\r\n",
        'GET /a//b/../c;d?e=%20f&g HTTP/1.1',
        'Host: shop.example',
        'User-Agent: u',
        'X-Empty: ',
        'X-Case: a  b',
        'X-Forwarded-For: 127.0.0.1',
        'X-Forwarded-Proto: http',
        'X-Forwarded-Host: shop.example',
        'Via: 1.1 baton',
        '',
        ''), 'byte for byte';
    ($request) = through(request(GET => '/', 'X-A: 1', 'X-B: 2', 'x-a: 3', "X-C: \xe4\xff"));
    is_deeply special($request), ['X-A: 1', 'X-B: 2', 'x-a: 3', "X-C: \xe4\xff"], 'in their order, and as they are spelled';
    ($request) = through(request(GET => '/', 'Via: 1.0 front, 1.1 middle'));
    is $request->field('Via'), '1.0 front, 1.1 middle, 1.1 baton', 'Via is added to';
    for my $method (qw(GET HEAD PUT DELETE OPTIONS TRACE PATCH PROPFIND REPORT PURGE)) {
        ($request) = through(request($method => '/m'));
        is $request->method, $method, $method;
    }
    ($request) = through(request(POST => '/m', 'Content-Length: 0'));
    is_deeply [$request->method, $request->field('Content-Length')], ['POST', 0], 'POST, and that it has no body';
    ($request) = through(request(OPTIONS => 'http://shop.example'));
    is $request->target, '/', 'an empty path of absolute form' or diag $request->head;
    ($request) = through(request(TRACE => '/m', 'Max-Forwards: 2'));
    is $request->field('Max-Forwards'), 1, 'Max-Forwards: one less';
    is $server->connect->send(request($_->[0] => '/m', 'Max-Forwards: 0'))->read_answer->status, $_->[1],
        "Max-Forwards: $_->[0] goes no further" for [OPTIONS => 204], [TRACE => 405];
};

subtest 'Host' => sub {
    my %hosts = (
        'as it is' => [request(GET => '/', 'Host: Shop.Example:8080'), 'Shop.Example:8080'],
        'IPv6' => [request(GET => '/', 'Host: [::1]:80'), '[::1]:80'],
        'empty' => [request(GET => '/', 'Host: '), ''],
        'of HTTP/1.0' => ["GET / HTTP/1.0\r\nHost: old.example\r\n\r\n", 'old.example'],
        'not there in HTTP/1.0' => ["GET / HTTP/1.0\r\n\r\n", ''],
        'of an absolute form' => [request(GET => 'http://target.example:1/x', 'Host: other.example'), 'target.example:1'],
        'UpstreamHost=' => [request(GET => '/', 'Host: named.example'), 'inner.example:8080'],
        'UpstreamHost=, absolute form' => [request(GET => 'http://NAMED.example/', 'Host: x'), 'inner.example:8080'],
    );
    for my $name (sort keys %hosts) {
        my ($request) = through($hosts{$name}[0]);
        is_deeply [map { $_->[1] } grep { $_->[0] eq 'Host' } @{$request->fields}], [$hosts{$name}[1]], $name;
        unlike $request->target, qr/example/, '... and origin form';
    }
    my ($request) = through(request(GET => '/', 'Host: named.example'));
    is $request->field('X-Forwarded-Host'), 'named.example', 'whom the client meant';
};

subtest 'hop-by-hop fields' => sub {
    my @end_to_end = ('Cookie: c', 'X-Kept: 1');
    my %dropped    = (
        'named by Connection' => ['Connection: x-hop, , X-Other,close', 'X-Hop: 1', 'x-other: 2', 'X-HOP: 3'],
        'in two fields' => ['Connection: x-hop', 'X-Hop: 1', 'X-Other: 2', 'Connection: x-other'],
        'named by the client to hide what is said of it' =>
            ['Connection: x-forwarded-for, host, via, content-length, cookie, x-forwarded-proto'],
        'Keep-Alive' => ['Connection: keep-alive', 'Keep-Alive: timeout=5'],
        'of proxies' => ['Proxy-Connection: close', 'Proxy-Authorization: Basic x', 'Proxy-Authenticate: Basic'],
        'Proxy (httpoxy)' => ['Proxy: http://evil.example/'],
        'Upgrade without its option' => ['Upgrade: websocket'],
        'h2c' => ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__'],
        'TE' => ['Connection: TE', 'TE: gzip, deflate;q=0.5'],
        'Trailer without a trailer section' => ['Trailer: X-Sum'],
        'in disguise' => ['X_Forwarded_For: 1.2.3.4', 'x.real.ip: 1.2.3.4', 'Content_Length: 3', 'transfer_encoding: chunked'],
    );
    for my $name (sort keys %dropped) {
        my ($request) = through(request(GET => '/', @{$dropped{$name}}, @end_to_end));
        is_deeply special($request), \@end_to_end, $name;
        is $request->field('X-Forwarded-For'), '127.0.0.1', '... and the client is told of';
    }
    my ($request) = through(request(GET => '/', 'Connection: te', 'TE: deflate, trailers'));
    is_deeply special($request), ['TE: trailers', 'Connection: te'], 'that trailers are welcome';
    ($request) = through(request(GET => '/', 'Connection: upgrade', 'Upgrade: websocket, h2c'));
    is_deeply special($request), ['Upgrade: websocket', 'Connection: upgrade'], 'Upgrade, without h2c';
    ($request) = through("GET / HTTP/1.0\r\nConnection: upgrade, te\r\nUpgrade: websocket\r\nTE: trailers\r\n\r\n");
    is_deeply special($request), [], 'none of it in HTTP/1.0';
};

subtest 'what a backend is told of the client' => sub {
    my @said = (
        'X-Forwarded-For: 1.2.3.4, 5.6.7.8', 'X-Forwarded-For: 9.9.9.9', 'X-Forwarded-Proto: https',
        'X-Forwarded-Host: front.example', 'X-Forwarded-Port: 443', 'X-Real-IP: 1.2.3.4', 'Forwarded: for=1.2.3.4');
    my $told = sub ($request) {
        return {map { ($_->[0] => $_->[1]) } grep { $_->[0] =~ /^(?:x-forwarded-|x-real|forwarded)/i } @{$request->fields}};
    };
    my ($request) = through(request(GET => '/', @said));
    is_deeply $told->($request),
        { 'X-Forwarded-For' => '127.0.0.1', 'X-Forwarded-Proto' => 'http', 'X-Forwarded-Host' => 'shop.example' },
        'nothing of what a stranger says';
    ($request) = through(request(GET => '/', 'Host: named.example', @said));
    is_deeply $told->($request),
        {
            'X-Forwarded-For' => '127.0.0.1',
            'X-Forwarded-Proto' => 'http',
            'X-Forwarded-Host' => 'named.example',
            'Forwarded' => 'for=127.0.0.1;host="named.example";proto=http',
        },
        'nor with Forwarded=';
    ($request) = through(request(GET => '/', @said), $server->connect('http', from => '127.0.0.9'));
    is_deeply $told->($request),
        {
            'X-Forwarded-For' => '1.2.3.4, 5.6.7.8, 9.9.9.9, 127.0.0.9',
            'X-Forwarded-Proto' => 'https',
            'X-Forwarded-Host' => 'front.example',
            'X-Forwarded-Port' => '443',
            'X-Real-IP' => '1.2.3.4',
            'Forwarded' => 'for=1.2.3.4, for=127.0.0.9;host="shop.example";proto=http',
        },
        'all that a trusted proxy says, and itself';
    is scalar(grep { $_->[0] eq 'X-Forwarded-For' } @{$request->fields}), 1, 'in one field';
    ($request) = through(request(GET => '/', @said), $server->connect('http', from => '127.0.0.16'));
    is $request->field('X-Forwarded-For'), '127.0.0.16', 'another network';
    ($request) = through(request(GET => '/', @said), $server->connect('local'));
    is $request->field('X-Forwarded-For'), '1.2.3.4, 5.6.7.8, 9.9.9.9', 'a trusted one on a unix socket';
    ($request) = through(request(GET => '/', 'Host: named.example'), $server->connect('local'));
    is $request->field('Forwarded'), 'for=unknown;host="named.example";proto=http', 'who has no address';
    is $request->field('X-Forwarded-For'), undef, 'has none in X-Forwarded-For';
};

subtest 'bodies of requests' => sub {
    my $connection = $server->connect;
    for my $body ('', 'h', 'hello', 'x' x 20_000, $LARGE) {
        my $length = length $body;
        for my $method (qw(POST GET)) {
            my ($request) = through(request($method => '/', "Content-Length: $length") . $body, $connection);
            ok $request->body eq $body, "$method: $length bytes by length";
            is $request->field('Content-Length'), $length, '... and so it is said';
            for my $size (1, 7, 4096, 70_000) {
                next if $length / $size > 30_000;
                ($request) = through(request($method => '/', 'Transfer-Encoding: chunked') . chunked($size, $body), $connection);
                ok $request->body eq $body, "$method: $length bytes in chunks of $size";
                is $request->field('Transfer-Encoding'), 'chunked', '... and so it is said';
            }
        }
    }
    my ($request) = through("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello");
    is $request->body,         'hello',     'of HTTP/1.0';
    is $request->field('Via'), '1.0 baton', '... which Via tells';
    my $bytes = request(POST => '/', 'Transfer-Encoding: chunked') . "2;x=\"y\"\r\nab\r\n01\r\nc\r\n0\r\nX-T: u\r\n\r\n";
    $bytes .= request(PUT => '/', 'Content-Length: 5') . 'hello';
    for (split //, $bytes) {
        $connection->send($_);
        settle();
    }
    is_deeply [map { $backend->wait_request->body } 1 .. 2], ['abc', 'hello'], 'byte by byte';
    is $connection->read_answer->status, 200, 'answered' for 1 .. 2;
};

subtest 'trailers of requests' => sub {
    my @good = ('X-Sum: 1', 'X-Empty: ', 'Digest: sha-256=x');
    my @bad  = (
        'Content-Length: 5', 'Transfer-Encoding: chunked', 'Host: evil.example', 'Connection: close', 'X-Forwarded-For: 1.2.3.4',
        'X_Forwarded_For: 1.2.3.4', 'Trailer: x', 'Cookie: c', 'Authorization: Basic x', 'Content-Type: x/y', 'Via: x',
        'Upgrade: websocket', 'Expect: 100-continue', 'Proxy: x', 'TE: trailers', 'Forwarded: for=x', 'Cache-Control: no-store', 'Range: bytes=0-0');
    my ($request) = through(request(POST => '/', 'Trailer: X-Sum', 'Transfer-Encoding: chunked') . chunked(9, 'body', $good[0], @bad, @good[1, 2]));
    is_deeply [map {"$_->[0]: $_->[1]"} @{$request->trailers}], \@good, 'those that may be in a trailer section';
    is $request->field('Trailer'), 'X-Sum', 'announced';
    is $request->field('X-Sum'),   undef,   'not among the fields of the head';
};

subtest 'Expect: 100-continue' => sub {
    $early->answer(hold => 1);
    for my $framing ('Content-Length: 5', 'Transfer-Encoding: chunked') {
        my $connection = $server->connect->send(request(POST => '/', 'Host: early.example', 'Expect: 100-continue', $framing));
        my $request    = $early->wait_request;
        is $request->field('Expect'), '100-continue', "$framing: the backend is asked";
        settle();
        ok $connection->is_quiet, 'and nobody else says anything';
        $request->send("HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n");
        is $connection->read_head(10)->status, 100, 'it wants the body';
        $connection->send($framing =~ /^C/ ? 'hello' : "5\r\nhello\r\n0\r\n\r\n");
        is $request->wait_body, 'hello', 'and gets it';
        $request->answer(body => 'thanks');
        my $answer = $connection->read_answer;
        is $answer->body, 'thanks', 'the answer';
        ok !$answer->closes, 'and the connection stays';

        $connection->send(request(POST => '/', 'Host: early.example', 'Expect: 100-continue', $framing));
        $request = $early->wait_request;
        $request->answer(status => 401, body => 'no');
        $answer = $connection->read_answer;
        is $answer->status, 401, 'it does not want the body';
        ok $answer->closes, 'so the connection ends';
        $request->wait_abandoned;
        ok $connection->finish->is_closed, 'closed';
    }
    my $connection = $server->connect->send("POST / HTTP/1.0\r\nHost: early.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    my $request    = $early->wait_request;
    is $request->field('Expect'), undef, 'not in HTTP/1.0';
    $request->send("HTTP/1.1 100 Continue\r\n\r\n");
    settle();
    ok $connection->is_quiet, 'which has no 100';
    $connection->send('hello');
    $request->wait_body;
    $request->answer(body => 'old');
    is $connection->read_answer->body, 'old', 'the answer';
    is status_of(request(POST => '/', 'Host: early.example', 'Expect: x', 'Content-Length: 1')), 417, 'another expectation';
};

subtest 'MaxBodySize=' => sub {
    my $count = $backend->requests;
    my @small = ('Host: small.example');
    my ($request) = through(request(POST => '/', @small, 'Content-Length: 10') . 'x' x 10);
    is $request->body, 'x' x 10, 'exactly not too large';
    ($request) = through(request(POST => '/', @small, 'Transfer-Encoding: chunked') . chunked(3, 'x' x 10));
    is $request->body, 'x' x 10, 'in chunks';
    my $answer = $server->connect->send(request(POST => '/', @small, 'Content-Length: 11'))->read_answer;
    is $answer->status, 413, 'too large by its length';
    ok $answer->closes, '... closes';
    $answer = $server->connect->send(request(POST => '/', @small, 'Transfer-Encoding: chunked') . "6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n")->read_answer;
    is $answer->status, 413, 'too large in chunks';
    ok $answer->closes, '... closes';
    my $connection = $server->connect->send(request(POST => '/', @small, 'Transfer-Encoding: chunked') . "6\r\nxxxxxx\r\n");
    settle();
    is status_of("6\r\nxxxxxx\r\n", $connection), 413, 'the rest comes later';
    is status_of(request(POST => '/', 'Content-Length: 8388609')), 413, 'the one of [Server]';
    is scalar($backend->requests), $count + 2, 'the backend got only the others';
};

# Responses -------------------------------------------------------------------------------------

subtest 'the head that a client gets' => sub {
    my $bytes = sub ($raw, $request = request(GET => '/')) {
        $backend->answer_next(raw => $raw, end => 'close');
        my $connection = $server->connect->send($request =~ s/\r\n\r\n$/\r\nConnection: close\r\n\r\n/r);
        my $all = $connection->read_to_end;
        $backend->wait_request;
        return $all;
    };
    my $date = 'Date: Sun, 06 Nov 1994 08:49:37 GMT';
    is $bytes->("HTTP/1.1 299 Quite \xe4 Reason\r\nserver:x\r\n$date\r\nX-Empty:\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 5\r\n\r\nhello"),
        "HTTP/1.1 299 Quite \xe4 Reason\r\nserver: x\r\n$date\r\nX-Empty: \r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        'byte for byte';
    is $bytes->("HTTP/1.0 200\r\n$date\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 200 \r\n$date\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        'of HTTP/1.0, without a reason';
    like $bytes->("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), qr/\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n/, 'Date is added';
    is $bytes->("HTTP/1.1 200 OK\r\n$date\r\nContent-Length: 0\r\n\r\n" =~ s/Date:/date :/r) =~ m{^HTTP/1.1 (\d+)} ? $1 : '', 502, 'a space before the colon';
    is $bytes->("HTTP/1.1 304 x\r\n$date\r\nETag: \"e\"\r\nContent-Length: 99\r\n\r\n"),
        "HTTP/1.1 304 x\r\n$date\r\nETag: \"e\"\r\nContent-Length: 99\r\nConnection: close\r\n\r\n", '304 keeps its length';
    is $bytes->("HTTP/1.1 204 x\r\n$date\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 204 x\r\n$date\r\nConnection: close\r\n\r\n", '204 has none';
    is $bytes->("HTTP/1.1 200 x\r\n$date\r\nContent-Length: 99\r\n\r\n", request(HEAD => '/')),
        "HTTP/1.1 200 x\r\n$date\r\nContent-Length: 99\r\nConnection: close\r\n\r\n", 'HEAD keeps it';
    is $bytes->("HTTP/1.1 200 x\r\n$date\r\nTransfer-Encoding: chunked\r\n\r\n", request(HEAD => '/')),
        "HTTP/1.1 200 x\r\n$date\r\nConnection: close\r\n\r\n", 'HEAD of a chunked one';
    is $bytes->("HTTP/1.1 426 x\r\n$date\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n"),
        "HTTP/1.1 426 x\r\n$date\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: upgrade, close\r\n\r\n", '426 names a protocol';
    my @hop = ('Connection: x-hop, keep-alive', 'X-Hop: 1', 'Keep-Alive: timeout=1', 'Proxy-Connection: x', 'Proxy-Authenticate: Basic', 'Upgrade: h2c', 'TE: trailers', 'Trailer: x');
    is $bytes->(join "\r\n", 'HTTP/1.1 200 OK', $date, @hop, 'WWW-Authenticate: Basic', 'Content-Length: 0', '', ''),
        "HTTP/1.1 200 OK\r\n$date\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 'hop-by-hop fields';
};

subtest 'bodies of responses' => sub {
    my $connection = $server->connect;
    for my $body ('', 'h', 'x' x 20_000, $LARGE) {
        my $length = length $body;
        for my $answer ([framing => 'length'], [framing => 'chunked'], [framing => 'chunked', chunk => 977], [framing => 'close'],
            [framing => 'close', version => '1.0'], [framing => 'length', version => '1.0'], [framing => 'length', version => '1.0', fields => [Connection => 'keep-alive']]) {
            my $name = "$length bytes, @{[map { ref ? @$_ : $_ } @$answer]}";
            $backend->answer(@$answer, body => $body);
            $backend->answer(@$answer, body => $body, end => 'close') if "@$answer" eq 'framing length version 1.0';
            my $got = $connection->send(request(GET => '/'))->read_answer;
            ok $got->body eq $body, $name;
            ok !$got->closes, '... and the connection stays';
            is $got->{minor}, 1, '... as HTTP/1.1';
            is defined $got->content_length, $answer->[1] eq 'length', '... with a length if it had one';
            my $old = $server->connect->send("GET / HTTP/1.0\r\n\r\n")->read_answer;
            ok $old->body eq $body, '... to HTTP/1.0';
            is $old->field('Transfer-Encoding'), undef, '... which knows no coding';
            my $kept = $server->connect->send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")->read_answer;
            is !$kept->closes, $answer->[1] eq 'length', '... which is kept where the length is known';
            is $connection->send(request(HEAD => '/'))->read_answer('HEAD')->status, 200, '... to HEAD';
            $backend->wait_request for 1 .. 4;
        }
    }
    $backend->answer;
    ok $connection->is_quiet, 'and no byte more';
};

subtest 'trailers of responses' => sub {
    my @bad = ('Content-Length' => 5, 'Set-Cookie' => 'a=b', 'Transfer-Encoding' => 'chunked', 'Connection' => 'close', 'Location' => '/', 'Age' => 1);
    $backend->answer_next(framing => 'chunked', body => 'hello', fields => [Trailer => 'X-Sum'], trailers => ['X-Sum' => 1, @bad[0 .. 9], 'X-End' => '']);
    my (undef, $answer) = through(request(GET => '/', 'TE: trailers', 'Connection: te'));
    is_deeply $answer->{trailers}, [['X-Sum', 1], ['X-End', '']], 'those that may be there';
    is $answer->field('Trailer'), 'X-Sum', 'announced';
    $backend->answer_next(framing => 'chunked', body => 'hello', trailers => ['X-Sum' => 1]);
    (undef, $answer) = through("GET / HTTP/1.0\r\n\r\n");
    is $answer->body, 'hello', 'none to HTTP/1.0';
};

subtest 'interim responses' => sub {
    my @interim = ([103, Link => '</a.css>; rel=preload', 'X-Hop' => 1, Connection => 'x-hop'], 103, 102, 100, [199, 'X-A' => 'b']);
    $backend->answer_next(interim => \@interim, body => 'final');
    my (undef, $answer) = through(request(GET => '/'));
    is_deeply [map { $_->status } @{$answer->{interim}}], [103, 103, 102, 100, 199], 'passed on';
    is_deeply $answer->{interim}[0]{fields}, [['Link', '</a.css>; rel=preload']], 'with their fields';
    is $answer->body, 'final', 'and the final one';
    $backend->answer_next(interim => \@interim, body => 'final');
    (undef, $answer) = through("GET / HTTP/1.0\r\n\r\n");
    is_deeply $answer->{interim}, [], 'none to HTTP/1.0';
    is $answer->body, 'final', 'which gets the final one';
    $backend->answer_next(interim => \@interim, body => '');
    (undef, $answer) = through(request(HEAD => '/'));
    is scalar(@{$answer->{interim}}), 5, 'before the answer to HEAD';

    $backend->answer_next(hold => 1);
    my $connection = $server->connect->send(request(GET => '/'));
    my $request    = $backend->wait_request;
    $request->send("HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n");
    is $connection->read_head(10)->status, 103, 'at once';
    settle();
    ok $connection->is_quiet, 'and not twice';
    $request->answer(body => 'late');
    is $connection->read_answer->body, 'late', 'the final one later';
};

# An answer of ours comes behind all of it, though a part of it may have been sent.
subtest 'an interim response that the client does not take' => sub {
    $early->answer(hold => 1);
    my $interim    = "HTTP/1.1 103 Early Hints\r\nX-A: " . 'x' x 10_000 . "\r\n\r\n";
    my $connection = $server->connect(undef, receive_buffer => 4096);
    $connection->send(request(POST => '/', 'Host: early.example', 'Transfer-Encoding: chunked'));
    my $request = $early->wait_request;
    $request->send($interim x 2000);
    # It has come to a stop when the backend cannot send any more, turn after turn.
    my ($left, $turns) = (-1, 0);
    for (; $turns < 20; $turns++) {
        my $now = length $request->connection->{out};
        $turns = 0 if $now != $left;
        $left = $now;
        settle();
    }
    cmp_ok $left, '>', 0, 'it waits';
    $connection->send("x\r\n");
    $request->wait_abandoned;
    my $got = $connection->read_to_end;
    $got =~ s/^(?:\Q$interim\E)+//;
    like $got, qr{^HTTP/1\.1 400 Bad Request\r\n(?:[^\r\n]+\r\n)+\r\n400 Bad Request\n$}, 'and what follows comes behind it';
};

subtest 'responses byte by byte' => sub {
    my @answers = (
        "HTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: u\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    );
    $backend->answer(hold => 1);
    my $connection = $server->connect;
    for my $answer (@answers) {
        for my $size (1, 3) {
            $connection->send(request(GET => '/'));
            my $request = $backend->wait_request;
            for (unpack "(a$size)*", $answer) {
                $request->send($_);
                settle();
            }
            $request->close if $answer =~ /\r\n\r\nhello$/ && $answer !~ /Length/;
            my $got = $connection->read_answer;
            is $got->body, 'hello', "in pieces of $size: " . substr $answer, 0, 40;
        }
    }
    $backend->answer;
};

# Connections -----------------------------------------------------------------------------------

subtest 'pipelining' => sub {
    $backend->answer(sub ($request) { return (body => $request->method . ' ' . $request->target . ' ' . length $request->body) });
    my ($bytes, @expected) = ('');
    for my $n (0 .. 99) {
        my @kinds = (
            ['hello' . "\n", request(GET => '/files/hello.txt' =~ s/^/$folder/r =~ s/^\Q$folder//r)],
            ["GET /$n 0", request(GET => "/$n")],
            ["POST /$n 7", request(POST => "/$n", 'Content-Length: 7') . 'x' x 7],
            ["PUT /$n 3000", request(PUT => "/$n", 'Transfer-Encoding: chunked') . chunked(1000, 'x' x 3000)],
            [undef, request(GET => "/$n", 'Host: small.example', 'Content-Length: 3') . 'abc'],
        );
        my $kind = $kinds[$n % @kinds];
        push @expected, $kind->[0] // "GET /$n 3";
        $bytes .= $kind->[1];
    }
    for my $size (length $bytes, 4096, 1009) {
        my $connection = $server->connect;
        $connection->send($_) for unpack "(a$size)*", $bytes;
        is_deeply [map { $connection->read_answer->body } 0 .. 99], \@expected, "100 requests in pieces of $size, answered in order";
        ok $connection->is_quiet, 'and nothing more';
    }
    my $count = $backend->requests;
    my $connection = $server->connect->send(request(GET => '/1', 'Connection: close') . request(GET => '/2'));
    is $connection->read_answer->body, 'GET /1 0', 'none after one with Connection: close';
    ok $connection->is_closed, 'closed';
    is scalar($backend->requests), $count + 1, '... and none reaches the backend';
    $backend->skip_requests;
    $backend->answer;
};

subtest 'kept connections' => sub {
    my $before     = $backend->accepted;
    my $connection = $server->connect;
    through(request(GET => '/'), $connection) for 1 .. 10;
    ok $backend->accepted - $before <= 1, 'one connection to the backend is enough for ten requests';
    through(request(GET => '/')) for 1 .. 10;
    ok $backend->accepted - $before <= 1, 'of other clients, too';
    $backend->answer(close => 1);
    through(request(GET => "/"), $connection) for 1 .. $backend->connections;
    is $backend->connections, 0, "all have been used";
    $before = $backend->accepted;
    for (1 .. 3) {
        through(request(GET => '/'), $connection);
        is $backend->accepted - $before, $_, 'unless it closes';
    }
    $backend->answer;
};

subtest 'an early answer' => sub {
    $early->answer(hold => 1);
    my @early = ('Host: early.example');
    for my $status (200, 413) {
        my $connection = $server->connect->send(request(POST => '/', @early, 'Content-Length: 1000000') . 'x' x 1000);
        my $request    = $early->wait_request;
        wait_for('part of a body', sub { length $request->body == 1000 });
        $request->answer(status => $status, body => 'enough');
        my $answer = $connection->read_answer;
        is $answer->status . $answer->body, "${status}enough", "$status: before the request is over";
        ok $answer->closes, '... and says that it is the last one';
        ok eval { $connection->send('x' x 999_000); 1 }, '... the client may go on' or diag $@;
        ok $connection->is_closed, '... and sees no reset';
        $request->wait_abandoned;
    }
    my $connection = $server->connect->send(request(POST => '/', @early, 'Content-Length: 10') . 'x' x 5);
    my $request    = $early->wait_request;
    $request->send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    is $connection->read_head(10)->status, 200, 'an answer begins';
    is $connection->read_bytes(5), 'hello', 'with its body';
    $connection->send('x' x 5);
    is $request->wait_body, 'x' x 10, 'the request goes on meanwhile';
    $request->send('world');
    is $connection->read_bytes(5), 'world', 'and then the rest of the answer';
    ok $connection->is_closed, 'closed, as was said';

    # The answer comes in the moment in which the backend closes.
    $connection = $server->connect->send(request(POST => '/', @early, 'Content-Length: 3000000') . 'x' x 1000);
    $request    = $early->wait_request;
    $request->stop_reading;
    $request->answer(status => 413, body => 'too much', end => 'close');
    my $answer = eval { $connection->send('x' x 2_999_000); $connection->read_answer };
    is eval { $answer->status }, 413, 'from who closes at once' or diag $@;
};

subtest 'a client that leaves' => sub {
    my $before = Baton::Metrics->wait_open($barrier);
    $early->answer(hold => 1);
    my @early  = ('Host: early.example');
    my %states = (
        'before the head' => [request(GET => '/', @early), ''],
        'within the head' => [request(GET => '/', @early), "HTTP/1.1 200 OK\r\nX-A"],
        'within a body' => [request(GET => '/', @early), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"],
        'within a chunk' => [request(GET => '/', @early), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"],
        'within a request' => [request(POST => '/', @early, 'Content-Length: 10') . 'hello', ''],
        'within a chunk of a request' => [request(POST => '/', @early, 'Transfer-Encoding: chunked') . "5\r\nhel", ''],
    );
    for my $how (qw(close reset)) {
        for my $state (sort keys %states) {
            my ($sent, $answered) = @{$states{$state}};
            my $connection = $server->connect->send($sent);
            my $request    = $early->wait_request;
            $request->send($answered) if $answered ne '';
            settle();
            $connection->$how;
            ok eval { $request->wait_abandoned; 1 }, "$state: $how" or diag $@;
            $request->close;
        }
    }
    my $after = Baton::Metrics->wait_open($barrier);
    is_deeply $after->growth($before, 'connections_ended_total'), { client_abandoned => 12 }, 'counted';
    is $after->imbalance, 0, 'none is left';
};

# What fails: the log tells of ten failures in a second, so each has a server of its own. --------

my $POST = request(POST => '/', 'Host: once.example', 'Content-Length: 1') . 'x';

subtest 'a backend that fails before its answer' => sub {
    serve();
    my %ends = (
        'closes before the head' => { cut => 0 },
        'resets before the head' => { cut => 0, end => 'reset' },
        'closes within the head' => { cut => 10 },
        'resets within the head' => { cut => 10, end => 'reset' },
        'closes behind an interim response' => { raw => "HTTP/1.1 103 x\r\n\r\n", end => 'close' },
    );
    for my $name (sort keys %ends) {
        $backend->answer_next(%{$ends{$name}});
        my $connection = $server->connect;
        my ($request, $answer) = through($POST, $connection);
        is $answer->status, 502, $name;
        ok !$answer->closes, '... and the client may go on';
        is $connection->send(request(GET => '/'))->read_answer->status, 200, '... as it does';
        $backend->wait_request;
    }
    like $server->wait_log(qr/^.*POST \/ gets 502.*$/m), qr/\[Upstream once\]: \Q@{[$backend->address]}\E: it closed before it answered/, 'the log says why';
    like $server->wait_log(qr/^.*POST \/ gets 502.*$/m), qr/it closed/, '... each time';
};

subtest 'what is no response' => sub {
    serve();
    my $ok  = "HTTP/1.1 200 OK\r\n";
    my %bad = (
        'nonsense' => "nonsense\r\n\r\n",
        'HTTP/0.9' => "<html>hello</html>",
        'HTTP/2' => "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        'a line end in front' => "\r\n${ok}Content-Length: 0\r\n\r\n",
        'bare LF' => "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        'a status of two digits' => "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        'a status of four digits' => "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        'a status that is too large' => "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
        'a status that is too small' => "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        'a folded line' => "${ok}X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        'NUL' => "${ok}X: a\0b\r\nContent-Length: 0\r\n\r\n",
        'a bare CR' => "${ok}X: a\rb\r\nContent-Length: 0\r\n\r\n",
        'no colon' => "${ok}X\r\nContent-Length: 0\r\n\r\n",
        'an unasked 101' => "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        'a head without end' => "${ok}X: " . 'x' x 70_000,
        'a malformed first chunk' => "${ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
        'too many fields' => $ok . "X: y\r\n" x 300 . "\r\n",
    );
    for my $name (sort keys %bad) {
        $backend->answer_next(raw => $bad{$name});
        my ($request, $answer) = through($POST);
        is $answer->status, 502, $name;
        $request->wait_abandoned;
        is $answer->body, "502 Bad Gateway\n", '... and nothing of it' if $answer->status == 502;
    }
};

subtest 'a backend that fails within its answer' => sub {
    serve();
    my $length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    my $chunk  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    my $until  = "HTTP/1.1 200 OK\r\n\r\nhello";
    my $old    = "GET / HTTP/1.0\r\nHost: once.example\r\n\r\n";
    my $new    = request(GET => '/', 'Host: once.example', 'Connection: close');
    # What the client has in the end: less than was promised, or a reset.
    my @cases = (
        ['a length', $length, $new, 'close', qr/\r\n\r\nhello$/],
        ['a length', $length, $new, 'reset', qr/\r\n\r\nhello$/],
        ['a chunk', $chunk, $new, 'close', qr/\r\n\r\n5\r\nhello\r\n$/],
        ['a chunk', $chunk, $new, 'reset', qr/\r\n\r\n5\r\nhello\r\n$/],
        ['within a chunk', "${chunk}5\r\nwo", $new, 'close', qr/hello\r\n2\r\nwo\r\n$/],
        ['a malformed chunk', $chunk, $new, 'send', qr/\r\n\r\n5\r\nhello\r\n$/],
        ['a chunk, HTTP/1.0', $chunk, $old, 'close', undef],
        ['until close', $until, $new, 'close', qr/\r\n\r\n5\r\nhello\r\n0\r\n\r\n$/],
        ['until close', $until, $new, 'reset', qr/\r\n\r\n5\r\nhello\r\n$/],
        ['until close, HTTP/1.0', $until, $old, 'close', qr/\r\n\r\nhello$/],
        ['until close, HTTP/1.0', $until, $old, 'reset', undef],
    );
    for (@cases) {
        my ($name, $raw, $bytes, $end, $expected) = @$_;
        $backend->answer_next(hold => 1);
        my $connection = $server->connect->send($bytes);
        my $request    = $backend->wait_request;
        $request->send($raw);
        my $have = '';
        $have .= $connection->read_bytes(1) while $have !~ /hello/;
        settle();
        $request->$end($end eq 'send' ? "x\r\n" : ());
        my $rest = eval { $connection->read_to_end };
        if ($expected) {
            like $have . ($rest // "($@)"), $expected, "$name, $end";
        } else {
            ok $connection->{was_reset}, "$name, $end: the client sees a reset";
        }
        $request->wait_abandoned if $end eq 'send';
    }
};

subtest 'a backend that is too slow' => sub {
    serve();
    $early->answer(hold => 1);
    my $connection = $server->connect;
    my $slow       = request(GET => '/', 'Host: slow.example');
    my ($request, $answer) = through($slow, $connection, $early);
    is $answer->status, 504, 'no head within ResponseTimeout=';
    ok !$answer->closes, '... and the client may go on';
    $request->wait_abandoned;
    like $server->wait_log(qr/^.*gets 504.*$/m), qr{GET / gets 504: \[Upstream slow\]: \Q@{[$early->address]}\E: it said nothing for ResponseTimeout=}, '... says the log';
    $connection->send($slow);
    $request = $early->wait_request;
    $request->send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    like eval { $connection->read_to_end } // $@, qr/\r\n\r\nhello$/, 'a body that does not go on';
    $request->wait_abandoned;

    $connection = $server->connect->send(request(PUT => '/', 'Host: slow.example', 'Content-Length: 8000000'));
    $request = $early->wait_request;
    $request->stop_reading;
    ok eval { $connection->send('x' x 8_000_000) }, 'a body that nobody takes';
    is $connection->read_answer->status, 504, '... for SendTimeout=';
    like $server->wait_log(qr/^.*PUT \/ gets 504.*$/m), qr/it took nothing of the request for SendTimeout=/, '... says the log';
    $request->close;

    # Not the backend's fault: its time begins when it has the request.
    $connection = $server->connect->send(request(PUT => '/', 'Host: slow.example', 'Content-Length: 2') . 'x');
    $request = $early->wait_request;
    my $other = $server->connect;
    through($slow, $other, $early);
    ok $connection->is_quiet, 'who waits for the client is not too slow';
    $connection->send('y');
    $request->wait_body;
    $request->answer(body => 'fine');
    is $connection->read_answer->body, 'fine', 'the answer';
};

subtest 'nobody there' => sub {
    my $answer = $server->get('/', Host => 'away.example');
    is $answer->status, 502, 'HoldTimeout=0';
    is $answer->body, "502 Bad Gateway\n", '... plain text';
    is $answer->field('Retry-After'), undef, '... and no promise';
    like $server->wait_log(qr/^.*gets 502.*$/m), qr{GET / gets 502: \[Upstream away\]: \Q$AWAY\E: Connection refused}, '... says the log';
    $answer = $server->get('/', Host => 'pages.example');
    is $answer->status . $answer->body, '502sorry: 502', 'ErrorPage=';
    is $answer->field('Content-Type'), 'text/html; charset=utf-8', '... as what it is' or diag JSON::PP->new->encode($answer->{fields});
    $answer = $server->get('/', Host => 'held.example');
    is $answer->status . $answer->body, '503sorry: 503', 'held in vain';
    like $answer->field('Retry-After'), qr/^\d+$/, '... may be tried again';
    like $server->wait_log(qr/^.*gets 503.*$/m), qr{GET / gets 503: \[Upstream held\]: \Q$AWAY\E: Connection refused}, '... says the log';
    my $connection = $server->connect;
    is $connection->send(request(HEAD => '/', 'Host: pages.example'))->read_answer('HEAD')->status, 502, 'to HEAD';
    is $connection->send(request(POST => '/', 'Host: pages.example', 'Content-Length: 5') . 'hello')->read_answer->status, 502, 'to POST';
    is $connection->get('/files/hello.txt')->status, 200, 'and the connection goes on';
};

# What is beside --------------------------------------------------------------------------------

subtest 'beside other routes' => sub {
    my $connection = $server->connect;
    write_file("$folder/files.txt", 'x');
    mkdir "$folder/files/files";
    write_file("$folder/files/files/x.txt", 'of a file');
    my ($request) = through(request(GET => '/filesystem'), $connection);
    is $request->target, '/filesystem', 'only whole segments are of a route';
    is $connection->send(request(GET => '/files/hello.txt'))->read_answer->status, 200, 'files are';
    is $connection->send(request(PUT => '/files/hello.txt', 'Content-Length: 0'))->read_answer->status, 405, 'files, whatever the method';
    is $barrier->get('/readyz')->status, 200, 'admin pages';
    ok $barrier->get('/metrics')->body =~ /^baton_backend/m, 'tell of backends';
    my $target = '/%66iles/../%2e%2e/x';
    is status_of(request(GET => $target), $connection), 400, 'a path that leaves the root reaches nobody';
    is status_of(request(CONNECT => 'shop.example:443'), $server->connect), 405, 'CONNECT';
};

subtest 'the access log' => sub {
    my $size = -s $LOG;
    $backend->answer(sub ($request) { return (body => 'x' x 1234, framing => $request->target eq '/c' ? 'chunked' : 'length') });
    my $connection = $server->connect;
    $connection->send(request(GET => '/a?b', 'User-Agent: agent', 'Referer: r'))->read_answer;
    $connection->send(request(HEAD => '/h'))->read_answer('HEAD');
    $connection->send(request(POST => '/c', 'Content-Length: 1') . 'x')->read_answer;
    $backend->wait_request for 1 .. 3;
    $backend->answer_next(status => 304, interim => [103]);
    $connection->send(request(GET => '/n'))->read_answer;
    $backend->wait_request;
    $connection->send(request(GET => '/w', 'Host: away.example'))->read_answer;
    $backend->answer_next(hold => 1);
    $connection->send(request(GET => '/cut'));
    my $request = $backend->wait_request;
    $request->send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    $connection->read_head(10);
    is $connection->read_bytes(5), 'hello', 'half an answer';
    $request->close;
    ok $connection->is_closed, 'and the end';
    $backend->answer_next(hold => 1);
    my $leaves = $server->connect->send(request(GET => '/left'));
    $request = $backend->wait_request;
    $leaves->close;
    $request->wait_abandoned;
    settle();
    my @lines = map { JSON::PP::decode_json($_) } grep { !m{/livez|/metrics} } split /\n/, substr read_file($LOG), $size;
    my @of = map { [@$_{qw(method target status bytes host)}] } @lines;
    is_deeply \@of,
        [
            ['GET', '/a?b', 200, 1234, 'shop.example'],
            ['HEAD', '/h', 200, 0, 'shop.example'],
            ['POST', '/c', 200, $of[2][3], 'shop.example'],
            ['GET', '/n', 304, 0, 'shop.example'],
            ['GET', '/w', 502, 16, 'away.example'],
            ['GET', '/cut', 200, 5, 'shop.example'],
            ['GET', '/left', 499, 0, 'shop.example'],
        ],
        'a line for each';
    is_deeply [@{$lines[0]}{qw(agent referrer peer protocol)}], ['agent', 'r', '127.0.0.1', 'HTTP/1.1'], 'with what the client said';
    $backend->answer;
};

my $end = Baton::Metrics->wait_open($barrier);
is $end->imbalance, 0, 'every connection is accounted for';
is $server->stop, 0, 'exit code';
unlike $server->log, qr{ died: }, 'no worker died';
done_testing;
