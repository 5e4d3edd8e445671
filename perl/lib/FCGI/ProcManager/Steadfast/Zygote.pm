package FCGI::ProcManager::Steadfast::Zygote;

# A process that has loaded the application and forks its workers when steadfast orders it.
#
# A worker is forked by a middle, which exits at once: so it becomes the supervisor's child. Most of what makes a worker of
# it can be done before there is an order. So, when there is nothing else to do, a *spare* is forked, and waits for the next
# order at its end of a socket pair. The other end is the zygote's alone: when it closes, the spare ends. Until it is
# ordered it belongs to the zygote's group, and ends with that, too. The first one comes after the first order only, for the
# supervisor looks at what a zygote has open when it says that it is ready.

use 5.016;
use strict;
use warnings;

use Errno qw(EINTR);
use Fcntl qw(F_SETFL O_NONBLOCK O_WRONLY);
use POSIX ();
use Socket qw(AF_UNIX MSG_NOSIGNAL PF_UNSPEC SOCK_SEQPACKET SOCK_STREAM pack_sockaddr_un);

use FCGI::ProcManager::Steadfast::Link;
use FCGI::ProcManager::Steadfast::Pages;
use FCGI::ProcManager::Steadfast::Signals;

our $VERSION = '0.1';

use constant FORKED_MAX  => 4_096;    # whose TERM we know for a worker's
use constant BACKLOG     => 8;
use constant PRIVATE_MASK => 0117;
use constant REST         => 0.02;        # seconds without an order, after which a spare is forked
use constant ORDER_MAX    => 65_536;      # bytes
use constant PARTS        => qw(link path stdout stderr);    # of an order, as the spare is told them
use constant PACKED       => '(N/a*)4';

my $supervisor;
my %is_forked;
my @forked;
my @kept;
my $orders;    # where a spare waits for its order
my $rest;      # seconds until there is something to do without an order
my ($pages, $workers_pages);    # to be copied before there is an order: the zygote's, and a worker's

# Serves orders. Returns in a worker, with its link.
sub run {
    my ($manager, $link) = @_;
    $supervisor = getppid;
    $manager->no_signals || FCGI::ProcManager::Steadfast::Signals::hold_terms() || _catch_term();
    $link->ready('zygote');
    while (1) {
        my $has_rested = !_wait($link);
        _hear_terms($link);
        for my $message ($link->hear) {
            my $type = $message->{type} // '';
            exit 0 if $type eq 'quit';
            next unless $type eq 'fork';
            my $own_link = _fork($manager, $link, $message) or next;
            return $own_link;
        }
        exit 0 if $link->has_ended;
        next unless $has_rested;
        my $own_link = _use_rest($manager, $link) or next;
        return $own_link;
    }
}

# Forks a spare when there is nothing else to do. Returns in that, when it is a worker, with its link.
sub _use_rest {
    my ($manager, $link) = @_;
    $rest = undef;
    # Once: what the first worker has copied is what a start takes. Later it is what its requests have taken.
    $pages //= FCGI::ProcManager::Steadfast::Pages::own($$);
    for my $pid (@forked) { $workers_pages ||= FCGI::ProcManager::Steadfast::Pages::own($pid) }
    my $own_link = _prepare($manager, $link);
    FCGI::ProcManager::Steadfast::Pages::take($pages) unless $own_link;
    return $own_link;
}

# Where nobody can tell who sent it: an order. (Without a handler libfcgi's would take it, and do nothing.)
my ($is_catching, $before_ours);

sub _catch_term {
    my $zygote = $$;
    ($is_catching, $before_ours) = (1, $SIG{TERM});
    my $before = FCGI::ProcManager::Steadfast::Signals::code_of($before_ours);
    $SIG{TERM} = sub { $before->(@_) if $before; exit 0 if $$ == $zygote };
    return;
}

# False when nothing came in time.
sub _wait {
    my ($link) = @_;
    return scalar select _set($link->fd, FCGI::ProcManager::Steadfast::Signals::terms_fd()), undef, undef, $rest;
}

sub _set {
    my (@fds) = @_;
    my $set = '';
    for my $fd (@fds) { vec($set, $fd, 1) = 1 if defined $fd }
    return $set;
}

# From the supervisor, or an operator, it is an order; from a worker it is that worker's word, and not for us to judge.
sub _hear_terms {
    my ($link) = @_;
    for my $pid (FCGI::ProcManager::Steadfast::Signals::terms()) {
        $link->say('term', pid => $pid) if $pid != $supervisor && $pid;
        next if $is_forked{$pid};
        my $before = FCGI::ProcManager::Steadfast::Signals::code_of($SIG{TERM});
        $before->('TERM') if $before;
        exit 0;
    }
    return;
}

# Orders the spare to be a worker, or a new one. Returns in that, with its link.
sub _fork {
    my ($manager, $link, $order) = @_;
    my $slot = $order->{slot};
    return unless defined $slot && $slot =~ /\A[0-9]+\z/;
    my $said = _order($order);
    if ($said eq '' || $said =~ /\Aerrno /) {    # there is none: not yet, it was refused, or somebody has killed it
        my $own_link = _prepare($manager, $link, 'now');
        return $own_link if $own_link;
        $said = $orders ? _order($order) : _refused();
    }
    if ($said =~ /\A([0-9]+)\n\z/) {
        _remember($1);
        $link->say('forked', slot => $slot, pid => $1);
    }
    else { _refuse($link, $slot, $said || 'the worker died before it said that it lives') }
    $rest = REST;
    return;
}

