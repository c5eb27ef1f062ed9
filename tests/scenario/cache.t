# Small files in memory: no change is overlooked for longer than until the next second, and they take
# no more memory than they may.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Loop qw(in_time);
use Baton::Proc qw(fds_of resident_of);
use Baton::Test;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SLOW  = $ENV{BATON_TEST_SLOW} || 1;
my $BOUND = 1;
my $COUNT = 500;
my $site  = folder(
    'file.txt' => 'old',
    'written.txt' => 'old',
    'deleted.txt' => 'old',
    'shrinks.txt' => 'x' x 10_000,
    'large.bin' => 'x' x 100_000,
    'releases/1/page.html' => 'release 1',
    'releases/2/page.html' => 'release 2',
    'secret/page.html' => 'for all',
    map { ("many/$_" => pack('N', $_) x 8_000) } 1 .. $COUNT
);
symlink '1', "$site/releases/current" or die $!;

sub serve($size, $root = $site)
{
    return start(sockets => [http => '127.0.0.1:0'], config => <<~END);
        [Server]
        Workers=1
        CacheSize=$size
        [Listen http]
        [Route site]
        Root=$root
        END
}

sub now
{
    return clock_gettime(CLOCK_MONOTONIC);
}

# Until it is, for a time that nothing could be waited for in.
sub ask_until($what, $seconds, $condition)
{
    my $deadline = in_time($seconds);
    while (!$condition->()) {
        die "not $what in $seconds s" if now() > $deadline;
    }
}

# A sanitizer keeps what is freed for a while: no more of it than this.
local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':quarantine_size_mb=1';

my $server = serve('1M');
my $client = $server->connect;

# Asks, does it, and asks until the answer is the other one; it must not go back.
sub changes($what, $path, $before, $after, $do)
{
    is $client->get($path)->body, $before, "$what: as it was" for 1 .. 2;
    my $began = now();
    $do->();
    my $done = now();
    my $late;
    ask_until($what, 10, sub {
        my $asked = now();
        my $body  = $client->get($path)->body;
        return 1 if $body eq $after;
        is $body, $before, "$what: neither the old nor the new one" if $body ne $before;
        $late = $asked - $done if $asked - $done > $BOUND * $SLOW;
        return;
    });
    is $late, undef, "$what: seen in the next second";
    is $client->get($path)->body, $after, "$what: for good";
}

# A file that changed in the last two seconds is not held.
ask_until('settled', 10, sub { $client->get('/file.txt') && time - (stat "$site/many/$COUNT")[10] >= 3 });

subtest 'what is done to a file' => sub {
    changes('replaced', '/file.txt', 'old', 'new', sub {
        write_file("$site/file.new", 'new');
        rename "$site/file.new", "$site/file.txt" or die $!;
    });
    changes('written in place', '/written.txt', 'old', 'new', sub { write_file("$site/written.txt", 'new') });
    changes('truncated', '/shrinks.txt', 'x' x 10_000, 'x' x 10, sub { truncate "$site/shrinks.txt", 10 or die $! });
    changes('deleted', '/deleted.txt', 'old', "404 Not Found\n", sub { unlink "$site/deleted.txt" or die $! });
    write_file("$site/deleted.txt", 'back');
    is $client->get('/deleted.txt')->body, 'back', 'that there is none is not held';
};

subtest 'what is done to what leads to it' => sub {
    changes('another release', '/releases/current/page.html', 'release 1', 'release 2', sub {
        symlink '2', "$site/releases/next" or die $!;
        rename "$site/releases/next", "$site/releases/current" or die $!;
    });
    changes('a folder renamed', '/secret/page.html', 'for all', "404 Not Found\n", sub {
        rename "$site/secret", "$site/hidden" or die $!;
    });
    rename "$site/hidden", "$site/secret" or die $!;
};

# Within the second in which its name was looked up, and no longer, asked for or not.
subtest 'a larger file stays open' => sub {
    my ($worker) = $server->workers;
    my $open = sub { scalar grep { m{/large\.bin} } fds_of($worker)->@* };
    changes('replaced', '/large.bin', 'x' x 100_000, 'y' x 100_000, sub {
        write_file("$site/large.new", 'y' x 100_000);
        rename "$site/large.new", "$site/large.bin" or die $!;
    });
    my $seen;
    ask_until('open', 10, sub { $client->get('/large.bin')->body eq 'y' x 100_000 && ($seen = $open->()) });
    is $seen, 1, 'once';
    unlink "$site/large.bin" or die $!;
    ask_until('closed', 10, sub { !$open->() });
    is $client->get('/large.bin')->status, 404, 'it is gone';
};

subtest 'the bound' => sub {
    my ($worker) = $server->workers;
    my $ask = sub {
        for my $n (1 .. $COUNT) {
            return fail "file $n" if $client->get("/many/$n")->body ne pack('N', $n) x 8_000;
        }
    };
    $client->get('/many/1');
    my $before = resident_of($worker);
    $ask->() for 1 .. 2;
    my $growth = resident_of($worker) - $before;
    # The sanitizers keep what was freed for a while.
    cmp_ok $growth, '<', 3000 * $SLOW**2, "$COUNT files of 32 K, and 1 M to hold them: $growth KiB more";
};

subtest 'none' => sub {
    my $other = serve(0);
    $client = $other->connect;
    is $client->get('/many/1')->body, pack('N', 1) x 8_000, 'a file' for 1 .. 2;
    rename "$site/many/2", "$site/many/1" or die $!;
    is $client->get('/many/1')->body, pack('N', 2) x 8_000, 'another one, at once';
    is $other->stop, 0, 'exit code';
};

is $server->stop, 0, 'exit code';
done_testing;
