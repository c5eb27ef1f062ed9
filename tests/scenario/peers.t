# Real software behind the proxy, and in front of it: what they say is not what we would have thought
# of. Under each of them the server is reloaded.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Origin  ();
use Baton::Process ();
use Baton::Test;
use JSON::PP ();

$ENV{PATH} .= ':/usr/sbin:/sbin';

my $SLOW    = $ENV{BATON_TEST_SLOW} || 1;
my $RELOADS = int(8 / $SLOW) || 1;
# What Debian's packages belong to.
my $PYTHON  = '/usr/bin/python3';
my $CONTENT = Baton::Origin::numbers(300_000);
my $site    = folder('index.html' => 'hello', 'numbers' => $CONTENT);

# A subtest that needs these commands, or modules of Python's ("python:websockets"). Where everything
# must be tested, what is missing is a failure.
sub with($name, $needs, $test)
{
    my @missing = grep { !is_there($_) } @$needs;
    subtest $name => sub {
        return $test->() if !@missing;
        plan skip_all => "not installed: @missing" if !$ENV{BATON_CI};
        fail "installed: $_" for @missing;
    };
}

sub is_there($part)
{
    return system("$PYTHON -c 'import $1' 2>/dev/null") == 0 if $part =~ /^python:(.*)/;
    return -x $part if $part =~ m{^/};
    return scalar grep { -x "$_/$part" } split /:/, $ENV{PATH};
}

# Starts a server that listens at an address of the test's own, and waits until it does.
sub start_peer($address, @command)
{
    my $peer = Baton::Process->start(command => \@command);
    Baton::Http->wait_listening($address, $peer, 30);
    return $peer;
}

sub serve($address)
{
    return start(
        sockets => [http => '127.0.0.1:0', raw => '127.0.0.1:0'],
        config => <<~END);
            [Server]
            Workers=2
            [Listen http]
            [Listen raw]
            Tunnel=peer
            [Route all]
            Upstream=peer
            [Upstream peer]
            Server=$address
            END
}

sub reload($server)
{
    my $reload = $server->reload;
    die 'a reload failed: ' . $reload->err . $server->log if $reload->status != 0;
}

