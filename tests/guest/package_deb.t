# The Debian package, built and installed on Debian 12, or on the release that BATON_GUEST_RELEASE
# says: an upgrade and a downgrade are reloads that no client notices, and nothing that is wrong with
# the configuration makes them fail.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Guest;
use Baton::Package;
use Baton::Service;
use Baton::Test;

my $RELEASE = $ENV{BATON_GUEST_RELEASE} || 'bookworm';
cannot_run(Baton::Guest->missing($RELEASE)) if Baton::Guest->missing($RELEASE);

my @UNITS  = qw(baton.service baton.socket baton-admin.socket);
my $CONFIG = '/etc/baton/baton.conf';
# An entry of packaging/baton.catalog: a reload was refused.
my $EXPLAINED = 'c8b55775afe942e6b3afd7c27abac735';
my ($guest, $service, %package);

# Runs it as a program that asks no questions: its status and what it wrote, together.
sub run(@command)
{
    my $run = $guest->start(\@command, environment => { DEBIAN_FRONTEND => 'noninteractive' });
    $run->wait_exit(60);
    return ($run->status, $run->out . $run->err);
}

sub install($version)
{
    return run('dpkg', '--force-unsafe-io', '--install', $package{$version});
}

sub installing($version)
{
    return sub { install($version) };
}

sub fresh_install
{
    my ($status, $said) = install('0.1.0');
    is $status, 0, 'it is installed' or diag $said;
    is $guest->property($_, 'ActiveState'),   'active',  "$_ is active"  for @UNITS;
    is $guest->property($_, 'UnitFileState'), 'enabled', "$_ is enabled" for @UNITS;
    is $guest->must('stat', '-c', '%A %U %G', '/var/log/baton'), 'drwxr-x--- baton baton',
        'a folder for logs';
    is $guest->must('dpkg', '--verify', 'baton'), '', 'all files are there';
    is $guest->must('systemctl', 'is-system-running'), 'running', 'all units are well';
    like $guest->must('journalctl', '--list-catalog', $EXPLAINED), qr/Baton refused/,
        'the journal can explain messages';

    $guest->must('systemctl', 'stop', 'baton.service');
    my $answer = $guest->connect('127.0.0.1:80')->get('/');
    is $answer->status, 200, 'the first request is answered';
    like $answer->body, qr/Baton is running/, 'from the first site';
    is $guest->property('baton.service', 'ActiveState'), 'active', 'by the service that it started';
    is $guest->connect('127.0.0.1:8081')->get('/readyz')->status, 200, 'which is ready';
}

# A second Baton, as the example says.
sub start_instance
{
    $guest->must('mkdir', '-p', '/srv/shop', '/etc/systemd/system/baton@shop.socket.d');
    $guest->write_file('/srv/shop/index.html', "shop\n");
    $guest->write_file('/etc/systemd/system/baton@shop.socket.d/listen.conf',
        "[Socket]\nListenStream=8090\n");
    $guest->must('sh', '-c',
        'sed s/NAME/shop/ /usr/share/doc/baton/examples/instance.conf >/etc/baton/shop.conf');
    $guest->must('systemctl', 'daemon-reload');
    $guest->must('systemctl', 'enable', '--now', 'baton@shop.socket', 'baton-admin@shop.socket');
    is $guest->connect('127.0.0.1:8090')->get('/')->body, "shop\n", 'the instance serves';
    is $guest->must('systemctl', 'reload', 'baton@shop'), '', 'and reloads';
    is $service->version('baton-shop'), '0.1.0', 'and can be asked';
}

sub upgrade
{
    my $configuration = $guest->must('cat', $CONFIG);
    my $socket        = $service->property('InvocationID', 'baton@shop.socket');
    unlike $service->is_reloaded('0.1.1', installing('0.1.1')), qr/WARNING/, 'no worries';
    is $guest->must('cat', $CONFIG), $configuration, 'the edited configuration stays';
    is $service->version('baton-shop'), '0.1.1', 'the instance is of the new version, too';
    is $service->property('InvocationID', 'baton@shop.socket'), $socket, 'on the same socket';
    $guest->must('systemctl', 'disable', '--now', 'baton@shop.socket', 'baton-admin@shop.socket');
    $guest->must('systemctl', 'stop', 'baton@shop.service');
    $guest->must('rm', '-r', '/etc/systemd/system/baton@shop.socket.d');
}

