# TERM, many times: idle in accept, busy, in the delayed exit. No worker stays, no request is lost.
# STEADFAST_ROUNDS says how many times; STEADFAST_PORTABLE=1 goes without raw system calls.
use 5.016;
use strict;
use warnings;
use Test::More;
use lib 't/lib';
use Test::Steadfast;

plan skip_all => 'needs to take orphans' unless Test::Steadfast::is_possible();

my $app    = Test::Steadfast::app('site.pl');
my $rounds = $ENV{STEADFAST_ROUNDS} || 50;
my @loops  = qw(loop plain accept);

sub zygote {
    my ($loop, %environment) = @_;
    my $supervisor = Test::Steadfast->new;
    $environment{APP_BEFORE} .= '; $FCGI::ProcManager::Steadfast::Signals::IS_PORTABLE = 1' if $ENV{STEADFAST_PORTABLE};
    return ($supervisor, $supervisor->start_ready($app, environment => { APP_LOOP => $loop, %environment }));
}

# Workers by three loops, in turn.
sub rounds {
    my ($name, $do, %environment) = @_;
    my @zygotes = map { [ zygote($_, %environment) ] } @loops;
    my (%failed, %codes, $again);
    for my $round (1 .. $rounds) {
        my ($supervisor, $zygote) = @{ $zygotes[ $round % @loops ] };
        my $worker = $supervisor->fork_worker($zygote);
        my $wrong  = $do->($supervisor, $worker);
        $failed{$wrong}++ if $wrong;
        $codes{ $supervisor->reap($worker, again => 1) }++;
        $again += $worker->{terms_again} || 0;
    }
    is_deeply \%failed, {}, "$name: no request is lost in $rounds";
    note "$name: a TERM had to be repeated $again times" if $again;
    $_->[0]->stop($_->[1]) for @zygotes;
    return \%codes;
}

sub term { my ($worker) = @_; kill TERM => $worker->{pid} or die "kill: $!"; return }
sub is_whole { my ($client, $body) = @_; $client->finish; return $client->{is_complete} && $client->{stdout} =~ /\r\n\r\n$body\z/s ? undef : substr "lost: $client->{stdout}", 0, 200 }

subtest 'idle in accept' => sub {
    my $codes = rounds('idle', sub { my ($supervisor, $worker) = @_; $supervisor->wait_in($worker, qw(accept)); term($worker); return });
    is_deeply $codes, { 0 => $rounds }, 'all leave with 0';
};

subtest 'right after ready' => sub {
    my $codes = rounds('new', sub { my ($supervisor, $worker) = @_; term($worker); return });
    is_deeply $codes, { 0 => $rounds }, 'all leave with 0';
};

my %busy = (
    'a slow read' => sub {
        my ($supervisor, $worker, $client) = @_;
        $client->begin('/read');
        $client->body('x' x 2500);
        $client->read_until(qr/begun/);
        $supervisor->wait_in($worker, 'read');
        term($worker);
        $client->body('x' x 2500);
        $client->end_body;
        return is_whole($client, "begun\nread 5000");
    },
    'a megabyte' => sub {
        my ($supervisor, $worker, $client) = @_;
        $client->begin('/write');
        $client->end_body;
        $supervisor->wait_in($worker, 'write');
        term($worker);
        return is_whole($client, ('x' x (1024 * 1024)) . 'end');
    },
    'a sleep' => sub {
        my ($supervisor, $worker, $client) = @_;
        $client->begin('/sleep');
        $client->end_body;
        $client->read_until(qr/begun/);
        term($worker);
        return is_whole($client, "begun\nslept");
    },
    'an open that waits' => sub {
        my ($supervisor, $worker, $client) = @_;
        my $gate = $supervisor->path("gate$worker->{slot}");
        POSIX::mkfifo($gate, 0600) or die "mkfifo: $!";
        $client->begin('/wait', QUERY_STRING => $gate);
        $client->end_body;
        $client->read_until(qr/begun/);
        term($worker);
        open my $handle, '>', $gate or die "$gate: $!";
        print {$handle} "wide\n";
        close $handle;
        return is_whole($client, "begun\nopened wide\n");
    },
);
for my $name (sort keys %busy) {
    subtest "busy with $name" => sub {
        my $codes = rounds($name, sub { my ($supervisor, $worker) = @_; return $busy{$name}->($supervisor, $worker, $supervisor->client($worker)) });
        is_deeply $codes, { 0 => $rounds }, 'all leave with 0';
    };
}

subtest 'in the delayed exit' => sub {
    my $codes = rounds('failed', sub {
        my ($supervisor, $worker) = @_;
        my $answer = $supervisor->get($worker, '/fail');
        my $failed = $supervisor->hear($worker, 'failed');
        term($worker);
        return $answer->{is_complete} && $failed->{code} == 4 ? undef : 'failed';
    });
    is_deeply $codes, { 4 => $rounds }, 'all leave with their code';
};

subtest 'handlers that were there are called too' => sub {
    my %before = (
        'a sub'            => 'print STDERR ""; $SIG{TERM} = sub { $previous++; syswrite STDERR, "previous @_\n" }',
        'a name'           => 'sub Mine::handler { syswrite STDERR, "previous @_\n" } $SIG{TERM} = "Mine::handler"',
        'a name in main'   => 'sub main::handler { syswrite STDERR, "previous @_\n" } $SIG{TERM} = "handler"',
    );
    for my $name (sort keys %before) {
        my ($supervisor, $zygote) = zygote('loop', APP_BEFORE => $before{$name});
        my $worker = $supervisor->fork_worker($zygote);
        $supervisor->get($worker, '/');
        $supervisor->wait_in($worker, 'accept');
        is $supervisor->stop($worker), 0, $name;
        is $supervisor->log, "previous TERM\n";
        is $supervisor->stop($zygote), 0;
        is $supervisor->log, "previous TERM\n" x 2, 'by the zygote, too';
    }
    my ($supervisor, $zygote) = zygote('loop', APP_AFTER => 'my $ours = $SIG{TERM}; $SIG{TERM} = sub { POSIX::write(2, "mine\n", 5); $ours->(@_) }');
    my $worker = $supervisor->fork_worker($zygote);
    my $client = $supervisor->client($worker);
    is $busy{'a slow read'}->($supervisor, $worker, $client), undef, 'one that is set later: no request is lost';
    is $supervisor->reap($worker), 0;
    is $supervisor->log, "mine\n", 'and it is called';
    $supervisor->stop($zygote);
};

subtest 'a handler that is set aside for a while' => sub {
    my ($supervisor, $zygote) = zygote('plain');
    for my $handler (qw(DEFAULT IGNORE)) {
        my $worker = $supervisor->fork_worker($zygote);
        $supervisor->get($worker, '/eval', QUERY_STRING => "our \$ours = \$SIG{TERM}; \$SIG{TERM} = '$handler'");
        like $supervisor->get($worker, '/eval', QUERY_STRING => '"it is $SIG{TERM}"')->{stdout}, qr/it is $handler/, "$handler stays";
        $supervisor->wait_in($worker, 'accept');
        term($worker);
        if ($handler eq 'IGNORE') {
            $supervisor->get($worker, '/eval', QUERY_STRING => '$SIG{TERM} = our $ours; ""');
            $supervisor->wait_in($worker, 'accept');
            is $supervisor->stop($worker), 0, 'TERM was ignored, and is heard again';
        }
        else { is $supervisor->reap($worker), 'SIG15', 'TERM ends it' }
    }
    $supervisor->stop($zygote);
};

done_testing;
