# The hello that is measured, for uWSGI's Perl plugin.
my $body = "Hello from steadfast, one and all\n";
my $app = sub { [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $body], [$body]] };
