#!/usr/bin/perl
# The hello that is measured, on FCGI.pm as its manual has it.
use strict;
use warnings;
use FCGI;

my $body = "Hello from steadfast, one and all\n";
my $request = FCGI::Request();
while ($request->Accept() >= 0) {
    print "Content-Type: text/plain\r\nContent-Length: ", length $body, "\r\n\r\n", $body;
}
