#!/usr/bin/perl
# A FastCGI application on FCGI.pm with the habits that keep a pool healthy.
use strict;
use warnings;
use FCGI;

use constant { EX_PRELOAD => 1, EX_FCGI_ACCEPT => 3, ACCEPT_FAILURES_MAX => 5 };

# Load what requests need before the first one, and look whether it is usable, not only whether it is there.
eval { require Digest::SHA; Digest::SHA->can('sha256_hex') or die "Digest::SHA is hollow\n"; 1 } or do {
    print STDERR "preload: $@";
    exit EX_PRELOAD;
};

my $leave = 0;
$SIG{TERM} = sub { $leave = 1 };

my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \my %env, 0, FCGI::FAIL_ACCEPT_ON_INTR());
my $failures = 0;
until ($leave) {
    if ($request->Accept < 0) {
        next if $leave;
        exit EX_FCGI_ACCEPT if ++$failures >= ACCEPT_FAILURES_MAX;
        next;
    }
    $failures = 0;
    my $done = eval { handle(); 1 };
    if (!$done) {
        print STDERR "request failed: $@";
        print "Status: 500\r\nContent-Type: text/plain\r\n\r\nSomething went wrong.\n";
    }
    $request->Finish;
}

sub handle {
    my $sum = Digest::SHA::sha256_hex($env{REQUEST_URI} // '');
    print "Content-Type: text/plain\r\n\r\nPerl $^V, process $$: $sum\n";
}
