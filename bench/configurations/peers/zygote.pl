#!/usr/bin/perl
# procmanager.pl with steadfast's module in place of FCGI::ProcManager; the socket is the supervisor's.
use strict;
use warnings;
use FCGI::ProcManager::Steadfast;
use lib '@DIR@';
use FCGI;
use App;

my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \my %env, 0, FCGI::FAIL_ACCEPT_ON_INTR());
my $manager = FCGI::ProcManager::Steadfast->new();
$manager->pm_manage();
App::start();
while ($request->Accept() >= 0) {
    $manager->pm_pre_dispatch();
    my $body = App::answer($env{QUERY_STRING});
    print "Content-Type: text/plain\r\nContent-Length: ", length $body, "\r\n\r\n", $body;
    $manager->pm_post_dispatch();
}
