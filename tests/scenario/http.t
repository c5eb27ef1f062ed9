# HTTP/1 over real sockets (RFC 9112): framing, persistence, and clients that get it wrong.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Metrics ();
use Baton::Test;

my $NUMBERS = pack 'N*', 0 .. 249_999;
# More than any buffer holds that a client's bytes could wait in unread.
my $FLOOD = 'x' x (16 << 20);

my $site = folder(
    'hello.txt' => "hello\n",
    'numbers.bin' => $NUMBERS,
    map { ("$_.txt" => "number $_\n") } 0 .. 99);
open my $large, '>', "$site/large.bin" or die $!;
truncate $large, 64 << 20 or die $!;

my $server = start(
    sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
    config => <<~END);
        [Server]
        Workers=1
        MaxBodySize=64K
        [Listen http]
        [Listen admin]
        Admin=yes
        [Route site]
        Root=$site
        END

# Whatever was sent to the only worker before this is called has been read when it returns: the
# second request is read in a later turn of its loop than the first, and so than all before.
my $barrier = $server->connect('admin');

sub settle
{
    $barrier->get('/livez') for 1 .. 2;
}

sub request($method, $target, @fields)
{
    return join "\r\n", "$method $target HTTP/1.1", 'Host: localhost', @fields, '', '';
}

# The next answers' statuses, and then the end: nothing more, and no reset.
sub ends_with($connection, $statuses, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @got = eval {
        my @answers = map { $connection->read_answer } @$statuses;
        (map({ $_->status } @answers), $answers[-1]->closes, $connection->read_to_end);
    };
    is_deeply [@got, $@], [@$statuses, 1, '', ''], $name;
}

subtest 'persistent connections' => sub {
    my $before     = Baton::Metrics->wait_open($barrier);
    my $connection = $server->connect;
    is $connection->get('/hello.txt')->body, "hello\n", "request $_" for 1 .. 3;
    ok !$connection->get('/nothing')->closes, 'errors of the resource do not end it';
    my $now = Baton::Metrics->scrape($barrier);
    is $now->value('connections_accepted_total') - $before->value('connections_accepted_total'), 1, 'one connection';
    is $now->value('requests_total') - $before->value('requests_total'), 5, 'four requests, and a scrape';
    $connection->send(request(GET => '/hello.txt', 'Connection: close'));
    ends_with $connection, [200], 'Connection: close';
    my @options = ('Connection: x, CLOSE', 'Connection: keep-alive');
    ends_with $server->connect->send(request(GET => '/hello.txt', @options)), [200], 'among other options';
    $connection = $server->connect->send("\r\n" . request(GET => '/hello.txt'));
    is $connection->read_answer->status, 200, 'an empty line before a request';
    $connection->send("GET /hello.txt HTTP/1.7\r\nHost: x\r\n\r\n");
    is $connection->read_answer->status, 200, 'a later minor version';
};

