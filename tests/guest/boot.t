# The guest itself, without Baton: a booted systemd that is what the other tests take it for, and
# of which nothing remains.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Guest;
use Baton::Process qw(wait_exit_of);
use Baton::Test;

# A service that systemd starts at the first connection, and that says who it is.
my $SERVICE = <<~'END';
    [Service]
    Environment=COLOUR=green
    ExecStart=/usr/bin/perl -e ' \
        $$| = 1; \
        print "serving $$ENV{LISTEN_FDNAMES}\n"; \
        open my $$listener, "+<&=", 3 or die; \
        while (accept my $$client, $$listener) { \
            syswrite $$client, "$$$$ $$ENV{COLOUR}\n"; \
            close $$client \
        }'
    END
my $SOCKET = <<~'END';
    [Socket]
    ListenStream=127.0.0.1:7000
    FileDescriptorName=greeting
    END

# The control groups at the top of the one hierarchy of cgroup v2, wherever it is mounted.
sub control_groups
{
    my $list = Baton::Process->run(
        command => [
            qw(unshare --mount --propagation private sh -c),
            'mount -t cgroup2 cgroup2 /sys/fs/cgroup && ls /sys/fs/cgroup'
        ]);
    die $list->err if $list->status != 0;
    return $list->out;
}

# What can be seen of guests from outside: control groups, mounts, folders.
sub traces($name)
{
    my @lines = split /\n/, control_groups() . read_file('/proc/self/mountinfo');
    my @folders = glob "/run/systemd/nspawn/*$name* /run/guest* /var/lib/machines/*$name*";
    return [(grep {/\Q$name\E/} @lines), @folders];
}

sub check_guest(%o)
{
    my $guest = Baton::Guest->new(%o);
    my ($version) = $guest->must('systemctl', '--version') =~ /^systemd (\d+)/;
    note "systemd $version";
    cmp_ok $version, '>=', $o{release} ? 257 : 252, "systemd $version";
    is $guest->must('systemctl', 'is-system-running'), 'running', 'all units are well';
    is $guest->must('stat', '-fc', '%T', '/sys/fs/cgroup'), 'cgroup2fs', 'cgroup v2';
    ok hex($guest->must('cat', '/sys/class/net/lo/flags')) & 1, 'lo is up';

    my $told = $guest->run('sh', '-c', 'cat; echo out; echo err >&2; exit 7');
    is $told->status, 7,       'a command\'s exit code';
    is $told->out,    "out\n", 'what it writes';
    is $told->err,    "err\n", 'and where';
    my $cat = $guest->start(['cat'], input => 'pipe');
    $cat->write("line\n");
    is $cat->wait_out(qr/.*\n/), "line\n", 'input and output of a running one';
    $cat->finish;
    is $cat->wait_exit, 0, 'and its end';

    $guest->write_file('/etc/systemd/system/greeting.service', $SERVICE);
    $guest->write_file('/etc/systemd/system/greeting.socket',  $SOCKET);
    $guest->must('systemctl', 'daemon-reload');
    $guest->must('systemctl', 'start', 'greeting.socket');
    is $guest->property('greeting.service', 'ActiveState'), 'inactive', 'nothing runs yet';
    my $journal = $guest->follow_journal('greeting.service');
    my ($pid) = $guest->connect('127.0.0.1:7000')->read_to_end =~ /^(\d+) green\n$/;
    ok $pid, 'the first connection is answered';
    is $pid, $guest->property('greeting.service', 'MainPID'), 'by the service';
    ok $journal->wait_out(qr/^serving greeting$/m), 'the journal can be followed';
    like $guest->journal('greeting.service'), qr/^serving greeting$/m, 'and read';

    $guest->signal('KILL', $pid);
    $guest->wait_exit_of($pid);
    ok $journal->wait_out(qr/Failed with result 'signal'/), 'a process can be killed';
    return $guest;
}

cannot_run(Baton::Guest->missing('')) if Baton::Guest->missing('');

subtest 'this machine\'s release' => sub {
    my $guest = check_guest(release => '');
    my $name  = $guest->name;
    ok @{traces($name)}, 'it leaves traces while it runs';
    my $other = Baton::Guest->new(release => '');
    is $other->run('test', '-e', '/etc/systemd/system/greeting.service')->status, 1,
        'a second one is another machine';
    is $other->shut_down, 0,  'it shuts down';
    is $guest->shut_down, 0,  'so does the first';
    is_deeply traces($name), [], 'nothing is left';
    ok !-e '/etc/systemd/system/greeting.service', 'nor changed here';
};

subtest 'Debian 13' => sub {
    my $missing = Baton::Guest->missing('trixie');
    plan skip_all => $missing if $missing;
    my $guest = check_guest(release => 'trixie');
    $guest->soft_reboot;
    is $guest->property('multi-user.target', 'ActiveState'), 'active', 'up after a soft reboot';
    is $guest->property('greeting.socket', 'ActiveState'), 'inactive', 'with nothing from before';
    is $guest->shut_down, 0, 'it shuts down';
    is_deeply traces($guest->name), [], 'nothing is left';
};

subtest 'a test that ends early leaves nothing' => sub {
    my $program = folder('ends.t' => <<~END) . '/ends.t';
        use v5.36;
        use lib '$Bin/../lib';
        use Baton::Guest;
        use Baton::Test;
        \$| = 1;
        my \$guest = Baton::Guest->new;
        say "booted ", \$guest->name, " ", \$guest->keeper, " ", \$guest->leader;
        \$! = 0; # perl(1) exits with it otherwise
        die "on purpose\\n" if \@ARGV;
        wait_for('signal', sub { 0 }, 100);
        END
    for my $end (qw(KILL INT die)) {
        my $test = Baton::Process->start(
            command => [$^X, $program, $end eq 'die' ? 1 : ()],
            environment => { TMPDIR => scratch() });
        my (undef, $name, @pids) = split ' ', $test->wait_out(qr/^booted .*\n/m, 60);
        ok @{traces($name)}, "$end: it was there" unless $end eq 'die';
        $test->signal($end) unless $end eq 'die';
        wait_exit_of(\@pids);
        is $test->wait_exit, { KILL => 137, INT => 1, die => 255 }->{$end}, "$end: exit code";
        is_deeply traces($name), [], "$end: nothing is left";
        like $test->err, qr/journal of $name:\n.*Journal started/s, 'but its journal'
            if $end eq 'die';
    }
};

done_testing;
