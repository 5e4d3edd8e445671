# :replace: programs that know FCGI::ProcManager only, such as gitweb, whether the real one is installed or not.
use 5.016;
use strict;
use warnings;
use Test::More;
use lib 't/lib';
use Test::Steadfast;

plan skip_all => 'needs to take orphans' unless Test::Steadfast::is_possible();

my $switch = '-MFCGI::ProcManager::Steadfast=:replace';
my $program = <<'END';
%s
eval { require FCGI::ProcManager; 1 } or die;
require FCGI;
my $pm = FCGI::ProcManager->new({ n_processes => 4 });
my $request = FCGI::Request();
$pm->pm_manage;
while ($request->Accept >= 0) {
    $pm->pm_pre_dispatch;
    print "\r\n", join ' ', ref $pm, $pm->isa('FCGI::ProcManager'), $pm->role;
    $pm->pm_post_dispatch;
}
END
my $hidden = 'unshift @INC, sub { die "hidden\n" if $_[1] =~ m{\AFCGI/ProcManager(?:/Dynamic)?\.pm\z}; return };';

for my $how ('as it is', 'hidden', 'the real one first') {
    subtest $how => sub {
        plan skip_all => 'FCGI::ProcManager is not installed' if $how eq 'the real one first' && !eval { require FCGI::ProcManager; 1 };
        my $supervisor = Test::Steadfast->new;
        my @switches = ($how eq 'the real one first' ? '-MFCGI::ProcManager' : (), $switch);
        my $zygote = $supervisor->start_ready($supervisor->script(sprintf $program, $how eq 'hidden' ? "BEGIN { $hidden }" : ''), switches => \@switches);
        my $worker = $supervisor->fork_worker($zygote);
        like $supervisor->get($worker, '/')->{stdout}, qr/FCGI::ProcManager::Steadfast 1 server\z/, 'it is ours';
        $supervisor->wait_in($worker, 'accept');
        is $supervisor->stop($worker), 0;
        is $supervisor->stop($zygote), 0;
        unlike $supervisor->log, qr/redefine|Subroutine/i;
    };
}

subtest 'in the place of the real one, without steadfast' => sub {
    plan skip_all => 'FCGI::ProcManager is not installed' unless eval { require FCGI::ProcManager; 1 };
    delete local $ENV{STEADFAST_LINK};
    my $said = qx{$^X -Ilib -e "use FCGI::ProcManager::Steadfast ':replace'; print ref FCGI::ProcManager->new" 2>&1};
    is $said, 'FCGI::ProcManager', 'it is loaded, and does the work';
};

subtest 'functions, versions, ::Dynamic, subclasses' => sub {
    my $supervisor = Test::Steadfast->new(role => 'worker');
    my $script = $supervisor->script(<<'END');
use FCGI::ProcManager 0.18 qw(:all);
use FCGI::ProcManager::Dynamic 0.5;
{ package Mine; use base 'FCGI::ProcManager'; sub handling_init { my ($this) = @_; $this->SUPER::handling_init; print STDERR "mine\n" } }
print STDERR join ' ', map { ref } FCGI::ProcManager::Dynamic->new({ max_requests => 3 }), Mine->new;
print STDERR "\n";
print STDERR FCGI::ProcManager->can('pm_loop') ? "can\n" : "cannot\n";
my $mine = Mine->new;
$mine->pm_manage(n_processes => 3);
pm_manage(n_processes => 5);
pm_pre_dispatch();
pm_parameter('x', 5);
print STDERR pm_parameter('x'), ' ', pm_parameter('n_processes'), "\n";
pm_post_dispatch();
pm_exit("bye");
END
    my $worker = $supervisor->start_ready($script, switches => [$switch]);
    is $supervisor->reap($worker), 0;
    like $supervisor->log, qr/\AFCGI::ProcManager::Steadfast Mine\ncan\nmine\n5 5\nFastCGI: .*: bye\n\z/ or diag $supervisor->log;
};

subtest 'gitweb' => sub {
    my $gitweb = '/usr/share/gitweb/gitweb.cgi';
    plan skip_all => 'gitweb, git, CGI::Fast are not all here' unless -r $gitweb && eval { require CGI::Fast; 1 } && !system 'git --version >/dev/null 2>&1';
    my $supervisor = Test::Steadfast->new;
    my $root = $supervisor->path('root');
    system "mkdir $root && git init -q --bare $root/story.git" and plan skip_all => 'no repository';
    my $config = $supervisor->script("our \$projectroot = '$root';", 'gitweb.conf');
    for my $hide (0, 1) {
        my $library = $supervisor->path('hide');
        mkdir $library;
        $supervisor->script("package Hide; BEGIN { $hidden } 1;", 'hide/Hide.pm');
        my $zygote = $supervisor->start_ready($gitweb, arguments => [qw(--fastcgi --nproc=4)], lib => [$library],
            environment => { PERL5OPT => ($hide ? '-MHide ' : '') . $switch });
        my $worker = $supervisor->fork_worker($zygote);
        for (1, 2) {
            my $answer = $supervisor->get($worker, '/', GITWEB_CONFIG => $config);
            like $answer->{stdout}, qr/story\.git/, 'the list of projects' . ($hide ? ', FCGI::ProcManager is not installed' : '');
        }
        $supervisor->wait_in($worker, 'accept');
        is $supervisor->stop($worker), 0;
        is $supervisor->stop($zygote), 0;
    }
};

subtest 'outside steadfast it does nothing' => sub {
    plan skip_all => 'FCGI::ProcManager is not installed' unless eval { require FCGI::ProcManager; 1 };
    local $ENV{STEADFAST_LINK};
    local $ENV{PERL5LIB} = join ':', @INC;
    is `$^X $switch -e 'print exists \$INC{"FCGI/ProcManager.pm"} ? "loaded" : "not loaded", " "; require FCGI::ProcManager; print ref FCGI::ProcManager->new, " ", \$INC{"FCGI/ProcManager.pm"}'`,
        "not loaded FCGI::ProcManager $INC{'FCGI/ProcManager.pm'}";
};

done_testing;
