package Baton::Origin;

# tests/support/backend as a process: where load goes through the proxy, a backend of the test's own
# loop (Baton::Backend) would be the slowest part of it.
#
#   my $origin = Baton::Origin->start;                    # or ->start(['127.0.0.1:0'], ['unix:...'])
#   $origin->address; $origin->raw_address;
#   $origin->kill; $origin->resume;                       # ends at once; serves again, at the same place

use v5.36;
use Baton::Process ();
use Baton::Test qw(build_folder);

sub program
{
    return $ENV{BATON_BACKEND} // build_folder() . '/tests/support/backend';
}

# Where it listens with HTTP, and where it sends back whatever comes.
sub start($class, $http = ['127.0.0.1:0'], $raw = ['127.0.0.1:0'])
{
    my $self = bless { http => $http, raw => $raw }, $class;
    return $self->resume;
}

sub resume($self)
{
    my $process = Baton::Process->start(
        command => [program(), $self->{http}->@*, $self->{raw}->@* ? ('--raw', $self->{raw}->@*) : ()]);
    $process->wait_out(qr/^ready$/m);
    my @addresses = grep {/:/} split /\n/, $process->out;
    $self->{http}    = [splice @addresses, 0, $self->{http}->@*];
    $self->{raw}     = \@addresses;
    $self->{process} = $process;
    return $self;
}

# In the notation of Server=.
sub address($self)
{
    return $self->{http}[0];
}

sub raw_address($self)
{
    return $self->{raw}[0];
}

sub process($self)
{
    return $self->{process};
}

# As a backend that crashes.
sub kill($self)
{
    $self->{process}->signal('KILL');
    $self->{process}->wait_exit;
    return $self;
}

# What /slow answers: numbers that say where they stand.
sub numbers($size)
{
    return substr join('', map { sprintf "%07x\n", 8 * $_ & 0xfffffff } 0 .. $size / 8), 0, $size;
}

1;
