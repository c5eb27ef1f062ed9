# What is there for the people and programs that look after the server: health, metrics, status.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Metrics ();
use Baton::Test;
use JSON::PP   qw(decode_json);
use List::Util qw(sum0);

my $site = folder('index.html' => 'home', 'metrics' => 'a file of this name');
open my $large, '>', "$site/large.bin" or die $!;
truncate $large, 64 << 20 or die $!;

my $REQUEST = "GET / HTTP/1.1\r\nHost: x\r\n";

sub serve($keys)
{
    return start(
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
        config => <<~END);
            [Server]
            $keys
            [Listen http]
            [Listen admin]
            Admin=yes
            [Route site]
            Root=$site
            END
}

my $server = serve('Workers=2');

subtest 'health' => sub {
    my $admin = $server->connect('admin');
    for (['/livez', "ok\n"], ['/readyz', "ready\n"]) {
        my ($target, $text) = @$_;
        my $answer = $admin->get($target);
        is $answer->status, 200, $target;
        is $answer->body, $text, 'its text';
        is $answer->field('Content-Type'),  'text/plain; charset=utf-8', 'its type';
        is $answer->field('Cache-Control'), 'no-store',                  'not for caches';
        is $admin->request(HEAD => $target)->status, 200, 'HEAD';
    }
    is $admin->get('/livez?x')->status, 200, 'a query';
};

