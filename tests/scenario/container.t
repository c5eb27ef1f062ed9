# packaging/container: what the files say fits together, and what an engine would start (here, in a
# PID namespace) stops inside its grace.

use v5.36;
use CPAN::Meta::YAML ();
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Process ();
use Baton::Server  ();
use Baton::Test;
use JSON::PP    ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $unshare = Baton::Process->run(command => [qw(unshare --pid --fork --mount-proc true)]);
cannot_run('no PID namespace can be made: ' . $unshare->err) if $unshare->status != 0;

my $folder        = source_root() . '/packaging/container';
my $containerfile = read_file("$folder/Containerfile");
my $configuration = read_file("$folder/baton.conf");
my ($compose)     = @{CPAN::Meta::YAML->read("$folder/compose.yaml")};
my %object        = map { $_->{kind} => $_ } @{CPAN::Meta::YAML->read("$folder/kubernetes.yaml")};
my $pod           = $object{Deployment}{spec}{template}{spec};
my ($container)   = @{$pod->{containers}};
# More than the socket buffers of both ends hold.
my $LARGE = 8 << 20;
my $root  = folder('index.html' => 'hello', large => 'x' x $LARGE);

# What an instruction of the Containerfile says; of several the last counts.
sub instruction($name)
{
    return ($containerfile =~ /^$name +(.*)$/mg)[-1];
}

# An instruction in the exec form.
sub command($name)
{
    return @{JSON::PP::decode_json(instruction($name))};
}

sub duration($text)
{
    my ($number) = $text =~ /^(\d+)s?$/ or die "'$text' is not in seconds\n";
    return $number;
}

# How long a stop may take under these texts of configuration, of which the last word counts.
sub stop_takes(@texts)
{
    my %last = "@texts" =~ /^(ReadinessDelay|DrainTimeout)=(.*)$/mg;
    return duration($last{ReadinessDelay}) + duration($last{DrainTimeout});
}

# Starts the image's command with its configuration, and the files of baton.conf.d by their names,
# but on addresses of our own. Returns the process, the pid of the server, and its addresses by port.
sub run_image(%drop_ins)
{
    my %address = (8080 => free_address(), 8081 => free_address());
    my $place   = folder('baton.conf' => $configuration =~ s/Address=(\d+)/Address=$address{$1}/gr
            =~ s{Root=/srv/www}{Root=$root}r);
    # As a ConfigMap is mounted: the names are links, so that all of it changes at once.
    mkdir $_ or die "$_: $!\n" for "$place/baton.conf.d", "$place/baton.conf.d/..now";
    symlink '..now', "$place/baton.conf.d/..data" or die "..data: $!\n";
    for my $name (keys %drop_ins) {
        write_file("$place/baton.conf.d/..now/$name", $drop_ins{$name});
        symlink "..data/$name", "$place/baton.conf.d/$name" or die "$name: $!\n";
    }
    my ($variable) = split /=/, instruction('ENV');
    my (undef, @arguments) = (command('ENTRYPOINT'), command('CMD'));
    my $process = Baton::Process->start(
        command => [
            qw(unshare --pid --fork --mount-proc), baton(),
            map {s{^/etc/baton/}{$place/}r} @arguments
        ],
        environment => { $variable => $place });
    $process->wait_err(qr/^baton\[1\]: Serving: .*$/m);
    my ($pid) = children_of($process->pid);
    return ($process, $pid, \%address);
}

# Waits for its end. Returns the exit code and what it took, in seconds.
sub stop($process, $pid)
{
    my $began = clock_gettime(CLOCK_MONOTONIC);
    kill TERM => $pid;
    my $status = $process->wait_exit(30);
    return ($status, clock_gettime(CLOCK_MONOTONIC) - $began);
}

sub begin_download($address)
{
    my $client = Baton::Http->connect($address, receive_buffer => 4096);
    $client->send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")->read_more;
    return $client;
}

