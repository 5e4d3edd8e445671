# A zygote: hello, ready, orders; what a worker finds; how both leave.
use 5.016;
use strict;
use warnings;
use Test::More;
use lib 't/lib';
use Fcntl;
use File::Path ();
use Test::Steadfast;

plan skip_all => 'needs to take orphans' unless Test::Steadfast::is_possible();

my $app = Test::Steadfast::app('site.pl');

sub links_of { my ($worker, $fd) = @_; return readlink "/proc/$worker->{pid}/fd/$fd" }
sub field { my ($pid, $name) = @_; open my $handle, '<', "/proc/$pid/status" or return; my ($line) = grep { /\A$name:/ } <$handle>; return $line =~ s/\A\w+:\s*|\s*\z//gr }

subtest 'hello comes before the application is loaded' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_app($supervisor->script(<<'END'));
use FCGI::ProcManager::Steadfast;
BEGIN { exit 7 }
END
    is_deeply $supervisor->hear($zygote), { type => 'hello', version => 1, pid => $zygote->{pid}, role => 'zygote' };
    is $supervisor->hear($zygote), undef, 'nothing else';
    is $supervisor->reap($zygote), 7;
};

subtest 'a worker' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my $worker = $supervisor->fork_worker($zygote);
    is_deeply $worker->{hello}, { type => 'hello', version => 1, pid => $worker->{pid}, role => 'worker', concurrency => 1 }, 'hello';
    is field($worker->{pid}, 'PPid'), $$, 'its parent is the supervisor';
    is getpgrp($worker->{pid}), $worker->{pid}, 'its group is its own';
    is field($worker->{pid}, 'SigBlk'), '0' x 16, 'no signal is blocked';
    is sprintf('%o', (stat $worker->{path})[2] & 0777), '660', 'the mode of its socket';
    for (1 .. 3) {
        my $answer = $supervisor->get($worker, '/');
        like $answer->{stdout}, qr/pid=$worker->{pid} ppid=$$ role=server manager=$zygote->{pid}/, 'it serves';
        ok $answer->{is_complete};
    }
    $supervisor->wait_in($worker, 'accept');
    $supervisor->say($worker, { type => 'drain' });
    is $supervisor->reap($worker), 0, 'drain wakes it';
    is_deeply [ $supervisor->hear_all($worker) ], [], 'and it has nothing to say';
    is $supervisor->stop($zygote), 0, 'TERM of the supervisor: the zygote leaves';
    is_deeply [ $supervisor->hear_all($zygote) ], [], 'without a word';
    is $supervisor->log, '', 'and nobody prints anything';
};

subtest 'several orders in a row' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app, environment => { APP_BEFORE => 'rand' });
    my @workers = map { $supervisor->order($zygote) } 1 .. 10;
    my %pids;
    for my $worker (@workers) {
        my $forked = $supervisor->hear($zygote, 'forked');
        is $forked->{slot}, $worker->{slot};
        $worker->{pid} = $forked->{pid};
        $supervisor->{processes}{ $worker->{pid} } = $worker;
    }
    my @links;    # they end when they are forgotten
    for (@workers) { my $any = {}; push @links, $any; $supervisor->accept_link($any); $pids{ $supervisor->hear($any, 'hello')->{pid} } = 1; $supervisor->hear($any, 'ready') }
    is_deeply [ sort keys %pids ], [ sort map { $_->{pid} } @workers ], 'each has its own link';
    my %numbers = map { $supervisor->get($_, '/eval', QUERY_STRING => 'rand')->{stdout} => 1 } @workers;
    is keys %numbers, 10, 'and its own random numbers';
    $supervisor->say($zygote, { type => 'quit' });
    is $supervisor->reap($zygote), 0, 'quit';
    like $supervisor->get($workers[0], '/')->{stdout}, qr/pid=/, 'the workers live on';
    is $supervisor->stop($_), 0 for @workers;
};

