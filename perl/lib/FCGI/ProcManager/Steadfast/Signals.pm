package FCGI::ProcManager::Steadfast::Signals;

# Signals, and all that depends on the machine's system call numbers.
#
# A worker catches TERM, HUP and IO with perl's safe handlers: they run between two steps of the program, never inside one.
# While it is idle they must interrupt accept(2), so SA_RESTART is off; while it is busy they must not interrupt anything
# (libfcgi takes EINTR in the middle of an answer for the end of it), so SA_RESTART is on. POSIX::sigaction for that costs
# more than many a request. Nothing but one bit changes, so the bit is flipped with rt_sigaction(2) itself: what the kernel
# gave is given back to it with and without the bit.
#
# The end of the link is signalled once, and a signal just before accept is slept through. So an idle worker also lets the
# kernel kill it when its parent, the supervisor, dies: it has nothing in hand.
#
# A zygote must know *who* sent a TERM. perl gives siginfo only to its immediate handlers, which run inside malloc if it has
# to be, and it builds a hash for them: a TERM at the wrong moment destroys the heap. So a zygote blocks TERM while it waits
# for orders, and reads it from a signalfd(2).

use 5.016;
use strict;
use warnings;

use POSIX qw(SIGHUP SIGKILL SIGTERM SIG_BLOCK SIG_UNBLOCK);

our $VERSION = '0.1';

use constant SA_RESTART => 0x1000_0000;    # on all of these
use constant SIGIO      => eval { POSIX::SIGPOLL() } || 29;
use constant MASK_BYTES => 8;

# System calls of those Linux ports whose kernel lays sigaction out as: handler, flags, the rest. Elsewhere we go the long way.
my %PORTS = (
    x86_64      => { rt_sigaction => 13,  prctl => 157, signalfd4 => 289 },
    aarch64     => { rt_sigaction => 134, prctl => 167, signalfd4 => 74 },
    riscv64     => { rt_sigaction => 134, prctl => 167, signalfd4 => 74 },
    loongarch64 => { rt_sigaction => 134, prctl => 167, signalfd4 => 74 },
    ppc64       => { rt_sigaction => 173, prctl => 171, signalfd4 => 313 },
    ppc64le     => { rt_sigaction => 173, prctl => 171, signalfd4 => 313 },
    s390x       => { rt_sigaction => 174, prctl => 172, signalfd4 => 322 },
);

our $IS_PORTABLE;    # for tests: go the long way here, too

sub _call {
    my ($name) = @_;
    return if $IS_PORTABLE || length pack('L!', 0) != 8;
    state $port = $PORTS{ (POSIX::uname())[4] } || {};
    return $port->{$name};
}

my @caught;     # of a worker: [number, action when idle, action when busy]
my $call;       # rt_sigaction
my $is_busy = 0;
my $prctl;      # when it dies with its parent
my $was = '';   # what rt_sigaction says was there

# Catches these with the handlers given, idle.
sub catch {
    my (%handlers) = @_;
    $call   = _call('rt_sigaction');
    @caught = ();
    $prctl  = undef;
    $is_busy = 0;
    for my $name (sort keys %handlers) {
        $SIG{$name} = $handlers{$name};    # perl sets no SA_RESTART
        my $number = $name eq 'TERM' ? SIGTERM : $name eq 'HUP' ? SIGHUP : SIGIO;
        push @caught, $call ? _raw($number) : [$number];
    }
    return;
}

sub _raw {
    my ($number) = @_;
    $was = "\0" x 64;
    syscall($call, $number, 0, $was, MASK_BYTES);
    return [ $number, _with_flag($was, 0), _with_flag($was, 1) ];
}

sub _with_flag {
    my ($action, $is_set) = @_;
    my $flags = unpack 'x8 L!', $action;
    substr $action, 8, 8, pack 'L!', $is_set ? $flags | SA_RESTART : $flags & ~SA_RESTART;
    return $action;
}

sub is_busy { return $is_busy }

sub idle { _switch(0) if $is_busy; return }
sub busy { _switch(1) unless $is_busy; return }

use constant PR_SET_PDEATHSIG => 1;

sub die_with_parent {
    $prctl = _call('prctl') or return;
    syscall($prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) unless $is_busy;
    return;
}

sub _switch {
    ($is_busy) = @_;
    syscall($prctl, PR_SET_PDEATHSIG, $is_busy ? 0 : SIGKILL, 0, 0, 0) if $prctl;
    for my $signal (@caught) {
        if ($call) {
            syscall($call, $signal->[0], $signal->[ 1 + $is_busy ], $was, MASK_BYTES);
            _learn($signal) if $was ne $signal->[ 2 - $is_busy ] && $was ne $signal->[ 1 + $is_busy ];
        }
        else { _switch_portably($signal->[0]) }
    }
    return;
}

sub _switch_portably {
    my ($number) = @_;
    my $action = POSIX::SigAction->new;
    POSIX::sigaction($number, undef, $action);
    return unless code_of($action->handler);
    $action->flags($is_busy ? $action->flags | SA_RESTART : $action->flags & ~SA_RESTART);
    $action->safe(1);
    POSIX::sigaction($number, $action);
    return;
}

# The program has set another handler in the meantime. It stays, with our flag; without one (default, ignored) it stays as
# it is.
sub _learn {
    my ($signal) = @_;
    if (unpack('L!', $was) > 1) { @$signal[ 1, 2 ] = (_with_flag($was, 0), _with_flag($was, 1)); $was = $signal->[ 1 + $is_busy ] }
    my $set = $was;
    syscall($call, $signal->[0], $set, 0, MASK_BYTES);
    return;
}

my $terms;        # the signalfd, as a handle
my $term_set;

# TERM is blocked from now on, and waits to be read. False when this port has no signalfd here: TERM then does what it does.
sub hold_terms {
    my $number = _call('signalfd4') or return;
    $term_set = POSIX::SigSet->new(SIGTERM);
    POSIX::sigprocmask(SIG_BLOCK, $term_set);
    my $mask = pack 'L!', 1 << (SIGTERM - 1);
    my $fd = syscall($number, -1, $mask, MASK_BYTES, POSIX::O_NONBLOCK() | 0x80000);    # SFD_CLOEXEC
    if ($fd < 0 || !open $terms, '+<&=', $fd) { release_terms(); return }
    return 1;
}

sub terms_fd { return $terms ? fileno $terms : undef }

# The pids that have sent TERM (0: from outside our namespace). The kernel keeps one TERM at a time.
sub terms {
    my @pids;
    while ($terms && (sysread($terms, my $info, 128) || 0) == 128) { push @pids, unpack 'x12 L', $info }
    return @pids;
}

# After the fork: a TERM that waits comes now.
sub forget_terms { close $terms if $terms; $terms = undef; return }

sub release_terms {
    forget_terms();
    POSIX::sigprocmask(SIG_UNBLOCK, $term_set) if $term_set;
    $term_set = undef;
    return;
}

# None is heard any more.
sub hold_last_terms { POSIX::sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM)); return }

# A handler as %SIG keeps it, as code; nothing for default and ignored.
sub code_of {
    my ($handler) = @_;
    return if !defined $handler || $handler eq '' || $handler eq 'DEFAULT' || $handler eq 'IGNORE';
    return $handler if ref $handler eq 'CODE';
    no strict 'refs';
    return ref $handler ? undef : \&{ $handler =~ /::|'/ ? $handler : "main::$handler" };
}

1;
