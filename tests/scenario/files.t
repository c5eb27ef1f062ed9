# Files over HTTP: what is found, what is said of it, and each of its bytes.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Metrics ();
use Baton::Test;
use POSIX  qw(mkfifo strftime setlocale LC_TIME);
use Socket qw(AF_UNIX SOCK_STREAM pack_sockaddr_un);

setlocale(LC_TIME, 'C');

# Every four bytes are another number: no piece of it can be taken for another one.
my $NUMBERS = pack 'N*', 0 .. 249_999;
my $WRITTEN = 1_000_000_000;
my $SIZE    = length $NUMBERS;

my $site = folder(
    'index.html' => '<title>home</title>',
    'hello.txt' => "hello\n",
    'none.txt' => '',
    'numbers.bin' => $NUMBERS,
    'with index/index.html' => 'an index',
    'with second/default.htm' => 'the second choice',
    'bare/file' => 'no index here',
    'example.org/index.html' => 'not another host',
    '.hidden' => 'hidden',
    '.git/config' => 'hidden',
    'bare/.hidden' => 'hidden',
    '.well-known/token' => 'for everybody',
    '.well-known/.hidden' => 'hidden',
    'page.css' => 'plain',
    'page.css.gz' => 'gzip',
    'page.css.br' => 'brotli',
    'page.css.zst' => 'zstandard',
    'only.js' => 'plain',
    'only.js.gz' => 'gzip',
    'app.html' => 'the application',
    'missing.html' => '<title>not here</title>',
);
utime $WRITTEN, $WRITTEN, "$site/$_" or die "$_: $!\n" for qw(hello.txt numbers.bin);

sub configuration($more = '')
{
    return <<~END . $more;
        [Server]
        Workers=1
        MaxRanges=4
        [Listen http]
        [Listen admin]
        Admin=yes
        [Route site]
        Root=$site
        Index=index.html default.htm
        END
}

my $server = start(
    sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
    config => configuration(<<~END));
        [Route plain]
        Host=compressed.example
        Root=$site
        Precompressed=yes
        CacheControl=public, max-age=60
        [Route app]
        Host=app.example
        Root=$site
        Fallback=/app.html
        [Route pages]
        Host=pages.example
        Root=$site
        ErrorPage=403 404 /missing.html
        ErrorPage=405 /no-such-page.html
        END

sub fields_of($answer, @names)
{
    return {map { ($_ => $answer->field($_)) } @names};
}

# One connection for each subtest: whatever an answer leaves behind, the next one meets.
sub statuses($connection, @table)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my (%got, %expected);
    for (@table) {
        my ($target, $status, @fields) = @$_;
        $got{"$target @fields"}      = $connection->get($target, @fields)->status;
        $expected{"$target @fields"} = $status;
    }
    is_deeply \%got, \%expected, 'statuses';
}

subtest 'GET and HEAD' => sub {
    my $connection = $server->connect;
    my $got        = $connection->get('/hello.txt');
    is $got->status, 200;
    is $got->body,   "hello\n", 'content';
    is_deeply fields_of($got, qw(Content-Length Content-Type Last-Modified Accept-Ranges Vary Cache-Control)),
        {
            'Content-Length' => 6,
            'Content-Type' => 'text/plain; charset=utf-8',
            'Last-Modified' => 'Sun, 09 Sep 2001 01:46:40 GMT',
            'Accept-Ranges' => 'bytes',
            'Vary' => undef,
            'Cache-Control' => undef,
        },
        'what is said of it';
    like $got->field('Date'), qr/^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/, 'Date';
    like $got->field('ETag'), qr/^"[^"]+"$/, 'a strong entity tag';
    ok !$got->closes, 'persistent';

    my $head = $connection->request(HEAD => '/hello.txt');
    is_deeply [map { [@$_] } grep { $_->[0] ne 'Date' } @{$head->{fields}}],
        [map { [@$_] } grep { $_->[0] ne 'Date' } @{$got->{fields}}], 'HEAD says the same';
    is $connection->get('/numbers.bin')->body, $NUMBERS, 'and no content: the next answer is whole';
    is $connection->request(HEAD => '/no such file' =~ s/ /%20/gr)->status, 404, 'HEAD of nothing';
    is $connection->get('/none.txt')->body, '', 'an empty file';
    is $connection->get('/hello.txt?query')->body, "hello\n", 'a query';
    is $connection->get('/h%65llo%2Etxt')->body,   "hello\n", 'percent-encoding';

    for my $method (qw(POST PUT DELETE PATCH TRACE)) {
        my $refused = $connection->request($method, '/hello.txt');
        is $refused->status, 405, $method;
        is $refused->field('Allow'), 'GET, HEAD, OPTIONS', 'Allow';
    }
    my $options = $connection->request(OPTIONS => '/hello.txt');
    is $options->status, 204, 'OPTIONS';
    is $options->field('Allow'), 'GET, HEAD, OPTIONS', 'Allow';
};