sub broken_configuration
{
    $service->configure("Rooot=/srv\n");
    $service->is_refused(qr/\Q$CONFIG\E:\d+: unknown key Rooot=/, installing('0.1.1'));
    is $guest->must('dpkg-query', '--show', '--showformat=${Version} ${Status}', 'baton'),
        '0.1.1 install ok installed', 'the package is as it should be';
    # Of another format of the state: a restart would not come back.
    $service->is_refused(qr/the state passed on.*Rooot=.*systemctl restart baton/s,
        installing('0.2.0'));
    $service->configure;
    install('0.1.1');
    is $service->version, '0.1.1', 'put right, the new version serves';
}

# Killed between the two steps of dpkg: the new files are there, and nobody was told.
sub interrupted
{
    my $pid = $service->pid;
    my ($status, $said) = run('dpkg', '--force-unsafe-io', '--unpack', $package{'0.1.1'});
    is $status, 0, 'it is unpacked' or diag $said;
    is $service->get->body, Baton::Service::INDEX(), 'the former version serves';
    is $service->pid, $pid, 'in the same process';
    $service->is_reloaded('0.1.1', sub { run('dpkg', '--configure', '--pending') });
    $service->is_reloaded('0.1.0', installing('0.1.0'));
}

# The disk of /etc is full: nothing is installed, and nothing is lost.
sub full_disk
{
    my $pid = $service->pid;
    $guest->must(qw(cp -a /etc/baton /root/baton.kept));
    $guest->must(qw(mount -t tmpfs -o size=64k tmpfs /etc/baton));
    $guest->must('sh', '-c', 'cp -a /root/baton.kept/. /etc/baton; head -c 64K /dev/zero >/etc/baton/full || :');
    my ($status, $said) = install('0.1.1');
    isnt $status, 0, 'it cannot be installed';
    like $said, qr/No space left on device/, 'for that reason';
    is $guest->must('dpkg-query', '--show', '--showformat=${Version} ${Status}', 'baton'),
        '0.1.0 install ok installed', 'the former one is as it was';
    is $guest->must('baton', 'version'), 'baton 0.1.0', 'with its binary';
    is $service->pid, $pid, 'and serves';
    $guest->must('systemctl', 'reload', 'baton.service');
    $guest->must(qw(umount /etc/baton));
    $service->is_reloaded('0.1.1', installing('0.1.1'));
    $service->is_reloaded('0.1.0', installing('0.1.0'));
}

# What an admin has masked or disabled and stopped stays so, and the package is installed.
sub masked
{
    my %state = (mask => 'masked', disable => 'disabled');
    for my $how (sort keys %state) {
        $guest->must('systemctl', $how, '--now', @UNITS);
        my ($status, $said) = install('0.1.1');
        is $status, 0, "$how: it is installed" or diag $said;
        unlike $said, qr/WARNING|Failed/i, 'without a complaint';
        is_deeply [map { $guest->property($_, 'UnitFileState') } @UNITS], [($state{$how}) x @UNITS],
            'the units are as they were';
        is_deeply [map { $guest->property($_, 'ActiveState') } @UNITS], [('inactive') x @UNITS],
            'and rest';
        $guest->must('systemctl', $how eq 'mask' ? 'unmask' : 'enable', @UNITS);
        install('0.1.0');
    }
    is_deeply [map { $guest->property($_, 'ActiveState') } @UNITS], [('active') x @UNITS],
        'with that undone, the next upgrade starts it';
    is $service->get->body, Baton::Service::INDEX(), 'and it serves';
}

