# Which route answers: host, path, and what clients write in their place.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Test;

# Each route has a folder of its own, where each of these is a file with the route's name.
my @paths = qw(index.html api/index.html api/x api/v2/x apix api-x other API/x a%20b/x);

sub route($name, @keys)
{
    my $root = folder(map { (s/%20/ /r => $name) } @paths);
    return "[Route $name]\nRoot=$root\n" . join('', map {"$_\n"} @keys);
}

my $server = start(
    sockets => [http => '127.0.0.1:0', local => 'unix:' . scratch() . '/local.sock'],
    config => "[Server]\nWorkers=1\n[Listen http]\n[Listen local]\n"
        . route('everything')
        . route('example', 'Host=example.com www.Example.com')
        . route('example-api', 'Host=example.com', 'Path=/api')
        . route('example-v2',  'Host=example.com', 'Path=/api/v2/')
        . route('space', 'Host=example.com', 'Path=/a b/')
        . route('api', 'Path=/api/')
        . route('address', 'Host=[::1] 192.0.2.1')
        . route('part', 'Host=part.example', 'Path=/api/'));

my $connection = $server->connect;

# Which route answers: its name, or the status where none does.
sub routed($target, @fields)
{
    my $answer = $connection->get($target, @fields);
    return $answer->status == 200 ? $answer->body : $answer->status;
}

sub routes($host, %expected)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply {map { ($_ => routed($_, Host => $host)) } keys %expected}, \%expected, "Host: $host";
}

routes 'example.com',
    '/' => 'example',
    '/other' => 'example',
    '/api' => 301,
    '/api/' => 'example-api',
    '/api/x' => 'example-api',
    '/api/v2/x' => 'example-v2',
    '/api/v2' => 301,
    '/apix' => 'example',
    '/api-x' => 'example',
    '/API/x' => 'example',
    '/a%20b/x' => 'space';

# The path is what it means, not how it is written.
routes 'example.com',
    '/%61pi/x' => 'example-api',
    '/api/v%32/x' => 'example-v2',
    '//api//x' => 'example-api',
    '/./api/./x' => 'example-api',
    '/other/../api/x' => 'example-api',
    '/api/../other' => 'example',
    '/api/v2/../x' => 'example-api',
    '/api/%2e%2e/other' => 'example',
    '/api?/v2/' => 301,
    '/api%2Fx' => 400,
    '/..' => 400,
    '/api/../..' => 400;

routes 'unknown.example', '/' => 'everything', '/api/x' => 'api', '/apix' => 'everything', '/api' => 301;
routes $_, '/' => 'example' for qw(EXAMPLE.COM example.com. example.com:8080 Example.Com.:80),
    qw(www.example.com WWW.EXAMPLE.COM:1);
routes $_, '/' => 'everything' for qw(example.com.. xexample.com example.co sub.example.com), '';
routes $_, '/' => 'address' for qw([::1] [::1]:80 192.0.2.1 192.0.2.1:8080);
# A host of its own goes first, but only where it has an answer.
routes 'part.example', '/api/x' => 'part', '/other' => 'everything', '/' => 'everything';

subtest 'the target has the host' => sub {
    is routed('http://example.com/api/x', Host => 'unknown.example'), 'example-api', 'before Host';
    is routed('http://unknown.example/api/x', Host => 'example.com'), 'api', 'also where it is unknown';
    is routed('HTTP://EXAMPLE.COM:80/api/v2/x'), 'example-v2', 'in capitals';
    is routed('http://example.com'), 'example', 'without a path';
    is routed('http://example.com?query'), 'example', 'with a query alone';
};

subtest 'HTTP/1.0' => sub {
    my $old = $server->connect->send("GET /api/x HTTP/1.0\r\n\r\n");
    is $old->read_answer->body, 'api', 'without Host';
    $old = $server->connect->send("GET /api/x HTTP/1.0\r\nHost: example.com\r\n\r\n");
    is $old->read_answer->body, 'example-api', 'with it';
};

my $local = $server->connect('local');
is $local->get('/api/x', Host => 'example.com')->body, 'example-api', 'all listeners have all routes';
is $server->stop, 0, 'exit code';

subtest 'no route' => sub {
    my $bare = start(config => "[Listen http]\n" . route('api', 'Host=example.com', 'Path=/api/'));
    $connection = $bare->connect;
    is routed('/api/x', Host => 'example.com'), 'api', 'the only one';
    is routed('/api/x', Host => 'other'), 404, 'another host';
    is routed('/other', Host => 'example.com'), 404, 'another path';
    is routed('/api', Host => 'example.com'), 404, 'half the path';
    is $connection->request(OPTIONS => '*')->status, 204, 'the server itself';
    is $connection->get('/')->body, "404 Not Found\n", 'a text';
    is $bare->stop, 0, 'exit code';
};
done_testing;
