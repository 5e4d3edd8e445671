#!/usr/bin/perl
# The application of the tests. APP_LOOP says how it asks for requests, the path what it does; APP_BEFORE is run first.
use strict;
use warnings;

use FCGI::ProcManager::Steadfast qw(:exit);
use FCGI;

my $MANAGER_PID = $$;
my $pm = FCGI::ProcManager::Steadfast->new({ map { /\APM_(.*)/ ? (lc $1 => $ENV{$_}) : () } keys %ENV });
our $previous = 0;
eval "$ENV{APP_BEFORE}; 1" or die $@ if $ENV{APP_BEFORE};

my %env;
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%env);
$pm->pm_manage;
eval "$ENV{APP_AFTER}; 1" or die $@ if $ENV{APP_AFTER};

my %pages = (
    '/'      => sub { print "pid=$$ ppid=@{[getppid]} role=@{[$pm->role]} manager=$pm->{MANAGER_PID} previous=$previous" },
    '/eval'  => sub { print eval $env{QUERY_STRING} // ''; print $@ if $@ },
    '/read'  => sub { print "begun\n"; flush(); my $length = 0; while (read STDIN, my $bytes, 1000) { $length += length $bytes } print "read $length" },
    '/write' => sub { my $chunk = 'x' x 1024; for (1 .. 1024) { print $chunk or die "write: $!" } print 'end' },
    '/sleep' => sub { print "begun\n"; flush(); my $left = 0.1; while ($left > 0.001) { my ($n, $unslept) = select undef, undef, undef, $left; $left = $unslept } print 'slept' },
    '/wait'  => sub { print "begun\n"; flush(); open my $gate, '<', $env{QUERY_STRING} or die $!; my $word = <$gate>; print "opened $word" },
    '/fail'  => sub { print 'failing'; $request->Finish; $pm->pm_fail(EX_REQUEST, 'no more') },
    '/exit'  => sub { print 'leaving'; $request->Finish; $pm->pm_exit('leaving', $env{QUERY_STRING}) },
    # The story's own words, unchanged.
    '/story' => sub { print 'story'; $request->Finish; kill TERM => $env{QUERY_STRING} eq 'parent' ? getppid : $MANAGER_PID; sleep 10; exit 3 },
);

sub flush { $request->Flush; return }

sub page {
    print "Content-Type: text/plain\r\n\r\n";
    ($pages{ $env{PATH_INFO} } || sub { print "nothing at $env{PATH_INFO}" })->();
    $request->Finish;
    return;
}

my $loop = $ENV{APP_LOOP} || 'loop';
if ($loop eq 'loop') {
    while ($pm->pm_loop && $request->Accept >= 0) { $pm->pm_pre_dispatch; page(); $pm->pm_post_dispatch }
}
elsif ($loop eq 'plain') {
    while ($request->Accept >= 0) { $pm->pm_pre_dispatch; page(); $pm->pm_post_dispatch }
}
elsif ($loop eq 'accept') {
    while ($pm->pm_accept($request)) { $pm->pm_pre_dispatch; page(); $pm->pm_post_dispatch }
}
print STDERR "after the loop\n" if $ENV{APP_SAYS_AFTER};
exit 0;