sub policy
{
    my $pid = $service->pid;
    $guest->write_file('/usr/sbin/policy-rc.d', "#!/bin/sh\nexit 101\n");
    $guest->must('chmod', '755', '/usr/sbin/policy-rc.d');
    my ($status, $said) = install('0.1.1');
    is $status,           0,       'it is installed';
    like $said, qr/policy-rc.d returned 101/, 'the policy is asked';
    is $service->version, '0.1.0', 'and nothing is reloaded';
    is $service->pid,     $pid,    'or restarted';
    $guest->must('rm', '/usr/sbin/policy-rc.d');
    $guest->must('systemctl', 'reload', 'baton.service');
    is $service->version, '0.1.1', 'the admin can';
}

# A library that Baton uses is replaced, as by a security update.
sub needrestart
{
    my ($library) = grep {/libev/}
        split ' ', $guest->must('awk', '/\.so/ { print $6 }', '/proc/' . $service->pid . '/maps');
    my $outdated = sub {
        return $guest->must('awk', '/libev.*deleted/ { n++ } END { print n + 0 }',
            '/proc/' . $service->pid . '/maps');
    };
    my $said = $service->is_reloaded(
        '0.1.1',
        sub {
            $guest->must('cp', $library,       "$library.new");
            $guest->must('mv', "$library.new", $library);
            isnt $outdated->(), 0, 'the replaced library is in use';
            return run('needrestart', '-r', 'a', '-m', 'a', '-l');
        });
    like $said, qr{/etc/needrestart/restart.d/baton.service}, 'by our own command';
    is $outdated->(), 0, 'the new library is in use';
}

sub logrotate
{
    $service->configure("[Server]\nAccessLog=combined\nAccessLogFile=/var/log/baton/access.log\n");
    $guest->must('systemctl', 'reload', 'baton.service');
    $service->get('/before');
    $guest->must('logrotate', '--force', '/etc/logrotate.d/baton');
    # Until they have the signal, workers write to the renamed file; and a line is written when the
    # answer has been sent.
    my ($former, $new) = ('', '');
    my $read = sub {
        $former = $guest->must('cat', '/var/log/baton/access.log.1');
        $new    = $guest->run('cat', '/var/log/baton/access.log')->out;
        return () = "$former$new" =~ m{GET /after}g;
    };
    my $requests = 0;
    do { $service->get('/after' . ++$requests); $read->() }
        until $new =~ m{GET /after} || $requests == 1000;
    my $reads = 0;
    my $lines = $read->();
    $lines = $read->() while $lines < $requests && ++$reads < 1000;
    is $lines, $requests, 'no request is missing';
    like $former, qr{GET /before }, 'in the former file';
    unlike $new, qr{GET /before }, 'and the new one, which has only what is new';
    $service->configure;
    $guest->must('systemctl', 'reload', 'baton.service');
}

# The units as they are installed, and under the example for those who need no network, with the one
# that sets limits.
sub confined
{
    cmp_ok $service->exposure, '<=', 1.3, 'systemd rates the exposure as ' . $service->exposure;
    my $folder = '/etc/systemd/system/baton.service.d';
    $guest->must('mkdir', '-p', $folder);
    $guest->must('cp', (map {"/usr/share/doc/baton/examples/$_.conf"} qw(confined limits)), $folder);
    $guest->must('systemctl', 'daemon-reload');
    $service->is_unnoticed('a restart', sub { run('systemctl', 'restart', 'baton.service') });
    is $service->property('ProtectHome'), 'yes', 'it is confined';
    cmp_ok $service->exposure, '<=', 0.5, 'systemd rates the exposure as ' . $service->exposure;
    $service->is_unnoticed('a reload', sub { run('systemctl', 'reload', 'baton.service') });
    $guest->must('rm', '-r', $folder);
    $guest->must('systemctl', 'daemon-reload');
}

