# The load client of the other tests, before a server that misbehaves: every failure is counted,
# once, as what it is. A witness is no better than this.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Loop    qw(watch unwatch);
use Baton::Process ();
use Baton::Rogue;
use Baton::Test;
use List::Util qw(sum);

my $scratch = scratch();
my $sockets = 0;

sub socket_path
{
    return "$scratch/socket" . ++$sockets;
}

subtest 'a server that does all right' => sub {
    my $server = serve();
    my @got    = load($server, '--requests', 20, '--group', 'keepalive:2:expect=hello');
    counts \@got, 0, {}, { requests => 20, responses => 20, connections_opened => 2, closed => 0 },
        'two connections kept alive';
    is_deeply $got[1]{status}, { 200 => 20 }, 'status codes';
    is $got[1]{bytes}, 20 * length $HELLO, 'bytes';
    is $got[1]{running}, JSON::PP::true, 'every client had an answer';
    my @latency = @{$got[1]{latency}}{qw(p50 p90 p99 p99.9 max)};
    is_deeply \@latency, [sort { $a <=> $b } @latency], 'percentiles ascend';
    cmp_ok $latency[0], '>', 0, '... from above zero';
    end($server);

    $server = serve(unix => socket_path());
    @got    = load($server, '--requests', 3, '--group', 'keepalive:1:expect=hello');
    counts \@got, 0, {}, { responses => 3, connections_opened => 1 }, 'a unix socket';
    end($server);
};

subtest 'no connection' => sub {
    my $server = serve();
    end($server);
    my @got = load($server, '--requests', 3, '--group', 'keepalive:1');
    counts \@got, 1, { connect_refused => 3 }, { unanswered => 3, connections_opened => 0 },
        'refused';
    like $got[1]{first_failures}[0],
        qr/^0\.\d+ s, group 0 \(keepalive\), client 0, local port [1-9]\d*: connect_refused: C/,
        'is told';

    @got = load({ target => ['--unix', "$scratch/none"] }, '--requests', 2, '--group', 'idle:1');
    counts \@got, 1, { connect_failed => 2 }, { unanswered => 2 }, 'no socket';

    $server = serve(unix => socket_path(), backlog => 0, held => 1);
    @got    = load($server, '--requests', 2, '--timeout', '50ms', '--group', 'keepalive:2');
    counts \@got, 1, { timeouts => 2 }, { unanswered => 2, connections_opened => 1 },
        'a queue that is full and stays so';
    end($server);

    $server = serve(unix => socket_path(), backlog => 0, held => 1);
    my $asked = 0;
    watch($server->{socket}, sub { $asked = 1 });
    my $load = begin($server, '--group', 'keepalive:3:think=1ms');
    wait_for('connection', sub { $asked });
    is report_now($load)->{connections_opened}, 1, 'a queue that is full';
    accept_now($server);
    $load->wait_out(qr/^running$/m);
    $load->finish;
    counts [outcome($load)], 0, {}, { connections_opened => 3 }, '... and then is not';
    end($server);
};

subtest 'connections that end in the middle' => sub {
    my $half = "${OK}Content-Length: 100\r\n\r\nhello";
    my @ends = (
        ['before the answer',       ''],
        ['in the status line',      'HTTP/1.1 20'],
        ['in the fields',           "${OK}Content-Le"],
        ['after an interim answer', "HTTP/1.1 100 Continue\r\n\r\n"],
        ['in the content',          $half],
        ['in a chunk size',         "${CHUNKED}5"],
        ['in a chunk',              "${CHUNKED}5\r\nhel"],
        ['before the last chunk',   "${CHUNKED}5\r\nhello\r\n"],
        ['in the last chunk',       "${CHUNKED}0\r\n"],
    );
    for (@ends) {
        my ($name, $bytes) = @$_;
        for ([closed_early => \&shut], [reset => \&reset_connection]) {
            my ($failure, $end) = @$_;
            my $server = serve(request => sub ($c, $head) { put($c, $bytes); $end->($c) });
            my @got    = load($server, '--requests', 4, '--group', 'keepalive:2');
            counts \@got, 1, { $failure => 4 },
                { unanswered => 4, responses => 0, connections_opened => 4, closed => 0 },
                "$failure $name";
            end($server);
        }
    }

    # The keep-alive race: an answer, and then the end instead of the next one.
    my $server =
        serve(request => sub ($c, $head) { $c->{requests} == 3 ? shut($c) : put($c, $HELLO) });
    my @got    = load($server, '--requests', 9, '--group', 'keepalive:1');
    counts \@got, 1, { closed_early => 3 },
        { responses => 6, unanswered => 3, connections_opened => 3 }, 'every third request';
    end($server);

    $server =
        serve(request => sub ($c, $head) { put($c, "${OK}\r\nhello"); reset_connection($c) });
    @got    = load($server, '--requests', 1, '--group', 'keepalive:1');
    counts \@got, 1, { reset => 1 }, { unanswered => 1 },
        'reset in content that ends with the connection';
    end($server);
};

