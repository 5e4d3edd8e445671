#!/usr/bin/perl
# The site as it was, on FCGI::ProcManager.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use FCGI;
use FCGI::ProcManager;
use Site;

my $pm = FCGI::ProcManager->new({ n_processes => 4 });
$pm->pm_manage;

my %env;
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%env, 0, FCGI::FAIL_ACCEPT_ON_INTR());

while ($request->Accept >= 0) {
    $pm->pm_pre_dispatch;
    eval { print Site->handle(\%env); 1 } or do {
        print STDERR "$env{REQUEST_URI}: $@";
        print "Status: 500\r\nContent-Type: text/plain\r\n\r\nSomething went wrong.\n";
    };
    $request->Finish;
    $pm->pm_post_dispatch;
}
