package Baton::Service;

# baton.service as it is installed in a guest, and a site that it serves: /index.html, and /large,
# which is more than the socket buffers of both ends hold. With the option backend, also what is below
# /api/, /websocket, /events and /slow, from a Baton::Origin at a unix socket.
#
#   my $service = Baton::Service->new(Baton::Guest->new);
#   $service->restart;
#   is $service->get->status, 200;

use v5.36;
use Baton::Http   ();
use Baton::Origin ();
use Baton::Test qw(folder read_file);
use JSON::PP    ();
use Test::More  ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

use constant {
    UNIT => 'baton.service',
    SOCKETS => ['baton.socket', 'baton-admin.socket'],
    LARGE => 8 << 20,
    INDEX => "hello\n",
    # What reloads and restarts have to be invisible to.
    STORM => [
        'keepalive:100:think=0-50ms', 'connect:20', 'slowhead:10',
        'download:4:path=/large,rate=4M', 'pipeline:5:think=0-5ms', 'idle:100'
    ],
    # And what more, where there is a backend.
    PROXY_STORM => [
        'keepalive:30:path=/api/,think=0-50ms,expect=hello',
        'websocket:100:path=/websocket,think=0-200ms', 'websocket:5:path=/websocket,size=0-128K,rcvbuf=16K',
        'events:10:path=/events', 'slow:5:path=/slow?ms=500&pieces=10&size=100K',
        'slow:5:path=/slow?ms=2000&pieces=2&size=100K&framing=length',
        'upload:5:path=/api/,size=256K,piece=1-8192,gap=1-5ms', 'upload:2:path=/api/,coding=chunked',
    ],
    BACKEND => '/run/origin.sock',
};

my $CONFIGURATION = <<~'END';
    [Server]
    Workers=2
    MaxConnections=100000
    [Listen http]
    [Listen admin]
    Admin=yes
    [Route site]
    Root=/srv/site
    END

my $PROXY = "[Route api]\nPath=/api/\nUpstream=shop\n";
$PROXY .= "[Route $_]\nPath=/$_\nUpstream=shop\n" for qw(websocket events slow);
$PROXY .= "[Upstream shop]\nServer=unix:" . BACKEND . "\n";

# The options: installed => 1: it is there already, from a package. backend => 1: there is one.
sub new($class, $guest, %o)
{
    open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
    read $random, my $content, LARGE;
    my $large = folder(large => $content) . '/large';
    my $self  = bless { guest => $guest, large => $large }, $class;
    $guest->install unless $o{installed};
    $self->begin_backend if $o{backend};
    $self->configure;
    $guest->must('mkdir', '-p', '/srv/site');
    $guest->write_file('/srv/site/index.html', INDEX);
    $guest->write_file('/srv/site/large',      read_file($large));
    # Almost every machine has it; this guest may have been booted without.
    $guest->must('systemctl', 'start', 'dbus.service');
    $guest->must('systemctl', 'start', 'baton.socket');
    $self->get;
    return $self;
}

# On this machine, at a path of the guest: what happens to the guest's services is not its concern.
sub begin_backend($self)
{
    my $path = $self->{guest}->path(BACKEND);
    $self->{origin} = Baton::Origin->start(["unix:$path"], []);
    chmod 0666, $path or die "$path: $!\n";
}

sub storm($self)
{
    return (STORM->@*, $self->{origin} ? PROXY_STORM->@* : ());
}

sub configure($self, $text = '')
{
    my $proxy = $self->{origin} ? $PROXY : '';
    $self->{guest}->write_file('/etc/baton/baton.conf', $CONFIGURATION . $proxy . $text);
}

sub guest($self)
{
    return $self->{guest};
}

# Sets a drop-in of the service, or of another unit; '': removes it.
sub drop_in($self, $text, $unit = UNIT)
{
    my $folder = "/etc/systemd/system/$unit.d";
    $self->{guest}->must('mkdir', '-p', $folder);
    $self->{guest}->write_file("$folder/test.conf", $text);
    $self->{guest}->must('systemctl', 'daemon-reload');
}

sub property($self, $name, $unit = UNIT)
{
    return $self->{guest}->property($unit, $name);
}

sub pid($self)
{
    return $self->property('MainPID');
}

sub workers($self)
{
    return $self->{guest}->children_of($self->pid);
}

# Returns how long it took, in milliseconds.
sub restart($self, @options)
{
    my $began = clock_gettime(CLOCK_MONOTONIC);
    $self->{guest}->must('systemctl', @options, 'restart', UNIT);
    return 1000 * (clock_gettime(CLOCK_MONOTONIC) - $began);
}

# How much of the system it can reach, as systemd rates it, from 0 to 10.
sub exposure($self)
{
    my ($level) = $self->{guest}->run(qw(systemd-analyze security --no-pager), UNIT)->out
        =~ /Overall exposure level for baton.service: (\d+\.\d+)/;
    return $level // 10;
}