subtest 'the public sees none of it, and who looks after it no site' => sub {
    my ($public, $admin) = ($server->connect, $server->connect('admin'));
    is $public->get($_)->status, 404, "public: $_" for qw(/livez /readyz /status);
    is $public->get('/metrics')->body, 'a file of this name', 'public: /metrics is what the site has there';
    is $admin->get($_)->status, 404, "admin: $_" for qw(/ /index.html /metrics/ /livez/x //livez /LIVEZ /%2f);
    is $admin->get('http://x/livez')->status, 200, 'absolute form';
    for my $method (qw(POST PUT DELETE OPTIONS)) {
        my $answer = $admin->request($method, '/metrics');
        is $answer->status, 405, $method;
        is $answer->field('Allow'), 'GET, HEAD', 'Allow';
    }
    is $admin->request(OPTIONS => '*')->status, 404, 'OPTIONS *';
};

subtest '/metrics' => sub {
    my $admin  = $server->connect('admin');
    Baton::Metrics->wait_open($admin);
    my $answer = $admin->get('/metrics');
    is $answer->field('Content-Type'), 'text/plain; version=0.0.4; charset=utf-8', 'type';
    my $before = Baton::Metrics->parse($answer->body);
    is $before->value('workers{state="current"}'), 2, 'workers';
    is $before->value('generation'),               1, 'generation';
    is $before->value('worker_crashes_total'),     0, 'crashes';
    ok abs($before->value('start_time_seconds') - $^T) < 600, 'start';

    my $connection = $server->connect;
    $connection->get('/')       for 1 .. 3;
    $connection->get('/nothing') for 1 .. 2;
    $connection->get('/', 'If-None-Match' => '*');
    my $after = Baton::Metrics->scrape($admin);
    is_deeply $after->growth($before, 'answers_total'), { '2xx' => 4, '3xx' => 1, '4xx' => 2 },
        'answers, with one to a scrape';
    is $after->value('requests_total') - $before->value('requests_total'), 7, 'requests';
    is $after->open_connections, $before->open_connections + 1, 'open connections';
    my $sent = $after->value('sent_bytes_total') - $before->value('sent_bytes_total');
    ok $sent > length $answer->body, 'bytes sent';
    ok $after->value('received_bytes_total') > $before->value('received_bytes_total'), 'and received';
};

subtest '/status' => sub {
    my $admin  = $server->connect('admin');
    Baton::Metrics->wait_open($admin);
    my $answer = $admin->get('/status');
    is $answer->field('Content-Type'), 'application/json', 'type';
    my $status = decode_json($answer->body);
    is $status->{generation}, 1, 'generation';
    ok !$status->{stopping}, 'not stopping';
    is $status->{$_}, 0, $_ for qw(reloads reloads_refused worker_crashes);
    like $status->{version}, qr/^\d+\.\d+\.\d+/, 'version';
    is_deeply [sort map { $_->{pid} } @{$status->{workers}}], [sort $server->workers], 'the workers';
    is_deeply [map { $_->{state} } @{$status->{workers}}], ['current', 'current'], 'their state';
    is sum0(map { $_->{connections} } @{$status->{workers}}), $status->{connections}, 'the connections of each';
    is Baton::Metrics->scrape($admin)->open_connections, $status->{connections}, 'as /metrics has it';
};
is $server->stop, 0, 'exit code';

# Each case ends one connection, for the reason it is named after.
my %ends = (
    client_closed => sub ($c) { $c->get('/'); $c->close },
    client_asked => sub ($c) { $c->get('/', Connection => 'close') },
    request_refused => sub ($c) { $c->send("GET\r\n\r\n")->read_answer; $c->close },
    idle_timeout => sub ($c) { $c->get('/'); $c->is_closed },
    header_timeout => sub ($c) { $c->send($REQUEST)->read_answer; $c->close },
    body_timeout => sub ($c) { $c->send("${REQUEST}Content-Length: 1\r\n\r\n")->read_answer; $c->close },
    send_timeout => sub ($c) { $c->send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n") },
    client_abandoned => sub ($c) { $c->send($REQUEST)->finish->is_closed },
    error => sub ($c) {
        $c->send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")->read_head(10);
        truncate $large, 0;
        eval { $c->read_to_end };
        truncate $large, 64 << 20;
    },
    announced => sub ($c) {
        $c->send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")->read_answer;
        $c->close;
    },
);

subtest 'every connection ends for one reason' => sub {
    $server = serve(join "\n", 'Workers=1', map {"${_}Timeout=200ms"} qw(Header Body Idle Send));
    my $first = Baton::Metrics->scrape($server);
    my @connections; # so that none is closed by going out of scope
    for my $reason (sort keys %ends) {
        my $before = Baton::Metrics->scrape($server);
        push @connections, $server->connect(undef, receive_buffer => 4096);
        $ends{$reason}->($connections[-1]);
        my $count = $reason eq 'client_asked' ? 2 : 1; # with that of a scrape
        my $after = Baton::Metrics->wait_ended($server, $before, $reason, $count);
        my $ended = $after->growth($before, 'connections_ended_total');
        delete $ended->{client_asked};
        is_deeply $ended, $reason eq 'client_asked' ? {} : { $reason => 1 }, $reason;
        is $after->imbalance, 0, 'balance';
    }
    my $last = Baton::Metrics->scrape($server);
    my %unseen = map { ($_ => 1) } keys %{$last->family('connections_ended_total')};
    delete @unseen{keys %{$last->growth($first, 'connections_ended_total')}};
    is_deeply [sort keys %unseen], [qw(drain_cut stopped_idle tunnel_closed worker_died)], 'all but those of a stop, a crash and a tunnel';
};

subtest 'a worker that dies' => sub {
    my $before = Baton::Metrics->scrape($server);
    my $held   = $server->connect->send($REQUEST);
    my ($pid)  = $server->workers;
    my $admin  = $server->connect('admin');
    $admin->get('/livez');
    kill KILL => $pid;
    wait_exit_of([$pid]);
    my $crashed = sub ($now) { $now->value('worker_crashes_total') == 1 };
    my $after   = Baton::Metrics->wait_for($server, 'crash that is counted', $crashed);
    is $after->growth($before, 'connections_ended_total')->{worker_died}, 2, 'took its connections along';
    is $after->imbalance, 0, 'balance';
    is decode_json($server->connect('admin')->get('/status')->body)->{worker_crashes}, 1, '/status';
};

subtest 'a reload' => sub {
    $server = serve('Workers=1'); # that waits long enough for half a request
    my $before = Baton::Metrics->scrape($server);
    my $half   = $server->connect->send($REQUEST);
    is $server->reload->status, 0, 'it succeeds';
    my $gone  = sub ($now) { $now->value('workers{state="retiring"}') == 0 };
    my $after = Baton::Metrics->wait_for($server, 'end of the old worker', $gone);
    is $half->send("\r\n")->read_answer->status, 200, 'a request across it';
    is $after->value('generation'), $before->value('generation') + 1, 'generation';
    is $after->value('reloads_total{outcome="done"}'), 1, 'counted';
    is $after->value('connections_adopted_total') - $before->value('connections_adopted_total'),
        sum0(values %{$after->growth($before, 'connections_moved_total')}), 'what was moved was adopted';
    is $after->imbalance, 0, 'balance';
};
is $server->stop, 0, 'exit code';

subtest 'stopping' => sub {
    $server = serve("Workers=1\nReadinessDelay=1h");
    my ($public, $admin) = ($server->connect, $server->connect('admin'));
    is $admin->get('/readyz')->status, 200, 'ready';
    $server->signal('TERM');
    my $answer = wait_for('unready', sub {
        my $answer = $admin->get('/readyz');
        return $answer->status == 503 && $answer;
    });
    is $answer->body, "stopping\n", 'its text';
    is $admin->get('/livez')->status, 200, '/livez is not fooled';
    ok decode_json($admin->get('/status')->body)->{stopping}, '/status';
    is $public->get('/')->status, 200, 'clients are served';
    is $server->get('/')->status, 200, 'and new ones';
    $server->signal('TERM');
    is $server->wait_exit, 1, 'a second signal ends it at once';
};

subtest 'MaxConnections= leaves room to look after the server' => sub {
    $server = serve("Workers=1\nMaxConnections=2");
    my @connections = map { $server->connect } 1 .. 2;
    $_->get('/') for @connections;
    is $server->connect('admin')->get('/livez')->status, 200, 'one connection' for 1 .. 3;
    is $server->stop, 0, 'exit code';
};
done_testing;
