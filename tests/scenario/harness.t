# The library of the scenario tests, without baton.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Backend ();
use Baton::Http    ();
use Baton::Loop    qw(watch unwatch);
use Baton::Notify  ();
use Baton::Process qw(pidfd);
use Baton::Test;
use Socket;

sub fails_with($pattern, $code, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    eval { $code->() };
    like $@, $pattern, $name;
}

subtest 'a process: output, input, end' => sub {
    my $cat = Baton::Process->start(command => ['cat'], input => 'pipe');
    ok $cat->running, 'runs';
    $cat->write("one\ntwo\n");
    is $cat->wait_out(qr/^one$/m), 'one', 'a line';
    $cat->write("one\n");
    is $cat->wait_out(qr/^one$/m), 'one', 'the next such line';
    is $cat->out, "one\ntwo\none\n", 'all it wrote';
    $cat->finish;
    is $cat->wait_exit, 0, 'ends with its input';
    fails_with qr/three.*its end came first\n.*one/s, sub { $cat->wait_out(qr/three/) },
        'no line will come';

    is Baton::Process->run(command => ['false'])->status, 1, 'exit code';
    is Baton::Process->run(command => ['sh', '-c', 'kill -9 $$'])->status, 137, 'a signal';
    like Baton::Process->run(command => ['/nonexistent'])->err, qr{/nonexistent: No}, 'no exec';
    is Baton::Process->run(command => ['wc', '-c'], input => 'x' x 200_000)->out, "200000\n",
        'text as its input';

    my $told = Baton::Process->run(
        command => ['sh', '-c', 'echo $BATON_A-${BATON_B-unset}; pwd; echo bad >&2'],
        environment => { BATON_A => 'a', BATON_B => undef },
        directory => '/usr');
    is $told->out, "a-unset\n/usr\n", 'environment and directory';
    is $told->err, "bad\n",           'standard error';
};

subtest 'waiting fails in time, where the test stands' => sub {
    my $cat = Baton::Process->start(command => ['cat'], input => 'pipe');
    fails_with qr/no .*never.* in what cat writes within .* at \Q$0\E/,
        sub { $cat->wait_out(qr/never/, 0.05) }, 'no line';
    fails_with qr/no end of cat within/, sub { $cat->wait_exit(0.05) }, 'no end';
    $cat->kill;
    is $cat->status, 137, 'killed';
};

# A Perl program that forks a child, which waits for ever, and prints its pid.
my $FORKS = <<~'END';
    pipe my $reader, my $writer;
    my $child = fork // die;
    if (!$child) { close STDOUT; close STDERR; <$reader>; exit }
    $| = 1;
    print "child $child\n";
    END

subtest 'what a process leaves behind' => sub {
    my $parent = Baton::Process->start(command => [$^X, '-e', $FORKS]);
    my ($left) = $parent->wait_out(qr/child \d+/) =~ /(\d+)/;
    is $parent->wait_exit, 0, 'it ends';
    is_deeply [$parent->leftovers], [$left], 'its child is found';
    my $handle = pidfd($left);
    my $ended;
    watch($handle, sub { $ended = 1; unwatch($handle) });
    $parent->kill;
    wait_for('end of the child', sub { $ended });
    is_deeply [$parent->leftovers], [], 'and killed';

    $parent = Baton::Process->start(
        command => ['setsid', '--fork', $^X, '-e', "$FORKS; <\$reader>"]);
    $parent->wait_out(qr/child/);
    is_deeply [scalar(my @left = $parent->leftovers)], [2], 'those of another session are found';
    $parent->kill;
    is_deeply [$parent->leftovers], [], 'and killed';
};

subtest 'children, and the end of any process' => sub {
    my $parent = Baton::Process->start(
        command => [$^X, '-e', "$FORKS <STDIN>; kill KILL => \$child; <STDIN>"],
        input => 'pipe');
    my ($child) = $parent->wait_out(qr/child \d+/) =~ /(\d+)/;
    is_deeply [children_of($parent->pid)], [$child], 'one child';
    fails_with qr/no end of all of the processes $child/, sub { wait_exit_of([$child], 0.05) },
        'still there';
    $parent->write("go\n");
    wait_exit_of([$child]);
    is_deeply [children_of($parent->pid)], [], 'a zombie does not count';
    wait_exit_of([$child]);
    $parent->finish;
    is $parent->wait_exit, 0;
};

