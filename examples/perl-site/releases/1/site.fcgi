#!/usr/bin/perl
# The site as a FastCGI program: steadfast runs it as a zygote, and FCGI::ProcManager does where there is no steadfast.
#
# Each step that may break has an exit status of its own: 1 loading, 2 creating the request, 3 accepting, 4 handling.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use FCGI;
use FCGI::ProcManager::Steadfast qw(:exit);

use constant FAILURES_MAX => 5;    # in a row: then it is this worker, and not the request

my $pm = FCGI::ProcManager::Steadfast->new({ n_processes => 4 });

# Everything is loaded here, once; workers are forked from it. That a module has loaded says little: can it do its work?
my %CRUCIAL = ('Site' => 'handle', 'Site::Response' => 'new', 'Site::Utils' => 'escape_html');
for my $module (sort keys %CRUCIAL) {
    eval { require($module =~ s{::}{/}gr . '.pm') } or $pm->pm_broken(EX_PRELOAD, "$module does not load: $@");
}
$pm->pm_check(%CRUCIAL);

$pm->pm_manage;    # comes back in the workers only

my %env;
my $request = eval { FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%env, 0, FCGI::FAIL_ACCEPT_ON_INTR()) }
    or $pm->pm_fail(EX_FCGI_CREATE, "cannot create the request: $@");

my $failures = 0;
while ($pm->pm_accept($request)) {    # leaves with EX_FCGI_ACCEPT after five failures in a row
    $pm->pm_pre_dispatch;
    my $answer = eval { Site->handle(\%env) };
    my $error = $@;
    $failures = defined $answer ? 0 : $failures + 1;
    print STDERR "$env{REQUEST_URI}: $error" unless defined $answer;
    eval { print $answer // "Status: 500\r\nContent-Type: text/plain\r\n\r\nSomething went wrong.\n"; 1 }
        or print STDERR "$env{REQUEST_URI}: cannot answer: $@";
    $request->Finish;
    $pm->pm_fail(EX_REQUEST, "$failures requests failed in a row, the last with: $error") if $failures >= FAILURES_MAX;
    $pm->pm_post_dispatch;
}
