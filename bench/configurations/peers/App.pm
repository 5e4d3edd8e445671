# What every Perl worker here does: notes its start, or fails as it starts, and says who answered and when.
package App;
use strict;
use warnings;
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

my $directory = '@DIR@';

sub now { return sprintf '%.0f', clock_gettime(CLOCK_MONOTONIC) * 1e9 }

sub start {
    open my $log, '>>', "$directory/starts" or die "$directory/starts: $!";
    syswrite $log, now() . " $$\n";
    close $log;
    if (-e "$directory/broken") {
        print STDERR "worker: cannot load: no such module\n";
        require POSIX;
        POSIX::_exit(3);
    }
}

sub answer {
    my ($query) = @_;
    my $began = now();
    sleep $1 if ($query // '') =~ /delay=([0-9.]+)/;
    return "ok $$ $began " . now() . "\n";
}

1;