subtest 'folders' => sub {
    my $connection = $server->connect;
    is $connection->get('/')->body,              '<title>home</title>', 'index';
    is $connection->get('/with%20index/')->body, 'an index',            'of a folder';
    is $connection->get('/with%20second/')->body, 'the second choice',  'the second choice';
    my %locations = (
        '/with%20index' => '/with%20index/',
        '/with%20index?a=%20b&c' => '/with%20index/?a=%20b&c',
        '/with%20index?' => '/with%20index/?',
        '/bare' => '/bare/',
        '//example.org' => '/example.org/',
        '/bare/../example.org' => '/example.org/',
    );
    for my $target (sort keys %locations) {
        my $answer = $connection->get($target);
        is $answer->status, 301, $target;
        is $answer->field('Location'), $locations{$target}, 'Location';
    }
    statuses($connection,
        ['/bare/', 403], ['/hello.txt/', 404], ['/bare/nothing', 404], ['/nothing/', 404],
        ['/../hello.txt', 400], ['/bare/../../hello.txt', 400], ['/bare/%2e%2e/hello.txt', 200],
        ['/bare%2Ffile', 400], ['/hello.txt%00', 400], ['/%', 400], ['/%zz', 400],
        ['/' . 'x' x 300, 404], ['/' . 'x/' x 3000, 404], ['/.', 200], ['/./hello.txt', 200]);
};

subtest 'conditional requests' => sub {
    my $connection = $server->connect;
    my $etag       = $connection->get('/hello.txt')->field('ETag');
    my $date       = 'Sun, 09 Sep 2001 01:46:40 GMT';
    my $before     = 'Sun, 09 Sep 2001 01:46:39 GMT';
    statuses($connection, map { ['/hello.txt', @$_] }
        [304, 'If-None-Match' => $etag],
        [304, 'If-None-Match' => "W/$etag"],
        [304, 'If-None-Match' => '*'],
        [304, 'If-None-Match' => qq{"a,b", $etag}],
        [200, 'If-None-Match' => '"other"'],
        [304, 'If-Modified-Since' => $date],
        [200, 'If-Modified-Since' => $before],
        [304, 'If-Modified-Since' => 'Sunday, 09-Sep-01 01:46:40 GMT'],
        [200, 'If-Modified-Since' => 'yesterday'],
        [200, 'If-None-Match' => '"other"', 'If-Modified-Since' => $date],
        [200, 'If-Match' => $etag],
        [200, 'If-Match' => '*'],
        [412, 'If-Match' => "W/$etag"],
        [412, 'If-Match' => '"other"'],
        [412, 'If-Unmodified-Since' => $before],
        [200, 'If-Unmodified-Since' => $date],
        [412, 'If-Match' => '"other"', 'If-None-Match' => $etag]);
    my $answer = $connection->get('/hello.txt', 'If-None-Match' => $etag);
    is $answer->field('ETag'),           $etag, 'a 304 names what it means';
    is $answer->field('Content-Length'), undef, 'and has no content';
    is $connection->request(HEAD => '/hello.txt', 'If-None-Match' => $etag)->status, 304, 'HEAD too';

    # Replaced within the second, by another of the same size.
    write_file("$site/hello.new", "HELLO\n");
    utime $WRITTEN, $WRITTEN, "$site/hello.new";
    rename "$site/hello.new", "$site/hello.txt" or die $!;
    is $connection->get('/hello.txt', 'If-None-Match' => $etag)->body, "HELLO\n", 'another file';
    write_file("$site/hello.txt", "hello\n");
    utime $WRITTEN, $WRITTEN, "$site/hello.txt";
};