subtest 'answers that do not come' => sub {
    for my $bytes ('', 'HTTP/1.1 200 O', "${OK}Content-Length: 6\r\n\r\nhello") {
        my $server = serve(request => sub ($c, $head) { put($c, $bytes) });
        my @got    = load($server, '--requests', 2, '--timeout', '50ms', '--group', 'keepalive:1');
        counts \@got, 1, { timeouts => 2 }, { unanswered => 2, connections_opened => 2 },
            'timeout after ' . length($bytes) . ' bytes';
        end($server);
    }
    my $server = serve(request => sub ($c, $head) { put($c, "HTTP/1.1 103 Early Hints\r\n\r\n") });
    my @got    = load($server, '--requests', 1, '--timeout', '50ms', '--group', 'keepalive:1');
    counts \@got, 1, { timeouts => 1 }, { responses => 0 }, 'only an interim answer';
    end($server);

    # A load client that was itself too late must not blame the server.
    my (@asked, $load);
    $server = serve(
        request => sub ($c, $head) {
            push @asked, $c;
            $load->signal('STOP') if @asked == 100;
        });
    my $clock = serve();
    $load =
        begin($server, qw(--timeout 1s --ramp 100), '--group', 'keepalive:100:think=1min');
    wait_for('100 requests', sub { @asked == 100 });
    load($clock, '--duration', '1200ms', '--group', 'idle:1');
    put($_, $HELLO) for @asked;
    $load->signal('CONT');
    $load->wait_out(qr/^running$/m);
    $load->finish;
    counts [outcome($load)], 0, {}, { responses => 100 }, 'answers that were there in time';
    end($_) for $server, $clock;
};