# What the spare says to its order; nothing if there is none.
sub _order {
    my ($order) = @_;
    my $spare = $orders or return '';
    $orders = undef;
    my $is_sent = defined send $spare, pack(PACKED, map { $order->{$_} // '' } PARTS), MSG_NOSIGNAL;
    shutdown $spare, 1 unless $is_sent;    # or it would wait, and so would we
    return _read($spare);
}

# What `fork` has failed of, in a form that passes a pipe.
sub _refused { return sprintf 'errno %d: cannot fork: %s', $!, $! }

# Nobody is to blame when the kernel has refused the process, which is told by its number.
sub _refuse {
    my ($link, $slot, $message) = @_;
    my ($errno) = $message =~ s/\Aerrno ([0-9]+): //a ? $1 : undef;
    $link->say('fork-failed', slot => $slot, message => $message, defined $errno ? (errno => 0 + $errno) : ());
    return;
}

# Forks a spare, by a middle. Returns in it, when it has had its order, with its link.
sub _prepare {
    my ($manager, $link, $is_ordered) = @_;
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_SEQPACKET, PF_UNSPEC or return;
    my $middle = fork;
    my $spare = defined $middle && !$middle ? fork : 0;
    send $theirs, _refused(), MSG_NOSIGNAL unless defined $middle && defined $spare;
    if (!defined $middle || $middle) {
        $orders = $ours;
        waitpid $middle, 0 if $middle;
        return;
    }
    POSIX::_exit(0) if $spare || !defined $spare;
    close $ours;
    return _stand_by($manager, $link, $theirs, $is_ordered);
}

sub _stand_by {
    my ($manager, $link, $zygote, $is_ordered) = @_;
    _forget_zygote($link);
    unless ($is_ordered) {
        $manager->pm_change_process_name($manager->pm_parameter('pm_title') . ' spare');
        FCGI::ProcManager::Steadfast::Pages::take($workers_pages // '');
    }
    my $order = _hear_order($zygote);
    my $own_link = eval { _become_worker($order) };
    if (!$own_link) { send $zygote, $@ || 'unknown', MSG_NOSIGNAL; POSIX::_exit(1) }
    send $zygote, "$$\n", MSG_NOSIGNAL;
    close $zygote;
    return $own_link;
}

# Waits for the order. A TERM, or the zygote's end, comes instead.
sub _hear_order {
    my ($zygote) = @_;
    local $SIG{TERM} = sub { POSIX::_exit(0) } if $is_catching;
    my $terms_fd = FCGI::ProcManager::Steadfast::Signals::terms_fd();
    my $set;
    1 until (select $set = _set(fileno $zygote, $terms_fd), undef, undef, undef) > 0;
    POSIX::_exit(0) if defined $terms_fd && vec $set, $terms_fd, 1;
    my $packed = _read($zygote);
    POSIX::_exit(0) if $packed eq '';
    my %order;
    @order{ +PARTS } = map { length ? $_ : undef } unpack PACKED, $packed;
    return \%order;
}

# One message; empty when there is nobody any more who would say something.
sub _read {
    my ($socket) = @_;
    while (1) {
        my $got = recv $socket, my $said, ORDER_MAX, 0;
        return $said if defined $got;
        return '' if $! != EINTR;
    }
}

sub _remember {
    my ($pid) = @_;
    push @forked, $pid;
    $is_forked{$pid}++;
    if (@forked > FORKED_MAX) {
        my $oldest = shift @forked;
        delete $is_forked{$oldest} unless --$is_forked{$oldest};
    }
    return;
}

# What a worker must not have of its zygote, or not share with it.
sub _forget_zygote {
    my ($link) = @_;
    $link->close;
    (%is_forked, @forked) = ();
    ($orders, $rest) = ();
    $SIG{TERM} = $before_ours // 'DEFAULT' if $is_catching;
    $ENV{STEADFAST_ROLE} = 'worker';
    srand;    # or all workers draw the same numbers
    return;
}

sub _become_worker {
    my ($order) = @_;
    local $SIG{__DIE__};
    FCGI::ProcManager::Steadfast::Signals::forget_terms();
    setpgrp 0, 0;
    my $own_link = defined $order->{link}
        ? FCGI::ProcManager::Steadfast::Link->connect_to($order->{link})
        : FCGI::ProcManager::Steadfast::Link->new;
    $own_link->close_on_exec(1);
    _listen_on($order->{path})       if defined $order->{path};
    _write_to($order->{stdout}, 1)   if defined $order->{stdout};
    _write_to($order->{stderr}, 2)   if defined $order->{stderr};
    return $own_link;
}

sub _listen_on {
    my ($path) = @_;
    socket my $socket, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!\n";
    my $mask = umask PRIVATE_MASK;
    my $is_bound = bind $socket, pack_sockaddr_un($path);
    my $error = $!;
    umask $mask;
    die "bind $path: $error\n" unless $is_bound;
    listen $socket, BACKLOG or die "listen on $path: $!\n";
    _take_place($socket, 0, $path);
    return;
}

# Without O_NONBLOCK an open would wait for a reader that may never come.
sub _write_to {
    my ($path, $fd) = @_;
    sysopen my $fifo, $path, O_WRONLY | O_NONBLOCK or die "open $path: $!\n";
    fcntl $fifo, F_SETFL, 0;
    _take_place($fifo, $fd, $path);
    return;
}

sub _take_place {
    my ($handle, $fd, $path) = @_;
    return push @kept, $handle if fileno $handle == $fd;    # the program had closed it
    defined POSIX::dup2(fileno $handle, $fd) or die "dup2 of $path: $!\n";
    return;
}

1;