subtest 'sockets are passed as sd_listen_fds(3) says' => sub {
    my @sockets = map { Baton::Server::listen_on($_) }
        '127.0.0.1:0', '[::1]:0', 'unix:' . scratch() . '/passed.sock', "unix:\@baton-$$";
    my @addresses = map { Baton::Server::address_of($_) } @sockets;
    like $addresses[0], qr/^127\.0\.0\.1:\d+$/, 'IPv4';
    like $addresses[1], qr/^\[::1\]:\d+$/,      'IPv6';
    like $addresses[2], qr/^unix:\//,           'AF_UNIX';
    is $addresses[3], "unix:\@baton-$$", 'abstract';

    my $child = Baton::Process->start(
        command => [$^X, '-e', <<~'END'],
            $| = 1;
            print "mine\n" if $ENV{LISTEN_PID} == $$;
            for my $fd (3 .. 6) {
                open my $listener, '+<&=', $fd or die;
                accept my $client, $listener or die "$fd: $!";
                syswrite $client, "fd $fd\n";
            }
            END
        pass => \@sockets);
    $child->wait_out(qr/mine/);
    for my $n (0 .. 3) {
        my $client = Baton::Http->connect($addresses[$n]);
        is $client->read_to_end, 'fd ' . ($n + 3) . "\n", $addresses[$n];
    }
    is $child->wait_exit, 0;
};

subtest 'notifications' => sub {
    my $notify = Baton::Notify->new(scratch() . '/notify');
    my $child  = Baton::Process->start(
        command => [$^X, '-MSocket', '-e', <<~'END'],
            socket my $s, AF_UNIX, SOCK_DGRAM, 0;
            send $s, $_, 0, pack_sockaddr_un($ENV{NOTIFY_SOCKET})
                for "STATUS=up\nREADY=1", "RELOADING=1\nMONOTONIC_USEC=5", "READY=1\n";
            END
        environment => { NOTIFY_SOCKET => $notify->path });
    is $notify->wait(qr/^READY=1$/m), "STATUS=up\nREADY=1", 'the first';
    is $notify->wait(qr/^READY=1$/m), "READY=1\n",          'the second, past the first';
    is scalar($notify->messages), 3, 'all';
    is_deeply [$notify->senders], [($child->pid) x 3], 'and who sent them';
    fails_with qr/no notification .*WATCHDOG/, sub { $notify->wait(qr/WATCHDOG=1/, 0.05) }, 'none';
    $child->wait_exit;
};

# What reading one answer from these bytes, with the end after them, gives.
sub answer_to($bytes, $method = 'GET')
{
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, 0 or die $!;
    syswrite $theirs, $bytes;
    shutdown $theirs, SHUT_WR;
    my $connection = Baton::Http->new($ours);
    return ($connection->read_answer($method), $connection);
}

