# plackup -s FCGI --manager FCGI::ProcManager::Steadfast: harakiri, cleanup handlers, CGI scripts.
use 5.016;
use strict;
use warnings;
use Test::More;
use lib 't/lib';
use Test::Steadfast;

plan skip_all => 'needs to take orphans' unless Test::Steadfast::is_possible();
plan skip_all => 'Plack and FCGI are not here' unless eval { require Plack::Handler::FCGI; require FCGI; 1 };

my $app = <<'END';
use strict;
my %pages = (
    '/' => sub { [ 200, [ 'Content-Type' => 'text/plain' ], ["pid=$$"] ] },
    '/harakiri' => sub { $_[0]{'psgix.harakiri.commit'} = 1 if $_[0]{'psgix.harakiri'}; [ 200, [], ['last'] ] },
    '/cleanup' => sub { my ($env) = @_; push @{ $env->{'psgix.cleanup.handlers'} }, sub { open my $gate, '+<', $env->{QUERY_STRING} or die; <$gate>; POSIX::write(2, "cleaned\n", 8) }; [ 200, [], ['cleaning'] ] },
    '/body' => sub { my ($env) = @_; my $length = 0; while ((my $got = $env->{'psgi.input'}->read(my $bytes, 1000)) > 0) { $length += $got } [ 200, [], ["read $length"] ] },
);
sub { my ($env) = @_; ($pages{ $env->{PATH_INFO} } || sub { [ 404, [], ['?'] ] })->($env) }
END
my @command = ('-MPlack::Runner', '-MPOSIX=_exit', '-e', 'my $runner = Plack::Runner->new; $runner->parse_options(@ARGV); $runner->run', '--', qw(-s FCGI --manager FCGI::ProcManager::Steadfast));

sub start {
    my ($supervisor, %what) = @_;
    my $path = $supervisor->script($what{app} // $app, 'app.psgi');
    my $process = $supervisor->start(%what, command => [ $^X, @{ $what{switches} || [] }, @command, $path ]);
    $supervisor->hear($process, $_) for qw(hello ready);
    return $process;
}

for my $role (qw(zygote worker)) {
    subtest $role => sub {
        my $supervisor = Test::Steadfast->new(role => $role);
        my $process = start($supervisor);
        my $worker = sub { return $role eq 'zygote' ? $supervisor->fork_worker($process) : ($process ||= start($supervisor)) };
        my $end = sub { my ($one) = @_; undef $process if $role eq 'worker'; return $supervisor->reap($one, again => 1) };

        my $one = $worker->();
        like $supervisor->get($one, '/')->{stdout}, qr/pid=$one->{pid}/, 'it serves' for 1, 2;
        $supervisor->wait_in($one, 'accept');
        kill TERM => $one->{pid};
        is $end->($one), 0, 'TERM';

        $one = $worker->();
        my $client = $supervisor->client($one);
        $client->begin('/body', REQUEST_METHOD => 'POST', CONTENT_LENGTH => 5000);
        $client->body('x' x 2500);
        $supervisor->wait_in($one, 'read');
        kill TERM => $one->{pid};
        $client->body('x' x 2500);
        $client->end_body;
        like $client->finish->{stdout}, qr/read 5000/, 'TERM while it is busy loses nothing';
        is $end->($one), 0;

        $one = $worker->();
        like $supervisor->get($one, '/harakiri')->{stdout}, qr/last/;
        is_deeply [ $supervisor->hear_all($one) ], [ { type => 'recycle' } ], 'harakiri is told as recycled';
        is $end->($one), 0;

        my $gate = $supervisor->path('gate');
        POSIX::mkfifo($gate, 0600) or die;
        open my $opener, '+<', $gate or die;
        my $open = sub { syswrite $opener, "\n" };
        $one = $worker->();
        like $supervisor->get($one, '/cleanup', QUERY_STRING => $gate)->{stdout}, qr/cleaning/;
        $open->();
        like $supervisor->get($one, '/')->{stdout}, qr/pid=$one->{pid}/, 'cleanup handlers run, and it goes on';
        like $supervisor->get($one, '/cleanup', QUERY_STRING => $gate)->{stdout}, qr/cleaning/;
        $supervisor->wait_in($one, 'read');
        kill TERM => $one->{pid};
        $open->();
        is $end->($one), 0, 'TERM while they run: it leaves afterwards';
        my @cleaned = $supervisor->log =~ /^cleaned$/mg;
        is @cleaned, 2, 'and they have run';

        is $supervisor->stop($process), 0 if $process;
        unlike $supervisor->log, qr/steadfast decides/, "plackup's n_processes => 1 is nothing to speak of";
    };
}

subtest 'the default manager, replaced' => sub {
    my $supervisor = Test::Steadfast->new;
    my $path = $supervisor->script($app, 'app.psgi');
    my $zygote = $supervisor->start(command => [ $^X, (grep { !/\A--manager\z|::Steadfast\z/ } @command), $path ], environment => { PERL5OPT => '-MFCGI::ProcManager::Steadfast=:replace' });
    is $supervisor->hear($zygote, 'hello')->{role}, 'zygote', 'hello, before Plack is loaded';
    $supervisor->hear($zygote, 'ready');
    my $worker = $supervisor->fork_worker($zygote);
    like $supervisor->get($worker, '/')->{stdout}, qr/pid=$worker->{pid}/;
    $supervisor->stop($_) for $worker, $zygote;
};

subtest 'a CGI script, by CGI::Emulate::PSGI' => sub {
    plan skip_all => 'CGI::Emulate::PSGI is not here' unless eval { require CGI::Emulate::PSGI; 1 };
    my $supervisor = Test::Steadfast->new;
    my $cgi = $supervisor->script(q{print "Content-Type: text/plain\r\n\r\nhello $ENV{QUERY_STRING} from $$"; 1;}, 'hello.cgi');
    my $zygote = start($supervisor, app => "use CGI::Emulate::PSGI; CGI::Emulate::PSGI->handler(sub { do '$cgi' or die })");
    my $worker = $supervisor->fork_worker($zygote);
    like $supervisor->get($worker, '/', QUERY_STRING => "world=$_")->{stdout}, qr/hello world=$_ from $worker->{pid}/ for 1 .. 3;
    $supervisor->wait_in($worker, 'accept');
    $supervisor->stop($_) for $worker, $zygote;
};

done_testing;
