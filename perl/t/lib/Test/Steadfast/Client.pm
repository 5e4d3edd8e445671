package Test::Steadfast::Client;

# A small FastCGI client (FastCGI 1.0): one request on one connection, in steps, every wait with a deadline.

use 5.016;
use strict;
use warnings;

use Errno qw(EINTR);
use Socket qw(AF_UNIX SOCK_STREAM MSG_NOSIGNAL pack_sockaddr_un);

use constant { BEGIN_REQUEST => 1, END_REQUEST => 3, PARAMS => 4, STDIN_ => 5, STDOUT_ => 6, STDERR_ => 7 };

sub new {
    my ($class, $path, %option) = @_;
    socket my $socket, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!";
    connect $socket, pack_sockaddr_un($path) or die "connect $path: $!";
    return bless { socket => $socket, in => '', stdout => '', stderr => '', deadline => $option{deadline} || 20 }, $class;
}

# Begins a request; its body follows.
sub begin {
    my ($this, $path, %params) = @_;
    %params = (
        REQUEST_METHOD => 'GET', SCRIPT_NAME => '', PATH_INFO => $path, REQUEST_URI => $path, QUERY_STRING => '',
        SERVER_PROTOCOL => 'HTTP/1.1', SERVER_NAME => 'test', SERVER_PORT => 80, HTTP_HOST => 'test',
        GATEWAY_INTERFACE => 'CGI/1.1', %params,
    );
    $params{REQUEST_URI} .= "?$params{QUERY_STRING}" if length $params{QUERY_STRING};
    my $pairs = join '', map { my $value = $params{$_}; pack('NN', length($_) | 0x8000_0000, length($value) | 0x8000_0000) . $_ . $value } sort keys %params;
    return $this->_send(_record(BEGIN_REQUEST, pack 'nCx5', 1, 0) . _record(PARAMS, $pairs) . _record(PARAMS, ''));
}

sub body { my ($this, $bytes) = @_; return $this->_send(join '', map { _record(STDIN_, $_) } unpack '(a60000)*', $bytes) }
sub end_body { my ($this) = @_; return $this->_send(_record(STDIN_, '')) }

# Reads until stdout matches; returns it all.
sub read_until {
    my ($this, $pattern) = @_;
    until ($this->{stdout} =~ $pattern) { die "the answer ended before $pattern: $this->{stdout}" unless $this->_read }
    return $this->{stdout};
}

# Reads to the end: { stdout, stderr, is_complete, status }.
sub finish {
    my ($this) = @_;
    1 while !$this->{is_complete} && $this->_read;
    close $this->{socket};    # or libfcgi waits for that for two seconds
    return $this;
}

sub get {
    my ($class, $socket_path, $path, %params) = @_;
    my $client = $class->new($socket_path);
    $client->begin($path, %params);
    $client->end_body;
    return $client->finish;
}

sub _record { my ($type, $content) = @_; return pack('CCnnCx', 1, $type, 1, length $content, 0) . $content }

sub _send {
    my ($this, $bytes) = @_;
    while (length $bytes) {
        my $sent = send $this->{socket}, $bytes, MSG_NOSIGNAL;
        if (defined $sent) { substr $bytes, 0, $sent, '' }
        elsif ($! != EINTR) { return }
    }
    return $this;
}

sub _read {
    my ($this) = @_;
    vec(my $set = '', fileno $this->{socket}, 1) = 1;
    select $set, undef, undef, $this->{deadline} or die "no answer within $this->{deadline} s";
    my $got = sysread $this->{socket}, $this->{in}, 65_536, length $this->{in};
    return unless $got;
    while (length $this->{in} >= 8) {
        my ($version, $type, $id, $length, $padding) = unpack 'CCnnC', $this->{in};
        last if length $this->{in} < 8 + $length + $padding;
        my $content = substr substr($this->{in}, 0, 8 + $length + $padding, ''), 8, $length;
        if    ($type == STDOUT_)     { $this->{stdout} .= $content }
        elsif ($type == STDERR_)     { $this->{stderr} .= $content }
        elsif ($type == END_REQUEST) { $this->{is_complete} = 1; $this->{status} = unpack 'N', $content }
    }
    return 1;
}

1;
