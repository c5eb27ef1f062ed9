# Restarts and crashes of the installed service: connections wait for the next instance in systemd's
# fd store.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Guest;
use Baton::Service;
use Baton::Test;
use List::Util  qw(sum0 uniq);
use POSIX       ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

cannot_run(Baton::Guest->missing) if Baton::Guest->missing;

my $guest     = Baton::Guest->new;
my $service   = Baton::Service->new($guest, backend => 1);
my ($version) = $guest->must('systemctl', '--version') =~ /^systemd (\d+)/;
note "systemd $version";

sub now
{
    return clock_gettime(CLOCK_MONOTONIC);
}

sub milliseconds(@figures)
{
    return join(' ', map { sprintf '%.0f', $_ } @figures) . ' ms';
}

sub stored
{
    return $service->property('NFileDescriptorStore');
}

subtest 'ten restarts under the storm' => sub {
    my $load = $service->start_load($service->storm);
    my @pids = $service->pid;
    my (@took, @stored);
    for (1 .. 10) {
        push @took,   $service->restart;
        push @stored, stored();
        push @pids,   $service->pid;
    }
    $service->is_unharmed($load, 'the storm');
    is uniq(@pids), 11, 'each restart started another process';
    is_deeply \@stored, [(2) x 10], 'systemd keeps two fds';
    is $service->property('Result'), 'success', 'each stop was a graceful one';
    note 'a restart took ', milliseconds(@took);
};

subtest 'twenty crashes under the storm' => sub {
    my $restarts = $service->property('NRestarts');
    my $load     = $service->start_load($service->storm);
    my (@took, @stored);
    for (1 .. 20) {
        push @took,   $service->crash($_ % 5 ? 'KILL' : 'SEGV');
        push @stored, stored();
    }
    $service->is_unharmed($load, 'the storm');
    is $service->property('NRestarts'), $restarts + 20, 'systemd restarted it twenty times';
    is_deeply \@stored, [(2) x 20], 'systemd keeps two fds';
    note 'a crash took ', milliseconds(@took);
};

subtest 'restarts in a row leave the socket alive' => sub {
    my $load = $service->start_load('connect:20', 'keepalive:20');
    my @took = map { $service->restart } 1 .. 20;
    $service->is_unharmed($load, 'the load');
    is $service->property('ActiveState', 'baton.socket'), 'active', 'the socket';
    is $service->property('ActiveState'), 'active', 'and the service';
    note 'a restart took ', milliseconds(@took);
};

subtest 'a restart is quick, and ready when all connections are adopted' => sub {
    my @took = sort { $a <=> $b } map { $service->restart } 1 .. 5;
    cmp_ok $took[2], '<', 200, 'with nothing in flight: ' . milliseconds(@took);

    my @idle = $service->idle(100);
    $service->restart;
    is $service->metrics->value('connections_adopted_total'), 100, 'all are there when it is ready';
    my $pid = $service->pid;
    like $guest->must('journalctl', '--output', 'cat', "_PID=$pid"),
        qr/^Serving: .* 100 connections taken over$/m, 'and were so when it said that it is';
    is scalar(grep { $_->get('/')->status == 200 } @idle), 100, 'and each answers';
};


# The fds that the supervisor was started with, by name.
sub passed_fds
{
    my %environment = map { split /=/, $_, 2 }
        split /\0/, read_file($guest->path('/proc/' . $service->pid . '/environ'));
    my @names = split /:/, $environment{LISTEN_FDNAMES};
    return map { $names[$_] => 3 + $_ } 0 .. $#names;
}

# Restarts the service, and runs $between when the former instance is gone and the next one has not
# begun yet.
sub restart_around($between)
{
    $guest->must('sh', '-c', 'rm -f /run/gate; mkfifo -m 666 /run/gate');
    $service->drop_in("[Service]\nExecStartPre=/bin/sh -c 'cat /run/gate'\n");
    my $restart = $guest->start(['systemctl', 'restart', 'baton.service']);
    # Waits for its reader.
    open my $gate, '>', $guest->path('/run/gate') or die "/run/gate: $!\n";
    $between->();
    close $gate;
    is $restart->wait_exit, 0, 'the restart succeeds';
    $service->drop_in('');
}

sub read_echo($tunnel, $text)
{
    my $echo = Baton::Service::echo($text);
    return $tunnel->read_bytes(length $echo) eq $echo;
}

