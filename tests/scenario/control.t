# The control socket: who may ask, what is answered, and that nobody can block it.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Control ();
use Baton::Test;
use Fcntl    qw(:mode);
use JSON::PP ();

my $root   = folder('index.html' => 'hello');
my $NOBODY = 65534;

sub configuration(@server)
{
    return join "\n", '[Server]', 'Workers=2', @server, '[Listen http]', '[Route site]', "Root=$root", '';
}

sub ask($server, $request)
{
    return $server->connect_control->send($request)->answer;
}

my $server = start(config => configuration());

subtest 'the socket' => sub {
    my $mode = (stat $server->control)[2];
    ok S_ISSOCK($mode), 'is one';
    is S_IMODE($mode), 0600, 'which only its owner may use';
};

subtest 'another user' => sub {
    cannot_run('only root can become another user') if $> != 0;
    chmod 0666, $server->control;
    my $client = Baton::Process->run(
        command => [
            'setpriv', "--reuid=$NOBODY", "--regid=$NOBODY", '--clear-groups',
            baton(), 'status', '--control', $server->control
        ]);
    is $client->status, 1, 'is refused';
    is $client->out, '', 'and told nothing';
    like $client->err, qr/^baton: the server went away before it answered$|: Connection reset by peer$|: Broken pipe$/, 'though the file lets it';
    chmod 0600, $server->control;
    is $server->command('status')->status, 0, 'its owner is not';
};

subtest 'status' => sub {
    my $client = $server->connect;
    $client->get('/') for 1 .. 3;
    my $status = $server->command('status');
    is $status->status, 0, 'exit code';
    is $status->err, '', 'no complaints';
    my ($first, @lines) = split /\n/, $status->out;
    is $first, 'Serving generation 1: 2 workers, 1 connection', 'one line says the most';
    like $status->out, qr/^0 reloads done, 0 refused; 0 workers crashed$/m, 'reloads';
    like $status->out, qr/^1 connections accepted, 1 open; 3 requests$/m, 'connections';
    my %found = map { /^\s*(\d+)\s+1\s+([12])\s+current\s+[01]\s+[03]$/ ? ($2 => $1) : () } @lines;
    my @workers = @found{1, 2};
    is_deeply [sort { $a <=> $b } @workers], [$server->workers], 'and a line for each worker';

    $status = $server->command('status', '--json');
    is $status->status, 0, 'as JSON: exit code';
    my $json = JSON::PP->new->decode($status->out);
    is_deeply [sort keys %$json],
        [qw(connections generation reloads reloads_refused requests stopping version worker_crashes workers)], 'its keys';
    is_deeply [@$json{qw(generation connections requests reloads reloads_refused worker_crashes)}], [1, 1, 3, 0, 0, 0], 'its numbers';
    ok JSON::PP::is_bool($json->{stopping}) && !$json->{stopping}, 'it does not stop';
    is_deeply [map { $_->{pid} } sort { $a->{worker} <=> $b->{worker} } @{$json->{workers}}], \@workers, 'its workers';
    is_deeply [sort keys %{$json->{workers}[0]}], [qw(connections generation pid requests state worker)], 'and their keys';
};

subtest 'garbage' => sub {
    my $unknown = "failed\nthis server does not know that request";
    is ask($server, $_), $unknown, "'$_'" for 'what', 'Reload', ' reload', "reload\n", 'status  json', "\xff\xfe", 'x' x 319, 'pause', 'resume', 'pausenow x';
    is ask($server, $_), "failed\nthe request holds a NUL byte", 'NUL'
        for "reload\0", "stop\0", "status\0", "reload\0and more", "\0";
    is ask($server, 'x' x $_), "failed\nthe request is too long", "$_ bytes" for 320, 321, 4096, 100_000;
    is ask($server, ''), '', 'an empty message is an end';
    # Whoever does not wait for the answer.
    $server->connect_control->send($_)->close for ('status json') x 20, 'what';
    my $status = $server->status;
    is $status->{generation}, 1, 'nothing came of any of it';
    is $status->{reloads_refused}, 0, 'nor was it tried';
    is $server->get('/')->body, 'hello', 'and the server serves';
};

