package Site::Response;

# An answer: a status, headers in the order they were given, and a body.

use strict;
use warnings;

sub new {
    my ($class, %values) = @_;
    return bless { status => 200, headers => [], body => '', %values }, $class;
}

sub header {
    my ($this, $name, $value) = @_;
    s/[\r\n]+/ /g for $name, $value;    # nobody adds a header of his own
    push @{ $this->{headers} }, [ $name => $value ];
    return $this;
}

sub body {
    my ($this, @pieces) = @_;
    $this->{body} .= join '', @pieces;
    return $this;
}

# All of it as a CGI response.
sub finalize {
    my ($this) = @_;
    my @headers = ([ Status => $this->{status} ], @{ $this->{headers} }, [ 'Content-Length' => length $this->{body} ]);
    return join '', (map { "$_->[0]: $_->[1]\r\n" } @headers), "\r\n", $this->{body};
}

1;
