# Where the listening sockets come from: passed by name as sd_listen_fds_with_names(3) says, or
# bound by the server itself; and what reloads do with either.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Proc qw(sockets_of listening_at);
use Baton::Test;
use Socket qw(:DEFAULT SOCK_DGRAM SOCK_SEQPACKET);

my $root = folder('index.html' => 'hello');

# [Listen] sections, NAME => text of it, ...; and a site.
sub configuration(@listens)
{
    my $text = "[Server]\nWorkers=2\n[Route site]\nRoot=$root\n";
    while (my ($name, $more) = splice @listens, 0, 2) {
        $text .= "[Listen $name]\n$more\n";
    }
    return $text;
}

sub get($address, $target = '/')
{
    return Baton::Http->connect($address)->get($target, Connection => 'close');
}

sub serves($address, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is eval { get($address)->body } // $@, 'hello', $name;
}

# A unix socket's file outlives it, so nobody at all is an answer too.
sub refuses($address, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    eval { Baton::Http->connect($address) };
    like $@, qr/refused|No such file/, $name;
}

# A server that does not start: its exit code and the reason that it gives.
sub does_not_start($reason, $name, %o)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $server = start(%o, ready => 0);
    is $server->wait_exit, 1, "$name: exit code";
    my ($said) = $server->log =~ /^baton\[\d+\]: Cannot start: (.*)\n\z/m;
    is $said, $reason, 'and the reason';
    return $server;
}

sub reloads($server, $config, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $server->configure($config);
    my $reload = $server->reload;
    is $reload->status, 0, $name or diag $reload->err;
    $server->wait_at_rest(2);
}

subtest 'sockets that are passed' => sub {
    my $path   = scratch() . '/passed.sock';
    my $server = start(
        config => configuration(http => '', local => '', admin => 'Admin=yes'),
        sockets => [
            http => '127.0.0.1:0',
            http => '[::1]:0',
            local => "unix:$path",
            admin => '127.0.0.1:0',
            http => '127.0.0.1:0',
            http => "unix:\@baton-test-$$",
        ]);
    my @addresses = map { Baton::Server::address_of($_->{handle}) } @{$server->{sockets}};
    my $admin = splice @addresses, 3, 1;
    for my $turn ('at first', 'after a reload', 'and after another') {
        serves($_, "$_ serves $turn") for @addresses;
        is get($admin, '/livez')->status, 200, "so does the admin's";
        is get($admin, '/')->status, 404, 'what is asked there, and nothing else';
        is get($addresses[0], '/livez')->status, 404, 'which nobody else answers';
        is $server->reload->status, 0, 'a reload';
    }
    is $server->stop, 0, 'exit code';
    ok -S $path, 'the socket file of whoever passed it stays';
    unlink $path;
};

sub unnamed(%o)
{
    return (config => configuration(http => ''), %o);
}

subtest 'sockets that are refused' => sub {
    my $passed = 'passed as a socket, is not a listening stream socket (ListenStream=)';
    socket my $datagram, AF_INET, SOCK_DGRAM, 0 or die $!;
    bind $datagram, pack_sockaddr_in(0, INADDR_LOOPBACK) or die $!;
    does_not_start("fd 3 ('http'), $passed", 'a datagram socket', unnamed(sockets => [http => $datagram]));

    socket my $silent, AF_INET, SOCK_STREAM, 0 or die $!;
    bind $silent, pack_sockaddr_in(0, INADDR_LOOPBACK) or die $!;
    does_not_start("fd 4 ('http'), $passed", 'one that does not listen',
        unnamed(sockets => [http => '127.0.0.1:0', http => $silent]));

    socket my $packets, AF_UNIX, SOCK_SEQPACKET, 0 or die $!;
    bind $packets, pack_sockaddr_un("\0baton-test-packets-$$") or die $!;
    listen $packets, 1 or die $!;
    does_not_start("fd 3 ('http'), $passed", 'a packet socket', unnamed(sockets => [http => $packets]));

    socketpair my $one, my $other, AF_UNIX, SOCK_STREAM, 0 or die $!;
    does_not_start("fd 3 ('http'), $passed", 'a connected one', unnamed(sockets => [http => $one]));

    open my $file, '<', "$root/index.html" or die $!;
    does_not_start("fd 3 ('http'), $passed", 'a file', unnamed(sockets => [http => $file]));

    does_not_start(
        q(a socket named 'https' was passed (FileDescriptorName=), but there is no [Listen https]),
        'one that no [Listen] names', unnamed(sockets => [http => '127.0.0.1:0', https => '127.0.0.1:0']));
    does_not_start(
        q([Listen other] has no Address=, and no socket of that name was passed), 'a [Listen] without any',
        config => configuration(http => '', other => ''), sockets => [http => '127.0.0.1:0']);
    does_not_start(
        q([Listen http] has no Address=, and no socket of that name was passed), 'no socket at all',
        unnamed(sockets => []));
    does_not_start(
        q(the passed sockets (LISTEN_FDS) cannot be read: Invalid argument), 'a wrong number of sockets',
        unnamed(environment => { LISTEN_FDS => 'two' }));
};