subtest 'connections that say nothing' => sub {
    my @silent = map { $server->connect_control } 1 .. 100;
    is $server->reload->status, 0, 'a hundred of them block no reload';
    push @silent, map { $server->connect_control } 1 .. 100;
    is $server->command('status')->status, 0, 'and no status';
    $_->close for @silent;

    # Those who wait for an answer are not the ones that have to go.
    my @asking = map { $server->connect_control->send('reload') } 1 .. 10;
    my @later  = map { $server->connect_control } 1 .. 100;
    is scalar(grep { $_->answer =~ /^ok\n/ } @asking), 10, 'who has asked is answered';
    $server->wait_at_rest(2);
};

subtest 'a second server' => sub {
    my $second = start(config => configuration(), arguments => ['--control', $server->control], ready => 0);
    is $second->wait_exit, 1, 'on the same path fails';
    like $second->log, qr/^baton\[\d+\]: Cannot start: another server answers on the control socket \Q@{[$server->control]}\E$/m, 'and says why';
    is $server->command('status')->status, 0, 'the first is still asked there';
};

subtest 'a server that is gone' => sub {
    my $killed  = start(config => configuration());
    my @workers = $killed->workers;
    $killed->signal('KILL');
    $killed->process->wait_exit;
    wait_exit_of(\@workers);
    my $status = $killed->command('status');
    is $status->status, 1, 'cannot be asked';
    like $status->err, qr/^baton: no server answers on the control socket \Q@{[$killed->control]}\E: Connection refused$/, 'which is said';
    my $next = start(config => configuration(), arguments => ['--control', $killed->control]);
    is $killed->command('status')->status, 0, 'the next server replaces its socket';
    is $next->stop, 0, 'exit code';
    ok !-e $killed->control, 'and removes it at its end';

    my $path = folder() . '/control.sock';
    write_file($path, 'precious');
    my $third = start(config => configuration(), arguments => ['--control', $path], ready => 0);
    is $third->wait_exit, 1, 'a file that is no socket';
    like $third->log, qr/Cannot start: cannot make the control socket \Q$path\E: Address already in use$/m, 'is not replaced';
    is read_file($path), 'precious', 'nor lost';
};

subtest 'ControlSocket=' => sub {
    my $folder = folder();
    my ($first, $second) = map { "$folder/$_.sock" } 1, 2;
    my $moving = start(config => configuration("ControlSocket=$first"), control => $first);
    # baton COMMAND which finds the socket in the configuration.
    my $command = sub ($name) { run_baton($name, '-c', $moving->{config}) };
    is $command->('status')->status, 0, 'is where it is asked';
    $moving->configure(configuration("ControlSocket=$second"));
    my $reload = $moving->reload;
    is $reload->status, 0, 'a reload that changes it' or diag $reload->err;
    ok !-e $first, 'the former socket is gone';
    is S_IMODE((stat $second)[2]), 0600, 'the next is there';
    is $command->('status')->status, 0, 'and answers';
    is $command->('reload')->status, 0, 'reloads too';

    $moving->configure(configuration("ControlSocket=@{[$server->control]}"));
    $reload = run_baton('reload', '--control', $second);
    is $reload->status, 0, 'a path at which another server answers';
    $moving->wait_log(qr/another server answers on the control socket \Q@{[$server->control]}\E; the former one stays$/m);
    is run_baton('status', '--control', $second)->status, 0, 'leaves it where it is';

    $moving->configure(configuration("ControlSocket=relative"));
    $reload = run_baton('reload', '--control', $second);
    is $reload->status, 1, 'a wrong one is refused';
    like $reload->err, qr/ControlSocket=relative: /, 'like any other error';
    is $moving->stop, 0, 'exit code';
    ok !-e $second, 'it is removed';
};

subtest 'in the runtime directory' => sub {
    my $folder = folder();
    local $ENV{RUNTIME_DIRECTORY} = "$folder:/nonexistent";
    my $here = start(config => configuration(), control => "$folder/control.sock");
    is run_baton('status', '-c', $here->{config})->status, 0, 'where nothing else says so';
    my $second = start(config => configuration(), control => "$folder/control.sock");
    ok $second->wait_log(qr/No control socket, so only signals control this server: another server answers/), 'a second one there does without';
    $second->signal('HUP');
    $second->wait_log(qr/Reloaded in .* generation 2 /);
    is $second->stop, 0, 'exit code';
    is run_baton('status', '-c', $here->{config})->status, 0, 'and leaves the first alone';
    is $here->stop, 0, 'exit code';
};

is $server->stop, 0, 'exit code';

done_testing;
