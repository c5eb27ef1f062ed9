# A reload: the same process, whatever the binary on disk and the configuration are; and refusals,
# after which everything is as it was.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Binary ();
use Baton::Proc   qw(fds_of resident_of state_of zombies_of);
use Baton::Test;

my $root = folder('index.html' => 'hello');

# A configuration for two workers. $server, $more: further lines of [Server] and at the end.
sub configuration($server = '', $more = '')
{
    return <<~END;
        [Server]
        Workers=2
        $server
        [Listen http]
        [Route site]
        Root=$root
        $more
        END
}

sub pids($status)
{
    return [sort { $a <=> $b } map { $_->{pid} } @{$status->{workers}}];
}

# A file that was sent is closed before the next request is read: here, one for which there is none.
sub gets_hello($client)
{
    my $body = $client->get('/')->body;
    return $body if $client->get('/none')->status == 404;
}

# What the server's processes hold, once it is at rest with this one client: fds by their kind.
sub holdings($server)
{
    my $status = $server->wait_at_rest(2, 1);
    return {
        supervisor => fds_of($server->pid),
        workers => [sort map { @{fds_of($_)} } @{pids($status)}],
        zombies => [zombies_of($server->pid)],
    };
}

# A server with one client, to which nothing ever happens.
sub start_with_client(%o)
{
    my $binary = Baton::Binary->new;
    my $server = $binary->start(config => configuration(), %o);
    my $client = $server->connect;
    is gets_hello($client), 'hello', 'it serves';
    return ($server, $binary, $client);
}

# A good reload, after whatever came before.
sub reloads_well($server, $client, $before, $generation)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $reload = $server->reload;
    is $reload->status, 0, 'a good reload succeeds' or diag $reload->err;
    like $reload->out,
        qr/^Reloaded in \d+ ms: generation $generation serves with 2 workers; connections: 1 moved, 0 still finishing, 0 cut$/,
        'and says so';
    is gets_hello($client), 'hello', 'on the same connection';
    is_deeply holdings($server), $before, 'nothing more is held than before';
}

# A reload that is refused for this reason changes nothing.
sub is_refused($server, $client, $reason, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $status = $server->wait_at_rest(2, 1);
    my $before = holdings($server);
    my $reload = $server->reload;
    is $reload->status, 1, "$name: refused";
    like $reload->err, qr/^Reload refused, generation $status->{generation} goes on: $reason$/, 'with the reason';
    is $reload->out, '', 'and nothing else';
    ok $server->wait_log(qr/: Reload refused, generation $status->{generation} goes on: $reason$/m), 'it is logged';
    is gets_hello($client), 'hello', 'the client is served on the same connection';
    is_deeply holdings($server), $before, 'nothing more is held than before';
    my $after = $server->status;
    is_deeply pids($after), pids($status), 'by the same workers';
    is $after->{generation}, $status->{generation}, 'of the same generation';
    is $after->{reloads_refused}, $status->{reloads_refused} + 1, 'it is counted';
    is $server->get('/')->body, 'hello', 'and so is a new one';
}

subtest 'a reload' => sub {
    my ($server, $binary, $client) = start_with_client();
    my $pid    = $server->pid;
    my $before = holdings($server);
    my $first  = pids($server->status);
    reloads_well($server, $client, $before, 2);
    is $server->pid, $pid, 'the same process';
    my %former = map { ($_ => 1) } @$first;
    ok !(grep { $former{$_} } @{pids($server->status)}), 'new workers';

    write_file("$root/new.html", 'new');
    $server->configure(configuration('', "Index=new.html"));
    is $server->reload->status, 0, 'the configuration is read anew';
    is $client->get('/')->body, 'new', 'and followed';
    $server->configure(configuration());

    # Whoever follows is the binary that is on disk now.
    $binary->script(qq(export MARK=mine\nexec \@baton@ "\$@"\n));
    is $server->reload->status, 0, 'another binary';
    ok +(grep { $_ eq 'MARK=mine' } split /\0/, read_file("/proc/$pid/environ")), 'it serves now';
    $binary->restore;

    $server->signal('HUP');
    my $status = $server->wait_status('generation 5', sub ($status) { $status->{generation} == 5 });
    is $status->{reloads}, 4, 'SIGHUP does the same';
    is_deeply holdings($server), $before, 'nothing more is held than before';
    is $server->stop, 0, 'exit code';
};

