package Baton::Metrics;

# One scrape of /metrics, read strictly: whatever Prometheus' text format 0.0.4 does not allow dies.

use v5.36;
use Baton::Loop qw(in_time);
use Carp        qw(croak);
use List::Util  qw(sum0);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $NAME   = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
my $LABEL  = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"/;
my $NUMBER = qr/[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf|NaN)/;

# $source: a Baton::Server, asked at its socket named admin on a connection made for that, or a
# Baton::Http connection to it, which stays open and so does not change what is counted.
sub scrape($class, $source)
{
    my $answer =
        $source->isa('Baton::Http')
        ? $source->get('/metrics')
        : $source->connect('admin')->get('/metrics', Connection => 'close');
    croak '/metrics: status ' . $answer->status if $answer->status != 200;
    return $class->parse($answer->body);
}

sub parse($class, $text)
{
    my $self = bless { types => {}, values => {} }, $class;
    croak 'the last line has no end' if $text !~ /\n\z/;
    my $family = '';
    for (split /\n/, $text) {
        if (/^# HELP ($NAME) (?:[^\\]|\\[\\n])*$/) {
            croak "the lines of $1 are not together" if $self->{types}{$1};
            $family = $1;
        } elsif (my ($name, $type) = /^# TYPE ($NAME) (counter|gauge)$/) {
            croak "the type of $name stands behind other lines than its help" if $name ne $family;
            croak "a counter named $name" if $type eq 'counter' && $name !~ /_total$/;
            $self->{types}{$name} = $type;
        } else {
            $self->read_sample($_, $family);
        }
    }
    return $self;
}

sub read_sample($self, $line, $family)
{
    my ($sample, $name, $value) = $line =~ /^(($NAME)(?:\{$LABEL(?:,$LABEL)*\})?) ($NUMBER)$/
        or croak "no sample: '$line'";
    croak "$name has no type, or stands in another family" if $name ne $family || !$self->{types}{$name};
    croak "$sample comes twice" if exists $self->{values}{$sample};
    $self->{values}{$sample} = $value;
}

# What a sample says; its name is without "baton_", as in "requests_total" or
# 'connections_ended_total{reason="error"}'.
sub value($self, $sample)
{
    return $self->{values}{"baton_$sample"} // croak "no sample baton_$sample";
}

# { value of the only label => value } of one family.
sub family($self, $name)
{
    my $values = $self->{values};
    return {map { /^baton_\Q$name\E\{\w+="(.*)"\}$/ ? ($1 => $values->{$_}) : () } keys %$values};
}

# The family, or the part of it, that has grown since an earlier scrape.
sub growth($self, $earlier, $name)
{
    my ($before, $after) = ($earlier->family($name), $self->family($name));
    my @grown = grep { $after->{$_} != $before->{$_} } keys %$after;
    return {map { ($_ => $after->{$_} - $before->{$_}) } @grown};
}

sub open_connections($self)
{
    return sum0(values %{$self->family('connections')});
}

# What came minus what went and what is there: every connection ends once, or is there.
sub imbalance($self)
{
    return $self->value('connections_accepted_total')
        + $self->value('connections_adopted_total')
        - sum0(values %{$self->family('connections_ended_total')})
        - sum0(values %{$self->family('connections_moved_total')})
        - $self->open_connections;
}

# Scrapes until $condition->($metrics) is true, and returns that scrape. A worker counts when it
# learns of something, which may be after this process has seen it.
sub wait_for($class, $source, $what, $condition, $seconds = 10)
{
    my $deadline = in_time($seconds);
    while (1) {
        my $metrics = $class->scrape($source);
        return $metrics if $condition->($metrics);
        croak "no $what within $seconds s" if clock_gettime(CLOCK_MONOTONIC) > $deadline;
    }
}

# Waits until no more than so many connections are open, the scraping one included: those that were
# closed before have ended for the server, too.
sub wait_open($class, $source, $count = 1)
{
    my $few = sub ($now) { $now->open_connections <= $count };
    return $class->wait_for($source, "end of all connections but $count", $few);
}

# Waits until so many connections more than at the earlier scrape have ended for that reason.
sub wait_ended($class, $source, $earlier, $reason, $count = 1)
{
    return $class->wait_for(
        $source,
        "$count connections ended as $reason",
        sub ($now) {
            my $ended = 'connections_ended_total{reason="' . $reason . '"}';
            return $now->value($ended) >= $earlier->value($ended) + $count;
        });
}

1;