subtest 'output, and open files' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my @fifos = map { my $path = $supervisor->path($_); POSIX::mkfifo($path, 0600) or die; $path } qw(out err);
    my @readers = map { sysopen my $handle, $_, O_RDONLY | O_NONBLOCK or die; $handle } @fifos;
    my $worker = $supervisor->fork_worker($zygote, stdout => $fifos[0], stderr => $fifos[1]);
    $supervisor->get($worker, '/eval', QUERY_STRING => 'POSIX::write(1, "to stdout", 9); POSIX::write(2, "to stderr", 9)');
    is do { sysread $readers[0], my $text, 100; $text }, 'to stdout', 'stdout';
    is do { sysread $readers[1], my $text, 100; $text }, 'to stderr', 'stderr';
    like $supervisor->get($worker, '/eval', QUERY_STRING => 'open my $h, "<", "/proc/self/fdinfo/1"; join "", <$h>')->{stdout}, qr/flags:\s+0?100001\b/, 'which blocks, as programs expect';
    my $open = $supervisor->get($worker, '/eval', QUERY_STRING => 'print join " ", map { my $to = readlink; $to =~ /socket|pipe|signal/ && m{/([0-9]+)\z} && $1 > 2 ? "$1=$to" : () } glob "/proc/$$/fd/*"; my $x = ""; $x')->{stdout};
    my %inherited = map { (readlink "/proc/$$/fd/$_" // '') => 1 } map { m{/([0-9]+)\z} } glob "/proc/$$/fd/*";
    my @sockets = grep { !$inherited{ s/.*=//r } } grep { /socket|signal/ } split ' ', $open =~ s/.*\r\n\r\n//sr;
    is @sockets, 2, "besides fd 0 to 2: its link and the request: @sockets";
    my $seen = $supervisor->get($worker, '/eval', QUERY_STRING => 'join ",", `ls /proc/self/fd` =~ /[0-9]+/g')->{stdout};
    my ($link) = map { /\A([0-9]+)=/ } @sockets;
    my $flags = $supervisor->get($worker, '/eval', QUERY_STRING => "open my \$h, '<', '/proc/self/fdinfo/$link'; join '', <\$h>")->{stdout};
    like $flags, qr/flags:\s+0?2[0-9]{6}\b/, 'the link is close-on-exec';
    $supervisor->stop($_) for $worker, $zygote;
};

subtest 'direct mode: neither path nor link' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app, listens => 1);
    my $worker = $supervisor->fork_worker($zygote, path => undef);
    $worker->{path} = $zygote->{path};
    like $supervisor->get($worker, '/')->{stdout}, qr/pid=$worker->{pid}/, "the pool's own socket";
    $supervisor->say($zygote, { type => 'fork', slot => 77 });
    my $pid = $supervisor->hear($zygote, 'forked')->{pid};
    my $silent = { pid => $pid };
    $supervisor->{processes}{$pid} = $silent;
    is $supervisor->stop($worker), 0;
    like $supervisor->get($zygote, '/')->{stdout}, qr/pid=$pid/, 'without a link it serves all the same';
    is $supervisor->stop($silent), 0;
    $supervisor->stop($zygote);
};

subtest 'an order that cannot be done' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my %wrong = (path => '/nowhere/x', link => '/nowhere/y', stdout => '/nowhere/z', stderr => $supervisor->path('no-reader'));
    POSIX::mkfifo($wrong{stderr}, 0600);
    for my $key (sort keys %wrong) {
        my $order = $supervisor->order($zygote, $key => $wrong{$key});
        my $said = $supervisor->hear($zygote, 'fork-failed');
        is $said->{slot}, $order->{slot};
        like $said->{message}, qr/\Q$wrong{$key}\E: No such/, $said->{message};
        $supervisor->accept_link({}) if $key ne 'link';
    }
    $supervisor->say($zygote, "no JSON\n{\"type\":\"fork\"}\n{\"type\":\"new\",\"slot\":1}\n");
    my $worker = $supervisor->fork_worker($zygote);
    like $supervisor->get($worker, '/')->{stdout}, qr/pid=/, 'it goes on';
    open my $handle, '<', "/proc/$zygote->{pid}/task/$zygote->{pid}/children" or die;
    is join('', <$handle>), '', 'no child is left';
    $supervisor->stop($_) for $worker, $zygote;
};