subtest 'refused: the binary on disk' => sub {
    my ($server, $binary, $client) = start_with_client();
    my $before = holdings($server);
    my $path   = quotemeta $binary->path;
    my $none   = 'is not a Baton that can take over';
    my @refusals = (
        ['none', sub { $binary->remove }, qr/$path cannot be run: No such file or directory/],
        ['/bin/true', sub { $binary->link_to('/bin/true') }, qr/the binary on disk $none/],
        ['one that prints what a preflight does', sub { $binary->script('echo baton-preflight $2') }, qr/the binary on disk $none/],
        ['a script that fails', sub { $binary->script("echo out of >&2\necho luck\nexit 3") }, qr/the check failed: out of;luck/],
        ['a script that fails and says nothing', sub { $binary->script('exit 3') }, qr/the binary on disk failed with status 3 and said nothing/],
        ['one that kills itself', sub { $binary->script('kill -SEGV $$') }, qr/the binary on disk was killed by SIGSEGV while it checked/],
        ['a text', sub { $binary->write("what\n") }, qr/$path cannot be run: Exec format error/],
        ['not executable', sub { $binary->write("#!/bin/sh\n", 0644) }, qr/$path cannot be run: Permission denied/],
        ['a folder', sub { $binary->link_to('/') }, qr/$path cannot be run: Permission denied/],
        ['one that vanishes between check and exec', sub { $binary->script(qq(rm "\$0"\nexec \@baton@ "\$@")) }, qr/$path cannot be executed: No such file or directory/],
        [
            'a build that refuses the state',
            sub { $binary->script(<<~'END') },
                sed '1s/=.*/=99/' /proc/self/fd/3 >"$0.state"
                exec @baton@ "$@" 3<"$0.state"
                END
            qr/the check failed: the state passed on has format version 99; this build reads version 2/
        ],
        [
            'a build that knows less',
            sub { $binary->script(<<~'END') },
                sed '$a novelty=1' /proc/self/fd/3 >"$0.state"
                exec @baton@ "$@" 3<"$0.state"
                END
            qr/the check failed: the state passed on has a line this build cannot read: novelty/
        ],
        ['one whose first worker dies', sub { $binary->fault('die 1') }, qr/Worker 1 of generation \d+ \(PID \d+\) died: it exited with status 7/],
        ['one whose second worker dies', sub { $binary->fault('die 2') }, qr/Worker 2 of generation \d+ \(PID \d+\) died: it exited with status 7/],
    );
    for my $refusal (@refusals) {
        my ($name, $replace, $reason) = @$refusal;
        $replace->();
        is_refused($server, $client, $reason, $name);
        $binary->restore;
        reloads_well($server, $client, $before, $server->status->{generation} + 1 + ($reason =~ /generation/ ? 1 : 0));
    }
    is $server->stop, 0, 'exit code';
};

subtest 'refused: a binary that hangs' => sub {
    my ($server, $binary, $client) = start_with_client(config => configuration('StartTimeout=1s'));
    my $before = holdings($server);
    my @refusals = (
        ['in the check', sub { $binary->script("echo \$\$ >\$0.pid\nsleep 1000\necho never") }, qr/the binary on disk did not answer within StartTimeout=/],
        ['in its first worker', sub { $binary->fault('hang 1') }, qr/Worker 1 of generation \d+ \(PID \d+\) died: it did not get ready within StartTimeout=/],
        ['in its second worker', sub { $binary->fault('hang 2') }, qr/Worker 2 of generation \d+ \(PID \d+\) died: it did not get ready within StartTimeout=/],
    );
    for my $refusal (@refusals) {
        my ($name, $replace, $reason) = @$refusal;
        $replace->();
        is_refused($server, $client, $reason, $name);
        $binary->restore;
    }
    is state_of(0 + read_file($binary->path . '.pid')), undef, 'what hung is gone';
    is $server->reload->status, 0, 'a good reload succeeds';
    is_deeply holdings($server), $before, 'nothing more is held than before';
    is $server->stop, 0, 'exit code';
    is_deeply [$server->process->leftovers], [], 'and so is what it had started';
};

subtest 'refused: the configuration' => sub {
    my ($server, $binary, $client) = start_with_client();
    my $before = holdings($server);
    my $file   = quotemeta $server->{config};
    my $taken  = Baton::Server::listen_on('127.0.0.1:0');
    my $address = Baton::Server::address_of($taken);
    my @refusals = (
        ['none', undef, qr/$file: No such file or directory/],
        ['an error', configuration('Wokers=3'), qr/the check failed: $file:3: unknown key Wokers= in \[Server\]; did you mean Workers=\?/],
        ['two errors', configuration('Workers=x', 'Rot=/'), qr/the check failed: $file:3: Workers=x: .*;$file:7: unknown key Rot= in \[Route\]; did you mean Root=\?/],
        ['no such folder', configuration('', "Root=$root/none"), qr{the check failed: .*$root/none: No such file or directory}],
        ['a passed socket is not named', configuration() =~ s/Listen http\]/Listen https]\nAddress=$address/r, qr/a socket named 'http' was passed \(FileDescriptorName=\), but there is no \[Listen http\]/],
        ['a [Listen] with neither', configuration('', '[Listen other]'), qr/\[Listen other\] has no Address=, and no socket of that name was passed/],
        ['an address in use', configuration('', "[Listen other]\nAddress=$address"), qr/cannot listen on \Q$address\E: Address already in use/],
        ['a worker cannot start', configuration("AccessLog=json\nAccessLogFile=$root/none/log"), qr{Worker \d of generation \d+ \(PID \d+\) died: .*$root/none/log: No such file or directory}],
    );
    for my $refusal (@refusals) {
        my ($name, $text, $reason) = @$refusal;
        defined $text ? $server->configure($text) : unlink $server->{config};
        is_refused($server, $client, $reason, $name);
        $server->configure(configuration());
        is $server->reload->status, 0, 'a good reload succeeds';
        is_deeply holdings($server), $before, 'nothing more is held than before';
    }
    is $server->stop, 0, 'exit code';
};

