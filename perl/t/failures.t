# What a process says when it cannot go on: pm_check, pm_fail, pm_broken, accept that fails, and the story's own words.
use 5.016;
use strict;
use warnings;
use Test::More;
use lib 't/lib';
use Time::HiRes qw(time);
use Test::Steadfast;

plan skip_all => 'needs to take orphans' unless Test::Steadfast::is_possible();

my $app = Test::Steadfast::app('site.pl');
my $hollow = qq{Can't locate object method "new" via package "Site::Response" (perhaps a hollow module: it loaded, but defines nothing)};
my $check = 'BEGIN { $INC{"Site/Response.pm"} = "hollow" } $pm->pm_check("Site::Response" => "new")';

for my $role (qw(zygote worker)) {
    subtest "a hollow module in a $role" => sub {
        my $supervisor = Test::Steadfast->new(role => $role);
        my $process = $supervisor->start_app($app, environment => { APP_BEFORE => $check });
        is $supervisor->hear($process, 'hello')->{role}, $role;
        is_deeply $supervisor->hear($process), { type => 'broken', code => 1, name => 'EX_PRELOAD', message => $hollow }, 'broken';
        is $supervisor->stop($process), 1, 'TERM: it leaves with its code';
        is $supervisor->log, "FastCGI: manager (pid $process->{pid}): $hollow\n", 'and it has said so on stderr';
    };
}

subtest 'pm_check' => sub {
    my ($supervisor) = Test::Steadfast->new(role => 'worker');
    my $good = 'package Full { sub a {} sub b {} } $pm->pm_check(Full => "a", Full => ["a", "b"], "FCGI::ProcManager::Steadfast" => "pm_loop", Full => []) or die';
    my $process = $supervisor->start_ready($app, environment => { APP_BEFORE => $good });
    is $supervisor->stop($process), 0, 'what is there passes';
    for (['package Full { sub a {} } $pm->pm_check(Full => ["a", "c"])', qr/method "c" via package "Full" \(it defines others\)\z/],
        ['$pm->pm_check("Never::Loaded" => "new")', qr/package "Never::Loaded" \(perhaps a hollow module: it was never loaded\)\z/],
        ['$pm->pm_check("Never::Loaded" => undef)', qr/\APackage "Never::Loaded" is empty/],
        ['$pm->pm_check(A => "x", B => "y")', qr/package "A" .*; .*package "B"/])
    {
        my ($before, $message) = @$_;
        $process = $supervisor->start_app($app, environment => { APP_BEFORE => $before });
        $supervisor->hear($process, 'hello');
        like $supervisor->hear($process, 'broken')->{message}, $message, $before;
        $supervisor->say($process, { type => 'quit' });
        is $supervisor->reap($process), 1, 'quit ends the wait, too';
    }
};

subtest 'nobody answers' => sub {
    my $supervisor = Test::Steadfast->new(role => 'worker');
    my $worker = $supervisor->start_ready($app);
    my $begin = time;
    $supervisor->get($worker, '/fail');
    is_deeply $supervisor->hear($worker), { type => 'failed', code => 4, name => 'EX_REQUEST', message => 'no more' };
    is $supervisor->reap($worker), 4, 'it leaves all the same';
    my $took = time - $begin;
    ok $took > 9 && $took < 12, "after ten seconds: $took";

    $worker = $supervisor->start_ready($app);
    $supervisor->get($worker, '/fail');
    $supervisor->hear($worker, 'failed');
    $supervisor->close_link($worker);
    is $supervisor->reap($worker, deadline => 3), 4, 'and at once when the link ends';

    $worker = $supervisor->start_app($app, environment => { APP_BEFORE => '$SIG{TERM} = sub { print STDERR "previous\n" }; $pm->pm_broken(9, "name it", "EX_MINE")' });
    $supervisor->hear($worker, 'hello');
    is_deeply $supervisor->hear($worker), { type => 'broken', code => 9, name => 'EX_MINE', message => 'name it' }, 'a code and name of one\'s own';
    is $supervisor->stop($worker), 9;
    like $supervisor->log, qr/^previous$/m, 'the handler that was there is called';
};

subtest "the story's words: TERM to the manager" => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my $worker = $supervisor->fork_worker($zygote);
    my $other  = $supervisor->fork_worker($zygote);
    $supervisor->get($worker, '/story');
    is_deeply $supervisor->hear($zygote), { type => 'term', pid => $worker->{pid} }, 'the zygote names the sender';
    is $supervisor->stop($worker), 3, 'the worker leaves with its code';
    ok $supervisor->get($supervisor->fork_worker($zygote), '/')->{is_complete}, 'the zygote goes on';

    my $got = 0;
    {
        local $SIG{TERM} = sub { $got++ };
        $supervisor->get($other, '/story', QUERY_STRING => 'parent');
        select undef, undef, undef, $Test::Steadfast::DEADLINE unless $got;
        $supervisor->stop($other);
        is $got, 1, "a TERM to the parent is the supervisor's to judge";
    }

    my $stranger = fork // die;
    if (!$stranger) { kill TERM => $zygote->{pid}; POSIX::_exit(0) }
    waitpid $stranger, 0;
    is_deeply $supervisor->hear($zygote), { type => 'term', pid => $stranger }, 'a stranger is named, too';
    is $supervisor->reap($zygote), 0, 'but that is an order: the zygote leaves';
};

