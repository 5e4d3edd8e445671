#!/usr/bin/perl
# The application as a CGI program, for fcgiwrap: a process for each request.
use strict;
use warnings;
use lib '@DIR@';
use App;

my $body = App::answer($ENV{QUERY_STRING});
print "Content-Type: text/plain\r\nContent-Length: ", length $body, "\r\n\r\n", $body;
