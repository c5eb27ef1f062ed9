# The load client reads answers strictly: what RFC 9112 allows is counted as a response, and
# everything else as the failure it is.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Rogue;
use Baton::Test;

my $OK10     = "HTTP/1.0 200 OK\r\n";
my $CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";

my $sockets = 0;

sub socket_path
{
    return scratch() . '/socket' . ++$sockets;
}

# Whole and well-formed answers, each with what the group expects, its kind of request, and
# whether it announces the end of the connection.
subtest 'answers as RFC 9112 allows them' => sub {
    my @answers = (
        ['Content-Length',       $HELLO],
        ['no content',           answer('')],
        ['no reason',            "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"],
        ['white space',          "${OK}content-length: \t 5 \t\r\nX:\r\n\r\nhello"],
        ['bytes above ASCII',    answer('hello', "X: \xe4\xff", "Y: a\tb")],
        ['chunked', "${OK}Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n03\r\nllo\r\n0\r\n\r\n"],
        ['chunked, and more',    "${CHUNKED}5;a=\"b\"\r\nhello\r\n0;x\r\nT: 1\r\nU: 2\r\n\r\n"],
        ['interim answers',      "${CONTINUE}HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n$HELLO"],
        ['204',                  "HTTP/1.1 204 No Content\r\n\r\n", 'status=204'],
        ['304', "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 'status=304'],
        ['HEAD',                 "${OK}Content-Length: 5\r\n\r\n", 'method=HEAD,expect=hello'],
        ['HEAD, chunked',        $CHUNKED, 'method=HEAD,expect=hello'],
        ['HTTP/1.0 kept alive',  "${OK10}Content-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello"],
        ['close',                answer('hello', 'Connection: close'), 'expect=hello', 1],
        ['close, in a list',     answer('hello', 'Connection: x ,, CLOSE'), 'expect=hello', 1],
        ['HTTP/1.0',             "${OK10}Content-Length: 5\r\n\r\nhello", 'expect=hello', 1],
        ['until close',          "${OK}\r\nhello", 'expect=hello', 1],
    );
    for my $put (\&put, \&put_slowly) {
        my $how = $put == \&put ? 'at once' : 'byte by byte';
        for (@answers) {
            my ($name, $answer, $group, $last) = @$_;
            $group //= $answer =~ /hello/ ? 'expect=hello' : 'method=GET';
            my $server = serve(
                unix    => socket_path(),
                request => sub ($c, $head) { $put->($c, $answer); shut($c) if $last });
            my @got = load($server, '--requests', 2, '--group', "keepalive:1:$group");
            my ($opened, $closed) = $last ? (2, 2) : (1, 0);
            counts \@got, 0, {},
                { responses => 2, connections_opened => $opened, closed_announced => $closed },
                "$name, $how";
            end($server);
        }
    }
};

subtest 'malformed answers' => sub {
    my $coding  = "Transfer-Encoding: chunked\r\n";
    my %answers = (
        'no HTTP'                     => 'garbage',
        'HTTP/0.9'                    => "<html>\n",
        'HTTP/2'                      => "HTTP/2 200 OK\r\n\r\n",
        'HTTP/1.2'                    => "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
        'version in lower case'       => "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        'no space after the status'   => "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        'two spaces'                  => "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        'status of four digits'       => "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        'status of letters'           => "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        'status 099'                  => "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        'status 600'                  => "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
        'status 101'                  => "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        'control byte in the reason'  => "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        'bare LF after the status'    => "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        'bare LF after a field'       => "${OK}Content-Length: 0\r\nX: yz\n\r\n",
        'bare LF for the empty line'  => "${OK}Content-Length: 0\r\n\n",
        'bare CR'                     => "${OK}X: a\rb\r\nContent-Length: 0\r\n\r\n",
        'control byte in a field'     => "${OK}X: a\x01b\r\nContent-Length: 0\r\n\r\n",
        'no colon'                    => "${OK}Content-Length 0\r\n\r\n",
        'no name'                     => "${OK}: 0\r\n\r\n",
        'space before the colon'      => "${OK}Content-Length : 0\r\n\r\n",
        'folded line'                 => "${OK}X: a\r\n b: c\r\nContent-Length: 0\r\n\r\n",
        'two Content-Length'          => "${OK}Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        'list in Content-Length'      => "${OK}Content-Length: 5, 5\r\n\r\nhello",
        'sign in Content-Length'      => "${OK}Content-Length: +5\r\n\r\nhello",
        'empty Content-Length'        => "${OK}Content-Length:\r\n\r\n",
        'hexadecimal Content-Length'  => "${OK}Content-Length: 0x5\r\n\r\nhello",
        'Content-Length of 2^64'      => "${OK}Content-Length: 18446744073709551616\r\n\r\n",
        'unknown coding'              => "${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        'two Transfer-Encoding'       => "${OK}${coding}${coding}\r\n0\r\n\r\n",
        'chunked and Content-Length'  => "${OK}${coding}Content-Length: 5\r\n\r\n0\r\n\r\n",
        'chunked in HTTP/1.0'         => "${OK10}${coding}\r\n0\r\n\r\n",
        '204 with Content-Length'     => "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        '100 with Content-Length'     => "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n$HELLO",
        'no chunk size'               => "$CHUNKED\r\n",
        'chunk size of letters'       => "${CHUNKED}g\r\n",
        'negative chunk size'         => "${CHUNKED}-1\r\n",
        'chunk size and a space'      => "${CHUNKED}5 \r\nhello\r\n0\r\n\r\n",
        'chunk size too large'        => $CHUNKED . 'f' x 16 . "\r\n",
        'chunk longer than its size'  => "${CHUNKED}4\r\nhello\r\n0\r\n\r\n",
        'bare LF after a chunk size'  => "${CHUNKED}5;x\nhello\r\n0\r\n\r\n",
        'bare LF after a chunk'       => "${CHUNKED}5\r\nhello\n0\r\n\r\n",
        'malformed trailer'           => "${CHUNKED}0\r\nno colon\r\n\r\n",
        'endless line'                => $OK . 'X' x 70_000,
        'endless fields'              => $OK . "X: y\r\n" x 12_000,
        'endless trailers'            => "${CHUNKED}0\r\n" . "X: y\r\n" x 12_000,
    );
    for my $name (sort keys %answers) {
        for my $put ($name =~ /endless/ ? \&put : (\&put, \&put_slowly)) {
            my $server = serve(
                unix    => socket_path(),
                request => sub ($c, $head) { $put->($c, $answers{$name}) });
            # Byte by byte, the client may be gone before the end.
            my @got = load($server, '--requests', 1, '--group', 'keepalive:1');
            counts \@got, 1, { bad_response => 1 }, { responses => 0, unanswered => 1 },
                $name . ($put == \&put ? '' : ', byte by byte');
            end($server);
        }
    }
};

subtest 'answers that are wrong' => sub {
    my $wrong = sub ($name, $answer, $group, $failures, @arguments) {
        my $server = serve(request => sub ($c, $head) { put($c, $answer) });
        my @got    = load($server, '--requests', 3, @arguments, '--group', "keepalive:1:$group");
        counts \@got, %$failures ? 1 : 0, $failures, { responses => 3, connections_opened => 1 },
            $name;
        end($server);
    };
    my $file = "@{[scratch()]}/expected";
    write_file($file, 'hello');
    my $error = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";

    $wrong->('last byte',        answer('hellO'),  'expect=hello', { wrong_bytes => 3 });
    $wrong->('first byte',       answer('Hello'),  'expect=hello', { wrong_bytes => 3 });
    $wrong->('too short',        answer('hell'),   'expect=hello', { bad_response => 3 });
    $wrong->('too long',         answer('hello!'), 'expect=hello', { bad_response => 3 });
    $wrong->('empty',            answer(''),       'expect=hello', { bad_response => 3 });
    $wrong->('other than empty', $HELLO,           'expect=',      { bad_response => 3 });
    $wrong->('like the file',    $HELLO,           "file=$file",   {});
    $wrong->('unlike the file',  answer('hallo'),  "file=$file",   { wrong_bytes => 3 });
    my @all = ('--expect-body', $file);
    $wrong->('unlike the file of all',  answer('hallo'), 'think=0', { wrong_bytes => 3 }, @all);
    $wrong->('a group of its own mind', answer('hallo'), 'expect=hallo', {}, @all);
    $wrong->('hash',       $HELLO,          'hash=' . fnv('hello'), {});
    $wrong->('other hash', answer('hallo'), 'hash=' . fnv('hello'), { wrong_bytes => 3 });
    $wrong->(
        'a later chunk', "${CHUNKED}2\r\nhe\r\n3\r\nllO\r\n0\r\n\r\n",
        'expect=hello', { wrong_bytes => 3 });
    $wrong->(
        'length of HEAD', "${OK}Content-Length: 6\r\n\r\n",
        'method=HEAD,expect=hello', { bad_response => 3 });
    $wrong->('status',                     $error, 'expect=hello', { bad_status => 3 });
    $wrong->('status expected',            $error, 'status=503',   {});
    $wrong->('another status is expected', $HELLO, 'status=404',   { bad_status => 3 });

    my $server = serve(request => sub ($c, $head) { put($c, "$HELLO!") });
    my @got    = load($server, '--requests', 2, '--group', 'keepalive:1:expect=hello');
    counts \@got, 1, { bad_response => 2 },
        { responses => 2, unanswered => 0, connections_opened => 2 }, 'a byte too many';
    end($server);

    $server = serve(request => sub ($c, $head) { put($c, $HELLO . $HELLO) });
    @got    = load($server, '--requests', 1, '--group', 'keepalive:1:expect=hello');
    counts \@got, 1, { bad_response => 1 }, { responses => 1 }, 'an answer too many';
    end($server);
};

done_testing;