subtest 'one range' => sub {
    my $connection = $server->connect;
    my $last       = $SIZE - 1;
    my @ranges     = (
        ['0-0', 0, 0], ['0-', 0, $last], ["$last-", $last, $last], ['1-4096', 1, 4096],
        ['65535-65537', 65535, 65537], ['-1', $last, $last], ['-999999999999', 0, $last],
        ["999000-99999999999999999999", 999_000, $last], ['0-1,2-3', 0, 3], ['2-5,0-3', 0, 5],
        [',, 7-8 ,', 7, 8], ['999999999-,5-6', 5, 6]);
    for (@ranges) {
        my ($text, $from, $to) = @$_;
        my $answer = $connection->get('/numbers.bin', Range => "bytes=$text");
        is $answer->status, 206, $text;
        is $answer->field('Content-Range'), "bytes $from-$to/$SIZE", 'Content-Range';
        ok $answer->body eq substr($NUMBERS, $from, $to - $from + 1), 'these bytes';
    }
    for my $text ('bytes=1000000-', 'bytes=-0', 'bytes=99999999999999999999-', 'bytes=1000000-,2000000-') {
        my $answer = $connection->get('/numbers.bin', Range => $text);
        is $answer->status, 416, $text;
        is $answer->field('Content-Range'), "bytes */$SIZE", 'Content-Range';
    }
    for my $text (
        'bytes=5-1', 'bytes=a-b', 'bytes=1-2-3', 'bytes', 'bytes=', 'lines=0-1', 'bytes=0-1 2-3',
        'bytes=-', 'bytes=+1-2', 'bytes=0-9,20-29,40-49,60-69,80-89', 'bytes=2-,0-0,2-')
    {
        my $answer = $connection->get('/numbers.bin', Range => $text);
        is $answer->status, 200, "'$text' is the whole";
        ok $answer->body eq $NUMBERS, 'all bytes';
    }
    is $connection->get('/numbers.bin', Range => 'bytes=0-1', Range => 'bytes=4-5')->status, 200, 'twice';
    is $connection->request(HEAD => '/numbers.bin', Range => 'bytes=0-1')->status, 200, 'not of HEAD';
    is $connection->get('/none.txt', Range => 'bytes=0-')->status, 416, 'of an empty file';
    is $connection->get('/nothing', Range => 'bytes=0-')->status,  404, 'of nothing';

    my $etag = $connection->get('/numbers.bin')->field('ETag');
    my $date = 'Sun, 09 Sep 2001 01:46:40 GMT';
    statuses($connection, map { ['/numbers.bin', @$_, Range => 'bytes=0-1'] }
        [206, 'If-Range' => $etag], [200, 'If-Range' => '"other"'], [200, 'If-Range' => "W/$etag"],
        [206, 'If-Range' => $date], [200, 'If-Range' => 'Sun, 09 Sep 2001 01:46:41 GMT'],
        [304, 'If-None-Match' => $etag], [412, 'If-Match' => '"other"']);
};

# The parts of a multipart/byteranges answer as [type, from, to, size, bytes], to the last byte
# (RFC 9110 §14.6, RFC 2046 §5.1).
sub parts_of($answer)
{
    my ($boundary) = $answer->field('Content-Type') =~ m{^multipart/byteranges; boundary=([0-9a-f]{16,70})$}
        or die 'Content-Type: ' . $answer->field('Content-Type');
    my $body = "\r\n" . $answer->body;
    my @parts;
    my $head = qr{\r\n--$boundary\r\nContent-Type: (\S+)\r\nContent-Range: bytes (\d+)-(\d+)/(\d+)\r\n\r\n};
    while ($body =~ s/\A$head//) {
        push @parts, [$1, $2, $3, $4, substr $body, 0, $3 - $2 + 1, ''];
    }
    $body eq "\r\n--$boundary--\r\n" or die 'behind the last part: ' . substr $body, 0, 200;
    return @parts;
}

