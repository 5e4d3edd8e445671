package Site;

# The pages.

use strict;
use warnings;

use Site::Response;
use Site::Utils qw(escape_html query);

our $VERSION = '2';

my %PAGES = ('/' => \&home, '/health' => \&health);

# The answer to one request, as a CGI response. Dies when it cannot be made.
sub handle {
    my ($class, $env) = @_;
    my ($path) = split /[?]/, $env->{REQUEST_URI} // '/';
    my $page = $PAGES{$path} || \&nothing;
    return $page->($env)->finalize;
}

sub home {
    my ($env) = @_;
    my %query = query($env->{QUERY_STRING});
    my $name = escape_html($query{name} // 'stranger');
    return Site::Response->new->header('Content-Type' => 'text/html; charset=utf-8')
        ->body("<h1>Good day, $name</h1>\n<p>This is release $VERSION, from process $$.</p>\n");
}

# What a load balancer asks, and steadfast of every new worker. It takes the way of every page: an `ok` that needs nothing
# of the site says nothing about the site.
sub health {
    return Site::Response->new->header('Content-Type' => 'text/plain')->body("ok, release $VERSION\n");
}

sub nothing {
    return Site::Response->new(status => 404)->header('Content-Type' => 'text/plain')->body("There is no such page.\n");
}

1;
