#!/usr/bin/perl
# The smallest whole FastCGI application: no module at all, so that it runs wherever there is a perl.
#
# A worker finds a listening socket on descriptor 0, takes one connection after the other, and reads records: 8 bytes
# of head (version, type, request id, length, padding), then the content. Real applications let FCGI.pm do this.
use strict;
use warnings;

use constant { BEGIN_REQUEST => 1, END_REQUEST => 3, PARAMS => 4, STDIN_DATA => 5, STDOUT_DATA => 6 };

my $served = 0;
my $leave  = 0;
$SIG{TERM} = sub { $leave = 1 };    # finish the request in hand, then go
$SIG{PIPE} = 'IGNORE';

until ($leave) {
    accept my $connection, STDIN or next;    # interrupted by a signal: look at $leave again
    binmode $connection;
    serve($connection);
}

# One request: the web server closes or we do, either way each request has its own connection.
sub serve {
    my ($connection) = @_;
    my ($id, $params) = (1, '');
    while (my ($type, $record_id, $content) = read_record($connection)) {
        if    ($type == BEGIN_REQUEST) { $id = $record_id }
        elsif ($type == PARAMS)        { $params .= $content }
        elsif ($type == STDIN_DATA && $content eq '') {    # the body is complete
            my $out = answer(decode($params));
            my $records = join '', map { record(STDOUT_DATA, $id, $_) } unpack('(a32768)*', $out), '';
            print {$connection} $records, record(END_REQUEST, $id, pack 'N C x3', 0, 0);
            return;
        }
    }
}

sub read_record {
    my ($connection) = @_;
    read($connection, my $head, 8) == 8 or return;
    my (undef, $type, $id, $length, $padding) = unpack 'C C n n C', $head;
    my $content = '';
    my $wanted  = $length + $padding;
    read($connection, $content, $wanted) == $wanted or return if $wanted;
    return ($type, $id, substr $content, 0, $length);
}

sub record {
    my ($type, $id, $content) = @_;
    return pack('C C n n C x', 1, $type, $id, length $content, 0) . $content;
}

# Pairs of name and value, each with its length before it: one byte, or four when the highest bit is set.
sub decode {
    my ($bytes) = @_;
    my %params;
    while (length $bytes) {
        my @lengths = map {
            my $short = ord $bytes;
            my $taken = substr $bytes, 0, $short < 128 ? 1 : 4, '';
            $short < 128 ? $short : unpack('N', $taken) & 0x7fffffff;
        } 1 .. 2;
        my ($name, $value) = map { substr $bytes, 0, $_, '' } @lengths;
        $params{$name} = $value;
    }
    return \%params;
}

sub answer {
    my ($params) = @_;
    my ($path) = split /[?]/, $params->{REQUEST_URI} // '/';
    if ($path eq '/crash') { kill SEGV => $$; sleep 1 }    # as a bug in a C library would
    if ($path eq '/exit')  { print STDERR "hello.pl: somebody asked for /exit\n"; exit 3 }
    sleep 2 if $path eq '/slow';
    $served++;
    return "Content-Type: text/plain\r\n\r\nHello from process $$, which has served $served request(s).\n"
        . "Try /slow, /crash and /exit, and watch `steadfast status`.\n";
}
