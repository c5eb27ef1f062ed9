# What baton.service may do, and what not: a probe runs in the server's place, under the unit as it
# is installed, and under the example that takes the network away.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Guest;
use Baton::Test;

cannot_run(Baton::Guest->missing) if Baton::Guest->missing;

# At two addresses and a unix socket that is open to a group; and a name server, which knows any name.
my $BACKENDS = <<~'END';
    use v5.32;
    use IO::Select;
    use IO::Socket::IP;
    use IO::Socket::UNIX;
    my @listening = (
        (map { IO::Socket::IP->new(LocalHost => $_, LocalPort => 9000, Listen => 5) // die "$_: $@" }
            '127.0.0.1', '::1'),
        IO::Socket::UNIX->new(Local => '/run/shop.sock', Listen => 5));
    chmod 0660, '/run/shop.sock';
    chown 0, scalar getgrnam 'shop', '/run/shop.sock';
    my $names = IO::Socket::IP->new(LocalHost => '127.0.0.1', LocalPort => 53, Proto => 'udp') // die $@;
    $| = 1;
    print "listening\n";
    my $select = IO::Select->new(@listening, $names, \*STDIN);
    while (my @ready = $select->can_read) {
        for my $socket (@ready) {
            exit if $socket == \*STDIN;
            if ($socket != $names) {
                my $client = $socket->accept;
                print $client "backend\n";
                next;
            }
            # RFC 1035: the question, and for type A one answer, 127.0.0.1.
            $names->recv(my $query, 512);
            my ($question) = substr($query, 12) =~ /\A((?:[^\0]+)\0....)/s;
            my $is_a = substr($question, -4, 2) eq "\0\1";
            $names->send(substr($query, 0, 2) . pack('n5', 0x8180, 1, $is_a, 0, 0) . $question
                . ($is_a ? pack('n3Nna4', 0xc00c, 1, 1, 60, 4, "\x7f\0\0\1") : ''));
        }
    }
    END
my $PROBE = <<~'END';
    use v5.32;
    use IO::Socket::IP;
    use IO::Socket::UNIX;
    use Socket qw(:addrinfo AF_INET AF_INET6 AF_UNIX SOCK_STREAM SOCK_RAW SOCK_DGRAM);
    my @said;
    sub says { my ($name, $yes) = @_; push @said, "$name: " . ($yes ? 'yes' : 'no') . "\n" }
    sub answers { my ($socket) = @_; return $socket && (readline($socket) // '') eq "backend\n" }
    sub writes { my ($path) = @_; return open my $file, '>', $path }

    says 'a backend over IPv4', answers(IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => 9000));
    says 'a backend over IPv6', answers(IO::Socket::IP->new(PeerHost => '::1', PeerPort => 9000));
    says 'a backend at a unix socket of a group', answers(IO::Socket::UNIX->new(Peer => '/run/shop.sock'));
    my ($error, @found) = getaddrinfo('backend.example', 9000, {socktype => SOCK_STREAM});
    says 'a name of DNS', !$error && @found;
    ($error, @found) = getaddrinfo('backend.hosts', 9000, {socktype => SOCK_STREAM});
    says 'a name of /etc/hosts', !$error && @found;
    says 'a log', writes('/var/log/baton/probe');
    says 'a control socket', IO::Socket::UNIX->new(Local => '/run/baton/probe.sock', Listen => 1);
    says 'a site', open my $site, '<', '/srv/site/index.html';
    says 'a site in a home', open my $home, '<', '/home/site/index.html';
    # openat2(2), as src/handler/root.c calls it
    my ($folder, $name, $how) = ('/srv/site', 'index.html', pack 'Q3', 0, 0, 0x08);
    opendir my $handle, $folder;
    says 'paths confined by the kernel', syscall(437, fileno $handle, $name, $how, length $how) >= 0;

    says 'a file of the system', writes('/etc/probe') || writes('/srv/site/probe') || writes('/usr/probe');
    says 'a file in a home', writes('/home/site/probe');
    says 'a secret of root', open my $shadow, '<', '/etc/shadow';
    says 'processes of others', -e '/proc/1';
    says 'a raw socket', socket my $raw, AF_INET, SOCK_RAW, 1;
    says 'another family of sockets', socket my $netlink, 16, SOCK_DGRAM, 0;
    says 'a port below 1024', IO::Socket::IP->new(LocalHost => '127.0.0.1', LocalPort => 99, Listen => 1);
    says 'another user', defined($> = 0) && $> == 0;
    says 'a namespace', syscall(272, 0x10000000) == 0;
    says 'a higher priority', setpriority(0, 0, -5);
    print @said;
    END

my %ALLOWED = map { $_ => 1 } 'a backend at a unix socket of a group', 'a name of /etc/hosts',
    'a log', 'a control socket', 'a site', 'paths confined by the kernel';
my %WITH_NETWORK = map { $_ => 1 } 'a backend over IPv4', 'a backend over IPv6', 'a name of DNS',
    'a site in a home';

my $guest = Baton::Guest->new;
$guest->install;
$guest->must('groupadd', 'shop');
$guest->must('mkdir', '-p', '/srv/site', '/home/site', '/etc/systemd/system/baton.service.d');
$guest->write_file("/$_/site/index.html", "hello\n") for qw(srv home);
$guest->must('rm', '-f', '/etc/resolv.conf');
$guest->write_file('/etc/resolv.conf', "nameserver 127.0.0.1\n");
$guest->must('sh', '-c', 'echo 127.0.0.1 backend.hosts >>/etc/hosts; chmod 644 /etc/hosts /etc/resolv.conf');
$guest->write_file('/usr/local/lib/probe.pl', $PROBE);
$guest->write_file('/etc/systemd/system/baton.service.d/probe.conf', <<~'END');
    [Service]
    SupplementaryGroups=shop
    Type=oneshot
    Restart=no
    ExecStart=
    ExecStart=/bin/sh -c 'exec /usr/bin/perl /dev/stdin </usr/local/lib/probe.pl'
    StandardOutput=file:/var/log/probe
    END
my $backends = $guest->start(['perl', '-e', $BACKENDS], input => 'pipe');
$backends->wait_out(qr/^listening$/m);

# What it could do: a set.
sub probe
{
    $guest->must('systemctl', 'daemon-reload');
    $guest->must('rm', '-f', '/var/log/probe');
    $guest->must('systemctl', 'start', 'baton.service');
    my %said = $guest->must('cat', '/var/log/probe') =~ /^(.*): (yes|no)$/mg;
    is scalar keys %said, scalar(my @says = $PROBE =~ /^says /mg), 'the probe said all';
    return {map { $_ => 1 } grep { $said{$_} eq 'yes' } keys %said};
}

subtest 'as installed' => sub {
    is_deeply probe(), {%ALLOWED, %WITH_NETWORK}, 'it may do what the server does';
};

subtest 'confined' => sub {
    $guest->write_file('/etc/systemd/system/baton.service.d/confined.conf',
        read_file(source_root() . '/packaging/examples/confined.conf'));
    is_deeply probe(), \%ALLOWED, 'files and unix sockets are left';
};

$backends->finish;
is $guest->shut_down, 0, 'the machine shuts down';
done_testing;