subtest 'what a parked client sends is answered by the next instance' => sub {
    my ($idle)  = $service->idle(1);
    my $half    = $service->connect->send("GET / HT");
    my $waiting = $service->connect;
    my $slow    = $service->begin_download;
    # And of those whom the backend serves.
    my $tunnel  = $service->open_websocket;
    my $posting = $service->connect->send("POST /api/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello");
    my $numbers = $service->connect(80, receive_buffer => 4096)
        ->send("GET /slow?size=8M&framing=length HTTP/1.1\r\nHost: localhost\r\n\r\n");
    $numbers->read_more;
    $tunnel->send(Baton::Service::message('before'));
    is read_echo($tunnel, 'before'), 1, 'a tunnel';
    restart_around(
        sub {
            $idle->send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            $half->send("TP/1.1\r\nHost: localhost\r\n\r\n");
            $waiting->send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            $tunnel->send(Baton::Service::message('meanwhile'));
            $posting->send('world');
            ok $_->is_quiet, 'nobody answers' for $idle, $half, $waiting, $tunnel, $posting;
        });
    is $_->read_answer->body, "hello\n", 'now it is answered' for $idle, $half, $waiting;
    ok $slow->read_answer('GET', 30)->body eq $service->large, 'and the download is whole';
    is read_echo($tunnel, 'meanwhile'), 1, 'in the tunnel, too';
    like $posting->read_answer->body, qr/^10 /, 'and the upload is';
    ok $numbers->read_answer('GET', 30)->body eq Baton::Origin::numbers(8 << 20), "and a backend's answer";
};

subtest 'what cannot be read is closed, and everything else goes on' => sub {
    my @clients = $service->idle(60);
    my %fds     = passed_fds();
    my $spoiler = Baton::Process->start(
        command => [
            build_folder() . '/tests/support/spoiler', $guest->pid_here($service->pid),
            @fds{qw(inbox-read inbox-write)}
        ],
        input => 'pipe');
    $spoiler->wait_out(qr/^ready$/m);
    my $left;
    restart_around(
        sub {
            $spoiler->write("now\n");
            is $spoiler->wait_exit, 0, 'the inbox is spoilt' or diag $spoiler->err;
            (my $messages, $left) =
                $spoiler->out =~ /^(\d+) messages: (\d+) of 60 connections left$/m;
            is $messages, 10, 'in every way';
        });
    my $metrics = $service->metrics;
    my %ends;
    for my $client (@clients) {
        my $status = eval { $client->get('/')->status } // ($@ =~ /ended after 0/ ? 'end' : $@);
        $ends{$status}++;
    }
    is_deeply \%ends, { 200 => $left, end => 60 - $left }, 'the others are closed, and no more';
    is $metrics->value('connections_adopted_total'), $left, 'adopted';
    is $metrics->value('moves_refused_total'), 60 - $left + 1, 'and counted';
    my $log = $guest->must('journalctl', '--output', 'cat', '_COMM=baton-worker');
    is sum0($log =~ /(?:malformed|version).*: (\d+) of its connections are closed$/mg),
        60 - $left, 'and logged';
    like $log, qr/^A message of moved connections cannot be read/m, 'as is what was no message';
    is $service->get->status, 200, 'the service serves';
};

subtest 'a restart that fails costs nobody a connection' => sub {
    my @idle = $service->idle(20);
    $service->configure("Rooot=/srv\n");
    isnt $guest->run('systemctl', 'restart', 'baton.service')->status, 0, 'a bad configuration';
    is scalar(grep { $_->is_quiet } @idle), 20, 'connections wait';
    $service->configure;
    is $service->get->status, 200, 'with a good one systemd starts it again';
    is scalar(grep { $_->get('/')->status == 200 } @idle), 20, 'and they are served';
};

subtest 'a replaced binary is what runs after a restart' => sub {
    my $load    = $service->start_load($service->storm);
    my $running = sub { $guest->must('stat', '-Lc', '%i', '/proc/' . $service->pid . '/exe') };
    $guest->must('sh', '-c', 'cd /usr/bin && cp baton baton.new && echo >>baton.new');
    my $new = $guest->must('stat', '-c', '%i', '/usr/bin/baton.new');
    $guest->must('mv', '/usr/bin/baton.new', '/usr/bin/baton');
    isnt $running->(), $new, 'not yet';
    $service->restart;
    is $running->(), $new, 'the new one';
    $service->is_unharmed($load, 'the storm');
};

subtest 'the fd store' => sub {
    is stored(), 2, 'two fds';
    if ($version >= 254) {
        my $list = $guest->must('systemd-analyze', 'fdstore', 'baton.service');
        is_deeply [sort $list =~ /^(inbox\S+|\S+ +sock\S*)/mg], ['inbox-read', 'inbox-write'],
            'both ends' or diag $list;
    }
    my @idle = $service->idle(20);
    $guest->must('systemctl', 'daemon-reexec');
    is stored(), 2, 'systemd keeps them when it executes itself anew';
    $service->restart;
    is scalar(grep { $_->get('/')->status == 200 } @idle), 20, 'and what lies in them';
};

subtest 'limits that became smaller' => sub {
    my @idle = $service->idle(60);
    $service->configure("[Server]\nMaxConnections=5\n");
    $service->restart;
    is $service->metrics->value('connections_adopted_total'), 60, 'all are taken over';
    is scalar(grep { $_->get('/')->status == 200 } @idle), 60, 'and served';
    is $service->property('ActiveState'), 'active', 'and the start is done';
    $_->close for @idle;
    $service->configure;
    $service->restart;
};

