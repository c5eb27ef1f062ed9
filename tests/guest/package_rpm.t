# The rpm package, in a Debian with an rpm database of its own: what is installed, what the scriptlets
# do, and that an upgrade is a reload. The presets are Fedora's: nothing starts by itself.

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

my $guest = Baton::Guest->new(release => $RELEASE);
my ($service, %package);

# Debian's rpm wants to be told that it is meant, and knows no installed package but ours.
sub rpm(@arguments)
{
    my $rpm = $guest->run('rpm', '--force-debian', @arguments);
    return ($rpm->status, $rpm->out . $rpm->err);
}

sub installing($version)
{
    return sub { rpm(qw(--upgrade --oldpackage --nodeps), $package{$version}) };
}

sub fresh_install
{
    my ($status, $said) = installing('0.1.0')->();
    is $status, 0, 'it is installed' or diag $said;
    unlike $said, qr/error|warning|failed/i, 'without a complaint';
    is $guest->property($_, 'UnitFileState'), 'disabled', "$_ is disabled" for @UNITS;
    is $guest->property($_, 'ActiveState'),   'inactive', "$_ rests"       for @UNITS;
    is $guest->must(qw(stat -c), '%A %U %G', '/var/log/baton'), 'drwxr-x--- baton baton',
        'a folder for logs';
    is((rpm(qw(--verify --nodeps baton)))[1], '', 'all files are as they should be');
    my @lost = grep { (rpm('--query', '--file', $_))[0] != 0 }
        split /\n/, $guest->must(qw(find /etc /usr /var -xdev -path),
            '*/baton*', qw(-not -path /var/tmp/*));
    is_deeply \@lost, [], 'every file of ours has an owner';

    like $guest->must('journalctl', '--list-catalog', $EXPLAINED), qr/Baton refused/,
        'the journal can explain messages';

    $guest->must('systemctl', 'enable', '--now', 'baton.socket');
    my $answer = $guest->connect('127.0.0.1:80')->get('/');
    is $answer->status, 200, 'with the socket enabled, the first request is answered';
    like $answer->body, qr/Baton is running/, 'from the first site';
    is $guest->property('baton.service', 'ActiveState'), 'active', 'by the service that it started';
}

sub upgrade
{
    my $configuration = $guest->must('cat', $CONFIG);
    unlike $service->is_reloaded('0.1.1', installing('0.1.1')), qr/WARNING/, 'no worries';
    is $guest->must('cat', $CONFIG), $configuration, 'the edited configuration stays';
    is $guest->property('baton.socket',  'UnitFileState'), 'enabled',  'what is enabled stays so';
    is $guest->property('baton.service', 'UnitFileState'), 'disabled', 'and what is not';
}

sub broken_configuration
{
    $service->configure("Rooot=/srv\n");
    $service->is_refused(qr/\Q$CONFIG\E:\d+: unknown key Rooot=/, installing('0.1.1'));
    like((rpm('--query', 'baton'))[1], qr/^baton-0\.1\.1-1/, 'the package is installed');
    $service->configure;
    $guest->must('systemctl', 'reload', 'baton.service');
    is $service->version, '0.1.1', 'put right, the new version serves';
}

sub erase
{
    my ($status, $said) = rpm('--erase', 'baton');
    is $status, 0, 'it is erased' or diag $said;
    is $guest->property($_, 'LoadState'), 'not-found', "$_ is gone" for @UNITS;
    eval { $service->get };
    like $@, qr/refused/, 'nobody listens';
    isnt $guest->run('journalctl', '--list-catalog', $EXPLAINED)->status, 0, 'nothing to explain';
    my @found = split /\n/, $guest->must(qw(find /etc /run /usr /var -xdev -name),
        '*baton*', qw(-not -path /var/tmp/* -not -path /run/host/*));
    is_deeply \@found, ['/etc/baton', "$CONFIG.rpmsave"], 'what is left is the configuration';
}

$guest->write_file('/root/.rpmmacros', "%_without_check 1\n");
my %build = map { $_ => Baton::Package->start($guest, 'rpm', $_) } qw(0.1.0 0.1.1);
$build{'0.2.0'} = Baton::Package->start($guest, 'rpm', '0.2.0', Baton::Package::OTHER_STATE);
%package = map { $_ => $build{$_}->file } keys %build;
$guest->must('mkdir', '-p', '/etc/systemd/system-preset');
$guest->write_file('/etc/systemd/system-preset/99-default-disable.preset', "disable *\n");

subtest 'a fresh install' => \&fresh_install;
$service = Baton::Service->new($guest, installed => 1);
$guest->must('systemctl', 'start', 'baton-admin.socket');
$guest->must('systemctl', 'restart', 'baton.service');
subtest 'an upgrade'  => \&upgrade;
subtest 'a downgrade' => sub { $service->is_reloaded('0.1.0', installing('0.1.0')) };
subtest 'a broken configuration' => \&broken_configuration;
subtest 'an upgrade to another format of the state' =>
    sub { $service->is_restarted('0.2.0', installing('0.2.0')) };
subtest 'and a downgrade from it' =>
    sub { $service->is_restarted('0.1.0', installing('0.1.0')) };
subtest 'erased' => \&erase;
is $guest->shut_down, 0, 'the machine shuts down';
done_testing;