subtest 'reloads at once' => sub {
    my ($server, $binary, $client) = start_with_client();
    my $before  = holdings($server);
    my @reloads = map { $server->start_command('reload') } 1 .. 2;
    is $_->wait_exit, 0, 'succeeds' for @reloads;
    is_deeply [sort map { $_->out =~ /generation (\d+)/ } @reloads], [2, 3], 'each had its own generation';
    my $told = join '', map { /^RELOADING=1/ ? 'r' : /^READY=1/ ? 'R' : '' } $server->notifications;
    like $told, qr/^R(?:rR+){2}$/, 'one after the other';

    # The first is held in its check, so that the others meet it.
    $binary->hold;
    my $first = $server->start_command('reload');
    $server->wait_notify(qr/^RELOADING=1$/m) for 1 .. 3;
    my @later = map { $server->connect_control->send('reload') } 1 .. 2;
    $server->signal('HUP');
    $server->status; # so all of it has reached the server
    ok $first->running && !(grep { !$_->is_quiet } @later), 'all wait';
    $binary->let_through;
    is $first->wait_exit, 0, 'the first ends';
    like $first->out, qr/generation 4 /, 'with its own generation';
    $binary->let_through;
    like $_->answer, qr/^ok\nReloaded in .* generation 5 /, 'one reload does for the rest' for @later;
    $binary->restore;
    is_deeply holdings($server), $before, 'nothing more is held than before';
    is $server->status->{generation}, 5, 'there is no further one';
    is $server->stop, 0, 'exit code';
};

subtest 'nobody waits for the outcome any more' => sub {
    my ($server, $binary, $client) = start_with_client();
    my $before = holdings($server);
    $binary->hold;
    my $reload = $server->start_command('reload');
    $server->wait_notify(qr/^RELOADING=1$/m);
    $reload->signal('INT');
    is $reload->wait_exit, 130, 'Ctrl-C';
    $binary->let_through;
    ok $server->wait_notify(qr/^READY=1$/m), 'the reload goes on';
    is_deeply holdings($server), $before, 'nothing more is held than before';
    is $server->status->{generation}, 2, 'to its end';
    $binary->restore;
    reloads_well($server, $client, $before, 3);
    is $server->stop, 0, 'exit code';
};

subtest 'a worker dies during a reload' => sub {
    my ($server, $binary, $client) = start_with_client();
    $client->close;
    $binary->hold;
    my $reload = $server->start_command('reload');
    $server->wait_notify(qr/^RELOADING=1$/m);
    kill KILL => @{pids($server->status)};
    $server->wait_log(qr/died: it was killed by SIGKILL/) for 1 .. 2;
    $binary->let_through;
    is $reload->wait_exit, 0, 'it succeeds all the same' or diag $reload->err;
    is $server->get('/')->body, 'hello', 'and the server serves';
    is $server->wait_at_rest(2)->{worker_crashes}, 2, 'the deaths are counted';
    is $server->stop, 0, 'exit code';
};

subtest 'thirty reloads' => sub {
    my ($server, $binary, $client) = start_with_client();
    reloads_well($server, $client, holdings($server), 2);
    my $before = holdings($server);
    my @memory = map { resident_of($_) } $server->pid, @{pids($server->status)};
    my @failed = grep { $_->status != 0 } map { $server->reload } 1 .. 30;
    is @failed, 0, 'all succeed' or diag map { $_->err } @failed;
    is_deeply holdings($server), $before, 'nothing more is held than before';
    for my $pid ($server->pid, @{pids($server->status)}) {
        cmp_ok resident_of($pid), '<=', shift(@memory) + 1024, 'no more memory, give or take 1 MiB';
    }
    is scalar(my @children = $server->workers), 2, 'two workers';
    is gets_hello($client), 'hello', 'and still the same connection';
    is $server->status->{generation}, 32, 'the 32nd generation';
    is $server->stop, 0, 'exit code';
};

done_testing;
