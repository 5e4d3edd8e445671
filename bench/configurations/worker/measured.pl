#!/usr/bin/perl
# What bench/worker measures, on FCGI.pm as its manual has it.
use strict;
use warnings;
use FCGI;

my $greeting = "Hello from steadfast, one and all\n";
my $large    = 'x' x (10 << 20);
my $middle   = 'x' x (64 << 10);
my $request  = FCGI::Request();
while ($request->Accept() >= 0) {
    my $path = $ENV{REQUEST_URI};
    my $body = \$greeting;
    if ($path eq '/64k') {
        $body = \$middle;
    } elsif ($path eq '/10m') {
        $body = \$large;
    } elsif ($path eq '/upload') {
        my ($all, $got) = (0, 0);
        $all += $got while $got = read STDIN, my $buffer, 64 << 10;
        $body = \"$all\n";
    }
    print "Content-Type: text/plain\r\nContent-Length: ", length $$body, "\r\n\r\n", $$body;
}