# Each is at its end, and not one of them hangs.
sub are_closed($name, @connections)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is scalar(grep { $_->is_closed } @connections), @connections, $name;
}

# Ends the service with @command while a download is under way, which must get all it was promised.
sub end_politely(@command)
{
    my $download = $service->begin_download;
    my @idle     = $service->idle(20);
    my $end      = $guest->start([@command]);
    are_closed 'idle connections are closed', @idle;
    ok $end->running, 'it waits for the download';
    ok $download->read_answer('GET', 30)->body eq $service->large, 'which is finished first';
    is $end->wait_exit(30), 0, 'then it is done';
}

subtest 'a stop' => sub {
    my @stop = qw(systemctl stop baton.service baton.socket);
    end_politely(@stop);
    is $service->property('Result'), 'success', 'gracefully';
    is stored(), 0, 'systemd keeps nothing';
    $guest->must('systemctl', 'start', 'baton.socket');
    is $service->get->status, 200, 'it can be started again';
    is stored(), 2, 'and stores its inbox again';
};

subtest 'without D-Bus' => sub {
    $guest->must('systemctl', 'stop', 'dbus.socket', 'dbus.service');
    my @idle = $service->idle(20);
    my $took = $service->restart;
    is scalar(grep { $_->get('/')->status == 200 } @idle), 20, 'a restart keeps connections';
    cmp_ok $took, '<', 1000, 'and is quick: ' . milliseconds($took);
    $guest->must('systemctl', 'stop', 'baton.service', 'baton.socket');
    are_closed 'a stop closes them', @idle;
    is stored(), 0, 'systemd keeps nothing';
    $guest->must('systemctl', 'start', 'dbus.service', 'baton.socket');
    is $service->get->status, 200, 'it can be started again';
};

subtest 'D-Bus that hangs' => sub {
    my $bus = $guest->property('dbus.service', 'MainPID');
    $guest->signal('STOP', $bus);
    my @idle = $service->idle(20);
    my $took = $service->restart;
    is scalar(grep { $_->get('/')->status == 200 } @idle), 20, 'a restart keeps connections';
    cmp_ok $took, '<', 2000, 'and is not held up for long: ' . milliseconds($took);
    $guest->signal('CONT', $bus);
};

subtest 'FileDescriptorStoreMax=0' => sub {
    $service->drop_in("[Service]\nFileDescriptorStoreMax=0\n");
    is stored(), 0, 'systemd drops what it had';
    end_politely('systemctl', 'restart', 'baton.service');
    is $service->get->status, 200, 'the next instance serves';
    my $pid = $service->pid;
    like $guest->must('journalctl', '--output', 'cat', "_PID=$pid"),
        qr/FileDescriptorStoreMax=.*do not outlive a restart/, 'and says what it lacks';
    end_politely('systemctl', 'restart', 'baton.service');
    is stored(), 0, 'nothing is kept';

    my @idle = $service->idle(20);
    $service->crash;
    are_closed 'a crash closes them', @idle;
    $service->drop_in('');
    $service->restart;
    is stored(), 2, 'with the setting gone all is as it was';
};

# What the guest's systemd has used of the processors, in milliseconds.
sub manager_time
{
    my (undef, $fields) = split /\) /, $guest->must('cat', '/proc/1/stat');
    my ($user, $system) = (split ' ', $fields)[11, 12];
    return ($user + $system) * 1000 / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

subtest '10,000 idle connections through three restarts' => sub {
    my $load = $service->start_load('idle:10000');
    my (@took, @spent);
    for (1 .. 3) {
        my $before = manager_time();
        push @took,  $service->restart;
        push @spent, manager_time() - $before;
    }
    my $metrics = $service->metrics;
    is $metrics->value('connections_adopted_total'), 10_000, 'all were there when it was ready';
    my $counted = $service->is_unharmed($load, 'each at the beginning and at the end');
    is $counted->{responses},          20_000, 'every one of them';
    is $counted->{connections_opened}, 10_000, 'on the same connection';
    is $service->metrics->value('requests_total') - $metrics->value('requests_total'), 10_001,
        'from the process that is now';
    note 'a restart took ', milliseconds(@took);
    note 'systemd used ',   milliseconds(@spent);
};

subtest 'a shutdown of the machine' => sub {
    my $download = $service->begin_download;
    my @idle     = $service->idle(20);
    # What systemctl poweroff does, but for asking logind, which a restart of D-Bus has left deaf.
    $guest->must(qw(systemctl --no-block --job-mode=replace-irreversibly start poweroff.target));
    are_closed 'idle connections are closed', @idle;
    ok $download->read_answer('GET', 30)->body eq $service->large, 'a download is finished first';
    is $guest->shut_down, 0, 'then the machine is down';
};

done_testing;
