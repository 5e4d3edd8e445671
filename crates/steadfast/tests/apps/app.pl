#!/usr/bin/perl
# A FastCGI worker on FCGI.pm with the same paths as worker.c, where Perl has them.
#
# With START_LOG in its environment each start appends "CLOCK_MONOTONIC-nanoseconds PID" to that file.
# The first argument, if it names a file that exists, makes the start fail with the code in it.
use strict;
use warnings;
use FCGI;
use Time::HiRes qw(sleep clock_gettime CLOCK_MONOTONIC);

if (my $log = $ENV{START_LOG}) {
    open my $file, '>>', $log or die "cannot open $log: $!";
    syswrite $file, sprintf "%d %d\n", clock_gettime(CLOCK_MONOTONIC) * 1e9, $$;
    close $file;
}
if (my $bad = shift @ARGV) {
    if (open my $file, '<', $bad) {
        my ($code) = <$file> =~ /(\d+)/;
        print STDERR qq{Can't locate object method "new" via package "Site::Response"\n};
        exit($code || 1);
    }
}

my ($in, $out, $err, %env);
my @leak;
my $request = FCGI::Request($in = \*STDIN, $out = \*STDOUT, $err = \*STDERR, \%env, 0, FCGI::FAIL_ACCEPT_ON_INTR());

sub slurp { my ($path) = @_; open my $file, '<', $path or return "$path: $!\n"; local $/; return <$file> }

my %does = (
    '/sleep' => sub { sleep $_[0]; undef },
    '/segv'  => sub { kill SEGV => $$; undef },
    '/abort' => sub { kill ABRT => $$; undef },
    '/exit'  => sub { exit $_[0] },
    '/die'   => sub { die "the handler died: $_[0]\n" },
    '/hang'  => sub { 1 while 1 },
    '/leak'  => sub { push @leak, 'x' x ($_[0] << 20); undef },
    '/env'   => sub { join '', map {"$_=$ENV{$_}\n"} sort keys %ENV },
    '/params' => sub { join '', map {"$_=$env{$_}\n"} sort keys %env },
    '/io'    => sub { slurp('/proc/self/io') },
    '/status' => sub { slurp('/proc/self/status') },
    '/term-parent' => sub { kill TERM => getppid; undef },
    '/fds'   => sub {
        opendir my $directory, '/proc/self/fd' or die $!;
        join '', map { my $to = readlink "/proc/self/fd/$_"; defined $to ? "$_ $to\n" : '' }
            grep {/^\d/} readdir $directory;
    },
);

my $leave = 0;
$SIG{TERM} = sub { $leave = 1 };

while (!$leave) {
    if ($request->Accept < 0) {
        last if $leave;
        next;
    }
    my $path   = $env{SCRIPT_NAME} // '/';
    my $query  = $env{QUERY_STRING} // '';
    my $action = $does{$path};
    my $text   = $action ? $action->($query) : undef;
    $text //= "ok $$\n";
    print "Content-Type: text/plain\r\n\r\n$text";
    $request->Finish;
}
