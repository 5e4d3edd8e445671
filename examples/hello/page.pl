#!/usr/bin/perl
# Prints one page of the hello pool, without a web server: perl examples/hello/page.pl [PATH]
use strict;
use warnings;
use IO::Socket::UNIX;

my $socket = '/tmp/steadfast-hello.sock';
my $path   = $ARGV[0] // '/';
my $worker = IO::Socket::UNIX->new(Peer => $socket) or die "cannot connect to $socket: $! (is the pool running?)\n";

# FastCGI 1.0: a record is version, type, request id, content length, padding length, reserved, content.
sub record { my ($type, $content) = @_; pack('CCnnCC', 1, $type, 1, length $content, 0, 0) . $content }
sub pair { my ($name, $value) = @_; pack('NN', 1 << 31 | length $name, 1 << 31 | length $value) . $name . $value }

my %params = (
    REQUEST_METHOD => 'GET', SCRIPT_NAME => $path, REQUEST_URI => $path, QUERY_STRING => '',
    SERVER_PROTOCOL => 'HTTP/1.1', GATEWAY_INTERFACE => 'CGI/1.1',
);
my ($BEGIN, $PARAMS, $STDIN, $STDOUT, $RESPONDER) = (1, 4, 5, 6, 1);
print {$worker} record($BEGIN, pack('nCx5', $RESPONDER, 0)),
    record($PARAMS, join '', map { pair($_, $params{$_}) } sort keys %params), record($PARAMS, ''), record($STDIN, '');
$worker->flush;

while (8 == read $worker, my $header, 8) {
    my (undef, $type, undef, $length, $padding) = unpack 'CCnnC', $header;
    my ($content, $ignored);
    read $worker, $content, $length;
    read $worker, $ignored, $padding;
    print $content if $type == $STDOUT;
}