sub remove
{
    my ($status, $said) = run(qw(dpkg --remove baton));
    is $status, 0, 'it is removed' or diag $said;
    is $guest->property($_, 'LoadState'), 'not-found', "$_ is gone" for @UNITS;
    is $guest->property('baton.service', 'NFileDescriptorStore'), 0, 'systemd keeps nothing';
    eval { $service->get };
    like $@, qr/refused/, 'nobody listens';
    is $guest->run('test', '-e', '/usr/bin/baton')->status, 1, 'no binary';
    isnt $guest->run('journalctl', '--list-catalog', $EXPLAINED)->status, 0, 'nothing to explain';
    ok $guest->must('cat', $CONFIG), 'the configuration stays';

    install('0.1.0');
    is $service->get->body, Baton::Service::INDEX(), 'installed again, it serves as configured';
}

sub purge
{
    my ($status, $said) = run(qw(dpkg --purge baton));
    is $status, 0, 'it is purged' or diag $said;
    unlike $said, qr/warning/i, 'without a warning';
    my @found = split /\n/, $guest->must('sh', '-c',
        'find /etc /run /usr /var -xdev -name "*baton*" -not -path "/var/tmp/*" -not -path "/run/host/*"');
    is_deeply \@found, [], 'nothing is left';
    is $guest->must('systemctl', 'list-units', '--all', '--plain', '--no-legend', 'baton*'), '',
        'and systemd knows nothing of it';
    like $guest->must('getent', 'passwd', 'baton'), qr/nologin$/, 'but the user';
}

# Where another server has the port, the package is installed and does not try again and again.
sub port_in_use
{
    my $other = $guest->start(
        ['perl', '-MIO::Socket::INET', '-e', <<~'END'], input => 'pipe');
        my $socket = IO::Socket::INET->new(LocalPort => 80, ReuseAddr => 1, Listen => 1) or die $!;
        $| = 1;
        print "listening\n";
        <STDIN>;
        END
    $other->wait_out(qr/^listening$/m);
    my ($status, $said) = install('0.1.1');
    is $status, 0, 'it is installed' or diag $said;
    is $guest->property('baton.socket',  'ActiveState'), 'failed',   'the socket failed';
    is $guest->property('baton.service', 'ActiveState'), 'inactive', 'the service rests';
    is $guest->property('baton.service', 'NRestarts'),   0,          'and is not tried again';
    $other->finish;
    $other->wait_exit;
    $guest->must('systemctl', 'start', 'baton.service');
    is $service->get->status, 200, 'with the port free it can be started';
}

$guest = Baton::Guest->new(release => $RELEASE);
my %build = (
    '0.1.0' => Baton::Package->start($guest, 'deb', '0.1.0'),
    '0.1.1' => Baton::Package->start($guest, 'deb', '0.1.1'),
    '0.2.0' => Baton::Package->start($guest, 'deb', '0.2.0', Baton::Package::OTHER_STATE));
%package = map { $_ => $build{$_}->file } keys %build;

subtest 'a fresh install' => \&fresh_install;
$service = Baton::Service->new($guest, installed => 1);
$guest->must('systemctl', 'reload', 'baton.service');
subtest 'an instance' => \&start_instance;
subtest 'an upgrade'  => \&upgrade;
subtest 'a downgrade' => sub { $service->is_reloaded('0.1.0', installing('0.1.0')) };
subtest 'a broken configuration' => \&broken_configuration;
subtest 'an upgrade to another format of the state' =>
    sub { $service->is_restarted('0.2.0', installing('0.2.0')) };
subtest 'and a downgrade from it' =>
    sub { $service->is_restarted('0.1.0', installing('0.1.0')) };
subtest 'an interrupted upgrade' => \&interrupted;
subtest 'a full disk'            => \&full_disk;
subtest 'masked and disabled'    => \&masked;
subtest 'policy-rc.d'            => \&policy;
subtest 'needrestart'            => \&needrestart;
subtest 'logrotate'              => \&logrotate;
subtest 'confined'               => \&confined;
subtest 'removed'                => \&remove;
subtest 'purged'                 => \&purge;
subtest 'a port that is taken'   => \&port_in_use;
is $guest->shut_down, 0, 'the machine shuts down';
done_testing;
