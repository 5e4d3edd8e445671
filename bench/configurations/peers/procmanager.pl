#!/usr/bin/perl
# The application on FCGI::ProcManager as its manual's synopsis has it. Usage: procmanager.pl SOCKET WORKERS
use strict;
use warnings;
use lib '@DIR@';
use FCGI;
use FCGI::ProcManager;
use App;

my $listener = FCGI::OpenSocket($ARGV[0], 1024);
my $request  = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \my %env, $listener, FCGI::FAIL_ACCEPT_ON_INTR());
my $manager  = FCGI::ProcManager->new({ n_processes => $ARGV[1] });
$manager->pm_manage();
App::start();
while ($request->Accept() >= 0) {
    $manager->pm_pre_dispatch();
    my $body = App::answer($env{QUERY_STRING});
    print "Content-Type: text/plain\r\nContent-Length: ", length $body, "\r\n\r\n", $body;
    $manager->pm_post_dispatch();
}