subtest 'the files' => sub {
    is_deeply [command('ENTRYPOINT')], ['/usr/bin/baton'], 'ENTRYPOINT in the exec form';
    is_deeply [command('CMD')], [qw(serve --config /etc/baton/baton.conf)], 'and CMD';
    is instruction('STOPSIGNAL'), 'SIGTERM', 'the signal of a graceful stop';
    my ($user) = instruction('USER') =~ /^(\d+):/;
    is $pod->{securityContext}{runAsUser}, $user, 'the user of the pod';
    like "@{$compose->{services}{web}{tmpfs}}", qr/uid=$user,/, 'and of the runtime folder';

    my %port = map { $_->{name} => $_->{containerPort} } @{$container->{ports}};
    my %listen = $configuration =~ /^\[Listen (\S+)\]\nAddress=(\d+)$/mg;
    is_deeply \%port, \%listen, 'the ports of the pod';
    is_deeply [sort split ' ', instruction('EXPOSE')], [sort values %listen], 'of the image';
    is $compose->{services}{web}{ports}[0] =~ s/.*://r, $listen{http}, 'and of compose';
    is $object{Service}{spec}{ports}[0]{targetPort}, 'http', 'and of the service';

    cmp_ok stop_takes($configuration), '<', 10, 'docker stop waits 10 s';
    cmp_ok stop_takes($configuration), '<', duration($compose->{services}{web}{stop_grace_period}),
        'compose waits stop_grace_period';
    my @drop_ins = values %{$object{ConfigMap}{data}};
    cmp_ok stop_takes($configuration, @drop_ins), '<', $pod->{terminationGracePeriodSeconds},
        'Kubernetes waits terminationGracePeriodSeconds';
};

subtest 'docker stop' => sub {
    my ($process, $pid, $address) = run_image();
    is(Baton::Http->connect($address->{8080})->get('/')->body, 'hello', 'it serves');
    my $idle = Baton::Http->connect($address->{8080});
    is $idle->get('/')->status, 200, 'a connection is idle';
    my $download = begin_download($address->{8080});
    my $stuck    = begin_download($address->{8080});
    kill TERM => $pid;
    $process->wait_err(qr/SIGTERM: stopping/);
    is length $download->read_answer('GET', 10)->body, $LARGE, 'a download is finished';
    ok $idle->is_closed, 'the idle connection is closed';
    is $process->wait_exit(10), 0, 'who does not read is cut off, within 10 s';
    like $process->err, qr/Stopped: .* 1 cut/, 'and counted';
};

subtest 'without requests a stop takes no time' => sub {
    my ($process, $pid) = run_image();
    my ($status, $took) = stop($process, $pid);
    is $status, 0, 'exit code';
    cmp_ok $took, '<', 2, sprintf 'it took %.0f ms', 1000 * $took;
};

subtest 'a pod is deleted' => sub {
    my ($process, $pid, $address) = run_image(%{$object{ConfigMap}{data}});
    my %port = map { $_->{name} => $_->{containerPort} } @{$container->{ports}};
    my $probe = sub ($name) {
        my $get = $container->{$name}{httpGet};
        return Baton::Http->connect($address->{$port{$get->{port}}})->get($get->{path})->status;
    };
    is $probe->('livenessProbe'),  200, 'it is alive';
    is $probe->('readinessProbe'), 200, 'and ready';
    kill TERM => $pid;
    $process->wait_err(qr/SIGTERM: stopping/);
    is $probe->('readinessProbe'), 503, 'not ready any more';
    is $probe->('livenessProbe'),  200, 'but alive';
    my $late = Baton::Http->connect($address->{8080});
    is $late->get('/')->body, 'hello', 'who still comes is served';
    is $process->wait_exit(stop_takes(values %{$object{ConfigMap}{data}})), 0, 'then it ends';
    like $process->err, qr/Stopped: .* 0 cut/, 'and nothing was cut';
};
done_testing;
