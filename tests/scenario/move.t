# A reload moves every connection into the new generation, whatever it is doing, and no client can
# tell: nothing is closed, nothing announced, no byte more, less or other.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Binary  ();
use Baton::Inbox   ();
use Baton::Loop    qw(watch unwatch);
use Baton::Metrics ();
use Baton::Process ();
use Baton::Test;
use JSON::PP    ();
use List::Util  qw(sum0);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SLOW  = $ENV{BATON_TEST_SLOW} || 1;
my $LARGE = join '', map { pack 'N', $_ } 1 .. 4 << 20;
my $site  = folder('index.html' => 'home', 'large.bin' => $LARGE);
my $GET   = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

sub now
{
    return clock_gettime(CLOCK_MONOTONIC);
}

sub configuration(%o)
{
    my $workers = $o{workers} // 2;
    my $server  = $o{server}  // '';
    my $listen  = $o{listen}  // '';
    return <<~END;
        [Server]
        Workers=$workers
        $server
        [Listen http]
        [Listen admin]
        Admin=yes
        $listen
        [Route site]
        Root=$site
        END
}

sub serve(%o)
{
    my $from = delete $o{from} // 'Baton::Test';
    return $from->can('start')->(
        ref $from ? $from : (),
        config => configuration(%o),
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0'],
    );
}

# Reloads; how many connections moved. Of the workers that served before none is left when a tenth
# of a second has passed since the answer, whatever clients do.
sub reload($server, $name = 'a reload')
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @former = $server->workers;
    my $reload = $server->reload;
    is $reload->status, 0, $name or diag $reload->err;
    eval { wait_exit_of(\@former, 0.1); 1 } or fail "the former workers are gone: $@";
    my ($moved) = $reload->out =~ /connections: (\d+) moved, 0 still finishing, 0 cut$/
        or fail 'says what moved: ' . $reload->out;
    return $moved;
}

# Requests -------------------------------------------------------------------------------------

sub is_home($connection, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $answer = $connection->read_answer;
    is $answer->status . ' ' . $answer->body, '200 home', $name;
    ok !$answer->closes, '... and the connection stays';
}