# These clients of the load client, while the server is reloaded.
sub load_through($server, @groups)
{
    my $load = Baton::Process->start(
        command => [
            load_client(), '--until-stdin-closes', '--timeout', 20 * $SLOW . 's',
            (map { ('--group', $_) } @groups), 'http://' . $server->address . '/'
        ],
        input => 'pipe');
    $load->wait_out(qr/^running$/m, 20);
    reload($server) for 1 .. $RELOADS;
    $load->finish;
    my $status = $load->wait_exit(30);
    my $report = JSON::PP::decode_json(($load->out =~ /^(\{.*\})$/m)[0] // '{}');
    is $status, 0, 'no request failed, no connection was closed' or diag explain $report->{first_failures};
    for my $group (@{$report->{groups}}) {
        my $what = $group->{echoes} ? "$group->{echoes} echoes" : $group->{events} ? "$group->{events} events" : "$group->{responses} answers";
        ok $group->{responses} > 0, "$group->{kind}: $what";
    }
}

# Some client's command, and reloads for as long as it runs. Returns the process and how many there
# were.
sub run_through($server, @command)
{
    my $client  = Baton::Process->start(command => \@command);
    my $reloads = 0;
    while ($client->running) {
        reload($server);
        $reloads++;
    }
    $client->wait_exit;
    return ($client, $reloads);
}

my @files = (
    'keepalive:5:path=/index.html,expect=hello,think=0-5ms', 'connect:3:path=/index.html,expect=hello',
    "slow:3:path=/numbers,file=$site/numbers", "download:2:path=/numbers,file=$site/numbers,rate=1M",
    'keepalive:2:path=/none,status=404,think=0-5ms', 'keepalive:1:path=/index.html,method=HEAD,think=0-5ms',
);

with 'nginx' => ['nginx'], sub {
    my $folder  = folder();
    my $address = free_address();
    write_file("$folder/nginx.conf", <<~END);
        daemon off;
        worker_processes 1;
        pid $folder/nginx.pid;
        error_log stderr crit;
        events { worker_connections 512; }
        http {
            access_log off;
            client_body_temp_path $folder/body;
            keepalive_requests 100;
            gzip on;
            gzip_types *;
            server { listen $address; root $site; }
        }
        END
    my $peer   = start_peer($address, 'nginx', '-p', $folder, '-e', 'stderr', '-c', "$folder/nginx.conf");
    my $server = serve($address);
    load_through($server, @files);
    my $part = $server->get('/numbers', Range => 'bytes=1000-1999');
    is $part->status, 206, 'a range';
    is $part->body, substr($CONTENT, 1000, 1000), 'of the content';
    is $server->get('/index.html', 'If-None-Match' => $server->get('/index.html')->field('ETag'))->status, 304, 'nothing new';
    is $server->stop, 0, 'exit code';
};

# HTTP/1.0, every answer ends with its connection, and five clients wait at the most.
with 'http.server of Python' => [$PYTHON], sub {
    my $address = free_address();
    my ($host, $port) = split /:/, $address;
    my $peer   = start_peer($address, $PYTHON, qw(-m http.server --bind), $host, '--directory', $site, $port);
    my $server = serve($address);
    load_through($server, @files[0, 2, 4, 5]);
    is $server->stop, 0, 'exit code';
};

my $NODE = <<'END';
const http = require('http');
const FNV_PRIME = 0x100000001b3n;
function events(response) {
    let number = 0;
    response.writeHead(200, {'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache'});
    const timer = setInterval(() => {
        number++;
        response.write(`: a comment\nid: ${number}\ndata: event ${number}\n\n`);
    }, 20);
    response.on('close', () => clearInterval(timer));
}
function upload(request, response) {
    let length = 0, hash = 0xcbf29ce484222325n;
    request.on('data', (piece) => {
        length += piece.length;
        for (const byte of piece)
            hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME);
    });
    request.on('end', () => response.end(`${length} ${hash.toString(16).padStart(16, '0')}\n`));
}
function slow(response, framing) {
    let number = 0;
    if (framing === 'length')
        response.setHeader('Content-Length', 300000);
    const timer = setInterval(() => {
        let piece = '';
        for (let n = 0; n < 3750; n++, number++)
            piece += (8 * number).toString(16).padStart(7, '0') + '\n';
        response.write(piece);
        if (number === 37500) {
            clearInterval(timer);
            response.end();
        }
    }, 10);
}
http.createServer((request, response) => {
    const url = new URL(request.url, 'http://x');
    if (url.pathname === '/events')
        events(response);
    else if (request.method === 'POST')
        upload(request, response);
    else if (url.pathname === '/slow')
        slow(response, url.searchParams.get('framing'));
    else
        response.end('hello');
}).listen(+process.argv[3], process.argv[2], 4096);
END

with 'http of Node' => ['node'], sub {
    my $address = free_address();
    my $script  = folder('server.js' => $NODE) . '/server.js';
    my $peer    = start_peer($address, 'node', $script, split /:/, $address);
    my $server  = serve($address);
    load_through(
        $server,
        'keepalive:5:expect=hello,think=0-5ms', 'connect:3:expect=hello', 'pipeline:1:expect=hello,think=0-5ms',
        'events:5:path=/events', 'upload:2:size=20K', 'upload:2:size=20K,coding=chunked,piece=1-4096,gap=0-2ms',
        "slow:3:path=/slow,file=$site/numbers", "slow:3:path=/slow?framing=length,file=$site/numbers",
    );
    is $server->stop, 0, 'exit code';
};

my $ECHO = <<'END';
import asyncio, sys, websockets

async def echo(websocket, *path):
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with websockets.serve(echo, sys.argv[1], int(sys.argv[2]), max_size=None, ping_interval=0.5):
        await asyncio.Future()

