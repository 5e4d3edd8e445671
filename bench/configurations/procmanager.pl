#!/usr/bin/perl
# An application on FCGI::ProcManager as its manual's synopsis has it: the manager forks, the workers accept.
#
# Usage: procmanager.pl SOCKET; in the environment START_LOG (each worker appends "MONOTONIC_NS PID" as its first
# act), BROKEN (a file: while it exists, workers exit with the code in it), CRASH=1 (die by SIGSEGV on the first request).
use strict;
use warnings;
use FCGI;
use FCGI::ProcManager;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $listener = FCGI::OpenSocket($ARGV[0], 1024);
my $request  = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \my %env, $listener, FCGI::FAIL_ACCEPT_ON_INTR());

my $manager = FCGI::ProcManager->new({ n_processes => 4 });
$manager->pm_manage();

open my $log, '>>', $ENV{START_LOG} or die "$ENV{START_LOG}: $!";
syswrite $log, sprintf("%.0f %d\n", clock_gettime(CLOCK_MONOTONIC) * 1e9, $$);
close $log;

if (open my $broken, '<', $ENV{BROKEN}) {
    my $code = <$broken>;
    warn "worker: cannot load: no such module\n";
    exit $code;
}

while ($request->Accept() >= 0) {
    $manager->pm_pre_dispatch();
    kill SEGV => $$ if $ENV{CRASH};
    print "Content-Type: text/plain\r\n\r\nok $$\n";
    $manager->pm_post_dispatch();
}