subtest 'HTTP/1.0' => sub {
    my $connection = $server->connect->send("GET /hello.txt HTTP/1.0\r\n\r\n");
    ends_with $connection, [200], 'closes, and needs no Host';
    $connection = $server->connect;
    for (1 .. 2) {
        $connection->send("GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        my $answer = $connection->read_answer;
        is $answer->body, "hello\n", 'keep-alive';
        is lc $answer->field('Connection'), 'keep-alive', 'as it is told';
    }
    $connection->send("POST /hello.txt HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello");
    ends_with $connection, [405], 'with a body';
    $connection = $server->connect;
    $connection->send("GET /hello.txt HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    settle();
    ok $connection->is_quiet, 'has no 100-continue';
    $connection->send('hello');
    ends_with $connection, [200], 'and then its answer';
};

subtest 'targets' => sub {
    my $connection = $server->connect;
    is $connection->get('http://any.example:80/hello.txt')->body, "hello\n", 'absolute form';
    is $connection->get('https://any.example/hello.txt?q')->body, "hello\n", 'of https';
    is $connection->get('http://any.example')->status, 403, 'without a path';
    my $options = $connection->request(OPTIONS => '*');
    is $options->status, 204, 'OPTIONS *';
    is $options->field('Allow'), 'GET, HEAD, OPTIONS', 'Allow';
    is $connection->request(CONNECT => 'any.example:443')->status, 405, 'CONNECT';
    is $connection->get('/hello.txt', Host => '')->status, 200, 'an empty Host';
    is $connection->get('/hello.txt', Host => '[::1]:8080')->status, 200, 'an IPv6 Host';
};

subtest 'pipelining' => sub {
    my $connection = $server->connect;
    $connection->send(join '', map { request(GET => "/$_.txt") } 0 .. 99);
    is_deeply [map { $connection->read_answer->body } 0 .. 99], [map {"number $_\n"} 0 .. 99],
        '100 requests in one write, answered in order';
    my ($first, $last) = (request(GET => '/1.txt'), request(GET => '/3.txt'));
    $connection->send($first . request(HEAD => '/2.txt') . request(GET => '/nothing') . $last);
    is_deeply [map { $connection->read_answer($_)->status } qw(GET HEAD GET GET)],
        [200, 200, 404, 200], 'HEAD among them';

    $connection->send($first . request(GET => '/2.txt', 'Connection: close') . $last);
    ends_with $connection, [200, 200], 'none after one with Connection: close';

    # It stops to read when nobody reads its answers, and goes on with them.
    $connection = $server->connect(undef, receive_buffer => 4096);
    $connection->send(join '', map { request(GET => '/' . $_ % 100 . '.txt') } 0 .. 9_999);
    settle();
    my $wrong = grep { $connection->read_answer->body ne 'number ' . $_ % 100 . "\n" } 0 .. 9_999;
    is $wrong, 0, '10,000 requests before the first answer is read';
};

subtest 'answers that leave together' => sub {
    # What comes from no file is sent with the next answer, if that is here.
    my $connection = $server->connect;
    my $nothing    = request(GET => '/nothing');
    my $file       = request(GET => '/1.txt');
    my @statuses = (404, 404, 200, 404, 404, 404, 200);
    $connection->send(join '', map { $_ == 404 ? $nothing : $file } @statuses);
    is_deeply [map { $connection->read_answer->status } @statuses], \@statuses, 'with files between them';

    my $post = request(POST => '/nothing', 'Content-Length: 5');
    $connection->send($nothing x 3 . $post . 'he');
    is $connection->read_answer->status, 404, 'they do not wait for a body' for 1 .. 3;
    $connection->send('llo' . $nothing x 2 . substr $nothing, 0, 10);
    is $connection->read_answer->status, $_, "nor for the rest of a head: $_" for 405, 404, 404;
    $connection->send(substr $nothing, 10);
    is $connection->read_answer->status, 404, 'which is answered when it is there';
    $connection->send($nothing x 2 . "\r\n");
    is $connection->read_answer->status, 404, 'nor for what follows an empty line' for 1 .. 2;
    $connection->send($nothing x 2 . "GET /\r\n\r\n");
    ends_with $connection, [404, 404, 505], 'and a refusal';

    # While nobody reads, a body can find no room for the answers before it: then it is not waited for.
    $connection = $server->connect(undef, receive_buffer => 4096);
    my @round = ((404) x 300, 405);
    my $round = $nothing x 300 . $post . 'hello';
    $connection->send($round x 200);
    my ($number, $answer, $wrong) = (0, undef, 0);
    do {
        $answer = $connection->read_answer;
        $wrong++ if $answer->status != $round[$number++ % @round];
    } until $answer->closes || $number == 200 * @round;
    is $wrong, 0, "$number answers, each the right one";
};

# A body of this length in the chunked coding, in chunks of various sizes.
sub chunked($length)
{
    my $body = '';
    while ($length > 0) {
        my $size = 1 + int rand($length < 5000 ? $length : 5000);
        $body .= sprintf "%x%s\r\n%s\r\n", $size, rand() < 0.5 ? ';x=y' : '', 'c' x $size;
        $length -= $size;
    }
    return $body . "0\r\n" . (rand() < 0.5 ? "Digest: 1\r\n" : '') . "\r\n";
}

sub random_request($number)
{
    my $kind   = int rand 4;
    my $length = int rand(rand() < 0.5 ? 30 : 20_000);
    my @fields = ('X: ' . 'x' x rand(rand() < 0.5 ? 30 : 3000));
    my @get    = (GET => "/$number.txt", @fields);
    return request(@get) if $kind == 0;
    return request(@get, "Content-Length: $length") . 'b' x $length if $kind == 1;
    return request(@get, 'Transfer-Encoding: chunked') . chunked($length) if $kind == 2;
    return request(HEAD => "/$number.txt", @fields, 'transfer-encoding: Chunked') . chunked($length);
}

subtest 'pipelining with bodies' => sub {
    for my $seed (1 .. 5) {
        srand $seed;
        my @requests   = map { random_request($_) } 0 .. 99;
        my $bytes      = join '', @requests;
        my $piece      = (length $bytes, 4096, 977, 20_481, 101)[$seed - 1];
        my $connection = $server->connect;
        $connection->send($_) for unpack "(a$piece)*", $bytes;
        my @wrong = grep {
            my ($method) = $requests[$_] =~ /^(\w+)/;
            my $answer = $connection->read_answer($method);
            $answer->status != 200 || $answer->body ne ($method eq 'GET' ? "number $_\n" : '');
        } 0 .. 99;
        is "@wrong", '', "in pieces of $piece bytes";
        ok $connection->is_quiet, 'and nothing more';
    }
};

subtest 'split at every byte' => sub {
    my $bytes = request(GET => '/1.txt', 'X: y')
        . request(GET => '/2.txt', 'Content-Length: 5') . 'hello'
        . request(GET => '/3.txt', 'Transfer-Encoding: chunked')
        . "2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n"
        . request(GET => '/4.txt', 'Connection: close');
    my $expected = join '', map {"number $_\n"} 1 .. 4;
    my @wrong;
    for my $at (1 .. length($bytes) - 1) {
        my $connection = $server->connect->send(substr $bytes, 0, $at);
        settle();
        $connection->send(substr $bytes, $at);
        my $bodies = eval { join '', map { $connection->read_answer->body } 1 .. 4 };
        push @wrong, $at if ($bodies // $@) ne $expected || !$connection->is_closed;
    }
    is "@wrong", '', 'in two';
    my $connection = $server->connect;
    for (split //, $bytes) {
        $connection->send($_);
        settle();
    }
    is join('', map { $connection->read_answer->body } 1 .. 4), $expected, 'in all';
};

subtest 'Expect: 100-continue' => sub {
    my $connection = $server->connect;
    my %bodies = ('Content-Length: 5' => 'hello', 'Transfer-Encoding: chunked' => "5\r\nhello\r\n0\r\n\r\n");
    for my $field (sort keys %bodies) {
        $connection->send(request(GET => '/hello.txt', $field, 'Expect: 100-continue'));
        is $connection->read_head(10)->status, 100, "$field: asked for";
        settle();
        ok $connection->is_quiet, 'and waited for';
        $connection->send($bodies{$field});
        is $connection->read_answer->status, 200, 'the answer';
    }
    $connection->send(request(GET => '/hello.txt', 'Content-Length: 5', 'Expect: 100-Continue') . 'he');
    settle();
    ok $connection->is_quiet, 'not asked for where it comes already';
    $connection->send('llo');
    my $answer = $connection->read_answer;
    is_deeply [$answer->status, scalar @{$answer->{interim}}], [200, 0], 'the answer';
    $connection->send(request(GET => '/hello.txt', 'Expect: 100-continue'));
    is_deeply $connection->read_answer->{interim}, [], 'not without a body';
    $connection->send(request(POST => '/hello.txt', 'Content-Length: 5', 'Expect: 100-continue'));
    ends_with $connection, [405], 'refused without the body';

    # The client may have decided not to wait.
    $connection = $server->connect;
    $connection->send(request(POST => '/', 'Content-Length: 60000', 'Expect: 100-continue'));
    settle();
    $connection->send($FLOOD);
    ends_with $connection, [405], 'refused, and the body comes all the same';
    $connection = $server->connect;
    $connection->send(request(GET => '/', 'Content-Length: 65537', 'Expect: 100-continue'));
    ends_with $connection, [413], 'refused as too large';
    $connection = $server->connect;
    $connection->send(request(GET => '/', 'Content-Length: 5', 'Expect: miracles'));
    ends_with $connection, [417], 'another expectation';
};

subtest 'bodies that are too large' => sub {
    my $connection = $server->connect;
    my $chunked    = request(GET => '/hello.txt', 'Transfer-Encoding: chunked');
    $connection->send(request(GET => '/hello.txt', 'Content-Length: 65536') . 'x' x 65536);
    is $connection->read_answer->status, 200, 'exactly not';
    $connection->send($chunked . "10000\r\n" . 'x' x 65536 . "\r\n0\r\n\r\n");
    is $connection->read_answer->status, 200, 'chunked';
    $connection->send(request(GET => '/hello.txt', 'Content-Length: ' . length $FLOOD) . $FLOOD);
    ends_with $connection, [413], 'by length, and all of it is sent';
    $connection = $server->connect;
    $connection->send($chunked . "fffffff\r\n" . $FLOOD);
    ends_with $connection, [413], 'chunked';
    $connection = $server->connect;
    $connection->send(request(POST => '/', 'Content-Length: 18446744073709551615'));
    ends_with $connection, [413], 'the largest length';
};

my $HOST = "Host: localhost\r\n";
my $GET  = "GET /hello.txt HTTP/1.1\r\n";

my %malformed = (
    400 => {
        'no method' => "\r\n\r\n$GET$HOST\r\n",
        'a CR before the request' => "\r$GET$HOST\r\n",
        'LF before the request' => "\n$GET$HOST\r\n",
        'a space before the request' => " $GET$HOST\r\n",
        'TLS' => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        'NUL' => "\0",
        'a method that is no token' => "G(T / HTTP/1.1\r\n$HOST\r\n",
        'a method alone' => "GET\r\n\r\n",
        'a tab' => "GET\t/ HTTP/1.1\r\n$HOST\r\n",
        'two spaces' => "GET  /hello.txt HTTP/1.1\r\n$HOST\r\n",
        'two spaces before the version' => "GET /hello.txt  HTTP/1.1\r\n$HOST\r\n",
        'a space behind the version' => "GET /hello.txt HTTP/1.1 \r\n$HOST\r\n",
        'no HTTP' => "GET /hello.txt HTCPCP/1.0\r\n$HOST\r\n",
        'no version' => "GET /hello.txt HTTP/x.y\r\n$HOST\r\n",
        'a control character in the target' => "GET /\x01 HTTP/1.1\r\n$HOST\r\n",
        'UTF-8 in the target' => "GET /\xc3\xa4 HTTP/1.1\r\n$HOST\r\n",
        'a fragment in the target' => "GET /#x HTTP/1.1\r\n$HOST\r\n",
        'a target that is no path' => "GET hello.txt HTTP/1.1\r\n$HOST\r\n",
        'another scheme' => "GET ftp://x/hello.txt HTTP/1.1\r\n$HOST\r\n",
        'user information' => "GET http://u:p\@x/ HTTP/1.1\r\n$HOST\r\n",
        'GET *' => "GET * HTTP/1.1\r\n$HOST\r\n",
        'CONNECT without a port' => "CONNECT x HTTP/1.1\r\n$HOST\r\n",
        'no Host' => "$GET\r\n",
        'two Hosts' => "$GET$HOST$HOST\r\n",
        'a Host with a path' => "${GET}Host: x/y\r\n\r\n",
        'a Host with a user' => "${GET}Host: x\@y\r\n\r\n",
        'a Host with a space' => "${GET}Host: x y\r\n\r\n",
        'Hosts with a comma' => "${GET}Host: x, y\r\n\r\n",
        'a Host with a port too large' => "${GET}Host: x:65536\r\n\r\n",
        'a Host with an open bracket' => "${GET}Host: [::1\r\n\r\n",
        'a space before the colon' => "$GET${HOST}X : y\r\n\r\n",
        'a space before the name' => "$GET X: y\r\n$HOST\r\n",
        'no colon' => "$GET${HOST}X\r\n\r\n",
        'an empty name' => "$GET${HOST}: y\r\n\r\n",
        'a name that is no token' => "$GET${HOST}X(: y\r\n\r\n",
        'a folded line' => "$GET${HOST}X: y\r\n z\r\n\r\n",
        'a line folded with a tab' => "$GET${HOST}X:\r\n\ty\r\n\r\n",
        'a control character in a value' => "$GET${HOST}X: \x07\r\n\r\n",
        'NUL in a value' => "$GET${HOST}X: a\0b\r\n\r\n",
        'a CR in a value' => "$GET${HOST}X: a\rb\r\n\r\n",
        'LF behind the request line' => "GET /hello.txt HTTP/1.1\n$HOST\r\n",
        'LF behind a field' => "${GET}Host: localhost\nX: y\r\n\r\n",
        'LF behind the last field' => "${GET}Host: localhost\n\r\n",
        'LF at the end' => "$GET$HOST\n",
        'CR CR LF' => "${GET}Host: localhost\r\r\n\r\n",
    },
    501 => {
        'an unknown method' => "FETCH / HTTP/1.1\r\n$HOST\r\n",
        'a method in lower case' => "get / HTTP/1.1\r\n$HOST\r\n",
        'a method of RTSP' => "DESCRIBE / HTTP/1.1\r\n$HOST\r\n",
        'an endless method' => 'X' x 100,
        'another coding' => "$GET${HOST}Transfer-Encoding: gzip, chunked\r\n\r\n",
    },
    505 => {
        'HTTP/0.9' => "GET /hello.txt\r\n",
        'HTTP/2' => "GET /hello.txt HTTP/2.0\r\n$HOST\r\n",
        'HTTP/0.9 said' => "GET /hello.txt HTTP/0.9\r\n$HOST\r\n",
        'the preface of HTTP/2' => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    },
);

subtest 'malformed heads' => sub {
    for my $status (sort keys %malformed) {
        for my $name (sort keys %{$malformed{$status}}) {
            my $connection = $server->connect->send($malformed{$status}{$name});
            ends_with $connection, [$status], "$name: $status";
        }
    }
};

# Clients that go on sending see the answer, not a reset.
subtest 'lingering close' => sub {
    my $before = Baton::Metrics->wait_open($barrier);
    my %cases  = (
        'a malformed head' => ["GET / HTTP/1.1\r\n\r\n", 400],
        'Connection: close' => [request(GET => '/numbers.bin', 'Connection: close'), 200],
        'HTTP/1.0' => ["GET /hello.txt HTTP/1.0\r\n\r\n", 200],
        'a head that is too large' => [request(GET => '/', 'X: ' . 'x' x 20_000), 431],
        'a target that is too long' => ['GET /' . 'x' x 20_000, 414],
        'malformed chunks' => [request(GET => '/', 'Transfer-Encoding: chunked') . "x\r\n", 400],
    );
    for my $name (sort keys %cases) {
        my ($bytes, $status) = @{$cases{$name}};
        my $connection = $server->connect;
        ok eval { $connection->send($bytes . $FLOOD) }, "$name: the client goes on" or diag $@;
        ends_with $connection, [$status], "$name: and sees the answer";
        $connection->close;
    }

    # What comes later: after the end of the answer, or while it is on its way.
    my $connection = $server->connect->send(request(POST => '/', 'Content-Length: ' . length $FLOOD));
    settle();
    $connection->send($FLOOD);
    ends_with $connection, [413], 'a body that comes after its refusal';
    $connection->close;
    my $last = request(GET => '/large.bin', 'Connection: close');
    for my $name ('behind the request', 'later') {
        $connection = $server->connect(undef, receive_buffer => 4096);
        $connection->send($name eq 'later' ? $last : "${last}x");
        my $length = $connection->read_head(10)->content_length;
        $connection->send('x') if $name eq 'later';
        $connection->read_bytes($length - (1 << 20));
        settle(); # the rest is the kernel's now
        $connection->send('x');
        is length(eval { $connection->read_to_end } // ''), 1 << 20, "a byte $name: the whole answer";
        $connection->close;
    }
    my $after = Baton::Metrics->wait_open($barrier);
    is_deeply $after->growth($before, 'connections_ended_total'),
        { request_refused => 5, client_asked => 4 }, 'counted';
};

# Each hides a second request from one of two readers; it must never be answered.
subtest 'request smuggling' => sub {
    my $hidden = "GET /1.txt HTTP/1.1\r\n$HOST\r\n";
    my $length = length "0\r\n\r\n$hidden";
    my %fields = (
        'CL.TE' => "Content-Length: $length\r\nTransfer-Encoding: chunked\r\n",
        'TE.CL' => "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        'two lengths' => "Content-Length: 5\r\nContent-Length: $length\r\n",
        'the same length twice' => "Content-Length: 5\r\nContent-Length: 5\r\n",
        'a list of lengths' => "Content-Length: 5, 5\r\n",
        'a signed length' => "Content-Length: +5\r\n",
        'a negative length' => "Content-Length: -5\r\n",
        'a length in hexadecimal' => "Content-Length: 0x5\r\n",
        'a length with a fraction' => "Content-Length: 5.0\r\n",
        'an empty length' => "Content-Length:\r\n",
        'a length of more than 64 bits' => "Content-Length: 18446744073709551621\r\n",
        'a length with a space before the colon' => "Content-Length : 5\r\n",
        'a folded length' => "Content-Length:\r\n 5\r\n",
        'an unknown coding' => "Transfer-Encoding: xchunked\r\n",
        'identity' => "Transfer-Encoding: identity\r\n",
        'chunked, but not last' => "Transfer-Encoding: chunked, identity\r\n",
        'chunked twice' => "Transfer-Encoding: chunked, chunked\r\n",
        'chunked in two fields' => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        'a quoted coding' => qq{Transfer-Encoding: "chunked"\r\n},
        'a coding with a control character' => "Transfer-Encoding: \x0bchunked\r\n",
        'an empty coding' => "Transfer-Encoding:\r\n",
        'a folded coding' => "Transfer-Encoding:\r\n chunked\r\n",
        'a coding with a space before the colon' => "Transfer-Encoding : chunked\r\n",
        'a coding behind a bare CR' => "X: y\rTransfer-Encoding: chunked\r\n",
        'a coding behind a bare LF' => "X: y\nTransfer-Encoding: chunked\r\n",
        'a coding behind NUL' => "X: y\0\r\nTransfer-Encoding: chunked\r\n",
    );
    for my $name (sort keys %fields) {
        ends_with $server->connect->send("$GET$HOST$fields{$name}\r\n0\r\n\r\n$hidden"), [400], $name;
    }
    my $old = "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n$hidden";
    ends_with $server->connect->send($old), [400], 'chunked in HTTP/1.0';
    my %bodies = (
        'a size that overflows' => "10000000000000005\r\nhello\r\n0\r\n\r\n",
        'no size' => "\r\nhello\r\n0\r\n\r\n",
        'a signed size' => "+5\r\nhello\r\n0\r\n\r\n",
        'a size with 0x' => "0x5\r\nhello\r\n0\r\n\r\n",
        'a negative size' => "-1\r\nhello\r\n0\r\n\r\n",
        'a space before the size' => " 5\r\nhello\r\n0\r\n\r\n",
        'LF behind the size' => "5\nhello\r\n0\r\n\r\n",
        'LF in an extension' => "5;x\nhello\r\n0\r\n\r\n",
        'CR in an extension' => "5;x\r5\r\nhello\r\n0\r\n\r\n",
        'a chunk longer than its size' => "5\r\nhello!\r\n0\r\n\r\n",
        'LF behind a chunk' => "5\r\nhello\n0\r\n\r\n",
        'LF behind the last chunk' => "0\n\r\n",
        'LF at the end' => "0\r\n\n",
        'a trailer that is folded' => "0\r\nX: y\r\n z\r\n\r\n",
        'a trailer without a colon' => "0\r\nX\r\n\r\n",
        'extensions without end' => '5;' . 'x' x 100_000 . "\r\nhello\r\n0\r\n\r\n",
        'many extensions' => "1;x=y\r\na\r\n" x 20_000 . "0\r\n\r\n",
        'trailers without end' => "0\r\n" . "X: y\r\n" x 20_000 . "\r\n",
    );
    for my $name (sort keys %bodies) {
        my $head = "$GET${HOST}Transfer-Encoding: chunked\r\n\r\n";
        ends_with $server->connect->send("$head$bodies{$name}$hidden"), [400], $name;
    }
};

subtest 'clients that send no more' => sub {
    my $before     = Baton::Metrics->wait_open($barrier);
    my $connection = $server->connect->send(request(GET => '/numbers.bin'))->finish;
    ok $connection->read_answer->body eq $NUMBERS, 'the whole answer';
    ok $connection->is_closed, 'then the end';
    $connection = $server->connect(undef, receive_buffer => 4096);
    $connection->send(join '', map { request(GET => "/$_") } map({"$_.txt"} 0 .. 99), 'numbers.bin')->finish;
    $connection->read_answer for 0 .. 99;
    ok $connection->read_answer->body eq $NUMBERS, 'after a hundred requests';
    ok $connection->is_closed, 'then the end';
    my $now = Baton::Metrics->wait_ended($barrier, $before, 'client_closed', 2);

    for my $half (substr(request(GET => '/'), 0, -2), request(GET => '/', 'Content-Length: 5') . 'hell') {
        $connection = $server->connect->send($half)->finish;
        is $connection->read_to_end, '', 'half a request has no answer';
    }
    ok $server->connect->finish->is_closed, 'and none neither';
    $now = Baton::Metrics->wait_ended($barrier, $now, 'client_closed');
    is_deeply $now->growth($before, 'connections_ended_total'),
        { client_closed => 3, client_abandoned => 2 }, 'counted';
};

subtest 'clients that reset' => sub {
    my $before = Baton::Metrics->wait_open($barrier);
    my %cases  = (
        'without a request' => '',
        'in a head' => 'GET / HT',
        'in a body' => request(GET => '/', 'Content-Length: 5') . 'h',
        'before an answer' => request(GET => '/large.bin'),
    );
    for my $name (sort keys %cases) {
        my $connection = $server->connect->send($cases{$name});
        settle() unless $name eq 'before an answer';
        $connection->reset;
    }
    my $connection = $server->connect(undef, receive_buffer => 4096);
    $connection->send(request(GET => '/large.bin'))->read_head(10);
    $connection->reset;
    $connection = $server->connect->send("GET / HTTP/1.1\r\n\r\n");
    $connection->read_answer;
    $connection->reset;
    my $now = Baton::Metrics->wait_ended($barrier, $before, 'client_abandoned', 5);
    $now = Baton::Metrics->wait_ended($barrier, $before, 'request_refused');
    is_deeply $now->growth($before, 'connections_ended_total'),
        { client_abandoned => 5, request_refused => 1 }, 'each counted once';
    is $now->imbalance, 0, 'none is left';
    is $server->get('/hello.txt')->body, "hello\n", 'the others are served';
};

is $server->stop, 0, 'exit code';
unlike $server->log, qr{ died: }, 'no worker died';
done_testing;
