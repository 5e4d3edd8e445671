#!/usr/bin/perl
# The application on FCGI.pm as its manual has it, for managers that execute it.
use strict;
use warnings;
use lib '@DIR@';
use FCGI;
use App;

App::start();
my $request = FCGI::Request();
while ($request->Accept() >= 0) {
    my $body = App::answer($ENV{QUERY_STRING});
    print "Content-Type: text/plain\r\nContent-Length: ", length $body, "\r\n\r\n", $body;
}