subtest 'passed sockets go before addresses' => sub {
    my ($unused, $used) = (free_address(), free_address());
    my $server = start(
        config => configuration(http => "Address=$unused", other => "Address=$used"),
        sockets => [http => '127.0.0.1:0']);
    serves($server->address, 'the socket');
    serves($used, 'the address of a section without one');
    refuses($unused, 'not the address of one that has one');
    is $server->stop, 0, 'exit code';
    refuses($used, 'what was bound is closed');
};

subtest 'addresses that the server binds' => sub {
    my ($first, $second) = (free_address(), free_address());
    my ($sixth) = map { Baton::Server::address_of($_) } Baton::Server::listen_on('[::1]:0');
    my $path   = scratch() . '/bound.sock';
    my @all    = ($first, $second, $sixth, "unix:$path", "unix:\@baton-test-bound-$$");
    my $server = start(
        config => configuration(http => join "\n", "Address=$first $second", map { "Address=$_" } @all[2 .. 4]),
        sockets => []);
    serves($_, $_) for @all;
    my @inodes = listening_at($first);
    my $file   = (stat $path)[1];
    is @inodes, 1, 'one socket listens';
    ok +(grep { $_ == $inodes[0] } sockets_of($server->pid)), "and it is the server's";
    for my $turn (1 .. 2) {
        is $server->reload->status, 0, "reload $turn";
        serves($_, "$_, as before") for @all;
        is_deeply [listening_at($first)], \@inodes, 'it is the same socket, and no second one';
        ok +(grep { $_ == $inodes[0] } sockets_of($server->pid)), "still the server's";
        is +(stat $path)[1], $file, 'the same socket file';
    }
    is $server->stop, 0, 'exit code';
    refuses($_, "$_ is closed") for @all;
    ok !-e $path, 'the socket file is removed';
};

subtest 'addresses that a reload adds, changes, removes, renames' => sub {
    my ($stays, $comes, $goes, $admin) = map { free_address() } 1 .. 4;
    my $path   = scratch() . '/reload.sock';
    my $server = start(config => configuration(http => "Address=$stays"), sockets => []);
    my @inodes = listening_at($stays);

    reloads($server, configuration(http => "Address=$stays\nAddress=$goes unix:$path", admin => "Address=$admin\nAdmin=yes"), 'added');
    serves($_, "$_ serves") for $stays, $goes, "unix:$path";
    is get($admin, '/livez')->status, 200, 'so does the admin\'s';

    reloads($server, configuration(http => "Address=$stays $comes"), 'changed');
    serves($_, "$_ serves") for $stays, $comes;
    refuses($_, "$_ is closed") for $goes, "unix:$path", $admin;
    ok !-e $path, 'and the file is gone';

    reloads($server, configuration(http => "Address=$stays"), 'removed');
    refuses($comes, 'it is closed');

    reloads($server, configuration(web => "Address=$stays\nAddress=unix:$path"), 'renamed');
    serves($stays, 'it serves');
    reloads($server, configuration(web => "Address=$stays", admin => "Address=unix:$path\nAdmin=yes"), 'given to another section');
    is get("unix:$path", '/livez')->status, 200, 'it serves as that says';
    reloads($server, configuration(web => "Address=$stays", admin => "Address=unix:$path\nAdmin=yes"), 'and once more');
    is get("unix:$path", '/livez')->status, 200, 'it still does';
    is_deeply [listening_at($stays)], \@inodes, 'and the one that stayed is the same socket, after all that';
    is $server->stop, 0, 'exit code';
    ok !-e $path, 'no file is left';
};