subtest 'a TERM to oneself' => sub {
    my $supervisor = Test::Steadfast->new(role => 'worker');
    my $worker = $supervisor->start_ready($app);
    $supervisor->get($worker, '/story');
    is_deeply $supervisor->hear($worker), { type => 'broken', message => 'sent SIGTERM to its manager, which is itself' }, 'is told on the link';
    is $supervisor->stop($worker), 3, 'and the code comes through';
    for my $kill ('kill 15, $$', 'kill "SIGTERM", $$', 'kill(TERM => 0 + $$)') {
        $worker = $supervisor->start_app($supervisor->script("use FCGI::ProcManager::Steadfast; $kill; sleep 10"));    # FCGI.pm catches TERM
        $supervisor->hear($worker, 'hello');
        is $supervisor->hear($worker)->{type}, 'broken', $kill;
        is $supervisor->reap($worker), 'SIG15';
    }
    $worker = $supervisor->start_ready($app);
    like $supervisor->get($worker, '/eval', QUERY_STRING => 'my $n = kill 0 => $$, getppid; my $m = kill(TERM => 4194303); "n=$n m=$m " . ($!{ESRCH} ? "gone" : "?")')->{stdout}, qr/n=2 m=0 gone/, 'kill is kill';
    is $supervisor->stop($worker), 0;
    is_deeply [ $supervisor->hear_all($worker) ], [], 'and nothing was said of it';
};

subtest 'a manager that is gone' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my $worker = $supervisor->fork_worker($zygote);
    kill KILL => $zygote->{pid};
    is $supervisor->reap($zygote), 'SIG9';
    $supervisor->get($worker, '/story');
    is $supervisor->hear($worker)->{type}, 'broken', 'the worker tells it itself';
    is $supervisor->stop($worker), 3;
};

my $pretend = <<'END';
package Pretend;
our ($result, $errno, $count) = (-9999, 0, 0);
sub Accept { $count++; $! = $errno; return $result }
sub IsFastCGI { 1 }
END
subtest 'accept that fails' => sub {
    my $supervisor = Test::Steadfast->new(role => 'worker');
    my $script = sub { my ($code) = @_; return $supervisor->script("$pretend package main; use FCGI::ProcManager::Steadfast; use POSIX; my \$pm = FCGI::ProcManager::Steadfast->new; \$pm->pm_manage; $code; print STDERR qq(after \$Pretend::count\\n)") };

    my $worker = $supervisor->start_ready($script->('$Pretend::result = -EINVAL; $pm->pm_accept(bless {}, "Pretend")'));
    is_deeply $supervisor->hear($worker), { type => 'failed', code => 3, name => 'EX_FCGI_ACCEPT', message => 'accept failed 5 times in a row: Invalid argument' }, 'five times, then it fails';
    is $supervisor->stop($worker), 3;

    $worker = $supervisor->start_ready($script->('$pm->pm_accept(sub { $Pretend::count++; $! = EBADF; undef })'));
    is $supervisor->hear($worker)->{message}, 'accept failed 5 times in a row: Bad file descriptor', 'a code ref, too';
    is $supervisor->stop($worker), 3;

    $worker = $supervisor->start_ready($script->('my $n = 0; print STDERR $pm->pm_accept(sub { return ++$n > 100 ? "object" : do { $! = EINTR; undef } }), qq(\n)'));
    is $supervisor->reap($worker), 0;
    like $supervisor->log, qr/^object$/m, 'interruptions do not count';

    my $begin = time;
    $worker = $supervisor->start_ready($script->('$pm->pm_accept(sub { $! = EMFILE; undef })'));
    like $supervisor->hear($worker)->{message}, qr/Too many open files/, 'no descriptors left';
    ok time - $begin > 3.5, 'is waited out for a while';
    is $supervisor->stop($worker), 3;

    $begin = time;
    $worker = $supervisor->start_ready($script->('$pm->pm_accept(sub { $! = EMFILE; undef })'));
    $supervisor->say($worker, { type => 'drain' });
    is $supervisor->reap($worker), 0, 'and drain ends that';
    ok time - $begin < 2;
};

done_testing;
