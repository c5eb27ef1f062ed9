# What the command line says to a person: `baton check` above all, and `baton serve` where the same
# is wrong.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Test;

my $folder = folder('site/index.html' => 'hello', 'site/file' => 'hello');
my $file   = "$folder/baton.conf";
my $root   = "$folder/site";
my $GOOD   = "[Listen http]\nAddress=127.0.0.1:80\n[Route site]\nRoot=$root\n";

sub check_is($status, $out, $err, $name, @arguments)
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $check = run_baton('check', @arguments ? @arguments : ('-c', $file));
    is_deeply [$check->status, $check->out, $check->err], [$status, $out, $err], $name;
}

subtest 'a good configuration' => sub {
    write_file($file, $GOOD);
    check_is(0, "$file: OK\n", '', 'is OK');
    check_is(0, "$file: OK\n", '', 'however it is named', "--config=$file");
    mkdir "$file.d";
    write_file("$file.d/10-more.conf", "[Server]\nWorkers=2\n");
    write_file("$file.d/20-other.txt", "nonsense");
    check_is(0, "$file: OK\n", '', 'with a drop-in');
    my $taken = Baton::Server::listen_on('127.0.0.1:0');
    write_file("$file.d/10-more.conf", "[Listen http]\nAddress=@{[Baton::Server::address_of($taken)]}\n");
    check_is(0, "$file: OK\n", '', 'and nothing is bound');
    check_is(0, "command line: OK\n", '', 'without a file', '--listen', '127.0.0.1:80', '--root', $root);
};

subtest 'every problem is named' => sub {
    write_file($file, <<~END);
        Workers=1
        [Server]
        Wokers=3
        Workers=many
        DrainTimeout=soon
        HeadSize=1
        [Lisen http]
        Address=127.0.0.1:80
        [Listen http]
        Address=localhost:80
        Root=/srv
        [Listen]
        [Route site]
        Rot=/srv
        [Route other]
        Root=$root
        END
    write_file("$file.d/10-more.conf", "[Listen more]\nAddress=127.0.0.1:0\n");
    write_file("$file.d/20-most.conf", "[Route more]\nRoot=relative\nPath=/more\n");
    my $problems = <<~END;
        $file:1: Workers= stands before the first [SECTION]
        $file:3: unknown key Wokers= in [Server]; did you mean Workers=?
        $file:4: Workers=many: must be auto, or a number from 1 to 1024
        $file:5: DrainTimeout=soon:
        END
    check_is(1, '', $problems, 'with its place');
};

done_testing;
