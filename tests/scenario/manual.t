# baton(8) holds what the program has: every command, option, metric and message, and no other. And
# the README's tour of the source leads to places that exist.

use v5.36;
use FindBin qw($Bin);
use lib "$Bin/../lib";
use Baton::Test;

my $page   = read_file(source_root() . '/packaging/man/baton.8');
my $usage  = run_baton('--help')->out;
my $source = join "\n", map { read_file($_) } glob source_root() . '/src/{*.c,*/*.c}';

# The text below a ".Sh" or ".Ss", up to the next one of its kind.
sub part_of($title)
{
    my ($text) = $page =~ /^\.S[hs] \Q$title\E\n(.*?)(?=^\.Sh|\z)/ms or die "no $title\n";
    return $text;
}

sub unique(@words)
{
    my %seen;
    return [sort grep { !$seen{$_}++ } @words];
}

sub long_options($text)
{
    return unique($text =~ /(?<![\w-])--([a-z]+)/g);
}

subtest 'commands and options' => sub {
    my ($commands, $options) = $usage =~ /^Commands:\n(.*?)^Options:\n(.*?)^$/ms;
    is_deeply unique(part_of('COMMANDS') =~ /^\.It Ic (\S+)(?: Ar \S+)?$/mg),
        unique($commands =~ /^  (\S+)/mg), 'each command';

    my ($table) = $source =~ /struct option options\[\] = \{(.*?)\};/s;
    my %known = map { $_ => 1 } $table =~ /\{"(\w+)"/g;
    my @items = part_of('OPTIONS') =~ /^(\.It Fl .*)$/mg;
    # --state, of which no user has to know, is said to exist, and not how it is used.
    is_deeply unique(map {/Fl -(\w+)/g} @items), unique(grep { $_ ne 'state' } keys %known),
        'each long option';
    is_deeply [grep { !$known{$_} } @{long_options($usage)}], [], 'none in --help that is not';

    my ($short) = $source =~ /getopt_long\(\w+, \w+, "(.*?)"/;
    is_deeply unique(map {/Fl ([a-z])\b/g} @items), unique($short =~ /[a-z]/g), 'each short one';

    my @examples = map {/\bbaton\b(.*)/} grep { !/^\./ && !/systemctl/ } split /\n/, $page;
    my @named    = ($page =~ /\bFl -(\w+)/g, @{long_options("@examples")});
    is_deeply [grep { !$known{$_} } @{unique(@named)}], [], 'no other in all of the page';
};

# "metric label value" of each that the page says there is.
sub metrics_of_page
{
    my ($metric, $label, @metrics);
    for (split /\n/, part_of('METRICS')) {
        if (/^\.It Li (baton_\w+)$/) {
            push @metrics, $metric = $1;
        } elsif (/^\.Li (\w+) :$/) {
            $label = $1;
            pop @metrics if $metrics[-1] eq $metric;
        } elsif (/^\.It Li (\w+)$/) {
            push @metrics, "$metric $label $1";
        }
    }
    return \@metrics;
}

subtest 'metrics' => sub {
    my $site   = folder('index.html' => 'hello');
    my $server = start(
        config  => "[Listen http]\n[Listen admin]\nAdmin=yes\n[Route site]\nRoot=$site\n"
            . "[Route shop]\nPath=/shop\nUpstream=shop\n[Upstream shop]\nServer=unix:/run/shop.sock\n",
        sockets => [http => '127.0.0.1:0', admin => '127.0.0.1:0']);
    my $body    = $server->connect('admin')->get('/metrics', Connection => 'close')->body;
    # Those that name an upstream and a server are the configuration's.
    $body =~ s/\{upstream="[^"]*"(?:,server="[^"]*")?(?:,(.*))?\}/length($1 \/\/ '') ? "{$1}" : ''/ge;
    my @printed = map {s/\{(\w+)="(\w+)"\}/ $1 $2/r} $body =~ /^(baton_\w+(?:\{.*?\})?) /mg;
    is_deeply metrics_of_page(), \@printed, 'each, with its labels, in their order';

    my $json = $server->command('status', '--json')->out;
    my ($status) = part_of('HEALTH') =~ /^\.It Pa \/status\n(.*?)^\.El$/ms;
    is_deeply [grep { $status !~ /\b$_\b/ } $json =~ /"(\w+)":/g], [], 'each member of the status';
    is $server->stop, 0, 'exit code';
};

# What a format string of C says whatever its arguments are: a plural's %s is an s.
sub fixed_parts($format)
{
    $format =~ s/\\"/"/g;
    $format =~ s/(?<=[a-z])%s(?=[ ;,:]|$)/s/g;
    return grep {length} map {s/^\s+|\s+$//gr} split /%(?:\.\*)?[a-z]*/, $format;
}

# String literals, those side by side as one; a PRIu64 among them is part of a "%".
my $literal = qr/"(?:[^"\\\n]|\\.)*"/;
my @literals =
    map { join '', map { substr $_, 1, -1 } /($literal)/g }
    $source =~ /($literal(?:\s*(?:PRI\w+\s*)?$literal)*)/g;

subtest 'messages' => sub {
    # An item's quoted parts; \& hides a punctuation mark from mdoc.
    my @items = map { [map {s/\\&//gr} /"(.*?)"/g] }
        map {/^\.It (.*".*)$/mg} part_of('Refusals'), part_of('LOG MESSAGES');
    cmp_ok @items, '>', 40, 'the page has messages';

    my $said = join "\n", map { fixed_parts($_) } @literals;
    is_deeply [grep { index($said, $_ =~ s/^\s+|\s+$//gr) < 0 } map {@$_} @items], [],
        'none is made up';

    my $told   = join "\n", map {"@$_"} @items;
    my @logged = map { join '', map { substr $_, 1, -1 } /($literal)/g }
        $source =~ /\blog_(?:(?:error|warning|notice|info)\(|explained\(\w+, \w+,)\s*($literal(?:\s*(?:PRI\w+\s*)?$literal)*)/g;
    cmp_ok @logged, '>', 30, 'the program logs';
    is_deeply [grep { index($told, $_) < 0 } map { fixed_parts($_) } @logged], [],
        'all that is logged is there';
};

subtest 'README' => sub {
    my $readme = read_file(source_root() . '/README.md');
    my @paths  = map {s{/$}{}r} $readme =~ m{(?<![\w/])((?:src|tests|units|packaging)/[\w./]*\w/?)}g;
    is_deeply [grep { !/NAME/ && !-e source_root() . "/$_" } @{unique(@paths)}], [], 'each path';

    my ($tour) = $readme =~ /^(## Follow one request.*?)^## The tree/ms;
    my %defined = map { $_ => 1 } $source =~ /^\w[^;=\n]*?\b(\w+)\(/mg;
    my @functions = grep { !/^(?:sendfile|execve)$/ } $tour =~ /`(\w+)\(\)`/g;
    cmp_ok @functions, '>', 40, 'the tour has stations';
    is_deeply [grep { !$defined{$_} } @{unique(@functions)}], [], 'each function';
    while ($tour =~ /`(\w+)\(\)` in\s+`(\S+)`/g) {
        my ($function, $path) = ($1, $2);
        like read_file(source_root() . "/$path"), qr/^\w[^;=\n]*\b$function\(/m, "$function() in $path";
    }
};

done_testing;