asyncio.run(main())
END

# Text, binary, fragments and pings on one connection, for so long. What the other side sends is
# compressed, as the two agree on.
my $TALK = <<'END';
import asyncio, os, sys, time, websockets

async def talk(url, until):
    count = 0
    async with websockets.connect(url, max_size=None, ping_interval=0.2) as websocket:
        while time.monotonic() < until:
            text = 'né 🏃 %d ' % count * (count % 500)
            binary = os.urandom(count * 7919 % 200000)
            await websocket.send(text)
            assert await websocket.recv() == text
            await websocket.send(binary)
            assert await websocket.recv() == binary
            await websocket.send(iter([text, 'and', text, '']))
            assert await websocket.recv() == text + 'and' + text
            await websocket.send(iter([b'', binary, binary]))
            assert await websocket.recv() == binary + binary
            await asyncio.wait_for(await websocket.ping(b'there?'), 10)
            count += 1
    assert websocket.close_code == 1000
    return count

async def main():
    until = time.monotonic() + float(sys.argv[2])
    counts = await asyncio.gather(*(talk(sys.argv[1], until) for _ in range(10)))
    print(sum(counts), 'rounds')

asyncio.run(main())
END

with 'websockets of Python' => ['python:websockets'], sub {
    my $address = free_address();
    my $scripts = folder('echo.py' => $ECHO, 'talk.py' => $TALK);
    my $peer    = start_peer($address, $PYTHON, "$scripts/echo.py", split /:/, $address);
    my $server  = serve($address);
    load_through($server, 'websocket:20:size=0-50K,think=0-20ms');
    my ($client, $reloads) = run_through($server, $PYTHON, "$scripts/talk.py", 'ws://' . $server->address . '/', 3 * $SLOW);
    is $client->status, 0, "its own client, through $reloads reloads: " . $client->out =~ s/\n//r or diag $client->err;
    is $server->stop, 0, 'exit code';
};

with 'Redis' => [qw(redis-server redis-cli redis-benchmark)], sub {
    my $address = free_address();
    my $folder  = folder();
    my ($host, $port) = split /:/, $address;
    my $peer   = start_peer($address, 'redis-server', '--bind', $host, '--port', $port, '--save', '', '--dir', $folder);
    my $server = serve($address);
    my @raw    = (split /:/, $server->address('raw'));
    my @to     = ('-h', $raw[0], '-p', $raw[1]);
    my $redis  = sub (@command) { Baton::Process->run(command => ['redis-cli', @to, @command])->out };
    is $redis->(qw(set key value)), "OK\n", 'a command';
    my ($client, $reloads) = run_through($server, 'redis-benchmark', @to, qw(-q -n 5000 -c 20 -d 1000 -t), 'ping,set,get,lpush,lrange_100');
    is $client->status, 0, "its benchmark, through $reloads reloads" or diag $client->out, $client->err;
    unlike $client->out . $client->err, qr/error|closed/i, 'no error' or diag $client->out, $client->err;

    # Who waits for something that comes after a reload.
    my $blocked    = Baton::Process->start(command => ['redis-cli', @to, qw(blpop queue 0)]);
    my $subscriber = Baton::Process->start(command => ['redis-cli', @to, qw(subscribe news)], input => 'pipe');
    $subscriber->wait_out(qr/subscribe/);
    wait_for('client that is blocked', sub { $redis->(qw(info clients)) =~ /^blocked_clients:1\r$/m });
    reload($server) for 1 .. $RELOADS;
    $redis->(qw(lpush queue job));
    is $blocked->wait_exit, 0, 'one that waited';
    like $blocked->out, qr/job/, '... has what it waited for';
    $redis->(qw(publish news extra));
    $subscriber->wait_out(qr/extra/);
    pass 'a subscriber hears';
    $subscriber->kill;
    is $server->stop, 0, 'exit code';
};

done_testing;