subtest 'several ranges' => sub {
    my $connection = $server->connect;
    my $type       = $connection->get('/numbers.bin')->field('Content-Type');
    my %ranges     = (
        '0-0,2-2' => [[0, 0], [2, 2]],
        '-4,0-3' => [[$SIZE - 4, $SIZE - 1], [0, 3]],
        '900000-,100-299999,5-5,400000-400001' =>
            [[900_000, $SIZE - 1], [100, 299_999], [5, 5], [400_000, 400_001]],
        '0-9,5-14,20-29' => [[0, 14], [20, 29]],
        '10-19,999999999-,30-39' => [[10, 19], [30, 39]],
    );
    for my $text (sort keys %ranges) {
        my $answer = $connection->get('/numbers.bin', Range => "bytes=$text");
        is $answer->status, 206, $text;
        is $answer->field('Content-Range'), undef, 'Content-Range is of the parts';
        my @expected = map {
            my ($from, $to) = @$_;
            [$type, $from, $to, $SIZE, substr $NUMBERS, $from, $to - $from + 1];
        } @{$ranges{$text}};
        ok eq_array([parts_of($answer)], \@expected), 'these parts';
    }
};

subtest 'a file of 10 GB' => sub {
    my $size = 10 << 30;
    open my $file, '+>', "$site/sparse" or die $!;
    truncate $file, $size or die $!;
    for my $at (5 << 30, (1 << 32) - 2, $size - 4) {
        sysseek $file, $at, 0;
        syswrite $file, pack 'N', $at & 0xffffffff;
    }
    my $connection = $server->connect;
    is $connection->request(HEAD => '/sparse')->field('Content-Length'), $size, 'its length';
    for my $at (5 << 30, (1 << 32) - 2, $size - 4) {
        my $end    = $at + 3;
        my $answer = $connection->get('/sparse', Range => "bytes=$at-$end");
        is $answer->field('Content-Range'), "bytes $at-$end/$size", "range at $at";
        is $answer->body, pack('N', $at & 0xffffffff), 'its bytes';
    }
    my $answer = $connection->get('/sparse', Range => 'bytes=-2,5368709120-5368709121');
    is_deeply [map { [@$_[1, 2, 4]] } parts_of($answer)],
        [[$size - 2, $size - 1, "\xff\xfc"], [5 << 30, (5 << 30) + 1, "\x40\x00"]], 'two ranges';

    # More than the kernel takes at once, for a client that reads slowly: the heads have to wait, too.
    $connection = $server->connect(undef, receive_buffer => 4096);
    $answer = $connection->get('/sparse', Range => 'bytes=0-19999999,30000000-49999999,-4');
    my @parts = parts_of($answer);
    is_deeply [map { [@$_[1, 2]] } @parts],
        [[0, 19_999_999], [30_000_000, 49_999_999], [$size - 4, $size - 1]], 'three large ranges';
    is join('', map { $_->[4] } @parts) =~ tr/\0//, 40_000_000, 'all bytes';
    unlink "$site/sparse";
};

