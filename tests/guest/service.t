# The installed service in a booted systemd, under clients that count every request.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Guest;
use Baton::Test;

cannot_run(Baton::Guest->missing) if Baton::Guest->missing;

my $CONFIGURATION = <<~'END';
    [Server]
    Workers=2
    StartTimeout=2s
    WorkerTimeout=500ms
    [Listen http]
    [Listen admin]
    Admin=yes
    [Route site]
    Root=/srv/site
    END
my $FILE = '/etc/baton/baton.conf';
my $URL  = 'http://127.0.0.1:80/';
# More than the socket buffers of both ends hold.
my $LARGE = 32 << 20;

my $guest = Baton::Guest->new;
# Almost every machine has it; this guest may have been booted without. The server asks by it whether
# a stop is one.
$guest->must('systemctl', 'start', 'dbus.service');
$guest->install;
$guest->write_file($FILE, $CONFIGURATION);
$guest->must('mkdir', '-p', '/srv/site');
$guest->write_file('/srv/site/index.html', "hello\n");
$guest->must('truncate', '-s', $LARGE, '/srv/site/large');
$guest->must('cp', '/usr/bin/baton', '/usr/bin/baton.good');
# Another build: the same, of other bytes.
$guest->must('objcopy', '--strip-debug', '/usr/bin/baton', '/usr/bin/baton.other');
my $journal = $guest->follow_journal('baton.service');

sub of_service($name)
{
    return $guest->property('baton.service', $name);
}

sub workers
{
    return $guest->children_of(of_service('MainPID'));
}

sub get($target = '/', $port = 80)
{
    return $guest->connect("127.0.0.1:$port")->get($target, Connection => 'close');
}

# Replaces the binary at once, as a package manager does.
sub replace_binary($content)
{
    $guest->write_file('/usr/bin/baton.new', $content);
    $guest->must('chmod', '755', '/usr/bin/baton.new');
    $guest->must('mv',    '/usr/bin/baton.new', '/usr/bin/baton');
}

# By a copy of that file.
sub install_binary($path)
{
    $guest->must('cp', $path, '/usr/bin/baton.new');
    $guest->must('mv', '/usr/bin/baton.new', '/usr/bin/baton');
}

# Clients that ask for the small page, again and again.
sub start_load(@groups)
{
    return $guest->start_load((map { ('--group', $_) } @groups), $URL);
}

# Every request of the load was answered, and every connection kept that was not announced to end.
sub is_unharmed($counted, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    cmp_ok $counted->{responses}, '>', 0, "$name: $counted->{responses} answers";
    is $counted->{failed}, 0, 'no failed request'
        or diag explain $counted->{failures}, $counted->{first_failures};
    is $counted->{closed}, 0, 'no connection closed without a word';
}

# The same, but for what one dead worker had in hand: a request of each client at most.
sub is_hurt_once($counted, $clients, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    cmp_ok $counted->{responses}, '>',  0,        "$name: $counted->{responses} answers";
    cmp_ok $counted->{failed},    '<=', $clients, "$counted->{failed} of them failed";
    is $counted->{failures}{connect_refused}, 0, 'none was refused';
}

# Waits for a worker that $pid is not, request by request.
sub wait_for_successor($pid)
{
    my $deadline = Baton::Loop::in_time(10);
    my @workers;
    do {
        get();
        @workers = grep { $_ != $pid } workers();
    } while @workers < 2 && Baton::Loop::in_time(0) < $deadline;
    is @workers, 2, 'the worker was replaced';
}

subtest 'the first connection starts it' => sub {
    $guest->must('systemctl', 'enable', '--now', 'baton.socket');
    is of_service('ActiveState'), 'inactive', 'no process waits for clients';
    is get()->body, "hello\n", 'the first request is answered';
    is of_service('ActiveState'), 'active', 'by the service';
    is get('/readyz', 8081)->status, 200, 'it is ready';
    is get('/livez',  8081)->status, 200, 'and alive';
    is_deeply [scalar(my @workers = workers())], [2], 'two workers';
    like of_service('StatusText'), qr/generation 1/i, 'the status names the generation';
};

subtest 'fifty reloads under load, every fifth one an upgrade' => sub {
    my $pid    = of_service('MainPID');
    my $load   = start_load('keepalive:200:think=0-50ms', 'connect:50', 'slowhead:20:piece=1-5,gap=1-5ms',
        'download:10:rate=1M,path=/large', 'pipeline:20:depth=8,think=0-5ms');
    my @builds = ('/usr/bin/baton.other', '/usr/bin/baton.good');
    my @failed;
    for my $n (1 .. 50) {
        my $build = $n % 5 == 0 ? $builds[$n / 5 % 2] : undef;
        install_binary($build) if $build;
        my $reload = $guest->run('systemctl', 'reload', 'baton.service');
        push @failed, $reload if $reload->status != 0;
        is $guest->run('cmp', $build, "/proc/$pid/exe")->status, 0, "reload $n runs $build" if $build;
    }
    is @failed, 0, 'all succeed' or diag map { $_->err } @failed;
    is_unharmed $guest->finish_load($load), 'the load';
    is of_service('MainPID'),   $pid, 'the same process';
    is of_service('NRestarts'), 0,    'never restarted';
    like of_service('StatusText'), qr/generation 51/i, 'the 51st generation serves';
    ok $journal->wait_out(qr/generation 50 is gone/i, 60), 'and the one before it is gone';
};

