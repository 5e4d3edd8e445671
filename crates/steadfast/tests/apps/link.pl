#!/usr/bin/perl
# A FastCGI worker that speaks the link: says what its arguments ask for at start, and what a request's path asks for.
#
# At start: [--no-hello] [--version N] then any of --ready --ready-after SECONDS --failed CODE --broken CODE
# --unavailable --recycle --status TEXT --garbage --huge MB --flood N --silent --ignore-term, in their order.
# Without any of them it says hello and ready. Paths: the same words (`/broken?1`, `/unavailable?MS`), else `ok PID`.
use strict;
use warnings;
use FCGI;
use IO::Handle;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time clock_gettime CLOCK_MONOTONIC);

if (my $log = $ENV{START_LOG}) {
    open my $file, '>>', $log or die "cannot open $log: $!";
    syswrite $file, sprintf "%d %d\n", clock_gettime(CLOCK_MONOTONIC) * 1e9, $$;
    close $file;
}

my $number = $ENV{STEADFAST_LINK} // die "STEADFAST_LINK is not set\n";
open my $link, '+<&=', $number or die "cannot open the link, fd $number: $!\n";
$link->autoflush(1);
binmode $link;
$SIG{PIPE} = 'IGNORE';

my $leave = 0;
$SIG{TERM} = sub { $leave = 1 };
my $json = JSON::PP->new->canonical->utf8;

# The supervisor may close the link on a line that it does not like: that is for the test to see, not for us to die of.
sub raw {
    my ($bytes) = @_;
    while (length $bytes) {
        my $wrote = syswrite $link, $bytes;
        if (!defined $wrote) {
            next if $!{EINTR};
            print STDERR "link.pl: cannot write: $!\n";
            return;
        }
        substr $bytes, 0, $wrote, '';
    }
}
sub say_it { my (%message) = @_; raw($json->encode(\%message) . "\n") }

# The failure handshake: up to 10 s for a TERM, then out with the code whatever happens.
sub leave_with {
    my ($code) = @_;
    my $end = time + 10;
    while (!$leave && time < $end) { sleep($end - time) }
    # TERM comes again each second, and perl takes its handlers down before it has cleaned up.
    POSIX::_exit($code);
}

my $version = 1;
my %says = (
    hello  => sub { say_it(type => 'hello', version => $version + 0, pid => $$, role => 'worker', concurrency => 1) },
    ready  => sub { say_it(type => 'ready') },
    # It waits in select(2), as if for visitors: who speaks is ready by its word and not by how it looks.
    'ready-after' => sub { select undef, undef, undef, $_[0]; say_it(type => 'ready') },
    failed => sub {
        say_it(type => 'failed', code => $_[0] + 0, name => 'EX_FCGI_ACCEPT', message => 'accept failed 5 times');
        leave_with($_[0]);
    },
    broken => sub {
        say_it(type => 'broken', code => $_[0] + 0, name => 'EX_PRELOAD', message => 'Site::Response is hollow');
        leave_with($_[0]);
    },
    unavailable => sub {
        say_it(type => 'unavailable', name => 'db', message => 'connection refused', retry_after_ms => ($_[0] || 1000) + 0);
        exit 75;
    },
    recycle => sub { say_it(type => 'recycle') },
    status  => sub { say_it(type => 'status', text => $_[0]) },
    garbage => sub { raw("\x00\xff{]not json\n\n[1,2]\n\"text\"\n{\"type\":7}\n{\"type\":\"unheard-of\"}\n") },
    huge    => sub { raw('{"type":"status","text":"' . 'x' x ($_[0] << 20) . "\"}\n") },
    flood   => sub { say_it(type => 'status', text => "line $_") for 1 .. $_[0] },
    silent  => sub { sleep 1 while !$leave; exit 0 },
    'ignore-term' => sub { $SIG{TERM} = 'IGNORE' },
);
my %takes_value = map { $_ => 1 } qw(ready-after failed broken status huge flood);

my $hello = 1;
while (@ARGV && $ARGV[0] =~ /^--(no-hello|version)$/) {
    my $option = shift @ARGV;
    if ($option eq '--no-hello') { $hello = 0 }
    else                         { $version = shift @ARGV }
}
$says{hello}->() if $hello;
push @ARGV, '--ready' if !@ARGV;
while (defined(my $option = shift @ARGV)) {
    my ($word) = $option =~ /^--(.+)/ or die "link.pl: unknown argument $option\n";
    my $action = $says{$word} or die "link.pl: unknown option $option\n";
    $action->($takes_value{$word} ? shift @ARGV : undef);
}

my ($in, $out, $err, %env) = (\*STDIN, \*STDOUT, \*STDERR);
my $request = FCGI::Request($in, $out, $err, \%env, 0, FCGI::FAIL_ACCEPT_ON_INTR());
my $buffer = '';
my $link_open = 1;
while (!$leave) {
    # The listener and the link together: an order to drain must reach a worker that waits for visitors.
    my $wanted = '';
    vec($wanted, 0,       1) = 1;
    vec($wanted, $number, 1) = 1 if $link_open;
    next if select(my $ready = $wanted, undef, undef, undef) < 0;
    if ($link_open && vec($ready, $number, 1)) {
        my $got = sysread $link, $buffer, 65536, length $buffer;
        if (!$got) { last }    # the supervisor has gone
        while ($buffer =~ s/^([^\n]*)\n//) {
            my $message = eval { $json->decode($1) } or next;
            print STDERR "link.pl: got $message->{type}\n";
            $leave = 1 if $message->{type} =~ /^(drain|quit)$/;
        }
    }
    next if $leave || !vec($ready, 0, 1) || $request->Accept < 0;
    my ($word) = ($env{SCRIPT_NAME} // '/') =~ m{^/(.+)};
    my $query = $env{QUERY_STRING} // '';
    my $action = defined $word ? $says{$word} : undef;
    print "Content-Type: text/plain\r\n\r\nok $$\n";
    $request->Finish;
    $action->($query) if $action;
}
# As above: the TERM that follows an order to drain would meet an interpreter without handlers.
POSIX::_exit(0);