subtest 'compressed beforehand' => sub {
    my $connection = $server->connect;
    my $choose     = sub ($target, $accepted) {
        my $answer = $connection->get(
            $target,
            Host => 'compressed.example',
            defined $accepted ? ('Accept-Encoding' => $accepted) : ());
        return [$answer->body, $answer->field('Content-Encoding'), $answer->field('Vary')];
    };
    my @table = (
        [undef, 'plain', undef], ['', 'plain', undef], ['gzip', 'gzip', 'gzip'],
        ['gzip, br, zstd', 'brotli', 'br'], ['gzip, zstd', 'zstandard', 'zstd'],
        ['br;q=0.5, gzip;q=0.6', 'gzip', 'gzip'], ['br;q=0, *', 'zstandard', 'zstd'],
        ['deflate', 'plain', undef], ['gzip;q=0', 'plain', undef], ['identity, gzip;q=0.5', 'plain', undef],
        ['BR', 'brotli', 'br']);
    for (@table) {
        my ($accepted, $content, $coding) = @$_;
        is_deeply $choose->('/page.css', $accepted), [$content, $coding, 'Accept-Encoding'],
            $accepted // 'nothing said';
    }
    is_deeply $choose->('/only.js', 'br, gzip'), ['gzip', 'gzip', 'Accept-Encoding'], 'what there is of it';
    my @compressed = ('/page.css', Host => 'compressed.example', 'Accept-Encoding');
    my %tags = map { ($connection->get(@compressed, $_)->field('ETag') => 1) } qw(gzip br zstd identity);
    is scalar(keys %tags), 4, 'each has an entity tag of its own';
    my $answer = $connection->get(@compressed, 'gzip', Range => 'bytes=1-2');
    is $answer->body, 'zi', 'a range of it';
    is $answer->field('Content-Type'), 'text/css; charset=utf-8', 'the type is that of the content';
    is $answer->field('Cache-Control'), 'public, max-age=60', 'CacheControl=';
    $answer = $connection->get('/page.css', 'Accept-Encoding' => 'gzip');
    is $answer->field('Vary'), undef, 'not where it is not configured';
};

subtest 'Fallback= and ErrorPage=' => sub {
    my $connection = $server->connect;
    my $app        = sub ($target) { $connection->get($target, Host => 'app.example') };
    is $app->('/users/7')->body,     'the application', 'for what is not there';
    is $app->('/users/7')->status,   200,               'with 200';
    is $app->('/users/7')->field('Content-Type'), 'text/html; charset=utf-8', 'and its type';
    is $app->('/with%20index/')->body, 'an index',      'not for what is there';
    is $app->('/bare/')->status,     403,               'nor for a folder without an index';
    is $app->('/.git/config')->status, 404,             'nor for what is hidden';
    is $app->('/%')->status,         400,               'nor for what is no path';

    my $html = 'text/html; charset=utf-8';
    my $page = sub ($method, $target) {
        my $answer = $connection->request($method, $target, Host => 'pages.example');
        return [$answer->status, $answer->body, $answer->field('Content-Type')];
    };
    is_deeply $page->(GET => '/nothing'), [404, '<title>not here</title>', $html], 'status 404';
    is_deeply $page->(GET => '/bare/'),   [403, '<title>not here</title>', $html], 'status 403';
    is_deeply $page->(HEAD => '/nothing'), [404, '', $html], 'without content for HEAD';
    is_deeply $page->(POST => '/'), [405, "405 Method Not Allowed\n", 'text/plain; charset=utf-8'],
        'a page that is not there';
    is $connection->get('/', Host => 'pages.example')->status, 200, 'the connection goes on';
};

# Both ways to stay beneath the root must have the same outcome.
my $outside = folder('secret' => 'secret', 'folder/secret' => 'secret');
my %links   = (
    'link-to-file' => 'hello.txt',
    'link-to-folder' => 'with index',
    'bare/link-up' => '../hello.txt',
    'link-to-link' => 'bare/link-up',
    'link-absolute' => "$site/hello.txt",
    'link-absolute-beneath' => '/hello.txt',
    'link-above' => '../hello.txt',
    'link-out' => "$outside/secret",
    'link-out-relative' => '../' . ($outside =~ s{.*/}{}r) . '/secret',
    'link-folder-out' => $outside,
    'bare/link-out-and-in' => '../../' . ($site =~ s{.*/}{}r) . '/hello.txt',
    'link-loop' => 'link-loop',
    'link-device' => '/dev/zero',
    'link-magic' => '/proc/self/root',
    'link-dangling' => 'nothing',
);
symlink $links{$_}, "$site/$_" or die "$_: $!\n" for keys %links;
mkfifo("$site/fifo", 0644) or die "fifo: $!\n";
socket my $socket, AF_UNIX, SOCK_STREAM, 0;
bind $socket, pack_sockaddr_un("$site/socket") or die "socket: $!\n";

