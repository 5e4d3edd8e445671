#!/usr/bin/perl
# A release of a Perl site on FCGI::ProcManager::Steadfast, for tests of deploys. The file `way` beside it says what is
# wrong with this release; without one it is good. Each answer names the release's directory and the process.
use strict;
use warnings;
use Cwd ();
use FCGI;
use FCGI::ProcManager::Steadfast;

my $way = 'good';
if (open my $file, '<', 'way') { $way = <$file>; chomp $way }
my ($release) = Cwd::getcwd() =~ m{([^/]+)$};

# Each of these is a way in which a deploy goes wrong while it loads.
if ($way eq 'exit') { print STDERR "no configuration of the database in $release\n"; exit 3 }
if ($way eq 'hang') { sleep 3600 }

# A module that can be loaded and is hollow: nothing in it but its name.
$INC{'Site/Response.pm'} = __FILE__;
{ no strict 'refs'; *{'Site::Response::new'} = sub { bless {}, shift } }

for my $module (split ' ', $ENV{MODULES} // '') { eval "require $module; 1" or die $@ }
our $MANAGER_PID = $$;
my $manager = FCGI::ProcManager::Steadfast->new({ n_processes => 4 });
$manager->pm_check('Site::Response' => 'new');
$manager->pm_broken(1, 'Site::Response is rotten') if $way eq 'rotten';
my ($in, $out, $err, %env) = (\*STDIN, \*STDOUT, \*STDERR);
my $request = FCGI::Request($in, $out, $err, \%env);
$manager->pm_manage;

# Hollow in a way that no check of ours sees: only who asks for a page does.
{ no warnings 'once'; undef *Site::Response::new if $way eq 'hollow' }
my ($served, @leak) = (0);
while ($manager->pm_accept($request)) {
    $manager->pm_pre_dispatch;
    # The verify request is the first, so this is the third of a visitor.
    if ($way eq 'third' && ++$served > 3) { print STDERR "the third request is one too many\n"; exit 7 }
    push @leak, 'x' x (1 << 20) if $way eq 'leak';
    my $uri = $env{REQUEST_URI} // '/';
    if ($uri eq '/fail') { $request->Finish; $manager->pm_fail(5, 'the database is gone') }
    if ($uri eq '/broken') { $request->Finish; $manager->pm_broken(1, 'Site::Response is hollow') }
    # The story's own words, from before it had a manager that listens.
    if ($uri eq '/story') { $request->Finish; kill TERM => $MANAGER_PID; sleep 10; exit 1 }
    if ($uri =~ m{^/sleep\?ms=(\d+)}) { select undef, undef, undef, $1 / 1000 }
    eval {
        my $response = Site::Response->new;
        print $out "Content-Type: text/plain\r\n\r\nok $release $$\n";
        1;
    } or do {
        print $err $@;
        print $out "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nbroken\n";
    };
    $manager->pm_post_dispatch;
}
