package FCGI::ProcManager::Steadfast;

use 5.016;
use strict;
use warnings;

use FCGI::ProcManager::Steadfast::Link;

our $VERSION = '0.1';

our $SIG_CODEREF;    # the parent exports it; here it does nothing
our (@ISA, $Q);

my @FUNCTIONS = qw(
    pm_manage pm_die pm_wait pm_write_pid_file pm_remove_pid_file pm_pre_dispatch pm_post_dispatch
    pm_change_process_name pm_received_signal pm_parameter pm_warn pm_notify pm_abort pm_exit
    pm_loop pm_accept pm_check pm_fail pm_broken
);
my @CODES = qw(EX_PRELOAD EX_FCGI_CREATE EX_FCGI_ACCEPT EX_REQUEST);

our @EXPORT_OK   = (@FUNCTIONS, @CODES, '$SIG_CODEREF');
our %EXPORT_TAGS = (all => [ @FUNCTIONS, '$SIG_CODEREF' ], exit => [@CODES]);

# Which of the two it is: known when the module is loaded, for a zygote says hello before it loads anything else.
my $is_managed;

sub _begin {
    my $link = _link();
    if ($link) {
        _use_managed($link, ($ENV{STEADFAST_ROLE} // '') eq 'zygote' ? 'zygote' : 'worker');
        $is_managed = 1;
        return;
    }
    require FCGI::ProcManager::Steadfast::Fallback;
    @ISA = ('FCGI::ProcManager::Steadfast::Fallback');
    return;
}

# The name of the parent alone makes isa true; it need not be there.
sub _use_managed {
    my ($link, $role) = @_;
    require FCGI::ProcManager::Steadfast::Managed;
    @ISA = ('FCGI::ProcManager::Steadfast::Managed', 'FCGI::ProcManager');
    FCGI::ProcManager::Steadfast::Managed->begin($link, $role);
    return;
}

# Programs that the application starts inherit the variable: a link whose other end is not our parent is not for us.
sub _link {
    my $fd = $ENV{STEADFAST_LINK} // '';
    return if $fd eq '';
    my $link = FCGI::ProcManager::Steadfast::Link->adopt($fd);
    unless ($link) {
        delete $ENV{STEADFAST_LINK};
        warn __PACKAGE__ . ": STEADFAST_LINK=$fd is no socket of this process: it goes on as without steadfast\n";
        return;
    }
    my $peer = $link->peer;
    return $peer && $peer != getppid ? undef : $link;
}

# Loads what does the work outside steadfast, as late as it can be.
sub _load_fallback {
    return if $is_managed || FCGI::ProcManager::Steadfast::Fallback::load();
    warn __PACKAGE__ . ": neither steadfast nor FCGI::ProcManager is here: this one process serves\n";
    _use_managed(FCGI::ProcManager::Steadfast::Link->new, 'worker');
    $is_managed = 1;
    return;
}

sub new {
    my ($class, @arguments) = @_;
    _load_fallback();
    return ($ISA[0]->can('new'))->($class, @arguments);
}

# The object that was given, or the default one; the rest.
sub self_or_default {
    if (!ref $_[0]) { shift if defined $_[0] && UNIVERSAL::isa($_[0], 'FCGI::ProcManager::Steadfast::Common') }
    return wantarray ? @_ : $_[0] if ref $_[0] && UNIVERSAL::isa($_[0], 'FCGI::ProcManager::Steadfast::Common');
    $Q ||= __PACKAGE__->new;
    unshift @_, $Q;
    return wantarray ? @_ : $Q;
}

sub import {
    my ($class, @names) = @_;
    my @wanted = grep { $_ ne ':replace' } @names;
    if (@wanted < @names) { _replace((caller)[2]) }
    else                  { _load_fallback() }
    _export(scalar caller, map { /\A:(.*)/s ? @{ $EXPORT_TAGS{$1} || _no($_) } : $_ } @wanted);
    return;
}

sub _no { require Carp; Carp::croak("\"$_[0]\" is not exported by the " . __PACKAGE__ . ' module') }

sub _export {
    my ($package, @names) = @_;
    my %is_function = map { $_ => 1 } @FUNCTIONS;
    my %is_code     = map { $_ => 1 } @CODES;
    no strict 'refs';
    for my $name (map { s/\A&//r } @names) {
        if    ($is_function{$name})          { *{"${package}::$name"} = _function($name) }
        elsif ($is_code{$name})              { *{"${package}::$name"} = FCGI::ProcManager::Steadfast::Common->can($name) }
        elsif ($name eq '$SIG_CODEREF')      { *{"${package}::SIG_CODEREF"} = \$SIG_CODEREF }
        else                                 { _no($name) }
    }
    return;
}

sub _function {
    my ($name) = @_;
    return sub { my ($this, @arguments) = &self_or_default; return $this->$name(@arguments) };
}

# FCGI::ProcManager and ::Dynamic are this class from now on. Outside steadfast they are what they are.
sub _replace {
    my ($line) = @_;
    if (!$is_managed) {
        # Whoever writes us in its place expects the real one to be there. A switch (perl -M, at line 0) concerns programs
        # that ask for it themselves, or do not.
        local $@;
        eval { require FCGI::ProcManager } if $line;
        return;
    }
    no strict 'refs';
    no warnings qw(once redefine);
    my @methods = map { my $room = $_; map { [ $_ => $room->can($_) ] } grep { defined &{"${room}::$_"} } keys %{"${room}::"} }
        qw(FCGI::ProcManager::Steadfast::Common FCGI::ProcManager::Steadfast::Managed);
    my %has = ('FCGI::ProcManager' => '0.28', 'FCGI::ProcManager::Dynamic' => '0.6');
    for my $package (sort keys %has) {
        my $file = $package =~ s{::}{/}gr . '.pm';
        if ($INC{$file}) { *{"${package}::$_->[0]"} = $_->[1] for grep { $_->[0] =~ /\A[a-z]/ } @methods }    # it came first
        $INC{$file} = __FILE__;
        @{"${package}::ISA"} = ('FCGI::ProcManager::Steadfast::Managed');
        ${"${package}::VERSION"} //= $has{$package};
        *{"${package}::import"} = sub { shift; unshift @_, __PACKAGE__; goto &import };
    }
    push @FCGI::ProcManager::Dynamic::ISA, 'FCGI::ProcManager';
    ${'FCGI::ProcManager::Default'} = __PACKAGE__;
    return;
}

_begin();

1;

__END__

=encoding utf8

=head1 NAME

FCGI::ProcManager::Steadfast - FCGI::ProcManager for FastCGI programs under steadfast

=head1 SYNOPSIS

    use FCGI::ProcManager::Steadfast qw(:exit);   # before the application: the earlier it says hello, the better
    use My::Site;
    use FCGI;

    my $pm = FCGI::ProcManager::Steadfast->new({ max_requests => 500 });
    $pm->pm_check('Site::Response' => 'new', 'Site::DB' => [ 'connect', 'ping' ]);

    my $request = FCGI::Request();
    $pm->pm_manage;                               # returns in each worker

    while ($pm->pm_accept($request)) {
        $pm->pm_pre_dispatch;
        My::Site->handle or $pm->pm_fail(EX_REQUEST, 'cannot handle requests any more');
        $pm->pm_post_dispatch;
    }

The loops of the parents work as well:

    while ($pm->pm_loop && $request->Accept >= 0) { ... }
    while (my $cgi = CGI::Fast->new) { ... }

=head1 DESCRIPTION

Takes the place of L<FCGI::ProcManager> and L<FCGI::ProcManager::Dynamic>, with their methods and functions, in a program
that steadfast manages. What happens depends on what started the program:

=over

=item steadfast, with C<STEADFAST_ROLE=zygote>

C<pm_manage> forks a worker whenever steadfast orders one, and returns 1 in that worker.

=item steadfast, with C<STEADFAST_ROLE=worker>

C<pm_manage> says that this process is ready, and returns 1. It does not fork.

=item something else

FCGI::ProcManager::Dynamic does the work if it is installed, else FCGI::ProcManager, else this one process serves.

=back

How many workers there are is said in the pool's configuration. C<n_processes>, C<min_nproc>, C<max_nproc>,
C<delta_nproc>, C<delta_time> are accepted, and a zygote notes once on STDERR that nobody looks at them.

A zygote says hello when this module is loaded. It must have one thread, and no connections that its workers would then share:
open databases in C<handling_init> or after C<pm_manage>.

=head2 :replace

    PERL5OPT=-MFCGI::ProcManager::Steadfast=:replace

or C<use FCGI::ProcManager::Steadfast ':replace'>: C<< FCGI::ProcManager->new >> and C<< FCGI::ProcManager::Dynamic->new >>
return an object of this class from then on, whether the real ones are installed or not. So programs that nobody wants to
change, such as gitweb, run as zygotes. Outside steadfast it does nothing.

=head2 plackup

    plackup -MFCGI::ProcManager::Steadfast -s FCGI --manager FCGI::ProcManager::Steadfast app.psgi

C<psgix.harakiri> and C<psgix.cleanup> work; harakiri is told as C<recycle>. As with the parent, cleanup handlers do not run
for a request during which SIGTERM came.

=head1 METHODS

Those of FCGI::ProcManager and ::Dynamic: C<new>, C<pm_manage>, C<pm_pre_dispatch>, C<pm_post_dispatch>, C<pm_loop>,
C<pm_exit>, C<pm_die>, C<pm_abort>, C<pm_warn>, C<pm_notify>, C<pm_wait> (there is nobody to wait for: -1), C<pm_parameter>,
C<pm_received_signal>, C<pm_change_process_name>, C<pm_write_pid_file>, C<pm_remove_pid_file>, C<n_processes>,
C<min_nproc>, C<max_nproc>, C<delta_nproc>, C<delta_time>, C<max_requests>, C<die_timeout>, C<start_delay>, C<no_signals>,
C<role>, C<pm_title>, C<pid_fname>. Those that start with C<pm_> may be imported and called as functions, on a default object.
To override: C<managing_init>, called in the zygote before it says that it is ready, and C<handling_init>, called in the worker
before it says so; call C<SUPER> in both.

What is different under steadfast:

=over

=item C<pm_loop>, C<pm_post_dispatch>

C<pm_loop> is false, and C<pm_post_dispatch> exits, once the worker is to leave: SIGTERM or SIGHUP came, steadfast said C<drain>
or C<quit>, the link ended, C<max_requests> is reached (which is told as C<recycle>). If C<pm_loop> or C<pm_accept> is used,
C<pm_post_dispatch> exits after a signal only, and leaves the rest to them.

=item C<pm_exit($message, $status)>

With a status: says C<failed>, prints the message, exits at once. With 0: says C<recycle>. A worker that leaves because it was
asked to prints nothing, unlike the parent's.

=item C<pid_fname>

The file gets the pid of steadfast, for that is the manager. It is not removed when a zygote leaves.

=item C<< $pm->{MANAGER_PID} >>

In a forked worker the pid of its zygote, which it may signal (steadfast may be root's); in an executed one that of steadfast.

=back

New ones, which work without steadfast, too:

=over

=item C<pm_check($module =E<gt> $method, ...)>

For after loading: true if each module can do its method, or all in an array reference; C<undef> asks only whether the package
defines anything. Otherwise C<pm_broken(EX_PRELOAD, ...)>: a module can load and be hollow.

=item C<pm_accept($request)>

Accepts one request: true, or false when it is time to leave. Takes an object with C<Accept> such as FCGI::Request's, or code:
C<< while (my $cgi = $pm->pm_accept(sub { CGI::Fast->new })) >>. An interrupted accept asks whether to leave, and goes on. After
five failures in a row it is C<pm_fail(EX_FCGI_ACCEPT, ...)>. When there are no descriptors left it waits a second each time.
C<pm_pre_dispatch> and C<pm_post_dispatch> remain to be called.

=item C<pm_fail($status, $message, $name)>

This worker cannot go on. Says C<failed> to steadfast, waits up to ten seconds for its SIGTERM, and exits with the status. It
never signals the manager. C<$name> is the status' own name unless given.

=item C<pm_broken($status, $message, $name)>

The same for the whole: no other process of this code would do better. Without steadfast it sends SIGTERM to the manager.

=item C<EX_PRELOAD>, C<EX_FCGI_CREATE>, C<EX_FCGI_ACCEPT>, C<EX_REQUEST>

1 to 4, exported on request or by C<:exit>.

=back

=head1 SIGNALS

C<pm_manage> catches TERM, HUP and IO in a worker (not with C<no_signals>: then words of steadfast are heard between requests
only). Handlers that were there before are called, too; one that is set later should call the one it finds. They are perl's safe
handlers. While a worker is idle they interrupt accept; from C<pm_pre_dispatch> to C<pm_post_dispatch> (from the return of
C<pm_accept>) they have SA_RESTART, and interrupt no reading and writing. C<sleep> and C<select> are interrupted as ever. So a
loop without C<pm_pre_dispatch> may have its requests cut.

A child that a worker forks does not speak on the link, and dies of TERM as it would without this module.

A zygote blocks TERM and learns who sent it from a signalfd: one of steadfast's, or of an operator's, ends it; one of a worker's
is told to steadfast. It blocks it from C<pm_manage> on, after C<managing_init>. Perl's own siginfo is of no use: only immediate
handlers get it, which perl runs in the middle of anything, malloc included.

=head2 TERM to the manager

Programs that ended everything with

    kill TERM => $MANAGER_PID; sleep 10; exit $status;

need no change: steadfast takes it for C<broken>. In an executed worker whose C<$MANAGER_PID> is its own pid, and where the
manager is gone or may not be signalled, this module says C<broken> itself. To see it, it puts a C<kill> of its own in
C<CORE::GLOBAL::kill> when steadfast started the program, unless there is one; code compiled before this module was loaded is
not covered.

=head1 LIMITS

=over

=item *

A signal that comes after the last look and before accept is slept through. TERM is sent again each second. The end of the link is
signalled once; therefore an idle forked worker has the kernel kill it when steadfast itself dies (PDEATHSIG), and its END
blocks may not run then.

=item *

Any word on the link wakes an idle worker. A loop without C<pm_loop> or C<pm_accept> ends then, even if it is a word that this
module does not know.

=item *

libfcgi drops a connection when a signal comes after accept and before the request's parameters are there.

=item *

On other machines than 64-bit x86, ARM, RISC-V, LoongArch, POWER and s390 a zygote cannot tell who sent a TERM, and leaves; and
the switch between idle and busy takes some microseconds more.

=back

=head1 SEE ALSO

The link's protocol, F<docs/link.md> of steadfast. L<FCGI>, L<FCGI::ProcManager>, L<FCGI::ProcManager::Dynamic>, L<CGI::Fast>,
L<Plack::Handler::FCGI>.

=head1 LICENSE

MIT OR Apache-2.0, at your choice.

=cut
