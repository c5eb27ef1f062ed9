# What the command line says to a person: `baton check` above all, and `baton serve` where the same
# is wrong.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Test;

my $folder = folder('site/index.html' => 'hello');
my $file   = "$folder/baton.conf";
my $root   = "$folder/site";
my $GOOD   = "[Listen http]\nAddress=127.0.0.1:80\n[Route site]\nRoot=$root\n";
mkdir "$file.d" or die $!;

# Runs `baton check`, of our file where nothing else is said: exit code, output, complaints.
sub check(@arguments)
{
    my $check = run_baton('check', @arguments ? @arguments : ('-c', $file));
    return [$check->status, $check->out, $check->err];
}

sub drop_in($name, $text)
{
    write_file("$file.d/$name", $text);
}

subtest 'a good configuration' => sub {
    write_file($file, $GOOD);
    my $good = [0, "$file: OK\n", ''];
    is_deeply check(), $good, 'is OK';
    is_deeply check("--config=$file"), $good, 'with the long option too';
    drop_in('10-more.conf', "[Server]\nWorkers=2\n");
    drop_in('20-other.txt', "nonsense");
    is_deeply check(), $good, 'with a drop-in';
    my $taken = Baton::Server::listen_on('127.0.0.1:0');
    drop_in('10-more.conf', "[Listen http]\nAddress=@{[Baton::Server::address_of($taken)]}\n");
    is_deeply check(), $good, 'and nothing is bound';
    is_deeply check('--listen', '127.0.0.1:80', '--root', $root), [0, "command line: OK\n", ''], 'without a file';
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
        no assignment
        END
    drop_in('10-more.conf', "[Listen more]\nAddress=127.0.0.1:0\n");
    drop_in('20-most.conf', "[Route more]\nRoot=relative\nPath=/more\n");
    my ($status, $out, $err) = @{check()};
    is $status, 1, 'exit code';
    is $out, '', 'nothing is OK';
    my @problems = (
        [$file, 1, 'Workers= stands before'],
        [$file, 3, 'did you mean Workers=?'],
        [$file, 4, 'Workers=many: '],
        [$file, 5, 'DrainTimeout=soon: '],
        [$file, 6, 'HeadSize=1: '],
        [$file, 7, 'did you mean [Listen]?'],
        [$file, 10, 'Address=localhost:80: '],
        [$file, 11, 'Root= is a key of [Route], not of [Listen]'],
        [$file, 12, '[Listen] needs a name'],
        [$file, 14, 'did you mean Root=?'],
        [$file, 17, ''],
        ["$file.d/10-more.conf", 2, 'Address=127.0.0.1:0: '],
        ["$file.d/20-most.conf", 2, 'Root=relative: '],
        [$file, 13, '[Route site] has neither Root= nor Upstream='],
        [$file, 15, '[Route other] has Path=/'],
    );
    my @lines = split /\n/, $err;
    for my $problem (@problems) {
        my ($where, $line, $what) = @$problem;
        like shift @lines, qr/^\Q$where\E:$line: .*\Q$what\E/, "line $line of $where";
    }
    is_deeply \@lines, [], 'and nothing else';
};

subtest 'what the whole lacks' => sub {
    unlink glob "$file.d/*";
    write_file($file, '');
    is_deeply check(), [1, '', "$file: there is no [Listen NAME] section\n"], 'nothing at all';
    write_file($file, "[Listen http]\nAddress=127.0.0.1:80\n");
    is_deeply check(), [1, '', "$file: there is no [Route NAME] section to answer requests\n"], 'no route';
    write_file($file, $GOOD =~ s/$root/$root\/none/r);
    is_deeply check(), [1, '', "[Route site] Root=$root/none: No such file or directory\n"], 'no such root';
    unlink $file;
    is_deeply check(), [1, '', "$file: No such file or directory\n"], 'no such file';
    mkdir $file;
    is_deeply check(), [1, '', "$file: Is a directory\n"], 'a folder';
    rmdir $file;
    write_file($file, "$GOOD\0");
    is_deeply check(), [1, '', "$file: holds a NUL byte, so it is not text\n"], 'no text';
    is_deeply check('--listen', '127.0.0.1:80', '--root', "$root/none"), [1, '', "--root $root/none: No such file or directory\n"], 'no such --root';
    like check('--listen', 'localhost:80', '--root', $root)->[2], qr/^command line:\d+: Address=localhost:80: /, 'a wrong --listen';
};

subtest 'baton serve says the same' => sub {
    my %wrong = (
        'an error' => $GOOD . "Rot=/\n",
        'some errors' => "[Server]\nWokers=2\nHeadSize=1\n$GOOD",
        'no route' => "[Listen http]\n",
    );
    for my $name (sort keys %wrong) {
        write_file($file, $wrong{$name});
        my $problems = check()->[2];
        my $server   = start(config => $wrong{$name}, ready => 0, sockets => []);
        is $server->wait_exit, 1, "$name: exit code";
        $problems =~ s/\Q$file\E/$server->{config}/g;
        is $server->log, "baton[@{[$server->pid]}]: Cannot start: $problems", 'and the same words';
        is_deeply [grep {/READY|STOPPING/} $server->notifications], [], 'the manager is not told that it is ready';
        like +($server->notifications)[-1], qr/^STATUS=\Q$server->{config}\E:/, 'but why it is not';
        ok !-e $server->control, 'no control socket is left';
    }
    my $server = start(config => "[Server]\n" . join('', map {"Key$_=\n"} 1 .. 100) . $GOOD, ready => 0, sockets => []);
    is $server->wait_exit, 1, 'too many errors for a line of the log: exit code';
    my @lines = split /\n/, $server->log;
    is pop @lines, 'and more, as baton check says', 'the rest is left to the check';
    is scalar(grep { !/: unknown key Key\d+= in \[Server\]$/ } @lines), 0, 'those it says are whole';
};

subtest 'usage' => sub {
    my %wrong = (
        'no command' => [],
        'no such command' => ['what'],
        'too much' => ['check', 'this'],
        'no such option' => ['check', '--what'],
        'no value' => ['check', '-c'],
        'both a file and an address' => ['serve', '-c', $file, '--listen', '127.0.0.1:80'],
        'a folder without an address' => ['serve', '--root', $root],
    );
    for my $name (sort keys %wrong) {
        my $command = run_baton(@{$wrong{$name}});
        is $command->status, 2, "$name: exit code";
        is $command->out, '', 'nothing else';
        isnt $command->err, '', 'than a word about it';
    }
    my $help = run_baton('--help');
    is $help->status, 0, 'help: exit code';
    like $help->out, qr/^\s+$_\s/m, "names $_" for qw(serve check reload status stop version);
    like run_baton($_)->out, qr/^baton \d+\.\d+\.\d+\n\z/, $_ for 'version', '--version';
};

done_testing;
