# Connections that outlive a stop and a soft reboot, with the examples of packaging/examples. Needs
# systemd 255 or later, so the guest is a Debian 13 wherever this runs.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Guest;
use Baton::Service;
use Baton::Test;

cannot_run(Baton::Guest->missing('trixie')) if Baton::Guest->missing('trixie');

my $guest   = Baton::Guest->new(release => 'trixie');
my $service = Baton::Service->new($guest);
my @UNITS   = qw(baton.service baton.socket baton-admin.socket);
$guest->must('systemctl', 'enable', 'baton.socket');

sub example($name)
{
    return read_file(source_root() . "/packaging/examples/$name");
}

# Clients of every kind that waits, and what they have to see in the end.
sub begin_clients
{
    return {
        idle => [$service->idle(50)],
        half => $service->connect->send('GET / HT'),
        slow => $service->begin_download,
    };
}

sub are_quiet($clients, $name)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @clients = (@{$clients->{idle}}, $clients->{half});
    is scalar(grep { $_->is_quiet } @clients), @clients, $name;
}

sub are_served($clients)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @answers = map { eval { $_->get('/')->status } // $@ } @{$clients->{idle}};
    is_deeply \@answers, [(200) x @answers], 'idle connections are served';
    is $clients->{half}->send("TP/1.1\r\nHost: localhost\r\n\r\n")->read_answer->status, 200,
        'half a head can be completed';
    ok $clients->{slow}->read_answer('GET', 30)->body eq $service->large, 'a download goes on';
}

subtest 'a stop and a start' => sub {
    $service->drop_in(example('preserve.conf'));
    my $clients = begin_clients();
    my $pid     = $service->pid;
    $guest->must('systemctl', 'stop', 'baton.service', 'baton.socket');
    is $service->property('NFileDescriptorStore'), 2, 'systemd keeps the inbox';
    are_quiet $clients, 'no connection is closed';
    eval { $service->connect };
    like $@, qr/refused/, 'but a new one is refused';
    $guest->must('systemctl', 'start', 'baton.socket', 'baton.service');
    isnt $service->pid, $pid, 'another process';
    are_served $clients;
};

subtest 'a stop for good' => sub {
    my @idle = $service->idle(20);
    $guest->must('systemctl', 'stop', 'baton.service');
    is scalar(grep { $_->is_quiet } @idle), 20, 'clients wait';
    $guest->must('systemctl', 'clean', '--what=fdstore', 'baton.service');
    is scalar(grep { $_->is_closed } @idle), 20, 'until the store is emptied';
    is $service->get->status, 200, 'and it can be started again';
};

subtest 'a soft reboot' => sub {
    my $clients = begin_clients();
    my $pid     = $service->pid;
    $guest->soft_reboot;
    is $service->property('ActiveState', 'baton.socket'), 'active', 'the socket listens again';
    is $service->pid, 0, 'nobody serves yet';
    are_quiet $clients, 'no connection is closed';
    is $service->get->status, 200, 'a new connection starts the service';
    isnt $service->pid, $pid, 'another process';
    is $service->property('NFileDescriptorStore'), 2, 'two fds are stored';
    are_served $clients;
};

subtest 'a soft reboot that refuses nobody' => sub {
    $service->drop_in(example('soft-reboot.conf'), $_) for @UNITS;
    $service->restart;
    my $clients = begin_clients();
    my $load    = $service->start_load(@{Baton::Service::STORM()});
    my $pid     = $service->pid;
    $guest->soft_reboot;
    is $service->pid, $pid, 'the server runs on';
    $service->restart;
    isnt $service->pid, $pid, 'and restarts into the new system';
    $service->is_unharmed($load, 'the storm');
    are_served $clients;
    is $guest->shut_down, 0, 'and any other shutdown stops it';
};

done_testing;