my @outcomes = (
    ['/link-to-file', 200], ['/link-to-link', 200], ['/bare/link-up', 200], ['/link-to-folder', 301],
    ['/link-to-folder/', 200], ['/link-absolute', 404], ['/link-absolute-beneath', 404],
    ['/link-above', 404], ['/link-out', 404], ['/link-out-relative', 404],
    ['/link-folder-out', 404], ['/link-folder-out/secret', 404], ['/link-folder-out/folder/secret', 404],
    ['/bare/link-out-and-in', 404], ['/link-loop', 404], ['/link-device', 404], ['/link-magic', 404],
    ['/link-magic/etc/passwd', 404], ['/link-dangling', 404], ['/fifo', 403], ['/socket', 403],
    ['/hello.txt/x', 404], ['/.hidden', 404], ['/.git/config', 404], ['/bare/.hidden', 404],
    ['/.well-known/token', 200], ['/.well-known/.hidden', 404], ['/%2ehidden', 404],
    ['/with%20index/', 200], ['/bare/file', 200]);

subtest 'links, special and hidden files' => sub {
    statuses($server->connect, @outcomes);
};

subtest 'the same without openat2(2)' => sub {
    my $wrapper = source_root() . '/tests/support/without_openat2';
    local $ENV{BATON} = folder(baton => "#!/bin/sh\nexec '$wrapper' '" . baton() . "' \"\$@\"\n") . '/baton';
    chmod 0755, $ENV{BATON};
    my $walking =
        start(config => configuration(), sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0']);
    like read_file('/proc/' . ($walking->workers)[0] . '/status'), qr/^Seccomp:\t2$/m, 'a filter is there';
    my $connection = $walking->connect;
    statuses($connection, @outcomes);
    is $connection->get('/link-to-link')->body, "hello\n",      'through links';
    is $connection->get('/numbers.bin')->body,  $NUMBERS,       'a file';
    is $connection->get('/with%20second/')->body, 'the second choice', 'an index';
    is $walking->stop, 0, 'exit code';
};

# Larger than what the kernel takes for a client that does not read.
my $LARGE = 64 << 20;

sub large_file($path)
{
    open my $file, '+>', $path or die "$path: $!\n";
    truncate $file, $LARGE or die "$path: $!\n";
    return $file;
}

# A client with a small window, which has read the head of the answer about this file and no more.
sub begin_download($target)
{
    my $client = $server->connect(undef, receive_buffer => 4096);
    $client->send("GET $target HTTP/1.1\r\nHost: x\r\n\r\n");
    my $head = $client->read_head(10);
    is $head->field('Content-Length'), $LARGE, 'the whole length is announced';
    return $client;
}

subtest 'a file that shrinks while it is sent' => sub {
    my $file   = large_file("$site/large");
    my $before = Baton::Metrics->scrape($server);
    my $client = begin_download('/large');
    truncate $file, 1 << 20;
    my $got = eval { length $client->read_to_end };
    ok $got < $LARGE, 'the connection ends before the announced length';
    my $after = Baton::Metrics->wait_ended($server, $before, 'error');
    is $after->growth($before, 'connections_ended_total')->{error}, 1, 'counted as an error of ours';
    is $after->imbalance, 0, 'once';

    $client = $server->connect;
    is $client->get('/large')->content_length, 1 << 20, 'and afterwards sent as it is now';
    is $client->get('/hello.txt')->status, 200, 'the server goes on';
    unlink "$site/large";
};

subtest 'a file that grows, or is replaced, while it is sent' => sub {
    my $file   = large_file("$site/large");
    my $client = begin_download('/large');
    truncate $file, 2 * $LARGE;
    ok $client->read_bytes($LARGE) eq "\0" x $LARGE, 'as long as it was';
    is $client->get('/hello.txt')->status, 200, 'and the next answer';

    $file   = large_file("$site/large");
    $client = begin_download('/large');
    write_file("$site/new", 'x' x $LARGE);
    rename "$site/new", "$site/large" or die $!;
    ok $client->read_bytes($LARGE) eq "\0" x $LARGE, 'the old one to its end';
    my $new = $client->get('/large', Range => 'bytes=-1');
    is $new->body, 'x', 'then the new one';
    unlink "$site/large";
};

is $server->stop, 0, 'exit code';
unlike $server->log, qr{ died: }, 'no worker died';
done_testing;