subtest 'connections that end between requests' => sub {
    my $announced = answer('hello', 'Connection: close');
    my $server    = serve(request => sub ($c, $head) { put($c, $announced); shut($c) });
    my @got       = load($server, '--requests', 5, '--group', 'keepalive:1:expect=hello');
    counts \@got, 0, {},
        { responses => 5, closed_announced => 5, closed => 0, connections_opened => 5 },
        'announced';
    end($server);

    $server = serve(request => sub ($c, $head) { put($c, $announced) });
    @got    = load($server, '--requests', 1, '--timeout', '500ms', '--group', 'keepalive:1');
    counts \@got, 1, { timeouts => 1 }, { responses => 1, unanswered => 0 },
        'announced, and not done';
    end($server);

    $server = serve(request => sub ($c, $head) { put($c, $announced); reset_connection($c) });
    @got    = load($server, '--requests', 1, '--group', 'keepalive:1');
    is $got[0], 1, 'announced, and then reset';
    is $got[1]{failures}{reset}, 1, '... is a failure: it may have cost the answer';
    end($server);

    $server = serve(request => sub ($c, $head) { put($c, "$announced!"); shut($c) });
    @got    = load($server, '--requests', 1, '--group', 'keepalive:1:expect=hello');
    counts \@got, 1, { bad_response => 1 }, { responses => 1 }, 'announced, and one byte more';
    end($server);

    for ([closed => \&shut], [reset => \&reset_connection]) {
        my ($name, $end) = @$_;
        for my $allowed (0, 1) {
            my @allow = $allowed ? '--allow-close-idle' : ();
            $server = serve();
            my $load = begin($server, @allow, '--group', 'keepalive:3:think=1min');
            $load->wait_out(qr/^running$/m);
            $end->($_) for @{$server->{connections}}[0, 1];
            is report_now($load)->{closed_idle}, 2, "$name while thinking, noticed at once";
            $load->finish;
            my @got = outcome($load);
            counts \@got, $allowed ? 0 : 1, {},
                { responses => 3, closed => 2, closed_idle => 2, closed_announced => 0 },
                $name . ($allowed ? ', and allowed' : '');
            like $got[1]{first_failures}[0] // '', $allowed ? qr/^$/ : qr/closed_idle: /, 'is told';
            end($server);
        }
    }

    $server = serve();
    my $load = begin($server, '--group', 'keepalive:1:think=1min');
    $load->wait_out(qr/^running$/m);
    put($server->{connections}[0], "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
    shut($server->{connections}[0]);
    $load->finish;
    counts [outcome($load)], 1, { bad_response => 1 }, { responses => 1, unanswered => 0 },
        'an answer that nobody asked for';
    end($server);
};

subtest 'connect' => sub {
    my $heads  = '';
    my $server = serve(request => sub ($c, $head) { $heads .= $head; put($c, $HELLO); shut($c) });
    my @got    = load($server, '--requests', 4, '--group', 'connect:2:expect=hello');
    counts \@got, 0, {},
        { responses => 4, connections_opened => 4, closed_requested => 4, closed_announced => 0 },
        'a connection for each request';
    is scalar(() = $heads =~ /^Connection: close\r$/mg), 4, 'which says so';
    end($server);

    $server = serve();
    @got    = load($server, '--requests', 1, '--timeout', '500ms', '--group', 'connect:1');
    counts \@got, 1, { timeouts => 1 }, { responses => 1 }, 'a server that does not close';
    end($server);

    $server = serve(request => sub ($c, $head) { put($c, $HELLO); reset_connection($c) });
    @got    = load($server, '--requests', 1, '--group', 'connect:1');
    is $got[1]{failures}{reset}, 1, 'a server that resets';
    end($server);
};

subtest 'slowhead' => sub {
    my $reads  = 0;
    my $server = serve(
        piece => sub ($c) {
            $reads++;
            put($c, $HELLO) if $c->{in} =~ s/\AGET \/slow HTTP\/1\.1\r\nHost: [0-9.:]+\r\n\r\n\z//;
        });
    my @group = ('--group', 'slowhead:1:path=/slow,piece=4-5,gap=20ms,expect=hello');
    my @got   = load($server, '--requests', 2, @group);
    counts \@got, 0, {}, { responses => 2, connections_opened => 1 }, 'whole in the end';
    cmp_ok $reads, '>', 4, 'in pieces';
    cmp_ok $got[1]{duration}, '>', 0.32, 'with time between them';
    cmp_ok $got[1]{latency}{p50}, '<', 160_000, '... which is not the latency';
    end($server);

    my $refusal = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    $server = serve(piece => sub ($c) { put($c, $refusal); shut($c) });
    @got    = load($server, '--requests', 1, '--group', 'slowhead:1:piece=1,gap=20ms');
    is $got[1]{failures}{bad_status}, 1, 'a refusal before the end of the head';
    end($server);

    $server = serve(piece => sub ($c) { put($c, $HELLO) unless $c->{answered}++ });
    @got    = load($server, '--requests', 1, '--group', 'slowhead:1:piece=1,gap=20ms');
    counts \@got, 1, { bad_response => 1 }, { responses => 1 },
        'an answer before the end of the head';
    end($server);

    $server = serve(piece => sub ($c) { shut($c) });
    @got    = load($server, '--requests', 1, '--group', 'slowhead:1:piece=1,gap=20ms');
    counts \@got, 1, { closed_early => 1 }, { unanswered => 1 },
        'a close before the end of the head';
    end($server);
};

subtest 'download' => sub {
    my $content = join '', map { pack 'N', $_ } 1 .. 75_000;
    my $file    = "$scratch/large";
    write_file($file, $content);
    my $server = serve(request => sub ($c, $head) { put($c, answer($content)) });
    my @got    = load(
        $server, '--requests', 1, '--timeout', '150ms', '--group', "download:1:rate=1M,file=$file");
    counts \@got, 0, {}, { responses => 1 },
        'every byte is right; the timeout counts from the last';
    cmp_ok $got[1]{duration}, '>', 0.16, 'slowly';
    @got = load($server, '--requests', 2, '--group', 'download:1:hash=' . fnv($content));
    counts \@got, 0, {}, { responses => 2, connections_opened => 1 },
        'by its hash, as fast as it comes';

    my $load = begin($server, '--group', "download:1:rate=1K,file=$file");
    $load->wait_out(qr/^running$/m);
    $load->finish;
    @got = outcome($load);
    counts \@got, 0, {}, { responses => 1 }, 'finished at the end of the run';
    cmp_ok $got[1]{duration}, '<', 5, '... at full speed';
    end($server);

    my $wrong = $content;
    substr $wrong, 200_001, 1, 'x';
    $server = serve(request => sub ($c, $head) { put($c, answer($wrong)) });
    for ("file=$file", 'hash=' . fnv($content)) {
        @got = load($server, '--requests', 1, '--group', "download:1:rate=4M,$_");
        counts \@got, 1, { wrong_bytes => 1 }, { responses => 1 }, 'one byte is wrong, ' . s/=.*//r;
    }
    end($server);

    my $short = substr answer($content), 0, -1;
    $server = serve(request => sub ($c, $head) { put($c, $short); shut($c) });
    @got    = load($server, '--requests', 1, '--group', "download:1:rate=4M,file=$file");
    counts \@got, 1, { closed_early => 1 }, { unanswered => 1 }, 'the last byte is missing';
    end($server);
};

subtest 'pipeline' => sub {
    my @group = ('--group', 'pipeline:1:depth=4,path=/{n}?n={n},expect=number {n}');
    my $n     = sub ($head) { $head =~ m{\AGET /(\d+)\?n=\1 } ? $1 : die "unexpected $head" };

    my $server = serve(request => sub ($c, $head) { put($c, answer('number ' . $n->($head))) });
    my @got    = load($server, '--requests', 10, @group);
    counts \@got, 0, {}, { requests => 10, responses => 10, connections_opened => 1 },
        'answers in order';
    end($server);

    my @waiting;
    $server = serve(
        request => sub ($c, $head) {
            push @waiting, $n->($head);
            return if @waiting < 4;
            put($c, join '', map { answer("number $_") } @waiting[0, 2, 1, 3]);
            @waiting = ();
        });
    @got = load($server, '--requests', 8, @group);
    counts \@got, 1, { wrong_bytes => 4 }, { responses => 8 },
        'two out of order; only a server that reads all at once can do that';
    end($server);

    $server = serve(
        request => sub ($c, $head) {
            my @fields = $c->{requests} == 2 ? 'Connection: close' : ();
            put($c, answer('number ' . $n->($head), @fields));
            shut($c) if $c->{requests} == 2;
        },
        unix => socket_path());
    @got = load($server, '--requests', 8, @group);
    counts \@got, 0, {},
        { requests => 8, responses => 4, unprocessed => 4, unanswered => 0, closed_announced => 2 },
        'the end announced behind the second';
    end($server);

    for ([closed_early => \&shut], [reset => \&reset_connection]) {
        my ($failure, $end) = @$_;
        $server = serve(
            request => sub ($c, $head) {
                $end->($c) if $c->{requests} == 3;
                put($c, answer('number ' . $n->($head))) if $c->{requests} < 3;
            });
        @got = load($server, '--requests', 4, @group);
        is $got[0], 1, "$failure behind the second";
        # A reset may overtake the answers before it.
        my $lost = $got[1]{failures}{$failure};
        ok $failure eq 'reset' ? $lost >= 2 && $lost <= 4 : $lost == 2,
            '... is a failure for each one';
        end($server);
    }

    $server = serve(request => sub ($c, $head) { put($c, 'garbage') if $c->{requests} == 4 });
    @got    = load($server, '--requests', 4, @group);
    counts \@got, 1, { bad_response => 4 }, { unanswered => 4 }, 'garbage is no answer to any';
    end($server);
};

subtest 'idle' => sub {
    my $server = serve();
    my $load   = begin($server, '--group', 'idle:3:expect=hello');
    $load->wait_out(qr/^running$/m);
    is sum(map { $_->{requests} } @{$server->{connections}}), 3, 'one request each';
    $load->finish;
    counts [outcome($load)], 0, {}, { requests => 6, responses => 6, connections_opened => 3 },
        'and one at the end, on the same connection';
    end($server);

    $server = serve();
    $load   = begin($server, '--group', 'idle:3');
    $load->wait_out(qr/^running$/m);
    shut($server->{connections}[1]);
    my $all = $server->{connections};
    wait_for('another connection', sub { @$all == 4 && $all->[3]{requests} });
    $load->finish;
    counts [outcome($load)], 1, {},
        { requests => 7, responses => 7, closed => 1, connections_opened => 4 },
        'a close meanwhile counts, and is noticed at once';
    end($server);

    $server =
        serve(request => sub ($c, $head) { $c->{requests} == 2 ? shut($c) : put($c, $HELLO) });
    $load   = begin($server, '--group', 'idle:3');
    $load->wait_out(qr/^running$/m);
    $load->finish;
    counts [outcome($load)], 1, { closed_early => 3 },
        { requests => 6, responses => 3, closed => 0 }, 'a close instead of the last answer';
    end($server);

    # At the end, what the kernel knows already is heard before the last request is sent.
    $server = serve();
    $load   = begin($server, '--group', 'idle:1');
    $load->wait_out(qr/^running$/m);
    shut($server->{connections}[0]);
    $load->finish;
    my @got = outcome($load);
    is_deeply [$got[0], $got[1]{closed}, $got[1]{failed}], [1, 1, 0],
        'a close right before the end';
    end($server);
};

subtest 'rate' => sub {
    # One of two connections stalls until the other has had 40 answers: the requests that were due
    # on it meanwhile count their delay. A client that asks only when it is answered sees one.
    my ($stalled, $others) = (undef, 0);
    my $server = serve(
        request => sub ($c, $head) {
            if ($c->{number} == 1 && $c->{requests} == 5) {
                $stalled = $c;
            } else {
                put($c, $HELLO);
                $others++ if $stalled && $c->{number} == 2;
            }
            if ($stalled && $others == 40) {
                put($stalled, $HELLO);
                $others++;
            }
        });
    my @got = load($server, '--rate', 200, '--requests', 150, '--group', 'keepalive:2:think=1min');
    counts \@got, 0, {}, { requests => 150, responses => 150, rate => 200, unsent => 0 },
        'all are made';
    cmp_ok $got[1]{duration},     '>', 0.7,     'at that rate';
    cmp_ok $got[1]{latency}{max}, '>', 350_000, 'the stall';
    cmp_ok $got[1]{latency}{p90}, '>', 150_000, '... delayed what was due in it';
    end($server);

    $server = serve(request => sub ($c, $head) { put($c, $HELLO) if $c->{requests} == 1 });
    @got = load(
        $server, qw(--rate 1000 --duration 200ms --timeout 600ms), '--group', 'keepalive:1');
    is $got[1]{failures}{timeouts}, 1, 'no answer, and an end nevertheless';
    cmp_ok $got[1]{unsent}, '>', 50, '... what could not be sent is told';
    end($server);
};

subtest 'groups, and the end of a run' => sub {
    my %paths;
    my $server = serve(
        request => sub ($c, $head) {
            $paths{$1}++ if $head =~ /^GET (\S+)/;
            put($c, $1 eq '/b' ? "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" : $HELLO);
        });
    my @groups =
        ('keepalive:2:path=/a,think=1ms-3ms', 'keepalive:1:path=/b,think=1ms', 'idle:1:path=/c');
    my $load = begin($server, map { ('--group', $_) } @groups);
    $load->wait_out(qr/^running$/m);
    wait_for('100 requests', sub { $paths{'/a'} > 100 && $paths{'/b'} > 3 });
    $load->finish;
    my ($status, $report) = outcome($load);
    my ($a, $b, $c) = @{$report->{groups}};
    is $status, 1, 'one group fails';
    is_deeply [map { $_->{failed} } $a, $b, $c], [0, $b->{responses}, 0], '... and is told apart';
    is_deeply [map { $_->{requests} } $a, $b, $c], [@paths{qw(/a /b /c)}],
        'what was asked is what was counted';
    is_deeply [map { $_->{group} } $a, $b, $c], \@groups, 'by their names';
    my $told = @{$report->{first_failures}};
    is $told, $b->{failed} < 10 ? $b->{failed} : 10, 'the first failures';
    end($server);

    $server = serve();
    my @got = load($server, '--duration', '100ms', '--group', 'keepalive:1:think=1ms');
    counts \@got, 0, {}, { connections_opened => 1 }, 'a duration';
    cmp_ok $got[1]{duration}, '>', 0.09, '... is kept';
    for my $signal (qw(INT TERM)) {
        $load = begin($server, '--group', 'keepalive:1:think=1min');
        $load->wait_out(qr/^running$/m);
        $load->signal($signal);
        counts [outcome($load)], 0, {}, { requests => 1 }, "SIG$signal";
    }
    end($server);

    my $second;
    $server = serve(
        request => sub ($c, $head) {
            $c->{number} == 1 ? shut($c) : ($second = $c);
        });
    $load = begin($server, '--group', 'keepalive:1:think=1min');
    wait_for('second request', sub { $second });
    is report_now($load)->{unanswered}, 1, 'a failure';
    is $load->out, '', '... does not make a client running';
    put($second, $HELLO);
    $load->wait_out(qr/^running$/m);
    $load->finish;
    counts [outcome($load)], 1, { closed_early => 1 }, { responses => 1 }, '... but an answer does';
    end($server);

    $server = serve();
    # More clients than may begin at once.
    $load = begin($server, '--ramp', 2, '--group', 'idle:40');
    $load->wait_out(qr/^running$/m);
    $load->finish;
    counts [outcome($load)], 0, {}, { requests => 80, connections_opened => 40 }, 'a ramp';
    $load = begin($server, '--ready-fd', 2, '--group', 'idle:1');
    $load->wait_err(qr/^running$/m);
    $load->finish;
    counts [outcome($load)], 0, {}, { requests => 2 }, 'another place for "running"';
    end($server);

    $server = serve();
    @got    = outcome(
        Baton::Process->run(
            command => [
                load_client(), '--until-stdin-closes', '--group', 'idle:1', '--group',
                'keepalive:1:think=1min', @{$server->{target}}
            ]));
    counts \@got, 0, {}, { requests => 3, responses => 3 }, 'an end before the first answer';
    end($server);
};

subtest 'the command line' => sub {
    my $refused = sub ($pattern, @arguments) {
        my $load = Baton::Process->run(command => [load_client(), @arguments]);
        is $load->status, 2, "@arguments";
        like $load->err, $pattern, '... is told';
    };
    my @end = ('--requests', 1);
    my @url = ('http://127.0.0.1:1/');
    $refused->(qr/no --group/,                   @end, @url);
    $refused->(qr/without end/,                  '--group', 'idle:1', @url);
    $refused->(qr/give one URL/,                 @end, '--group', 'idle:1');
    $refused->(qr/give one URL/,                 @end, '--group', 'idle:1', @url, @url);
    $refused->(qr/no http:/,                     @end, '--group', 'idle:1', 'https://127.0.0.1/');
    $refused->(qr/not an IP address/,            @end, '--group', 'idle:1', 'http://example.com/');
    $refused->(qr/unknown kind/,                 @end, '--group', 'lazy:1', @url);
    $refused->(qr/number of clients/,            @end, '--group', 'idle', @url);
    $refused->(qr/number of clients/,            @end, '--group', 'idle:0', @url);
    $refused->(qr/unknown setting 'x=1'/,        @end, '--group', 'idle:1:x=1', @url);
    $refused->(qr/idle has no 'think'/,          @end, '--group', 'idle:1:think=1s', @url);
    $refused->(qr/keepalive has no 'depth'/,     @end, '--group', 'keepalive:1:depth=2', @url);
    $refused->(qr/'5' is no value for think/,    @end, '--group', 'keepalive:1:think=5', @url);
    $refused->(qr/'5-1ms' is no value/,          @end, '--group', 'keepalive:1:think=5-1ms', @url);
    $refused->(qr/'0' is no value for depth/,    @end, '--group', 'pipeline:1:depth=0', @url);
    $refused->(qr/'0-5' is no value for piece/,  @end, '--group', 'slowhead:1:piece=0-5', @url);
    $refused->(qr/'9999999' is no value/, @end, '--rate', 9999999, '--group', 'idle:1', @url);
    $refused->(qr/'xyz' is no value for hash/,   @end, '--group', 'idle:1:hash=xyz', @url);
    $refused->(qr/'PUT' is no value for method/, @end, '--group', 'idle:1:method=PUT', @url);
    $refused->(qr/'a' is no value for path/,     @end, '--group', 'idle:1:path=a', @url);
    $refused->(qr/exclude each other/,           @end, '--group', 'idle:1:expect=a,file=/b', @url);
    $refused->(qr{/nonexistent: No such file},   @end, '--group', 'idle:1:file=/nonexistent', @url);
    $refused->(qr/keepalive clients/,            @end, '--rate', 5, '--group', 'idle:1', @url);
    $refused->(qr/'5' is no value for --timeout/, @end, '--timeout', 5, '--group', 'idle:1', @url);
    $refused->(qr/--ready-fd 99 is not open/,    @end, '--ready-fd', 99, '--group', 'idle:1', @url);
    $refused->(qr/file descriptors/,             @end, ('--group', 'idle:1000000') x 2, @url);
    $refused->(qr/see load --help/,              '--nonsense');
    is(Baton::Process->run(command => [load_client(), '--help'])->status, 0, '--help');
};

done_testing;
