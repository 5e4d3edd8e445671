#!/usr/bin/perl
# The worker of the queue's tests, on FCGI.pm: queue.c says what it does.
use strict;
use warnings;
use Compress::Raw::Zlib ();
use FCGI;
use Time::HiRes ();

use constant { BLOCK => 65536, LINE => 64 };

my ($in, $out, $err, %env) = (\*STDIN, \*STDOUT, \*STDERR);
my $request = FCGI::Request($in, $out, $err, \%env, 0, FCGI::FAIL_ACCEPT_ON_INTR());
my @leak;

sub append {
    my ($path, $line) = @_;
    open my $file, '>>', $path or die "cannot open $path: $!";
    syswrite $file, $line;
    close $file;
}

sub query { my ($name) = @_; return ($env{QUERY_STRING} // '') =~ /(?:^|&)\Q$name\E=([^&]*)/ ? $1 : '' }
sub number { my ($name) = @_; return query($name) || 0 }

sub begin { my ($more) = @_; print "Content-Type: text/plain\r\nX-Worker: $$\r\n$more\r\n" }

sub say_sum { my ($what, $length, $crc) = @_; printf "%s %d %08x\n", $what, $length, $crc }

sub read_body {
    my ($length, $crc, $block) = (0, 0);
    while (my $got = read STDIN, $block, BLOCK) {
        $length += $got;
        $crc = Compress::Raw::Zlib::crc32($block, $crc);
    }
    say_sum('body', $length, $crc);
}

sub say_lines {
    my ($bytes) = @_;
    my $dots = '.' x (LINE - 16) . "\n";
    for (my $done = 0; $done < $bytes; $done += BLOCK) {
        my $room = $bytes - $done < BLOCK ? $bytes - $done : BLOCK;
        my $block = join '', map { sprintf '%015x%s', $done + $_ * LINE, $dots } 0 .. ($room - 1) / LINE;
        print substr $block, 0, $room or return;
    }
}

sub die_by {
    my ($signal) = @_;
    $SIG{$_} = 'DEFAULT' for qw(SEGV ABRT TERM);
    kill $signal => $$;
    sleep 1 while 1;
}

my @echoed = qw(REQUEST_METHOD REQUEST_URI QUERY_STRING CONTENT_LENGTH CONTENT_TYPE HTTP_X_TEST HTTP_X_REQUEST_ID
    REMOTE_ADDR HTTP_PROXY HTTP_COOKIE);

my %does = (
    '/echo' => sub {
        begin('');
        printf "%s=%s\n", $_, $env{$_} // '' for @echoed;
        read_body();
    },
    '/big' => sub {
        begin(number('length') ? 'Content-Length: ' . number('bytes') . "\r\n" : '');
        say_lines(number('bytes')) if $env{REQUEST_METHOD} ne 'HEAD';
    },
    '/half' => sub {
        begin('Content-Length: ' . number('bytes') . "\r\n");
        say_lines(int(number('bytes') / 2));
        $request->Flush;
        die_by('KILL');
    },
    '/header' => sub {
        my $back = number('back');
        my $large = $env{HTTP_X_LARGE} // '';
        print 'X-Large: ', substr(join('', 'a' .. 'z') x ($back / 26 + 1), 0, $back), "\r\n";
        begin('');
        say_sum('large', length $large, Compress::Raw::Zlib::crc32($large));
    },
    '/early' => sub {
        begin('');
        say_lines(number('bytes'));
        $request->Flush;
        read_body() if number('read');
    },
    '/raw' => sub {
        my $block;
        print $block while read STDIN, $block, BLOCK;
    },
    map { my ($path, $action) = @$_; ($path => sub { $action->(); begin(''); print "hello\n" }) }
        ['/hello', sub { }],
        ['/count', sub { }],
        ['/crash', sub { die_by(number('signal') || 'SEGV') }],
        ['/exit',  sub { exit number('code') }],
        ['/sleep', sub { Time::HiRes::sleep(number('ms') / 1000) }],
        ['/leak',  sub { push @leak, 'x' x (number('mb') << 20) }],
        ['/stderr', sub { print STDERR query('text'), "\n" }],
);

append($ENV{START_LOG}, sprintf "%d %d\n", Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) * 1e9, $$)
    if $ENV{START_LOG};

my $leave = 0;
$SIG{TERM} = sub { $leave = 1 };

while (!$leave) {
    next if $request->Accept < 0;
    append($ENV{COUNT_LOG}, join(' ', map { $env{$_} // '' } qw(HTTP_X_REQUEST_ID REQUEST_METHOD REQUEST_URI)) . "\n")
        if $ENV{COUNT_LOG};
    my ($path) = ($env{REQUEST_URI} // '') =~ /^([^?]*)/;
    if (my $action = $does{$path}) { $action->() }
    else { print "Status: 404 Not Found\r\n"; begin(''); print "hello\n" }
    $request->Finish;
}