subtest 'answers that RFC 9112 allows' => sub {
    my ($answer, $connection) =
        answer_to("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\nx: b\r\n\r\nhello"
            . "HTTP/1.1 404 \r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n");
    is $answer->status,           200;
    is $answer->{reason},         'OK';
    is $answer->body,             'hello', 'Content-Length';
    is $answer->field('X'),       'a, b',  'a field that comes twice';
    is $answer->field('missing'), undef;
    ok !$answer->closes, 'persistent';
    my $next = $connection->read_answer;
    is $next->status, 404, 'pipelined';
    ok $next->closes,          'Connection: close';
    ok $connection->is_closed, 'closed';

    ($answer) = answer_to("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            . "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nDigest: 1\r\n\r\n");
    is $answer->body, 'abc0123456789', 'chunked';
    is_deeply $answer->{trailers}, [['Digest', '1']], 'trailers';

    ($answer) = answer_to("HTTP/1.0 200 OK\r\n\r\nuntil the end");
    is $answer->body, 'until the end', 'until the end';
    ok $answer->closes, 'HTTP/1.0 closes';
    ($answer) = answer_to("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
    ok !$answer->closes, 'HTTP/1.0 with keep-alive does not';

    is +(answer_to("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 'HEAD'))[0]->body, '', 'HEAD';
    is +(answer_to("HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n"))[0]->body, '', 'status 304';
    ($answer) = answer_to("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
    is $answer->status,             204, 'after an interim answer';
    is $answer->{interim}[0]->status, 100;
};

subtest 'answers that it refuses' => sub {
    my $head = "HTTP/1.1 200 OK\r\n";
    my %refused = (
        'no status line' => "HTTP/1.1 2000 OK\r\n\r\n",
        'no status line, without a reason\'s space' => "HTTP/1.1 200\r\n\r\n",
        'a bare CR or LF' => "HTTP/1.1 200 OK\nX: y\r\n\r\n",
        'no field, with a space before the colon' => "${head}X : y\r\n\r\n",
        'no field, continued on a second line' => "${head}X: y\r\n z\r\n\r\n",
        'control characters' => "${head}X: \x01\r\n\r\n",
        'Content-Length: 5, 5' => "${head}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        'Content-Length: +5' => "${head}Content-Length: +5\r\n\r\nhello",
        'ended after 4 of 5' => "${head}Content-Length: 5\r\n\r\nhell",
        'both Content-Length and' =>
            "${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        'Transfer-Encoding: gzip' => "${head}Transfer-Encoding: gzip\r\n\r\n",
        'no chunk' => "${head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        'a chunk that does not end' => "${head}Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        'a body without a length' => "${head}\r\nhello",
    );
    for my $reason (sort keys %refused) {
        my ($pattern) = $reason =~ /^([^,]+(?:, \d)?)/;
        fails_with qr/\Q$pattern\E/, sub { answer_to($refused{$reason}) }, $reason;
    }
};

subtest 'a connection' => sub {
    my $listener = Baton::Server::listen_on('127.0.0.1:0');
    my $client = Baton::Http->connect(Baton::Server::address_of($listener), receive_buffer => 4096);
    accept my $accepted, $listener or die $!;
    my $server = Baton::Http->new($accepted);
    ok $client->is_quiet, 'nothing yet';
    $client->send("GET / HTTP/1.1\r\n");
    is $server->read_bytes(16), "GET / HTTP/1.1\r\n", 'raw bytes';
    $server->send('x');
    $client->read_more;
    ok !$client->is_quiet, 'a byte';
    $client->read_bytes(1);
    fails_with qr/no room to send/, sub { $server->send('x' x 100_000_000, 0.05) }, 'a full window';
    $client->reset;
    fails_with qr/reset/i, sub { $server->read_more }, 'a reset';
    my $free = free_address();
    fails_with qr/connecting to \Q$free\E: .*refused/i, sub { Baton::Http->connect($free) },
        'nobody listens at a free address';
};

# A test program in a process of its own.
sub test_program($text, %environment)
{
    my $path = scratch() . '/program.t';
    write_file($path, "use v5.36; use lib '$Bin/../lib'; use Baton::Test; \$| = 1;\n$text");
    return Baton::Process->start(command => [$^X, $path], environment => \%environment);
}

subtest 'a test that ends early leaves nothing' => sub {
    my $text = <<~END;
        my \$forks = <<'EOF';
        $FORKS <STDIN>
        EOF
        my \$parent = Baton::Process->start(command => [\$^X, '-e', \$forks], input => 'pipe');
        my (\$child) = \$parent->wait_out(qr/child \\d+/) =~ /(\\d+)/;
        say 'left ', join ' ', scratch(), \$parent->pid, \$child;
        END
    my %ends = (
        'a die' => ["$text die 'on purpose'",               sub ($test) { }],
        'an interrupt' => ["$text \$parent->wait_exit(100)", sub ($test) { $test->signal('INT') }],
        'a normal end' => [$text,                           sub ($test) { }],
    );
    for my $end (sort keys %ends) {
        my ($program, $act) = @{$ends{$end}};
        my $test = test_program($program);
        my (undef, $folder, @pids) = split ' ', $test->wait_out(qr/^left .*\n/m);
        is @pids, 2, "$end: two processes";
        $act->($test);
        wait_exit_of(\@pids);
        is $test->wait_exit, $end eq 'a normal end' ? 0 : $end eq 'a die' ? 255 : 1, 'exit code';
        ok !-e $folder, 'no folder';
    }
};

# What Baton::Server expects of baton, and no more.
my $FAKE = <<~'END';
    #!/usr/bin/perl
    use v5.36;
    use Socket;
    if ($ARGV[0] ne 'serve') {
        say "@ARGV[0, 1]";
        exit 3;
    }
    sub notify ($message)
    {
        socket my $socket, AF_UNIX, SOCK_DGRAM, 0;
        send $socket, $message, 0, pack_sockaddr_un($ENV{NOTIFY_SOCKET});
    }
    open my $listener, '+<&=', 3 or die;
    for (1 .. 2) {
        next if fork;
        while (accept my $client, $listener) {
            while (<$client>) { last if $_ eq "\r\n" }
            print {$client} "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nfds";
        }
    }
    open my $configuration, '<', $ARGV[2] or die;
    print STDERR "$ENV{LISTEN_FDNAMES} ", <$configuration>;
    $SIG{TERM} = sub { notify('STOPPING=1'); kill 'KILL', -$$ if $ENV{ABRUPT}; exit 4 };
    notify('READY=1');
    1 while wait > 0;
    END

subtest 'a server, here a false one' => sub {
    local $ENV{BATON} = folder(baton => $FAKE) . '/baton';
    chmod 0755, $ENV{BATON};

    my $server = start(
        config => "[Server]\n",
        sockets => [http => '127.0.0.1:0', admin => 'unix:' . scratch() . '/admin.sock']);
    is $server->wait_log(qr/^.*Server\]$/m), 'http:admin [Server]', 'log, names and configuration';
    is scalar(my @workers = $server->workers), 2, 'two workers';
    is $server->get('/')->body, 'fds', 'a request';
    like $server->address('admin'), qr/admin\.sock/, 'the other socket\'s address';
    my $reload = $server->reload;
    is $reload->status, 3, 'exit code of a command';
    is $reload->out, "reload --control\n", 'and its output';
    $server->signal('TERM');
    ok $server->wait_notify(qr/^STOPPING=1$/m), 'it says that it stops';
    fails_with qr/no end of/, sub { $server->process->wait_exit(0.2) }, 'workers stay: noticed';
    $server->process->kill;
    is_deeply [$server->process->leftovers], [], 'and killed';

    $server = start(environment => { ABRUPT => 1 }, config => '', sockets => $server->sockets);
    is $server->stop, 137, 'a second one on the same sockets, stopped';
    fails_with qr/baton ended instead:\n.*die|Died/is, sub { start() }, 'one that does not start';
};

# A client of one, and the request that it got.
sub ask($backend, $bytes)
{
    my $client = Baton::Http->connect($backend->address)->send($bytes);
    return ($client, $backend->wait_request);
}

subtest 'a backend' => sub {
    my $backend = Baton::Backend->new(address => 'unix:' . scratch() . '/backend.sock');
    my ($client, $request) = ask($backend, "PROXY UNKNOWN\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    is $client->read_answer->body, "hello\n", 'an answer';
    is_deeply [map { $request->$_ } qw(method target proxy)], ['GET', '/a', 'PROXY UNKNOWN'], 'the request';
    is $request->field('host'), 'x', 'a field';

    $backend->answer_next(framing => 'chunked', body => 'abcde', chunk => 2, trailers => [Last => 1]);
    $client->send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n");
    my $answer = $client->read_answer;
    is $answer->body, 'abcde', 'in chunks';
    is_deeply $answer->{trailers}, [['Last', 1]], 'with trailers';
    is $backend->wait_request->body, 'xyz', 'as the body of the request';

    $backend->hold;
    $request = $client->send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n") && $backend->wait_request;
    ok $client->is_quiet, 'held';
    $request->answer(status => 503, body => 'late', close => 1);
    $answer = $client->read_answer;
    is $answer->status, 503, 'answered late';
    ok $answer->closes && $client->is_closed, 'and closed';

    $backend->answer(sub ($request) { (body => 'x' x 1_000_000, cut => 999_000) });
    ($client) = ask($backend, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    fails_with qr/ended after/, sub { $client->read_answer }, 'cut';
    $backend->stop;
    fails_with qr/connecting/, sub { Baton::Http->connect($backend->address) }, 'stopped';
    $backend->listen->answer(body => 'again');
    ($client) = ask($backend, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    is $client->read_answer->body, 'again', 'back';
    ($client) = eval { ask($backend, "GET  / HTTP/1.1\r\n\r\n") };
    like $@, qr/no request line/, 'no request';
};

subtest 'what can\'t be tested is skipped, but not in CI' => sub {
    my $skipped = test_program('cannot_run("no fish")', BATON_CI => undef);
    is $skipped->wait_exit, 0;
    like $skipped->out, qr/^1\.\.0 # SKIP no fish/, 'skipped';
    my $failed = test_program('cannot_run("no fish")', BATON_CI => 1);
    is $failed->wait_exit, 1;
    like $failed->out, qr/^not ok 1 - .*no fish/, 'failed';
};

done_testing;
