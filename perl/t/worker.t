# A worker that was executed, not forked; and what ends a worker besides TERM.
use 5.016;
use strict;
use warnings;
use Test::More;
use lib 't/lib';
use Test::Steadfast;

plan skip_all => 'needs to take orphans' unless Test::Steadfast::is_possible();

my $app = Test::Steadfast::app('site.pl');

sub worker { my (%environment) = @_; my $supervisor = Test::Steadfast->new(role => 'worker'); return ($supervisor, $supervisor->start_ready($app, environment => \%environment)) }

for my $loop (qw(loop plain accept)) {
    subtest "loop: $loop" => sub {
        my ($supervisor, $worker) = worker(APP_LOOP => $loop, APP_SAYS_AFTER => 1);
        is_deeply $worker->{hello}, { type => 'hello', version => 1, pid => $worker->{pid}, role => 'worker', concurrency => 1 }, 'hello';
        like $supervisor->get($worker, '/')->{stdout}, qr/pid=$worker->{pid} ppid=$$ role=server manager=$$ /, 'it serves, and its manager is the supervisor';
        $supervisor->wait_in($worker, 'accept');
        is $supervisor->stop($worker), 0, 'TERM';
        is $supervisor->log, "after the loop\n", 'and what comes after the loop is done';

        for my $word (qw(drain quit)) {
            ($supervisor, $worker) = worker(APP_LOOP => $loop);
            $supervisor->wait_in($worker, 'accept');
            $supervisor->say($worker, { type => $word });
            is $supervisor->reap($worker), 0, "$word while idle";

            ($supervisor, $worker) = worker(APP_LOOP => $loop);
            my $client = $supervisor->client($worker);
            $client->begin('/read');
            $client->read_until(qr/begun/);
            $supervisor->wait_in($worker, 'read');
            $supervisor->say($worker, { type => $word });
            $client->body('x' x 3000);
            $client->end_body;
            like $client->finish->{stdout}, qr/read 3000/, "$word while busy loses nothing";
            is $supervisor->reap($worker), 0, 'then it leaves';
            is_deeply [ $supervisor->hear_all($worker) ], [], 'without a word';
        }
    };

    subtest "max_requests: $loop" => sub {
        my ($supervisor, $worker) = worker(APP_LOOP => $loop, PM_MAX_REQUESTS => 3, APP_SAYS_AFTER => 1);
        ok $supervisor->get($worker, '/')->{is_complete} for 1 .. 3;
        is_deeply [ $supervisor->hear_all($worker) ], [ { type => 'recycle' } ], 'recycle';
        is $supervisor->reap($worker), 0;
        is $supervisor->log, $loop eq 'plain' ? '' : "after the loop\n", 'the loop ends, or the process';
    };
}

subtest 'ready at once when it is told to leave before' => sub {
    my ($supervisor, $worker) = (Test::Steadfast->new(role => 'worker'));
    $worker = $supervisor->start_app($app, environment => { APP_LOOP => 'plain', APP_BEFORE => 'kill STOP => $$' });
    waitpid $worker->{pid}, 2;
    $supervisor->say($worker, { type => 'drain' });
    kill CONT => $worker->{pid};
    is $supervisor->reap($worker), 0, 'it does not wait for a request that never comes';
};

