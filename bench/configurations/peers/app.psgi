# The application for uWSGI's Perl plugin and for Starman; loaded by each worker.
use lib '@DIR@';
use App;

App::start();
my $app = sub {
    my $body = App::answer($_[0]{QUERY_STRING});
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $body], [$body]];
};
