package FCGI::ProcManager::Steadfast::Pages;

# Which pages of memory a process has to itself, and how it gets such copies in advance.
#
# After a fork the kernel copies each page when one of the two writes to it first. That is a few hundred pages until a worker
# has answered its first request, and always much the same ones: perl counts references in all that it looks at. So what the
# first worker has copied tells what the next one will, and that can have it done before it is needed. Where the kernel does
# not tell (pagemap since Linux 4.2), or not do (madvise since 5.14), nothing is lost but that.

use 5.016;
use strict;
use warnings;
no warnings 'portable';    # addresses have 64 bits where it looks at any

use POSIX ();

our $VERSION = '0.1';

use constant PAGES_MAX           => 512;            # of one process: 2 MB, mostly
use constant ENTRY               => 8;              # bytes
use constant LOOKED_AT           => 512 * ENTRY;    # at a time: a large table would be large in our memory
use constant IS_OWN              => 0x8100_0000;    # in an entry's upper half: it is there, and nobody else has it
use constant MADV_POPULATE_WRITE => 23;

my %MADVISE = (x86_64 => 28, aarch64 => 233, riscv64 => 233, loongarch64 => 233, ppc64 => 205, ppc64le => 205, s390x => 219);

# The pages of its data that only this process has, packed: addresses and lengths. Empty if we may not look.
sub own {
    my ($pid) = @_;
    return '' unless length pack('L!', 0) == 8 && open my $maps, '<', "/proc/$pid/maps";
    open my $table, '<:raw', "/proc/$pid/pagemap" or return '';
    my @ranges;
    my $left = PAGES_MAX;
    while (my $line = <$maps>) {
        my ($from, $to) = $line =~ /\A([0-9a-f]+)-([0-9a-f]+) rw.p/ or next;
        $left = _gather($table, hex $from, hex $to, $left, \@ranges);
    }
    return pack 'Q*', @ranges;
}

# Looks at one mapping; returns how many pages may be found in the others.
sub _gather {
    my ($table, $from, $to, $left, $ranges) = @_;
    my $page = POSIX::sysconf(POSIX::_SC_PAGESIZE());
    sysseek $table, $from / $page * ENTRY, 0;
    while ($from < $to && $left > 0) {
        my $bytes = ($to - $from) / $page * ENTRY;
        sysread $table, my $entries, $bytes < LOOKED_AT ? $bytes : LOOKED_AT or last;
        for my $entry (unpack 'Q*', $entries) {
            my $is_own = ($entry >> 32 & IS_OWN) == IS_OWN;
            if ($is_own && $left-- > 0) {
                if (@$ranges && $ranges->[-2] + $ranges->[-1] == $from) { $ranges->[-1] += $page }
                else                                                    { push @$ranges, $from, $page }
            }
            $from += $page;
        }
    }
    return $left;
}

# This process has them to itself from now on, unchanged.
sub take {
    my ($ranges) = @_;
    my $call = $MADVISE{ (POSIX::uname())[4] } or return;
    for (my $at = 0; $at < length $ranges; $at += 16) { syscall $call, unpack("x$at QQ", $ranges), MADV_POPULATE_WRITE }
    return;
}

1;