subtest 'a refused reload keeps the addresses as they are' => sub {
    my ($stays, $comes) = map { free_address() } 1 .. 2;
    my $taken  = Baton::Server::listen_on('127.0.0.1:0');
    my $in_use = Baton::Server::address_of($taken);
    my $path   = scratch() . '/refused.sock';
    my $server = start(config => configuration(http => "Address=$stays\nAddress=unix:$path"), sockets => []);
    my @inodes = listening_at($stays);
    my $file   = (stat $path)[1];
    $server->configure(configuration(web => "Address=$comes $stays $in_use\nAddress=unix:$path"));
    like $server->reload->err, qr/cannot listen on \Q$in_use\E: Address already in use/, 'refused while binding';
    my $lost = "AccessLog=json\nAccessLogFile=$root/none/log";
    $server->configure(configuration(web => "Address=$comes $stays\nAddress=unix:$path") =~ s/(?<=Workers=2\n)/$lost\n/r);
    like $server->reload->err, qr{none/log: No such file}, 'refused by its workers';
    $server->wait_at_rest(2);
    serves($_, "$_ serves") for $stays, "unix:$path";
    refuses($comes, 'the new address is closed');
    is_deeply [listening_at($stays)], \@inodes, 'the same socket';
    is +(stat $path)[1], $file, 'and the same file';
    reloads($server, configuration(web => "Address=$comes $stays\nAddress=unix:$path"), 'and later a good reload');
    serves($_, "$_ serves") for $stays, $comes, "unix:$path";
    is $server->stop, 0, 'exit code';
};

# Stops the workers, so that what arrives stays queued.
sub freeze($server)
{
    my @workers = map { $_->{pid} } @{$server->status->{workers}};
    kill STOP => @workers;
    return @workers;
}

subtest 'who is queued at an address that goes' => sub {
    my ($stays, $goes) = (free_address(), free_address());
    my $path   = scratch() . '/queue.sock';
    my $server = start(config => configuration(http => "Address=$stays\nAddress=$goes unix:$path"), sockets => []);
    my @frozen = freeze($server);
    my @queued = map { Baton::Http->connect($_)->send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") } $goes, "unix:$path", $stays;
    $server->configure(configuration(http => "Address=$stays"));
    my $reload = $server->start_command('reload');
    $server->wait_notify(qr/^RELOADING=1$/m);
    $server->wait_notify(qr/^READY=1$/m);
    kill CONT => @frozen;
    is $_->read_answer->body, 'hello', 'is answered' for @queued;
    is $reload->wait_exit, 0, 'the reload succeeds';
    is $queued[2]->get('/')->body, 'hello', 'and the connection of one that stays goes on';
    refuses($_, "$_ is closed") for $goes, "unix:$path";
    is $server->stop, 0, 'exit code';
};

subtest 'socket files' => sub {
    my $path   = scratch() . '/file.sock';
    my $bound  = configuration(http => "Address=unix:$path");
    my $killed = start(config => $bound, sockets => []);
    my $other  = does_not_start(
        "cannot listen on unix:$path: Address already in use", 'one that somebody listens on',
        config => $bound, sockets => []);
    serves("unix:$path", 'he still does');
    my @workers = $killed->workers;
    $killed->signal('KILL');
    is $killed->wait_exit, 137, 'killed';
    wait_exit_of(\@workers);
    ok -S $path, 'it leaves its file';
    refuses("unix:$path", 'on which nobody listens');
    my $server = start(config => $bound, sockets => []);
    serves("unix:$path", 'the next server replaces it');
    is $server->stop, 0, 'exit code';

    write_file($path, 'precious');
    does_not_start("cannot listen on unix:$path: Address already in use", 'a file that is no socket', config => $bound, sockets => []);
    is read_file($path), 'precious', 'is left alone';
};

subtest 'an address in use' => sub {
    my $taken   = Baton::Server::listen_on('127.0.0.1:0');
    my $address = Baton::Server::address_of($taken);
    my $free    = free_address();
    my $path    = scratch() . '/in-use.sock';
    does_not_start("cannot listen on $address: Address already in use", 'by another server',
        config => configuration(http => "Address=$free unix:$path $address"), sockets => []);
    ok !-e $path, 'what was bound before it is closed';
};

done_testing;
