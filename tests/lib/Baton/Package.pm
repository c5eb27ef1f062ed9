package Baton::Package;

# Packages of this tree, built in a guest as `make deb` and `make rpm` build them.
#
#   my @builds = map { Baton::Package->start($guest, 'deb', $_) } qw(0.1.0 0.1.1);
#   my ($old, $new) = map { $_->file } @builds;

use v5.36;
use Baton::Test ();
use Carp        qw(croak);

# Makes a build of another age: it does not read the state of this one, nor this one its.
use constant OTHER_STATE =>
    'sed -i "s/^#define STATE_VERSION .*/#define STATE_VERSION 99/" src/process/state.h';

# Starts to build version $version of it. $edit: a shell command that changes the tree first.
sub start($class, $guest, $kind, $version, $edit = ':')
{
    my $root   = Baton::Test::source_root();
    my $folder = "/var/tmp/package-$version";
    my $make   = $guest->start(
        [
            'sh', '-ec', <<~END
            mkdir $folder
            cd $root
            tar -c Makefile LICENSE README.md packaging src tests units | tar -x -C $folder
            cd $folder
            $edit
            make --silent $kind VERSION=$version BUILD=$folder/build
            END
        ],
        environment => { DEB_BUILD_OPTIONS => 'nocheck', HOME => '/root' });
    return bless { make => $make, version => $version }, $class;
}

# Waits for its end. Returns the package, a file in the guest.
sub file($self)
{
    my $make = $self->{make};
    croak "building $self->{version}:\n" . $make->out . $make->err
        if $make->wait_exit(300) != 0;
    return (grep { !/-dbgsym_/ } $make->out =~ /^(\S+\.(?:deb|rpm))$/mg)[0];
}

1;