# The processes that wait for this zygote's next order. They are its orphans, so they are children of ours.
sub spares {
    my ($zygote) = @_;
    open my $handle, '<', "/proc/$$/task/$$/children" or die;
    return grep { $_ != $zygote->{pid} && (getpgrp($_) // 0) == $zygote->{pid} && field($_, 'State') !~ /\AZ/ } split ' ', <$handle> // '';
}

sub spare {
    my ($zygote, $not) = @_;
    for (1 .. 1000) { my ($pid) = grep { $_ != ($not // 0) } spares($zygote); return $pid if $pid; select undef, undef, undef, 0.01 }
    die 'there is no spare';
}

sub count_fds { my ($pid) = @_; return scalar(() = glob "/proc/$pid/fd/*") }

subtest 'the spare' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    select undef, undef, undef, 0.2;
    is_deeply [ spares($zygote) ], [], 'none before the first order';
    my @workers = $supervisor->fork_worker($zygote);
    my $spare = spare($zygote);
    $supervisor->wait_in({ pid => $spare }, qw(select pselect6));
    is_deeply [ spares($zygote) ], [$spare], 'one after it';
    like do { open my $handle, '<', "/proc/$spare/cmdline" or die; <$handle> }, qr/ spare/, 'by its name';

    push @workers, $supervisor->fork_worker($zygote);
    is $workers[1]{pid}, $spare, 'it is the next worker';
    is getpgrp $spare, $spare, 'in a group of its own';
    is field($spare, 'SigBlk'), '0' x 16, 'no signal is blocked';
    is count_fds($spare), count_fds($workers[0]{pid}), 'and it has no more open than the first';
    my $second = spare($zygote);

    push @workers, map { $supervisor->order($zygote) } 1 .. 3;
    my @links;
    for (@workers[ 2 .. 4 ]) { push @links, my $link = {}; $supervisor->accept_link($link); $_->{pid} = $supervisor->hear($zygote, 'forked')->{pid}; $supervisor->{processes}{ $_->{pid} } = $_ }
    is $workers[2]{pid}, $second, 'the first of many orders is its';
    like $supervisor->get($_, '/')->{stdout}, qr/pid=$_->{pid} ppid=$$ role=server/, 'they serve' for @workers;
    my %numbers = map { $supervisor->get($_, '/eval', QUERY_STRING => 'rand')->{stdout} => 1 } @workers;
    is keys %numbers, 5, 'each with its own random numbers';

    for my $signal (qw(KILL TERM)) {
        my $victim = spare($zygote);
        $supervisor->wait_in({ pid => $victim }, qw(select pselect6));
        kill $signal => $victim;
        is $supervisor->reap({ pid => $victim }), $signal eq 'TERM' ? 0 : 'SIG9', "$signal ends it";
        push @workers, $supervisor->fork_worker($zygote);
        like $supervisor->get($workers[-1], '/')->{stdout}, qr/pid=$workers[-1]{pid} ppid=$$/, 'which is no loss';
    }
    my $last = spare($zygote);
    is $supervisor->stop($zygote), 0;
    is $supervisor->reap({ pid => $last }), 0, 'it goes with the zygote';
    is_deeply [ $supervisor->hear_all($zygote) ], [], 'of which nobody hears';
    $supervisor->stop($_) for @workers;
    is $supervisor->log, '', 'and nobody prints anything';
};

subtest 'the spare of a zygote that is killed' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my @workers = map { $supervisor->fork_worker($zygote) } 1 .. 2;
    my $spare = spare($zygote);
    push @workers, $supervisor->fork_worker($zygote);
    my $last = spare($zygote);
    kill KILL => $zygote->{pid};
    is $supervisor->reap($zygote), 'SIG9';
    is $supervisor->reap({ pid => $last }), 0, 'nobody else has the other end of its socket pair';
    like $supervisor->get($_, '/')->{stdout}, qr/pid=$_->{pid}/, 'the workers serve' for @workers;
    $supervisor->stop($_) for @workers;
};

subtest 'the kernel refuses a fork' => sub {
    for my $who (qw(zygote middle)) {
        my $supervisor = Test::Steadfast->new;
        my $refusals = $supervisor->path('refusals');
        my $script = $supervisor->script(<<'END' . do { open my $handle, '<', $app or die; local $/; <$handle> });
BEGIN {
    my $zygote = $$;
    *CORE::GLOBAL::fork = sub {
        return CORE::fork() unless -e $ENV{REFUSALS} && ($ENV{REFUSED} eq 'zygote') == ($$ == $zygote);
        open my $handle, '>>', $ENV{REFUSALS} or die;
        syswrite $handle, "no\n";
        $! = 11;
        return;
    };
}
END
        my $zygote = $supervisor->start_ready($script, environment => { REFUSALS => $refusals, REFUSED => $who });
        open my $handle, '>', $refusals or die;
        $supervisor->order($zygote);
        my $said = $supervisor->hear($zygote, 'fork-failed');
        is $said->{errno}, 11, "the $who: $said->{message}";
        my $count = sub { open my $handle, '<', $refusals or die; return scalar(() = <$handle>) };
        for (1 .. 500) { last if $count->() > 1; select undef, undef, undef, 0.01 }
        is $count->(), 2, 'the spare is refused, too, and tried once';
        unlink $refusals;
        my $worker = $supervisor->fork_worker($zygote);
        like $supervisor->get($worker, '/')->{stdout}, qr/pid=$worker->{pid}/, 'which does not count any more when there is an order';
        spare($zygote);
        $supervisor->stop($_) for $worker, $zygote;
    }
};

subtest 'pages that are copied in advance' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my $faults = sub { my ($worker) = @_; open my $handle, '<', "/proc/$worker->{pid}/stat" or die; return (split ' ', <$handle> =~ s/.*\)//r)[7] };
    my $first = $supervisor->fork_worker($zygote);
    $supervisor->wait_in($first, 'accept');
    my $spare = { pid => spare($zygote) };
    $supervisor->wait_in($spare, qw(select pselect6));
    my $before = $faults->($spare);
    my $second = $supervisor->fork_worker($zygote);
    $supervisor->wait_in($second, 'accept');
    my @took = ($faults->($first), $faults->($second) - $before);
    cmp_ok $took[1], '<', $took[0] / 2, "a start takes @took page faults";
    $supervisor->stop($_) for $first, $second, $zygote;
};

subtest 'the supervisor dies' => sub {
    for my $loop (qw(loop plain accept)) {
        my $supervisor = Test::Steadfast->new;
        my $zygote = $supervisor->start_ready($app, environment => { APP_LOOP => $loop });
        my $idle = $supervisor->fork_worker($zygote);
        my $busy = $supervisor->fork_worker($zygote);
        my $client = $supervisor->client($busy);
        $client->begin('/read');
        $client->read_until(qr/begun/);
        $supervisor->wait_in($idle, 'accept');
        $supervisor->close_link($_) for $zygote, $idle, $busy;
        is $supervisor->reap($zygote), 0, "$loop: the zygote leaves";
        is $supervisor->reap($idle), 0, "$loop: so does the idle worker";
        $client->body('x' x 5000);
        $client->end_body;
        like $client->finish->{stdout}, qr/read 5000/, "$loop: the busy one finishes";
        is $supervisor->reap($busy), 0, "$loop: and leaves";
    }
};

subtest 'the supervisor is killed in a bad moment' => sub {
    for my $loop (qw(loop plain)) {
        for (1 .. 30) {
            pipe my $reader, my $writer or die;
            my $pid = fork // die;
            if (!$pid) {    # a supervisor that takes orphans, then dies with all that it has
                Test::Steadfast::is_possible();
                my $supervisor = Test::Steadfast->new;
                my $zygote = $supervisor->start_ready($app, environment => { APP_LOOP => $loop });
                my @workers = map { $supervisor->fork_worker($zygote) } 1 .. 2;
                syswrite $writer, join(' ', $supervisor->path(''), $zygote->{pid}, map { $_->{pid} } @workers) . "\n";
                kill KILL => $$;
            }
            close $writer;
            my ($directory, @pids) = split ' ', <$reader>;
            waitpid $pid, 0;
            File::Path::remove_tree($directory);
            my $left = Test::Steadfast->new;
            $left->reap({ pid => $_ }, deadline => 10) for @pids;
        }
        pass "$loop: nobody stays";
    }
};

subtest 'the zygote waits without work' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app);
    my $worker = $supervisor->fork_worker($zygote);
    $supervisor->wait_endlessly($zygote);    # it has its spare
    # Whoever waits is not switched away from; ticks of the clock would be charged to whoever runs when they strike.
    my $switches = sub { open my $handle, '<', "/proc/$zygote->{pid}/status" or die; grep /ctxt_switches/, <$handle> };
    my @before = $switches->();
    $supervisor->get($worker, '/sleep') for 1 .. 3;
    is_deeply [$switches->()], \@before;
    $supervisor->stop($_) for $worker, $zygote;
};

subtest 'children of the application are not ours' => sub {
    my $supervisor = Test::Steadfast->new;
    my $zygote = $supervisor->start_ready($app, environment => {
        APP_BEFORE => '$SIG{CHLD} = sub { 1 while waitpid(-1, 1) > 0 }; if (!fork) { <STDIN>; exec "sleep", 100 or exit }',
        APP_AFTER => '$pm->pm_manage(n_processes => 3)',    # again: it serves already
    });
    my $worker = $supervisor->fork_worker($zygote);
    my $answer = $supervisor->get($worker, '/eval', QUERY_STRING => 'my $pid = fork // die; if (!$pid) { $pm->pm_notify("child"); eval { local *CORE::GLOBAL::exit; FCGI::ProcManager::Steadfast::Link->can("new"); $pm->pm_post_dispatch }; POSIX::_exit(0) if 1; } waitpid $pid, 0; "status $?"');
    like $answer->{stdout}, qr/status/, 'a fork in a request';
    my $child = $supervisor->get($worker, '/eval', QUERY_STRING => 'my $pid = fork // die; if (!$pid) { kill STOP => $$; POSIX::_exit(1) } local $SIG{CHLD}; waitpid $pid, 2; kill TERM => $pid; kill CONT => $pid; waitpid $pid, 0; "status $?"');
    like $child->{stdout}, qr/status 15\b/, 'TERM ends a child as it would without us';
    $supervisor->get($worker, '/eval', QUERY_STRING => 'my $pid = fork // die; if (!$pid) { eval { $pm->pm_exit("in a child", 9) }; } waitpid $pid, 0; ""');
    $supervisor->stop($worker);
    is_deeply [ $supervisor->hear_all($worker) ], [], 'a child does not speak';
    open my $handle, '<', "/proc/$zygote->{pid}/task/$zygote->{pid}/children" or die;
    my ($child_of_app) = split ' ', <$handle> // '';
    kill KILL => $child_of_app if $child_of_app;
    $supervisor->stop($zygote);
};

subtest 'hooks, names, sizes, the pid file' => sub {
    my $supervisor = Test::Steadfast->new;
    my $script = $supervisor->script(<<'END');
package Mine;
use parent 'FCGI::ProcManager::Steadfast';
sub managing_init { my ($this) = @_; print STDERR "managing $$\n"; $this->SUPER::managing_init }
sub handling_init { my ($this) = @_; print STDERR "handling $$\n"; $this->SUPER::handling_init }
package main;
use FCGI;
my $pm = Mine->new({ n_processes => 8, max_nproc => 32, pid_fname => $ENV{PID_FILE} });
print STDERR 'isa ', $pm->isa('FCGI::ProcManager') ? 1 : 0, "\n";
my $request = FCGI::Request();
$pm->pm_manage;
while ($pm->pm_loop && $request->Accept >= 0) { $pm->pm_pre_dispatch; print "\r\n$0"; $request->Finish; $pm->pm_post_dispatch }
END
    my $file = $supervisor->path('pid');
    my $zygote = $supervisor->start_ready($script, environment => { PID_FILE => $file });
    my $worker = $supervisor->fork_worker($zygote);
    like $supervisor->get($worker, '/')->{stdout}, qr/perl-fcgi\z/, 'the name of a worker';
    like field($zygote->{pid}, 'Name'), qr/perl-fcgi-pm/, 'the name of a zygote';
    is $supervisor->log, "isa 1\nFastCGI: manager (pid $zygote->{pid}): n_processes max_nproc: steadfast decides; see workers = { min = ..., max = ... } in the pool's configuration\n"
        . "managing $zygote->{pid}\nhandling $worker->{pid}\n", 'hooks at their places, and one notice';
    is do { open my $handle, '<', $file or die; <$handle> }, "$$\n", "the supervisor's pid";
    $supervisor->stop($_) for $worker, $zygote;
};

done_testing;
