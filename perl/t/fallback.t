# Without steadfast: the parent does the work, and the same script runs.
use 5.016;
use strict;
use warnings;
use Test::More;
use lib 't/lib';
use Cwd qw(abs_path);
use Test::Steadfast;

plan skip_all => 'needs to take orphans' unless Test::Steadfast::is_possible();
plan skip_all => 'FCGI::ProcManager is not installed' unless eval { require FCGI::ProcManager; 1 };

my $app     = Test::Steadfast::app('site.pl');
my $dynamic = abs_path('t/dynamic');
my %outside = (STEADFAST_LINK => undef, STEADFAST_ROLE => undef, PM_N_PROCESSES => 2);

# A manager on a socket of its own; a pipe ends when all of its processes have.
sub manager {
    my ($supervisor, $script, %what) = @_;
    return $supervisor->start_app($script, role => 'worker', lib => $what{dynamic} ? [$dynamic] : [], environment => { %outside, %{ $what{environment} || {} } });
}

# Waits until both servers are in accept: FCGI::ProcManager sends TERM once, and one that is not there yet sleeps through it.
sub both_are_up {
    my ($supervisor, $manager) = @_;
    my $end = time + $Test::Steadfast::DEADLINE;
    while (time < $end) {
        my $log = $supervisor->log =~ s/.*\(pid $manager->{pid}\): initialized//sr;
        my @servers = $log =~ /pid $manager->{pid}\): server \(pid ([0-9]+)\) started/g;
        if (2 <= grep { $log =~ /server \(pid $_\): initialized/ } @servers) { $supervisor->wait_in({ pid => $_ }, 'accept') for @servers; return }
        select undef, undef, undef, 0.005;
    }
    die 'the servers do not come up: ' . $supervisor->log;
}

for my $parent ('FCGI::ProcManager', 'FCGI::ProcManager::Dynamic') {
    my $is_dynamic = $parent =~ /Dynamic/;
    for my $loop (qw(loop plain accept)) {
        subtest "$parent: $loop" => sub {
            my $supervisor = Test::Steadfast->new;
            my $manager = manager($supervisor, $app, dynamic => $is_dynamic, environment => { APP_LOOP => $loop, PM_MAX_REQUESTS => 2 });
            my %pids;
            for (1 .. 5) {
                my $answer = $supervisor->get($manager, '/');
                like $answer->{stdout}, qr/pid=[0-9]+ ppid=$manager->{pid} role=server manager=$manager->{pid}/, 'a server of the manager';
                $answer->{stdout} =~ /pid=([0-9]+)/ and $pids{$1}++;
            }
            ok keys %pids > 2, 'max_requests';
            ok !(grep { $_ > 2 } values %pids), 'is kept';
            # Not this one: FCGI::ProcManager 0.28 spins when TERM comes while it hears of a server's end.
            kill KILL => -$manager->{pid};
            $supervisor->reap($manager);
            $manager = manager($supervisor, $app, dynamic => $is_dynamic, environment => { APP_LOOP => $loop });
            like $supervisor->get($manager, '/eval', QUERY_STRING => '(grep { $_ } map { $pm->isa($_) } qw(FCGI::ProcManager::Dynamic FCGI::ProcManager FCGI::ProcManager::Steadfast)) . ""')->{stdout}, $is_dynamic ? qr/3\z/ : qr/2\z/, 'isa';
            both_are_up($supervisor, $manager);
            kill TERM => $manager->{pid};
            is $supervisor->reap($manager), 0, 'TERM: manager and servers leave';
        };
    }
}

subtest 'pm_fail ends one server, pm_broken all' => sub {
    my $supervisor = Test::Steadfast->new;
    my $manager = manager($supervisor, $app);
    ok $supervisor->get($manager, '/fail')->{is_complete} for 1 .. 3;
    like $supervisor->get($manager, '/')->{stdout}, qr/ppid=$manager->{pid} /, 'the manager has started others';
    like $supervisor->log, qr/no more/;
    my @servers = $supervisor->log =~ /server \(pid ([0-9]+)\) started/g;
    my %gone = map { $_ => 1 } $supervisor->log =~ /server \(pid ([0-9]+)\) exited/g;
    $supervisor->wait_in({ pid => $_ }, 'accept') for grep { !$gone{$_} } @servers;
    ok $supervisor->get($manager, '/eval', QUERY_STRING => '$request->Finish; $pm->pm_broken(1, "all is lost")')->{is_complete};
    is $supervisor->reap($manager), 0, 'the manager has left';
    like $supervisor->log, qr/all is lost/;
};

subtest 'pm_check' => sub {
    my $supervisor = Test::Steadfast->new;
    my $manager = manager($supervisor, $app, environment => { APP_BEFORE => 'BEGIN { $INC{"Site/Response.pm"} = "hollow" } $pm->pm_check("Site::Response" => "new")' });
    is $supervisor->reap($manager), 1, 'exits at once';
    like $supervisor->log, qr/via package "Site::Response" \(perhaps a hollow module: it loaded, but defines nothing\)/;
};

subtest 'functions' => sub {
    my $supervisor = Test::Steadfast->new;
    my $script = $supervisor->script(<<'END');
use FCGI;
use FCGI::ProcManager::Steadfast qw(pm_manage pm_loop pm_pre_dispatch pm_post_dispatch);
my $request = FCGI::Request();
pm_manage(n_processes => 2);
while (pm_loop() && $request->Accept >= 0) { pm_pre_dispatch(); print "\r\nhello"; pm_post_dispatch() }
END
    my $manager = manager($supervisor, $script);
    like $supervisor->get($manager, '/')->{stdout}, qr/hello/;
    both_are_up($supervisor, $manager);
    kill TERM => $manager->{pid};
    is $supervisor->reap($manager), 0;
};

subtest 'no manager at all' => sub {
    my $supervisor = Test::Steadfast->new;
    my $script = $supervisor->script("BEGIN { unshift \@INC, sub { die qq(hidden\\n) if \$_[1] =~ m{\\AFCGI/ProcManager(?:/Dynamic)?\\.pm\\z}; return } } do '$app' or die \$@;");
    my $process = manager($supervisor, $script);
    like $supervisor->get($process, '/')->{stdout}, qr/pid=$process->{pid}/, 'one process serves' for 1, 2;
    $supervisor->wait_in($process, 'accept');
    is $supervisor->stop($process), 0, 'and leaves on TERM';
    is $supervisor->log, "FCGI::ProcManager::Steadfast: neither steadfast nor FCGI::ProcManager is here: this one process serves\n";
};

done_testing;
