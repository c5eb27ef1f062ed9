package Baton::Proc;

# What proc(5) says of a process, and of the sockets of this machine.

use v5.36;
use Exporter qw(import);
use Socket;

our @EXPORT_OK = qw(fds_of sockets_of resident_of state_of zombies_of listening_at);

sub slurp($path)
{
    open my $file, '<', $path or return '';
    local $/;
    return <$file> // '';
}

# What each open fd of the process is, sorted; without the numbers that tell two of a kind apart.
sub fds_of($pid)
{
    return [sort map { s/\[\d+\]//r } grep {defined} map { readlink } glob "/proc/$pid/fd/*"];
}

# The inodes of its open sockets.
sub sockets_of($pid)
{
    return map { (readlink // '') =~ /^socket:\[(\d+)\]$/ } glob "/proc/$pid/fd/*";
}

# Its resident memory, in KiB.
sub resident_of($pid)
{
    return slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+) kB/m ? $1 : undef;
}

# The letter of its state; undef: there is no such process, and no zombie of it.
sub state_of($pid)
{
    return slurp("/proc/$pid/stat") =~ /.*\) (\S) / ? $1 : undef;
}

# The pids of its children that have ended, and that it has not waited for.
sub zombies_of($pid)
{
    return grep { slurp("/proc/$_/stat") =~ /.*\) Z $pid / } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# The inodes of the sockets that listen at this IPv4 address ("127.0.0.1:80").
sub listening_at($address)
{
    my ($host, $port) = split /:/, $address;
    my $local = sprintf '%08X:%04X', unpack('L', inet_aton($host)), $port;
    return map { $_->[9] } grep { @$_ > 9 && $_->[1] eq $local && $_->[3] eq '0A' }
        map { [split] } split /\n/, slurp('/proc/net/tcp');
}

1;
