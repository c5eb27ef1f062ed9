package Baton::Test;

# What every scenario test uses. Test::More comes along.
#
#   use Baton::Test;
#
#   my $server = start(config => <<~END);
#       [Listen http]
#       [Route site]
#       Root=@{[folder('index.html' => 'hello')]}
#       END
#   is $server->get('/')->body, 'hello';
#   is $server->stop,           0, 'exit code';
#   done_testing;

use v5.36;
use Baton::Http    ();
use Baton::Loop    qw(wait_for);
use Baton::Process qw(children_of wait_exit_of);
use Baton::Server  ();
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Path     qw(make_path);
use File::Temp     ();
use Test::More;

our @EXPORT = (
    @Test::More::EXPORT, qw(
        baton load_client build_folder source_root start run_baton cannot_run
        folder scratch write_file read_file free_address
        wait_for wait_exit_of children_of
    ));

my $root = abs_path(dirname(__FILE__) . '/../../..');

sub import
{
    # A test that hangs in spite of all deadlines ends all the same, and cleans up.
    $SIG{ALRM} = sub { die "the test took too long\n" };
    alarm 600 * ($ENV{BATON_TEST_SLOW} || 1);
    require Exporter;
    goto &Exporter::import;
}

sub source_root
{
    return $root;
}

sub build_folder
{
    return $ENV{BATON_BUILD} // "$root/build";
}

sub baton
{
    return $ENV{BATON} // build_folder() . '/baton';
}

sub load_client
{
    return $ENV{BATON_LOAD} // build_folder() . '/tests/support/load';
}

# Starts `baton serve`: see Baton::Server.
sub start(%o)
{
    return Baton::Server->start(%o);
}

# Runs `baton @arguments` to its end: a Baton::Process with status, out, err.
sub run_baton(@arguments)
{
    return Baton::Process->run(command => [baton(), @arguments]);
}

# The test needs what is not there. Where everything must be tested, that is a failure.
sub cannot_run($reason)
{
    plan(skip_all => $reason) unless $ENV{BATON_CI};
    fail("this test runs: $reason");
    done_testing();
    exit 1;
}

# The path of a folder that is removed when the test ends.
sub scratch
{
    state $scratch = File::Temp::tempdir('baton-test-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0755, $scratch;
    return $scratch;
}

# A new folder in there with these files: path => content, ...
sub folder(%files)
{
    state $count = 0;
    my $folder = scratch() . '/folder' . ++$count;
    make_path($folder);
    for my $name (keys %files) {
        make_path(dirname("$folder/$name"));
        write_file("$folder/$name", $files{$name});
    }
    return $folder;
}

sub write_file($path, $content)
{
    open my $file, '>:raw', $path or die "$path: $!\n";
    print {$file} $content or die "$path: $!\n";
    close $file or die "$path: $!\n";
}

sub read_file($path)
{
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    return <$file> // '';
}

# An address that a server may bind itself, and nobody else will: all of 127.0.0.0/8 is this
# machine's, and the host part is this process's id.
sub free_address
{
    my $host = join '.', 127, 1 + ($$ >> 16 & 0x3f), $$ >> 8 & 0xff, $$ & 0xff;
    return Baton::Server::address_of(Baton::Server::listen_on("$host:0"));
}

1;
