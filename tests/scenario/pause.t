# `baton pause` and `baton resume`: requests for an upstream wait, and none fails. And what the
# status and the metrics say of upstreams and their servers.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Http    ();
use Baton::Metrics ();
use Baton::Test;
use JSON::PP   qw(decode_json);
use List::Util qw(sum0);

my ($shop, $other) = map { Baton::Backend->new } 1, 2;
my $site = folder('index.html' => 'a file');

# @keys: further ones of [Upstream shop].
sub configuration(@keys)
{
    return <<~END;
        [Server]
        Workers=2
        [Listen http]
        [Listen admin]
        Admin=yes
        [Listen tunnel]
        Tunnel=other
        [Route site]
        Root=$site
        [Route shop]
        Path=/shop
        Upstream=shop
        [Route other]
        Path=/other
        Upstream=other
        [Upstream shop]
        Server=@{[$shop->address]}
        @{[join qq(\n), @keys]}
        [Upstream other]
        Server=@{[$other->address]}
        END
}

sub serve(@keys)
{
    return start(
        sockets => [map { ($_ => '127.0.0.1:0') } qw(http admin tunnel)],
        config => configuration(@keys));
}

my $REQUEST = "GET /shop HTTP/1.1\r\nHost: x\r\n\r\n";

my $server = serve();

# That of the status; waits until so many requests wait.
sub wait_waiting($count)
{
    my $status = $server->wait_status(
        "$count requests that wait",
        sub ($status) { $status->{upstreams}[0]{waiting} == $count });
    return $status->{upstreams}[0];
}

sub answers($name, @clients)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @statuses = map { $_->read_answer->status } @clients;
    is_deeply \@statuses, [(200) x @clients], $name;
}

subtest 'requests wait, and go on' => sub {
    my @kept = map { $server->connect } 1 .. 3;
    is $_->get('/shop')->status, 200, 'before' for @kept;
    my $came = $shop->requests;

    my $pause = $server->command('pause', 'shop');
    is $pause->status, 0, 'exit code';
    is $pause->out, "Paused shop: requests wait, for 5min at the most\n", 'what it says';
    is $pause->err, '', 'and no more';
    $server->wait_log(qr/Paused shop: requests wait/);

    $_->send($REQUEST) for @kept, my @new = map { $server->connect } 1 .. 3;
    my $upstream = wait_waiting(6);
    ok $upstream->{paused}, 'the status says so';
    is $_->get('/other')->status, 200, 'another upstream is not' for $server->connect;
    is $server->get('/')->body, 'a file', 'nor are files';
    is scalar($shop->requests), $came, 'the backend gets none';
    ok !(grep { !$_->is_quiet } @kept, @new), 'and nobody is answered';

    my $resume = $server->command('resume', 'shop');
    is $resume->status, 0, 'exit code';
    like $resume->out, qr/^Resumed shop after \d+m?s: 6 requests go on\n\z/, 'what it says';
    answers('all are answered', @kept, @new);
    is scalar($shop->requests), $came + 6, 'by the backend';
    ok !wait_waiting(0)->{paused}, 'the status says so';
    is $server->get('/shop')->status, 200, 'and who comes does not wait';
};

subtest 'what cannot be done' => sub {
    my @cases = (
        ['resume', 'shop', '[Upstream shop] is not paused'],
        ['pause', 'shpo', 'there is no [Upstream shpo]; did you mean shop?'],
        ['resume', 'shpo', 'there is no [Upstream shpo]; did you mean shop?'],
        ['pause', 'nothing', 'there is no [Upstream nothing]'],
        ['pause', '', 'no upstream has such a name'],
        ['pause', "a\tb", 'no upstream has such a name'],
        ['pause', 'x' x 255, 'there is no [Upstream ' . 'x' x 255 . ']'],
        ['pause', 'x' x 500, 'the request is too long'],
    );
    for (@cases) {
        my ($command, $name, $text) = @$_;
        my $asked = $server->command($command, $name);
        is $asked->status, 1, "$command '$name'";
        is $asked->err, "$text\n", 'is told';
        is $asked->out, '', 'as an error';
    }
    for (['pause'], ['resume'], ['pause', 'shop', 'other'], ['status', 'shop']) {
        is $server->command(@$_)->status, 2, "usage: @$_";
    }
    like $server->command('pause')->err, qr/^baton: 'pause' needs the name of an upstream$/m, 'which it says';
};

