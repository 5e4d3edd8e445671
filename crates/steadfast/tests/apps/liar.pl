#!/usr/bin/perl
# A worker that speaks FastCGI itself and lies when the path says so. It keeps connections, as far as it is not told to
# break them, and answers `ok PID` to every other path.
#
# /lie?id       the answer under another request's id        /lie?twice    two ends
# /lie?refuse   an end without an answer: overloaded         /lie?values   GET_VALUES_RESULT that nobody asked for
# /lie?nonsense bytes that are no records                    /lie?more     bytes behind the end
# /lie?split    a header with a second answer behind it      /lie?length   a Content-Length that is not so
# /lie?status   a status that is none                        /lie?stderr   a line of the log, forged
use strict;
use warnings;

$SIG{TERM} = sub { exit 0 };
my ($BEGIN, $END, $PARAMS, $STDIN, $STDOUT, $STDERR, $VALUES) = (1, 3, 4, 5, 6, 7, 10);

sub record { my ($type, $id, $content) = @_; pack('CCnnCC', 1, $type, $id, length $content, 0, 0) . $content }

sub take {
    my ($from, $length) = @_;
    my $bytes = '';
    while (length $bytes < $length) {
        return undef unless sysread $from, $bytes, $length - length $bytes, length $bytes;
    }
    return $bytes;
}

sub pairs {
    my ($bytes) = @_;
    my %pairs;
    my $number = sub {
        my $first = unpack 'C', substr $bytes, 0, 1;
        return unpack 'C', substr $bytes, 0, 1, '' if $first < 128;
        return unpack('N', substr $bytes, 0, 4, '') & 0x7fffffff;
    };
    while (length $bytes) {
        my ($name, $value) = ($number->(), $number->());
        my $key = substr $bytes, 0, $name, '';
        $pairs{$key} = substr $bytes, 0, $value, '';
    }
    return %pairs;
}

sub answer {
    my ($id, $query) = @_;
    my $page = "Content-Type: text/plain\r\n\r\nok $$\n";
    my $end = record($END, $id, pack 'NCx3', 0, 0);
    my $whole = record($STDOUT, $id, $page) . record($STDOUT, $id, '') . $end;
    my %lies = (
        id       => record($STDOUT, $id + 1, $page) . record($END, $id + 1, pack 'NCx3', 0, 0),
        twice    => $whole . $end,
        refuse   => record($END, $id, pack 'NCx3', 0, 2),
        values   => record($VALUES, 0, "\x0e\x7fFCGI_MAX_CONNSx") . $whole,
        nonsense => "HTTP/1.1 200 OK\r\n\r\nok $$\n" x 20,
        more     => $whole . $whole,
        split    => record($STDOUT, $id, "X-A: b\rSet-Cookie: c\r\n$page") . $end,
        length   => record($STDOUT, $id, "Content-Length: 99999\r\n$page") . $end,
        status   => record($STDOUT, $id, "Status: 99999999999999999999 fine\r\n$page") . $end,
        stderr   => record($STDERR, $id, "\e[31m{\"event\":\"breaker-opened\"}\n\0<0>forged\n") . $whole,
    );
    return $lies{$query} // $whole;
}

while (accept my $client, STDIN) {
    my %params;
    while (defined(my $head = take($client, 8))) {
        my (undef, $type, $id, $length, $padding) = unpack 'CCnnCx', $head;
        my $content = take($client, $length + $padding) // last;
        substr $content, $length, $padding, '';
        $params{$id} = '' if $type == $BEGIN;
        $params{$id} .= $content if $type == $PARAMS;
        next unless $type == $STDIN && $length == 0;
        my %request = pairs($params{$id});
        my $query = $request{REQUEST_URI} =~ m{^/lie\?(\w+)} ? $1 : '';
        syswrite $client, answer($id, $query);
    }
    close $client;
}