# What a reload finds clients doing. Each one:
#   at      where it connects, if not at http
#   begin   called with the new connection
#   state   what /metrics calls it
#   round   called after each reload; default: nothing has come
#   end     called when all reloads are over
my @travellers = (
    {
        name  => 'between requests',
        begin => sub ($c) { $c->get('/') },
        state => 'idle',
        end   => sub ($c) { is_home($c->send($GET), 'the next request') },
    },
    {
        name  => 'before the first request',
        begin => sub ($c) { },
        state => 'idle',
        end   => sub ($c) { is_home($c->send($GET), 'the first request') },
    },
    {
        name  => 'one request after each reload',
        begin => sub ($c) { },
        state => 'idle',
        round => sub ($c) { is_home($c->send($GET), 'a request') },
        end   => sub ($c) { is_home($c->send($GET), 'the last request') },
    },
    {
        name  => 'in a head',
        begin => sub ($c) { $c->send(substr $GET, 0, 20) },
        state => 'head',
        end   => sub ($c) { is_home($c->send(substr $GET, 20), 'the rest of a head') },
    },
    {
        name  => 'a byte of a head after each reload',
        begin => sub ($c) { $c->send('G'); $c->{at} = 1 },
        state => 'head',
        round => sub ($c) { $c->send(substr $GET, $c->{at}++, 1); ok $c->is_quiet, 'no answer yet' },
        end   => sub ($c) { is_home($c->send(substr $GET, $c->{at}), 'the rest of a head') },
    },
    {
        name  => 'in the second of two heads',
        begin => sub ($c) { is_home($c->send($GET . substr $GET, 0, 20), 'the first') },
        state => 'head',
        end   => sub ($c) { is_home($c->send(substr $GET, 20), 'the rest of the second') },
    },
    {
        name  => 'in a body by length',
        begin => sub ($c) { $c->send("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n0123456789"); $c->{sent} = 0 },
        state => 'body',
        round => sub ($c) { $c->send('0'); ok $c->is_quiet, 'no answer yet'; $c->{sent}++ },
        end   => sub ($c) { is_home($c->send('x' x (40 - $c->{sent})), 'the rest of a body'); is_home($c->send($GET), 'the next request') },
    },
    {
        name  => 'in a chunked body',
        begin => sub ($c) { $c->send("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel") },
        state => 'body',
        end   => sub ($c) { is_home($c->send("lo\r\nA\r\n0123456789\r\n0\r\n\r\n"), 'the rest of a chunk') },
    },
    {
        name  => 'in the size of a chunk',
        begin => sub ($c) { $c->send("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1") },
        state => 'body',
        end   => sub ($c) { is_home($c->send("0\r\n0123456789abcdef\r\n0\r\nA: b\r\n\r\n"), 'the rest of the size') },
    },
    {
        name  => 'a body that was asked for',
        begin => sub ($c) {
            $c->send("GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
            is $c->read_bytes(25), "HTTP/1.1 100 Continue\r\n\r\n", 'asked for a body';
        },
        state => 'body',
        end => sub ($c) { is_home($c->send('hello'), 'the body') },
    },
    {
        name  => 'a download',
        begin => sub ($c) { begin_download($c, "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n", 200) },
        state => 'reply',
        round => sub ($c) { continue_download($c) },
        end   => sub ($c) { end_download($c); is_home($c->send($GET), 'the next request') },
    },
    {
        name  => 'a download that nobody reads for long',
        begin => sub ($c) { begin_download($c, "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n", 200) },
        state => 'reply',
        round => sub ($c) { },
        end   => sub ($c) { end_download($c); is_home($c->send($GET), 'the next request') },
    },
    {
        name  => 'a download of HTTP/1.0',
        begin => sub ($c) { begin_download($c, "GET /large.bin HTTP/1.0\r\n\r\n", 200) },
        state => 'reply',
        round => sub ($c) { continue_download($c) },
        end   => sub ($c) { end_download($c); ok $c->is_closed, 'closed, as ever' },
    },
    {
        name  => 'the last download',
        begin => sub ($c) { begin_download($c, "GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200) },
        state => 'reply',
        round => sub ($c) { continue_download($c) },
        end   => sub ($c) { end_download($c); ok $c->is_closed, 'closed, as asked' },
    },
    {
        name  => 'one range',
        begin => sub ($c) { begin_download($c, "GET /large.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=3-9000000\r\n\r\n", 206, substr $LARGE, 3, 8_999_998) },
        state => 'reply',
        round => sub ($c) { continue_download($c) },
        end   => sub ($c) { end_download($c); is_home($c->send($GET), 'the next request') },
    },
    {
        name  => 'several ranges',
        begin => sub ($c) {
            my @ranges = map { [$_ * 1_500_000, $_ * 1_500_000 + 1_000_000 + $_] } 0 .. 9;
            my $text   = join ',', map { join '-', @$_ } @ranges;
            begin_download($c, "GET /large.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=$text\r\n\r\n", 206, undef, \@ranges);
        },
        state => 'reply',
        round => sub ($c) { continue_download($c) },
        end   => sub ($c) { end_download($c); is_home($c->send($GET), 'the next request') },
    },
    {
        name  => 'requests behind a download',
        begin => sub ($c) { begin_download($c, "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n$GET$GET" . substr($GET, 0, 20), 200) },
        state => 'reply',
        round => sub ($c) { },
        end   => sub ($c) {
            end_download($c);
            is_home($c, 'the first of them');
            is_home($c, 'the second of them');
            is_home($c->send(substr $GET, 20), 'the third of them');
        },
    },
    {
        name  => 'a malformed request behind a download',
        begin => sub ($c) { begin_download($c, "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", 200) },
        state => 'reply',
        round => sub ($c) { },
        end   => sub ($c) {
            end_download($c);
            is $c->read_answer->status, 400, 'it is refused';
            ok $c->is_closed, '... and the connection closed';
        },
    },
    {
        name  => 'a client that goes on sending behind a refusal',
        begin => sub ($c) {
            my $answer = $c->send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")->read_answer;
            is $answer->status, 413, 'refused';
            ok $answer->closes, '... and said that it closes';
            ok $c->is_closed,   '... which it does on its side';
        },
        state => 'linger',
        round => sub ($c) { $c->send('x' x 10_000); is eval { $c->read_now }, 0, 'no reset' },
        end   => sub ($c) { is eval { $c->send('x')->read_now }, 0, 'no reset' },
    },
    {
        name  => 'who looks after the server',
        at    => 'admin',
        begin => sub ($c) { is $c->get('/livez')->status, 200, 'an admin page' },
        state => 'idle',
        end   => sub ($c) { is $c->get('/livez')->status, 200, 'an admin page, still' },
    },
);

# Of a client that reads slowly: $expected, or the parts of a multipart body.
sub begin_download($c, $request, $status, $expected = $LARGE, $ranges = undef)
{
    my $head = $c->send($request)->read_head(10);
    is $head->status, $status, 'a download begins';
    @$c{qw(expected ranges left type)} =
        ($expected, $ranges, $head->content_length, $head->field('Content-Type'));
    $c->{body} = '';
    is $c->{left}, length $expected, '... of the right length' if defined $expected;
}

sub continue_download($c, $most = 60_000)
{
    my $got = $c->read_bytes($c->{left} < $most ? $c->{left} : $most);
    $c->{left} -= length $got;
    $c->{body} .= $got;
}

sub end_download($c)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    continue_download($c, 1 << 20) while $c->{left} > 0;
    $c->{expected} = multipart($c) if $c->{ranges};
    ok $c->{body} eq $c->{expected}, 'every byte is right';
    delete @$c{qw(body expected)};
}

sub multipart($c)
{
    my ($boundary) = $c->{type} =~ m{^multipart/byteranges; boundary="?([^"]+)"?$} or return 'no boundary';
    my $size = length $LARGE;
    my $body = '';
    for my $range (@{$c->{ranges}}) {
        my ($first, $last) = @$range;
        $body .= "\r\n--$boundary\r\n";
        $body .= $1 if $c->{body} =~ /(Content-Type: [^\r]*\r\n)/;
        $body .= "Content-Range: bytes $first-$last/$size\r\n\r\n" . substr $LARGE, $first, $last - $first + 1;
    }
    $body .= "\r\n--$boundary--\r\n";
    return $c->{body} =~ /^\r\n/ ? $body : $body =~ s/^\r\n//r;
}

sub begin_travel($server, @who)
{
    return map {
        my $connection = $server->connect($_->{at} // 'http', receive_buffer => 16384);
        $_->{begin}->($connection);
        $connection;
    } @who;
}

# What the counters say a reload moved, by what it was doing. Returns when all has arrived.
sub moved_by_state($server, $reload)
{
    my $metrics = $server->connect('admin');
    my $before  = Baton::Metrics->scrape($metrics);
    my $moved   = $reload->();
    my $adopted = $before->value('connections_adopted_total') + $moved;
    my $after   = Baton::Metrics->wait_for($metrics, 'arrival of all', sub ($now) { $now->value('connections_adopted_total') >= $adopted });
    is $after->value('connections_adopted_total'), $adopted, 'each moved once';
    $metrics->close;
    return $after->growth($before, 'connections_moved_total');
}

subtest 'twenty reloads, whatever clients do' => sub {
    my $server      = serve(server => 'LingerTimeout=1h');
    my @connections = begin_travel($server, @travellers);
    my %expected;
    $expected{$_->{state}}++ for @travellers;
    $expected{idle}++; # the one that looks at the counters
    for my $round (1 .. 20) {
        is_deeply moved_by_state($server, sub { reload($server, "reload $round") }), \%expected,
            'all moved, each as what it was';
        for my $n (0 .. $#travellers) {
            my ($traveller, $c) = ($travellers[$n], $connections[$n]);
            my $what = $traveller->{name};
            eval {
                $traveller->{round} ? $traveller->{round}->($c) : ok($c->is_quiet, "$what: nothing has come");
                1;
            } or fail "$what: $@";
        }
        if ($round == 5) { # as a deployment does: who has the old one open goes on with it
            write_file("$site/large.new", 'x' x length $LARGE);
            rename "$site/large.new", "$site/large.bin" or die $!;
        }
    }
    for my $n (0 .. $#travellers) {
        subtest $travellers[$n]{name} => sub { eval { $travellers[$n]{end}->($connections[$n]); 1 } or fail $@ };
        $connections[$n]->close;
    }
    is $server->get('/large.bin')->body, 'x' x length $LARGE, 'a new download is of the new file';
    my $metrics = Baton::Metrics->wait_open($server);
    is $metrics->imbalance, 0, 'every connection is accounted for';
    is $metrics->value('moves_refused_total'), 0, 'none was refused';
    is $metrics->value('moves_unfit_total'), 0, 'none did not fit';
    is $metrics->value("connections_ended_total{reason=\"$_\"}"), 0, "none ended: $_"
        for qw(announced client_abandoned error drain_cut worker_died stopped_idle);
    write_file("$site/large.bin", $LARGE);
    is $server->stop, 0, 'exit code';
};

subtest 'the number of workers changes' => sub {
    my $server      = serve(workers => 1);
    my @connections = begin_travel($server, @travellers);
    for my $workers (4, 2, 1, 3) {
        $server->configure(configuration(workers => $workers));
        is reload($server, "$workers workers"), @travellers, 'all moved';
        is scalar(my @now = $server->workers), $workers, 'so many there are';
    }
    for my $n (0 .. $#travellers) {
        $travellers[$n]{end}->($connections[$n]);
        $connections[$n]->close;
    }
    is $server->stop, 0, 'exit code';
};

subtest 'connections are shared out' => sub {
    my $server      = serve(workers => 1);
    my @connections = map { $server->connect } 1 .. 200;
    $_->get('/') for @connections;
    $server->configure(configuration(workers => 4));
    is reload($server), 200, 'all moved';
    my @counts = map { $_->{connections} } @{$server->wait_at_rest(4, 200)->{workers}};
    cmp_ok $_, '>=', 20, "a worker has its share of them: $_" for @counts;
    is $server->stop, 0, 'exit code';
};

# Time ------------------------------------------------------------------------------------------

# What begins a time, that only goes on over reloads; what shows that it is over: something comes, or
# a connection has ended for that reason.
my %times = (
    HeaderTimeout => { sent => substr($GET, 0, 20), status => 408 },
    BodyTimeout => { sent => "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell", status => 408 },
    IdleTimeout => { sent => $GET, before => 200 },
    # What the client's kernel takes at first is progress: it counts from there.
    SendTimeout => { sent => "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n", reason => 'send_timeout', most => 2 },
    LingerTimeout => { sent => "nonsense\r\n\r\n", before => 400, reason => 'request_refused' },
);

subtest 'time runs on' => sub {
    my @names  = sort keys %times;
    my $server = serve(server => join "\n", map { "$_=1s" } @names);
    my $before = Baton::Metrics->scrape($server);
    my (%connection, %began, %took);
    for my $name (@names) {
        $began{$name} = now();
        my $c = $connection{$name} = $server->connect('http', receive_buffer => 16384);
        $c->send($times{$name}{sent});
        is $c->read_answer->status, $times{$name}{before}, "$name: an answer" if $times{$name}{before};
    }
    ok $connection{LingerTimeout}->is_closed, 'closed on its side';
    # As many reloads as it takes.
    my $reloads = 0;
    while (keys %took < @names && $reloads < 1000) {
        reload($server);
        $reloads++;
        my $ended = Baton::Metrics->scrape($server)->growth($before, 'connections_ended_total');
        for my $name (grep { !$took{$_} } @names) {
            my $reason = $times{$name}{reason};
            $took{$name} = now() - $began{$name} if $reason ? $ended->{$reason} : !$connection{$name}->is_quiet;
        }
    }
    cmp_ok $reloads, '>=', 5, "$reloads reloads meanwhile";
    for my $name (@names) {
        ok $took{$name} >= 1 && $took{$name} < ($times{$name}{most} // 1) + 0.5 * $SLOW, "$name=1s was over after $took{$name}";
        my $status = $times{$name}{status} // next;
        is $connection{$name}->read_answer->status, $status, 'as without a reload';
    }
    ok $connection{IdleTimeout}->is_closed, 'closed';
    is $server->stop, 0, 'exit code';
};

subtest 'a timeout that is made shorter' => sub {
    my $server  = serve(workers => 1, server => 'IdleTimeout=1h');
    my $patient = $server->connect;
    is_home($patient->send($GET), 'a request');
    $server->configure(configuration(workers => 1, server => 'IdleTimeout=200ms'));
    is reload($server), 1, 'moved';
    my $other = $server->connect;
    is_home($other->send($GET), 'another request');
    ok $_->is_closed, 'closed' for $patient, $other;
    is $server->stop, 0, 'exit code';
};

# The access log --------------------------------------------------------------------------------

subtest 'the access log' => sub {
    my $log    = folder() . '/access.log';
    my $server = serve(server => "AccessLog=json\nAccessLogFile=$log");
    my %paths  = (download => '/large.bin?1', body => '/?2', pipelined => '/?3', refused => '/?4');
    my $began  = now();
    my $download = $server->connect('http', receive_buffer => 16384);
    begin_download($download, "GET $paths{download} HTTP/1.1\r\nHost: x\r\n\r\nGET $paths{pipelined} HTTP/1.1\r\nHost: x\r\n\r\nGET $paths{refused} HTTP/1.1\r\n\r\n", 200);
    my $body = $server->connect->send("GET $paths{body} HTTP/1.1\r\nHost: x\r\nUser-Agent: u\r\nContent-Length: 4\r\n\r\nbod");
    reload($server); # so both have been read
    my $moving = now();
    reload($server) for 1 .. 5;
    my $spent = now() - $moving;
    is_home($body->send('y'), 'the answer behind a body');
    end_download($download);
    is_home($download, 'the answer behind a download');
    is $download->read_answer->status, 400, 'a refusal';
    $download->close;
    $server->wait_at_rest(2, 1);
    reload($server); # whoever served before has written what it had
    my $all = now() - $began;
    my @lines = map { JSON::PP::decode_json($_) } split /\n/, read_file($log);
    my %line  = map { ($_->{target} => $_) } @lines;
    is scalar(@lines), 4, 'a line for each request';
    is_deeply [sort keys %line], [sort values %paths], 'each once';
    my ($d, $b) = @line{@paths{qw(download body)}};
    is $d->{bytes}, length $LARGE, 'all bytes count';
    is $d->{status}, 200, 'status';
    is $d->{peer}, '127.0.0.1', 'peer';
    is $b->{agent}, 'u', 'a field of the request';
    is $b->{bytes}, 4, 'bytes of a page';
    for ([$d, 'download'], [$b, 'body']) {
        my $took = $_->[0]{duration_usec} / 1e6;
        ok $took >= $spent && $took <= $all, "the $_->[1] took $took s, since its head was there";
    }
    is $line{$paths{refused}}{status}, 400, 'a refusal';
    is $server->stop, 0, 'exit code';
};

# Listeners and limits --------------------------------------------------------------------------

subtest 'a listener is removed' => sub {
    my ($kept, $removed) = map { free_address() } 1 .. 2;
    my $listeners = sub (@addresses) {
        my $n = 0;
        return join "\n", map { "[Listen n" . $n++ . "]\nAddress=$_" } @addresses;
    };
    my $configuration = sub (@addresses) {
        return "[Server]\nWorkers=2\n" . $listeners->(@addresses) . "\n[Route site]\nRoot=$site\n";
    };
    my $server = start(config => $configuration->($kept, $removed), sockets => []);
    my %c = map { ($_ => Baton::Http->connect($_ eq 'kept' ? $kept : $removed, receive_buffer => 16384)) }
        qw(kept idle head body download);
    is_home($c{$_}->send($GET), "$_: a request") for qw(kept idle);
    $c{head}->send(substr $GET, 0, 20);
    $c{body}->send("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell");
    begin_download($c{download}, "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n$GET", 200);
    $server->configure($configuration->($kept));
    is reload($server), 5, 'all moved';
    ok !eval { Baton::Http->connect($removed) }, 'nobody listens any more';
    is reload($server), 5, 'and again';
    ok $c{$_}->is_quiet, "$_: nothing has come" for qw(kept idle head body);
    end_download($c{download});
    $c{idle}->send($GET);
    $c{head}->send(substr $GET, 20);
    $c{body}->send('o');
    for my $name (qw(idle head body download)) {
        my $answer = $c{$name}->read_answer;
        is $answer->body, 'home', "$name: an answer";
        ok $answer->closes, '... that says it is the last';
        ok $c{$name}->is_closed, '... and it is';
        $c{$name}->close;
    }
    is_home($c{kept}->send($GET), 'the others stay');
    is $server->stop, 0, 'exit code';
};

subtest 'more than MaxConnections=' => sub {
    my $server      = serve(workers => 1);
    my @connections = map { $server->connect } 1 .. 20;
    is_home($_->send($GET), 'a request') for @connections;
    $server->configure(configuration(workers => 1, server => 'MaxConnections=4'));
    is reload($server), 20, 'all moved: the limit is for who comes';
    is_home($_->send($GET), 'an answer') for @connections;
    my @queued = map { $server->connect->send($GET) } 1 .. 2;
    is reload($server), 20 + !$queued[0]->is_quiet, 'and again';
    is_home($_->send($GET), 'an answer') for @connections;
    (pop @connections)->close while @connections > 1;
    is_home($_, 'who came later has had to wait') for @queued;
    is_home($connections[0]->send($GET), 'who was there still is');
    is $server->stop, 0, 'exit code';
};

# Waits until something has come on some of the connections, and returns these.
sub ready_of(@connections)
{
    my @ready;
    watch($_->{socket}, sub { }) for @connections;
    my $waited = eval { wait_for('answer on any connection', sub { @ready = grep { !$_->is_quiet } @connections }) };
    unwatch($_->{socket}) for @connections;
    die $@ unless $waited;
    return @ready;
}

# A full inbox ----------------------------------------------------------------------------------

subtest 'a full inbox' => sub {
    my $server = serve(workers => 2);
    Baton::Inbox->of($server)->resize(1);
    my @connections = map { $server->connect } 1 .. 400;
    is $_->get('/')->body, 'home' for @connections[0 .. 9];
    my $delayed = Baton::Metrics->scrape($server)->value('moves_delayed_total');
    for my $round (1 .. 5) {
        is reload($server), 400, 'all moved';
        my $answers = 0;
        $_->send($GET) for @connections;
        $answers += $_->read_answer->body eq 'home' for @connections;
        is $answers, 400, 'all are answered';
    }
    cmp_ok +Baton::Metrics->scrape($server)->value('moves_delayed_total'), '>', $delayed, 'some had to wait';

    is $server->stop, 0, 'exit code';
};

# One worker has not fds enough for the connections of four: who finds no place in the inbox either
# is served where it was, and moves later.
subtest 'nobody to move to' => sub {
    my $binary = Baton::Binary->new->script("ulimit -n 500\nexec \@baton@ \"\$@\"");
    my $server = serve(from => $binary, workers => 4);
    Baton::Inbox->of($server)->resize(1);
    my @connections = map { $server->connect } 1 .. 400;
    my @former      = $server->workers;
    $server->configure(configuration(workers => 1));
    my $reload = $server->reload;
    is $reload->status, 0, 'a reload';
    my ($finishing) = $reload->out =~ / (\d+) still finishing, 0 cut/;
    cmp_ok $finishing, '>=', 50, "$finishing connections stay in the former workers";
    $_->send($GET) for @connections;
    my $answered = 0;
    while (@connections) {
        for my $c (ready_of(@connections)) {
            my $answer = $c->read_answer;
            $answered += $answer->body eq 'home' && !$answer->closes;
            $c->close;
        }
        @connections = grep { $_->{socket} } @connections;
    }
    is $answered, 400, 'all are answered, and none is told to leave';
    wait_exit_of(\@former);
    is(Baton::Metrics->wait_open($server)->imbalance, 0, 'every connection is accounted for');
    is $server->stop, 0, 'exit code';
};

# Another build ---------------------------------------------------------------------------------

# baton, but for the version of its records.
sub other_build
{
    my $folder = build_folder() . '/record-version-2';
    my $make   = Baton::Process->run(
        command => ['make', '-C', source_root(), "BUILD=$folder", 'CPPFLAGS=-DRECORD_VERSION=3', "$folder/baton"],
        seconds => 300);
    is $make->status, 0, 'another build' or diag $make->err;
    return "$folder/baton";
}

subtest 'a build that reads no records of the other' => sub {
    my $other  = other_build();
    my $binary = Baton::Binary->new;
    my $server = serve(from => $binary);
    for my $to ('the other', 'the first') {
        my @connections = begin_travel($server, @travellers);
        my %c           = map { ($travellers[$_]{name} => $connections[$_]) } 0 .. $#travellers;
        $to eq 'the other' ? $binary->link_to($other) : $binary->restore;
        my @former = $server->workers;
        my $reload = $server->reload;
        is $reload->status, 0, "a reload to $to" or diag $reload->err;
        my $finishing = @travellers;
        like $reload->out, qr/connections: 0 moved, $finishing still finishing, 0 cut$/, 'none moved';
        ok $server->wait_log(qr/reads? our records .* connections drain here/), 'the log says why';
        is scalar(grep { kill 0, $_ } @former), 2, 'the former workers go on';
        is $server->connect->get('/')->body, 'home', 'the new ones serve';
        drains($_, $c{$_}->send($GET)) for 'between requests', 'before the first request', 'one request after each reload';
        drains('in a head', $c{'in a head'}->send(substr $GET, 20));
        drains('in the second of two heads', $c{'in the second of two heads'}->send(substr $GET, 20));
        drains('a byte of a head', $c{'a byte of a head after each reload'}->send(substr $GET, 1));
        drains('a body', $c{'in a body by length'}->send('x' x 40));
        drains('a chunk', $c{'in a chunked body'}->send("lo\r\n0\r\n\r\n"));
        drains('a size', $c{'in the size of a chunk'}->send("\r\nx\r\n0\r\n\r\n"));
        drains('a body that was asked for', $c{'a body that was asked for'}->send('hello'));
        for my $name (grep { $_->{state} eq 'reply' } @travellers) {
            end_download($c{$name->{name}});
        }
        is $c{'who looks after the server'}->get('/livez')->status, 200, 'an admin page';
        drains('behind a download', $c{'requests behind a download'});
        $_->close for @connections;
        wait_exit_of(\@former);
        my $metrics = Baton::Metrics->wait_open($server);
        is $metrics->imbalance, 0, 'every connection is accounted for';
        is $metrics->value('moves_refused_total'), 0, 'none was refused';
        is $metrics->value("connections_ended_total{reason=\"$_\"}"), 0, "none ended: $_"
            for qw(error drain_cut worker_died);
    }
    my $connection = $server->connect;
    is $connection->get('/')->body, 'home', 'a connection';
    is reload($server), 1, 'between equals they move again';
    is_home($connection->send($GET), '... unnoticed');
    is $server->stop, 0, 'exit code';
};

# The next answer is the last, and says so.
sub drains($name, $connection)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $answer = $connection->read_answer;
    is $answer->body, 'home', "$name: an answer";
    ok $answer->closes,        '... that says it is the last';
    ok $connection->is_closed, '... and it is';
}

done_testing;