subtest 'a refused reload changes nothing' => sub {
    my @workers = workers();
    my $refused = sub ($name, $reason, @command) {
        my $reload = $guest->run(@command);
        isnt $reload->status, 0, "$name: the reload fails";
        ok $journal->wait_out($reason), 'with the reason';
        is of_service('ActiveState'), 'active', 'the service goes on';
        is_deeply [workers()], \@workers, 'with the same workers';
        is get()->body, "hello\n", 'which serve';
        like of_service('StatusText'), qr/refused/, 'and the status says so';
    };
    my @systemctl = ('systemctl', 'reload', 'baton.service');
    # systemctl runs the new binary in order to ask, and one that is no Baton may say anything.
    my @baton = ('/usr/bin/baton.good', 'reload');

    my $load = start_load('keepalive:20:think=0-10ms', 'connect:10');
    $guest->write_file($FILE, "${CONFIGURATION}Rooot=/srv\n");
    $refused->('a bad configuration', qr/\Q$FILE\E:\d+: .*Rooot.*Root/, @systemctl);
    $guest->write_file($FILE, $CONFIGURATION);

    replace_binary("#!/bin/sh\nexit 0\n");
    $refused->('a binary that is no Baton', qr/refused.*not a Baton/, @baton);
    replace_binary("#!/bin/sh\necho no library >&2\nexit 127\n");
    $refused->('a binary that fails', qr/refused.*no library/, @baton);
    $refused->('asked through systemctl', qr/Reload failed/, @systemctl);
    replace_binary("#!/bin/sh\nexec tail -f /dev/null\n");
    $refused->('a binary that hangs', qr/refused.*StartTimeout/, @baton);
    replace_binary("\x7fELF nonsense");
    $refused->('a binary that is none', qr/refused.*baton cannot be run/, @baton);
    is_unharmed $guest->finish_load($load), 'the load';

    install_binary('/usr/bin/baton.good');
    $guest->must('systemctl', 'reload', 'baton.service');
    isnt join(' ', workers()), join(' ', @workers), 'put right, it reloads';
};

subtest 'ten restarts refuse nobody' => sub {
    my $load = start_load('connect:50');
    for my $n (1 .. 10) {
        my $pid = of_service('MainPID');
        $guest->must('systemctl', 'restart', 'baton.service');
        isnt of_service('MainPID'), $pid, "restart $n";
        is of_service('Result'), 'success', 'after a graceful stop';
    }
    is_unharmed $guest->finish_load($load), 'the load';
};

subtest 'a stop finishes a slow download' => sub {
    my $client = $guest->connect('127.0.0.1:80', receive_buffer => 4096);
    $client->send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")->read_more;
    my $idle = $guest->connect('127.0.0.1:80');
    is $idle->get('/')->status, 200, 'another connection is idle';
    my $stop = $guest->start(['systemctl', 'stop', 'baton.service', 'baton.socket']);
    ok $journal->wait_out(qr/SIGTERM: stopping/), 'the stop has begun';
    ok $idle->is_closed, 'the idle connection is closed';
    ok $stop->running,   'the stop waits';
    my $answer = $client->read_answer('GET', 30);
    is length $answer->body, $LARGE, 'the download gets all it was promised';
    is $stop->wait_exit(30), 0, 'then the service is gone';
    is of_service('Result'), 'success', 'gracefully';
    ok $journal->wait_out(qr/Stopped: .* 0 cut/), 'and says that nothing was cut';
    eval { get() };
    like $@, qr/refused/, 'nobody listens any more';
    $guest->must('systemctl', 'start', 'baton.socket');
    is get()->body, "hello\n", 'until the socket is back';
};

subtest 'a killed worker is replaced' => sub {
    my $pid  = of_service('MainPID');
    my $load = start_load('keepalive:50:think=0-50ms', 'connect:50');
    my ($victim) = workers();
    $guest->signal('KILL', $victim);
    ok $journal->wait_out(qr/PID $victim\) died: .*KILL/), 'the log says so';
    wait_for_successor($victim);
    is_hurt_once $guest->finish_load($load), 100, 'the load';
    is of_service('MainPID'),   $pid, 'the supervisor lives';
    is of_service('NRestarts'), 0,    'the service was not restarted';
};

subtest 'a hung worker is aborted and replaced' => sub {
    my $pid  = of_service('MainPID');
    my $load = start_load('keepalive:50:think=0-50ms', 'connect:50');
    my ($victim) = workers();
    $guest->signal('STOP', $victim);
    ok $journal->wait_out(qr/PID $victim\) did not answer.*aborted/), 'the watchdog finds it';
    ok $journal->wait_out(qr/PID $victim\) died/, 20), 'and ends it';
    wait_for_successor($victim);
    is_hurt_once $guest->finish_load($load), 100, 'the load';
    is of_service('MainPID'),   $pid, 'the supervisor lives';
    is of_service('NRestarts'), 0,    'the service was not restarted';
};

is $guest->shut_down, 0, 'the machine shuts down';
done_testing;