# Its journal with what the catalog explains of it.
sub explained($self)
{
    return $self->{guest}->must(qw(journalctl --boot --no-pager --catalog --unit), UNIT);
}

# Kills the supervisor, and waits until its workers are gone and the next instance answers. Returns
# how long that took, in milliseconds.
sub crash($self, $signal = 'KILL')
{
    my $began   = clock_gettime(CLOCK_MONOTONIC);
    my $pid     = $self->pid;
    my @workers = $self->{guest}->children_of($pid);
    $self->{guest}->signal($signal, $pid);
    $self->{guest}->wait_exit_of($_) for @workers;
    $self->get;
    return 1000 * (clock_gettime(CLOCK_MONOTONIC) - $began);
}

sub connect($self, $port = 80, %o)
{
    return $self->{guest}->connect("127.0.0.1:$port", %o);
}

sub get($self, $target = '/', $port = 80)
{
    return $self->connect($port)->get($target, Connection => 'close');
}

# What build serves, of this Baton or of an instance.
sub version($self, $instance = 'baton')
{
    my $socket = "/run/$instance/control.sock";
    my ($version) = $self->{guest}->must('baton', 'status', '--control', $socket) =~ /^Baton (\S+),/m;
    return $version;
}

sub metrics($self)
{
    require Baton::Metrics;
    return Baton::Metrics->scrape($self->connect(8081));
}

# So many connections, each of which had an answer and is idle.
sub idle($self, $count)
{
    return map {
        my $connection = $self->connect;
        $connection->get('/');
        $connection
    } 1 .. $count;
}

# A download that waits for its client to read on.
sub begin_download($self)
{
    my $connection = $self->connect(80, receive_buffer => 4096);
    $connection->send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")->read_more;
    return $connection;
}

# A WebSocket of the backend.
sub open_websocket($self)
{
    my $connection = $self->connect;
    $connection->get('/websocket', Connection => 'Upgrade', Upgrade => 'websocket',
        'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version' => 13);
    return $connection;
}

# A message of the client, with a mask that is all zero; and its echo. RFC 6455 §5.2.
sub message($text)
{
    return pack('CCN', 0x81, 0x80 | length $text, 0) . $text;
}

sub echo($text)
{
    return pack('CC', 0x81, length $text) . $text;
}

sub large($self)
{
    return read_file($self->{large});
}

sub start_load($self, @groups)
{
    my @arguments = map { ('--group', s/(path=\/large)/$1,file=$self->{large}/r) } @groups;
    return $self->{guest}->start_load(@arguments, 'http://127.0.0.1:80/');
}

# No client saw anything: every request was answered, every connection is still there.
sub is_unharmed($self, $load, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $counted = $self->{guest}->finish_load($load);
    Test::More::cmp_ok($counted->{responses}, '>', 0, "$name: $counted->{responses} answers");
    Test::More::is($counted->{failed}, 0, 'no request failed')
        or Test::More::diag(JSON::PP->new->pretty->encode($counted));
    Test::More::is($counted->{closed}, 0, 'no connection was closed');
    return $counted;
}

# The same of what a package manager does, which has to succeed: $change returns its status and what
# it said. The sockets have to stay as they are. Returns what it said.
sub is_unnoticed($self, $name, $change)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $sockets = sub { map { $self->property('InvocationID', $_) } SOCKETS->@* };
    my @before  = $sockets->();
    my $load    = $self->start_load(STORM->@*);
    my ($status, $said) = $change->();
    Test::More::is($status, 0, $name) or Test::More::diag($said);
    $self->is_unharmed($load, 'the storm');
    Test::More::is_deeply([$sockets->()], \@before, 'the sockets were not touched');
    return $said;
}

# The same, and that the build of this version took the process over.
sub is_reloaded($self, $version, $change)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $pid  = $self->pid;
    my $said = $self->is_unnoticed("$version is installed", $change);
    Test::More::is($self->version, $version, 'and is what serves');
    Test::More::is($self->pid,     $pid,     'in the same process');
    return $said;
}

# Or was started anew, once.
sub is_restarted($self, $version, $change)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $pid  = $self->pid;
    my $said = $self->is_unnoticed("$version is installed", $change);
    Test::More::like($said, qr/baton.service was restarted/, 'it says that it restarted it');
    Test::More::isnt($self->pid, $pid, 'another process');
    Test::More::is($self->version, $version, 'is what serves');
    Test::More::is($self->property('NRestarts'), 0, 'and came up at once');
    return $said;
}

# Or changed nothing, for this reason.
sub is_refused($self, $reason, $change)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($pid, $version) = ($self->pid, $self->version);
    my $said = $self->is_unnoticed('it is installed', $change);
    Test::More::like($said, qr/WARNING: baton.service could not take over/, 'loudly');
    Test::More::like($said, $reason, 'and with the reason');
    Test::More::is($self->pid,     $pid,     'the former process serves');
    Test::More::is($self->version, $version, 'and is the former version');
    Test::More::like($self->explained, qr/Subject: Baton refused to reload/, 'journalctl explains it');
    return $said;
}

1;
