package Baton::Binary;

# The binary on disk, which a server is started from and which its reloads execute: a path of the
# test's own, whose content it replaces as a package manager does.

use v5.36;
use Baton::Process ();
use Baton::Test qw(baton folder source_root write_file);
use Carp  qw(croak);
use POSIX ();

# Of the script that stands in its place: the path of baton itself.
my $REAL = '@baton@';

sub new($class)
{
    my $folder = folder();
    my $self   = bless { path => "$folder/baton", folder => $folder }, $class;
    return $self->restore;
}

sub path($self)
{
    return $self->{path};
}

# baton as it was built.
sub restore($self)
{
    return $self->link_to(baton());
}

sub link_to($self, $target)
{
    my $new = "$self->{path}.new";
    symlink $target, $new or croak "$new: $!";
    return $self->replace;
}

# Whatever text, as an executable file.
sub write($self, $text, $mode = 0755)
{
    my $new = "$self->{path}.new";
    write_file($new, $text);
    chmod $mode, $new or croak "$new: $!";
    return $self->replace;
}

# A script of bash, as that leaves no fds of its own open to what it executes; @baton@ in it is the
# path of baton itself.
sub script($self, $text)
{
    my $real = baton();
    return $self->write("#!/bin/bash\n" . $text =~ s/\Q$REAL\E/$real/gr);
}

sub remove($self)
{
    unlink $self->{path} or croak "$self->{path}: $!";
    return $self;
}

sub replace($self)
{
    rename "$self->{path}.new", $self->{path} or croak "$self->{path}: $!";
    return $self;
}

# baton, a worker of which fails before it is ready: see tests/support/fault.c.
sub fault($self, $fault)
{
    write_file("$self->{folder}/fault", $fault);
    my $library = fault_library();
    # A sanitizer's library wants to be the first: it need not be for us.
    return $self->script(<<~END);
        export BATON_FAULT=$self->{folder}/fault
        export ASAN_OPTIONS="\$ASAN_OPTIONS:verify_asan_link_order=0"
        LD_PRELOAD=$library exec \@baton@ "\$@"
        END
}

sub fault_library
{
    state $library;
    return $library if $library;
    my $path = folder() . '/fault.so';
    my $made = Baton::Process->run(
        command => [
            $ENV{CC} // 'cc', qw(-std=gnu17 -D_GNU_SOURCE -Wall -Werror -shared -fPIC -o), $path,
            source_root() . '/tests/support/fault.c', '-ldl'
        ],
        seconds => 60);
    croak $made->err if $made->status != 0;
    return $library = $path;
}

# A script that waits, when it is run to check, until let_through() has been called once for it.
sub hold($self)
{
    my $path = "$self->{folder}/hold";
    unlink $path;
    POSIX::mkfifo($path, 0600) or croak "$path: $!";
    # Open for both, it waits for no reader (fifo(7)), and keeps what is written for the next.
    open $self->{hold}, '+<', $path or croak "$path: $!";
    return $self->script(<<~END);
        [ "\$1" != check ] || read line <$path
        exec \@baton@ "\$@"
        END
}

sub let_through($self)
{
    syswrite $self->{hold}, "go\n";
    return $self;
}

# As Baton::Test's start().
sub start($self, %o)
{
    local $ENV{BATON} = $self->{path};
    return Baton::Test::start(%o);
}

1;