subtest 'across reloads' => sub {
    my @idle = map { $server->connect } 1 .. 3;
    $_->get('/shop') for @idle;
    is $server->command('pause', 'shop')->status, 0, 'paused';
    my @waiting = map { $server->connect->send($REQUEST) } 1 .. 4;
    my $tunnel = $server->connect->send("GET /shop HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
    wait_waiting(5);

    $server->configure(configuration('Retries=1'));
    for my $count (1, 2) { # the second one moves what was moved
        is $server->reload->status, 0, "reload $count";
        $server->wait_at_rest(2, 8);
        wait_waiting(5);
    }
    $_->send($REQUEST) for @idle;
    push @waiting, @idle, map { $server->connect->send($REQUEST) } 1 .. 2;
    wait_waiting(10);

    like $server->command('resume', 'shop')->out, qr/: 10 requests go on$/, 'resumed';
    answers('all are answered', @waiting, $tunnel);
};

subtest 'across a crash of the workers' => sub {
    is $server->command('pause', 'shop')->status, 0, 'paused again';
    my @workers = $server->workers;
    kill KILL => @workers;
    wait_exit_of(\@workers);
    $server->wait_at_rest(2);
    my @new = map { $server->connect->send($REQUEST) } 1 .. 8;
    wait_waiting(8);
    ok !(grep { !$_->is_quiet } @new), 'workers that replace others know';
    like $server->command('resume', 'shop')->out, qr/: 8 requests go on$/, 'resumed';
    answers('all are answered', @new);
};

subtest 'a backend that moves meanwhile' => sub {
    my @kept = map { $server->connect } 1 .. 2;
    $_->get('/shop') for @kept;
    is $server->command('pause', 'shop')->status, 0, 'paused';
    $shop->stop;
    my @waiting = map { $server->connect->send($REQUEST) } 1 .. 3;
    $_->send($REQUEST) for @kept;
    wait_waiting(5);
    my $moved = Baton::Backend->new;
    $moved->answer(body => 'moved');
    $server->configure(configuration() =~ s/\Q@{[$shop->address]}/@{[$moved->address]}/r);
    is $server->reload->status, 0, 'a reload with its new address';
    is $server->command('resume', 'shop')->status, 0, 'resumed';
    is_deeply [map { $_->read_answer->body } @kept, @waiting], [('moved') x 5], 'it answers all';
    $shop->listen;
    $server->configure(configuration());
    is $server->reload->status, 0, 'and back';
    $moved->stop;
};

subtest 'a pause ends by itself' => sub {
    $server->configure(configuration('PauseTimeout=300ms'));
    is $server->reload->status, 0, 'PauseTimeout=';
    is $server->command('pause', 'shop')->out, "Paused shop: requests wait, for 300ms at the most\n", 'is named';
    answers('who waits is answered', map { $server->connect->send($REQUEST) } 1 .. 4);
    $server->wait_log(qr/\[Upstream shop\] is no longer paused: PauseTimeout= is over$/m);
    is $server->command('resume', 'shop')->status, 1, 'and it is not paused any more';

    # Of one that began before a reload, too.
    $server->configure(configuration('PauseTimeout=2s'));
    is $server->reload->status, 0, 'PauseTimeout=';
    is $server->command('pause', 'shop')->status, 0, 'paused';
    my $waiting = $server->connect->send($REQUEST);
    is $server->reload->status, 0, 'a reload';
    answers('who waits is answered', $waiting);
    $server->wait_log(qr/\[Upstream shop\] is no longer paused: PauseTimeout= is over$/m);
};

subtest 'an upstream that is removed' => sub {
    is $server->command('pause', 'other')->status, 0, 'paused';
    my $waiting = $server->connect->send("GET /other HTTP/1.1\r\nHost: x\r\n\r\n");
    $server->wait_status('one that waits', sub ($status) { $status->{upstreams}[1]{waiting} == 1 });
    my $without = configuration() =~ s/\[Upstream other\].*//sr;
    $server->configure($without =~ s/=other/=shop/gr);
    is $server->reload->status, 0, 'and then removed';
    is $waiting->read_answer->status, 200, 'its requests go where the routes lead now';
    is $server->command('resume', 'other')->status, 0, 'its pause can be ended';
    $server->configure(configuration());
    is $server->reload->status, 0, 'it is back';
    is $server->get('/other')->status, 200, 'and serves';
};

subtest 'more than one' => sub {
    is $server->command('pause', $_)->status, 0, "pause $_" for qw(shop other shop);
    my @waiting = map { $server->connect->send("GET /$_ HTTP/1.1\r\nHost: x\r\n\r\n") } qw(shop other);
    wait_waiting(1);
    is $server->command('resume', 'other')->status, 0, 'one is resumed';
    is $waiting[1]->read_answer->status, 200, 'it answers';
    ok $waiting[0]->is_quiet, 'the other does not';
    is $server->command('resume', 'shop')->status, 0, 'resumed';
    is $waiting[0]->read_answer->status, 200, 'it answers, too';
};

subtest 'tunnels' => sub {
    my $former = $server->connect('tunnel');
    is $former->get('/')->status, 200, 'one that is there';
    is $server->command('pause', 'other')->status, 0, 'paused';
    is $former->get('/')->status, 200, 'goes on';
    my $came = $other->accepted;
    my $next = $server->connect('tunnel')->send($REQUEST);
    $server->wait_status('tunnel that waits', sub ($status) { $status->{upstreams}[1]{waiting} == 1 });
    is $server->reload->status, 0, 'a reload';
    ok $next->is_quiet && $other->accepted == $came, 'the next one waits';
    is $server->command('resume', 'other')->status, 0, 'resumed';
    is $next->read_answer->status, 200, 'it begins';
    is $former->get('/')->status, 200, 'and the former one is still there';
};

subtest 'a stop' => sub {
    is $server->command('pause', 'shop')->status, 0, 'paused';
    my $waiting = $server->connect->send($REQUEST);
    wait_waiting(1);
    $server->signal('TERM');
    $server->wait_notify(qr/^STOPPING=1$/m);
    ok $waiting->is_quiet, 'requests wait on';
    is $server->command('resume', 'shop')->status, 0, 'resumed';
    is $waiting->read_answer->status, 200, 'and are answered';
    is $server->wait_exit, 0, 'exit code';

    $server = serve();
    $server->configure(configuration() =~ s/(Workers=.*\n)/$1DrainTimeout=200ms\n/r);
    is $server->reload->status, 0, 'DrainTimeout=';
    is $server->command('pause', 'shop')->status, 0, 'paused';
    $waiting = $server->connect->send($REQUEST);
    wait_waiting(1);
    $server->signal('TERM');
    is $waiting->read_answer->status, 503, 'nobody resumes it: refused in the end';
    is $server->wait_exit, 0, 'exit code';
};

subtest 'the most upstreams' => sub {
    my @names = map {"shop$_"} 1 .. 65;
    my $many  = start(config => join '', "[Listen http]\n[Route site]\nRoot=$site\n", map {"[Upstream $_]\nServer=@{[$shop->address]}\n"} @names);
    my $ask = sub ($request) { $many->connect_control->send($request)->answer };
    is scalar(grep { $ask->("pause $_") =~ /^ok\n/ } @names[0 .. 63]), 64, '64 are paused';
    is $ask->('pause shop65'), "failed\n64 upstreams are paused already", 'and no more';
    like $ask->('pause shop64'),  qr/^ok\n/, 'one of them again';
    like $ask->('resume shop7'),  qr/^ok\n/, 'one less';
    like $ask->('pause shop65'),  qr/^ok\n/, 'leaves room';
    is $many->stop, 0, 'exit code';
};

subtest 'the status' => sub {
    $server = serve("Server=unix:$site/ö\"\\.sock", 'MaxFails=1', 'Retries=0');
    my $at_rest = $server->status;
    is_deeply [map { $_->{name} } @{$at_rest->{upstreams}}], ['shop', 'other'], 'all upstreams';
    my @names = map { $_->{server} } @{$at_rest->{upstreams}[0]{servers}};
    is_deeply \@names, [$shop->address, "unix:$site/\\xc3\\xb6\"\\.sock"], 'and their servers';
    is_deeply [sort keys %{$at_rest->{upstreams}[0]}],             [qw(name paused servers waiting)], 'keys';
    is_deeply [sort keys %{$at_rest->{upstreams}[0]{servers}[0]}], [qw(connections failures idle requests server state)], 'of both';

    # All at a time, so that each has a connection to the backend.
    my $before  = $shop->hold->requests;
    my @clients = map { $server->connect->send($REQUEST) } 1 .. 8;
    $shop->wait_requests($before + 8);
    $_->answer for grep { !$_->is_answered } $shop->requests;
    answers('requests', @clients);
    my $busy  = $server->connect->send($REQUEST);
    my $lent  = sub ($status) { $status->{upstreams}[0]{servers}[0]{connections} == 1 };
    my ($up, $away) = @{$server->wait_status('connection', $lent)->{upstreams}[0]{servers}};
    is $up->{state},    'up', 'state';
    is $up->{requests}, 9,    'requests';
    cmp_ok $up->{idle}, '>=', 7, 'idle';
    like $away->{state}, qr/^(?:unreachable|partly)$/, 'one that is not there';
    cmp_ok $away->{failures}, '>=', 1, 'failures';

    my $text = $server->command('status')->out;
    like $text, qr/^UPSTREAM +SERVER +STATE +CONNECTIONS +IDLE +REQUESTS +FAILURES$/m, 'as a table';
    like $text, qr/^shop +\Q@{[$shop->address]}\E +up +1 +\d+ +9 +0$/m, 'with a line for each';
    like $text, qr/^other +\Q@{[$other->address]}\E +up +0 +0 +0 +0$/m, 'with a line for each';
    my $json = decode_json($server->connect('admin')->get('/status')->body);
    is_deeply $json->{upstreams}[1], $server->status->{upstreams}[1], '/status';

    is $server->command('pause', 'shop')->status, 0, 'paused';
    my $waiting = $server->connect->send($REQUEST);
    wait_waiting(1);
    like $server->command('status')->out, qr/^shop is paused, for (?:4min \d+s|5min) at the most: 1 request waits$/m, 'a remark';
    my $metrics = Baton::Metrics->scrape($server);
    my $label   = sub ($name) { $name =~ s/([\\"])/\\$1/gr };
    is $metrics->value('upstream_paused{upstream="shop"}'),   1, 'metrics: paused';
    is $metrics->value('upstream_paused{upstream="other"}'),  0, 'or not';
    is $metrics->value('upstream_waiting{upstream="shop"}'),  1, 'waiting';
    is $metrics->value('upstream_waiting{upstream="other"}'), 0, 'or not';
    my ($here, $gone) = map { "upstream=\"shop\",server=\"@{[$label->($_)]}\"" } @names;
    is $metrics->value("backend_up{$here}"), 1, 'up';
    cmp_ok $metrics->value("backend_up{$gone}"), '<', 1, 'or not';
    is $metrics->value("backend_connections{$here,state=\"lent\"}"), 1, 'lent';
    cmp_ok $metrics->value("backend_connections{$here,state=\"idle\"}"), '>=', 7, 'idle';
    is $metrics->value("backend_connections{$gone,state=\"lent\"}"), 0, 'none';

    my $came = $shop->requests;
    is $server->command('resume', 'shop')->status, 0, 'resumed';
    $shop->wait_requests($came + 1);
    $_->send("nonsense\r\n\r\n") for grep { !$_->is_answered } $shop->requests;
    is $_->read_answer->status, 502, 'a request without an answer' for $busy, $waiting;
    my $failed = sub ($status) { $status->{upstreams}[0]{servers}[0]{failures} >= 1 };
    my $state  = $server->wait_status('failure', $failed)->{upstreams}[0]{servers}[0]{state};
    like $state, qr/^(?:avoided|partly)$/, 'makes it avoided';
    $shop->answer;
};

subtest 'no upstream, no table' => sub {
    my $plain = start(config => "[Listen http]\n[Route site]\nRoot=$site\n");
    ok !exists $plain->status->{upstreams}, 'as JSON';
    unlike $plain->command('status')->out, qr/UPSTREAM/, 'as text';
    is $plain->command('pause', 'shop')->err, "there is no [Upstream shop]\n", 'nothing to pause';
    is $plain->stop, 0, 'exit code';
};

is $server->stop, 0, 'exit code';
done_testing;