subtest 'words that it does not know' => sub {
    my ($supervisor, $worker) = worker(APP_LOOP => 'accept');
    $supervisor->wait_in($worker, 'accept');
    $supervisor->say($worker, qq({"type":"news","of":[1,{"drain":{}}]}\nrubbish\n{"type":["quit"]}\n) . ('x' x 70_000) . "\n");
    like $supervisor->get($worker, '/')->{stdout}, qr/pid=/, 'do it no harm';
    $supervisor->say($worker, '{"type":"dr');
    like $supervisor->get($worker, '/')->{stdout}, qr/pid=/, 'nor does half a word';
    $supervisor->say($worker, qq(ain"}\n));
    is $supervisor->reap($worker), 0, 'until the other half comes';
};

subtest 'no_signals' => sub {
    my ($supervisor, $worker) = worker(PM_NO_SIGNALS => 1);
    like $supervisor->get($worker, '/eval', QUERY_STRING => '"<" . join(",", map { $SIG{$_} // "" } qw(TERM HUP IO)) . ">"')->{stdout}, qr/<,,>/, 'no handler';
    my $client = $supervisor->client($worker);
    $client->begin('/read');
    $client->read_until(qr/begun/);
    $supervisor->say($worker, { type => 'drain' });
    $client->end_body;
    ok $client->finish->{is_complete};
    is $supervisor->reap($worker), 0, 'drain is heard after the request';
    ($supervisor, $worker) = worker(PM_NO_SIGNALS => 1);
    kill TERM => $worker->{pid};
    like $supervisor->reap($worker), qr/\A(?:SIG15|0)\z/, 'TERM does what it does (libfcgi may have a handler of its own)';
};

subtest 'HUP, as FCGI::ProcManager has it' => sub {
    my ($supervisor, $worker) = worker(APP_LOOP => 'plain');
    my $client = $supervisor->client($worker);
    $client->begin('/read');
    $client->read_until(qr/begun/);
    kill HUP => $worker->{pid};
    $client->end_body;
    ok $client->finish->{is_complete}, 'the request is finished';
    is $supervisor->reap($worker), 0, 'then it leaves';
};

subtest 'pm_exit' => sub {
    my ($supervisor, $worker) = worker();
    $supervisor->get($worker, '/exit', QUERY_STRING => 0);
    is_deeply [ $supervisor->hear_all($worker) ], [ { type => 'recycle' } ], 'with 0: recycled';
    is $supervisor->reap($worker), 0;
    ($supervisor, $worker) = worker();
    $supervisor->get($worker, '/exit', QUERY_STRING => 42);
    is_deeply [ $supervisor->hear_all($worker) ], [ { type => 'failed', code => 42, message => 'leaving' } ], 'with another: failed';
    is $supervisor->reap($worker), 42, 'at once';
    is $supervisor->log, "FastCGI: server (pid $worker->{pid}): leaving\n";
};

subtest 'the link of somebody else' => sub {
    my ($supervisor, $worker) = worker();
    my $child = $supervisor->get($worker, '/eval', QUERY_STRING => '$ENV{STEADFAST_LINK} // "none"');
    like $child->{stdout}, qr/none/, 'children of a worker know of none';
    $supervisor->stop($worker);

    $supervisor = Test::Steadfast->new(role => 'zygote');
    $worker = $supervisor->start_ready($app, environment => { APP_BEFORE => 'print STDERR `$^X -MFCGI::ProcManager::Steadfast -e "print ref(FCGI::ProcManager::Steadfast->new) && 1"`' });
    is $supervisor->log, '1', 'nor do children of the script speak on it';
    $supervisor->stop($worker);

    $supervisor = Test::Steadfast->new(role => 'zygote');
    my $zygote = $supervisor->start_ready($supervisor->script(qq{use FCGI::ProcManager::Steadfast; exec \$^X, '$app'}, 'outer.pl'));
    ok $zygote->{hello}, 'a program that executes another: hello is said once';
    my $forked = $supervisor->fork_worker($zygote);
    ok $supervisor->get($forked, '/')->{is_complete};
    $supervisor->stop($_) for $forked, $zygote;
};

for my $fd (77, 1, 'x') {
    subtest "STEADFAST_LINK=$fd" => sub {
        my $supervisor = Test::Steadfast->new(role => 'worker');
        my $script = $supervisor->script('use FCGI::ProcManager::Steadfast; my $pm = FCGI::ProcManager::Steadfast->new({ n_processes => 0 }); $pm->pm_manage; print STDOUT "manages\n"; ');
        my $worker = $supervisor->start_app($script, environment => { STEADFAST_LINK => $fd });
        is $supervisor->reap($worker), 0;
        like $supervisor->log, qr/\AFCGI::ProcManager::Steadfast: STEADFAST_LINK=$fd is no socket of this process: it goes on as without steadfast\n(?:FCGI::.*: neither.*\n)?manages\n\z/, 'one warning, and it goes on';
    };
}

done_testing;
