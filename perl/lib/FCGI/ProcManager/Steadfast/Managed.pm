package FCGI::ProcManager::Steadfast::Managed;

# The manager's methods in a process that steadfast has started, or that such a zygote has forked.

use 5.016;
use strict;
use warnings;

use POSIX qw(SIGTERM);

use FCGI::ProcManager::Steadfast::Link;
use FCGI::ProcManager::Steadfast::Signals;
use FCGI::ProcManager::Steadfast::Zygote;
use parent 'FCGI::ProcManager::Steadfast::Common';

our $VERSION = '0.1';

my $link;                # FCGI::ProcManager::Steadfast::Link of this process
my $role;                # zygote or worker
my $server = 0;          # the pid in which pm_manage has returned
my $manager;             # the object that it returned to
my $leave  = '';         # why to take no more requests; empty: go on
my %before;              # handlers that were there before ours
my $is_executed = 0;     # started by steadfast itself, not forked by a zygote

# Once, when the module is loaded.
sub begin {
    my ($class, $its_link, $its_role) = @_;
    ($link, $role) = ($its_link, $its_role);
    $is_executed = $role eq 'worker';
    return unless $link->is_ours;    # neither steadfast nor another manager: one process serves
    if (($ENV{STEADFAST_HELLO} // '') eq $$) { $link->said_hello }    # a program that has exec'ed this one has said it
    elsif ($role eq 'zygote') {
        $link->hello($role);
        $ENV{STEADFAST_HELLO} = $$;
    }
    no warnings 'once';
    *CORE::GLOBAL::kill = \&_kill unless defined &CORE::GLOBAL::kill;
    return;
}

# "TERM the manager" means that the whole is broken. From a worker that is its own manager ($MANAGER_PID = $$, taken before
# pm_manage) nobody but itself could tell, and a manager that may not be signalled would never hear of it. So both are said
# on the link here. All else is kill as ever.
sub _kill (@) {
    my ($signal, @pids) = @_;
    my $is_term = defined $signal && $signal =~ /\A(?:SIG)?TERM\z|\A@{[SIGTERM]}\z/ && $link->is_ours;
    return CORE::kill($signal, @pids) unless $is_term;
    _say_broken('sent SIGTERM to its manager, which is itself') if $is_executed && grep { $_ eq $$ } @pids;
    my $count = CORE::kill($signal, @pids);
    if ($count < @pids && $server == $$) {
        my $errno = $! + 0;
        my %is_manager = map { $_ => 1 } getppid, $manager->{MANAGER_PID} // ();
        _say_broken('sent SIGTERM to its manager, in vain') if grep { $is_manager{$_} && !CORE::kill(0, $_) } @pids;
        $! = $errno;
    }
    return $count;
}

sub _say_broken { my ($message) = @_; $link->hello('worker'); return $link->say('broken', message => $message) }

sub new {
    my ($class, $init) = @_;
    $class = ref $class || $class;
    $class = 'FCGI::ProcManager::Steadfast' if $class =~ /\AFCGI::ProcManager(?:::Dynamic)?\z/;    # :replace
    return bless {
        role        => 'manager',
        start_delay => 0,
        die_timeout => 60,
        pm_title    => 'perl-fcgi-pm',
        PIDS        => {},
        %{ $init || {} },
    }, $class;
}

# pm_manage

sub pm_manage {
    my ($this, %values) = &FCGI::ProcManager::Steadfast::self_or_default;
    $this->pm_parameter($_, $values{$_}) for keys %values;
    return 1 if $server == $$;
    $link->close_on_exec(1);
    delete @ENV{qw(STEADFAST_LINK STEADFAST_HELLO)};
    return $this->_become_server(getppid) unless $role eq 'zygote';

    my $zygote = $$;
    $this->role('manager');
    $this->_say_where_sizes_live;
    $this->managing_init;
    $link = FCGI::ProcManager::Steadfast::Zygote::run($this, $link);
    $role = 'worker';
    return $this->_become_server($zygote);
}

sub _say_where_sizes_live {
    my ($this) = @_;
    my @given = grep { defined $this->{$_} } qw(n_processes min_nproc max_nproc delta_nproc delta_time);
    @given = () if "@given" eq 'n_processes' && $this->{n_processes} eq '1';    # plackup says so always
    $this->pm_notify("@given: steadfast decides; see workers = { min = ..., max = ... } in the pool's configuration") if @given;
    return;
}

sub _become_server {
    my ($this, $manager_pid) = @_;
    delete $this->{PIDS};
    $this->{MANAGER_PID} = $manager_pid;
    ($server, $manager) = ($$, $this);
    $this->role('server');
    $this->pm_write_pid_file if $manager_pid == getppid;
    $this->handling_init;
    FCGI::ProcManager::Steadfast::Signals::release_terms();
    unless ($this->no_signals) {
        $link->signal_when_readable;
        _listen();    # what came before
    }
    $link->ready('worker');
    $this->_die_with_parent unless $is_executed || $this->no_signals;
    $this->_leave if $leave;
    return 1;
}

# The parent of a forked worker is at first the middle, whose death is none of this.
sub _die_with_parent {
    my $supervisor = $link->peer or return;
    my $looks = 0;
    until (getppid == $supervisor) {
        return if ++$looks > 1000 || $leave;
        select undef, undef, undef, 0.0005;
    }
    FCGI::ProcManager::Steadfast::Signals::die_with_parent();
    _listen();    # or it has died before
    return;
}

sub managing_init {
    my ($this) = @_;
    $this->pm_change_process_name($this->pm_parameter('pm_title') . ' zygote');
    $this->pm_write_pid_file;
    return;
}

sub handling_init {
    my ($this) = @_;
    unless ($this->no_signals) {
        %before = map { $_ => scalar FCGI::ProcManager::Steadfast::Signals::code_of($SIG{$_}) } qw(TERM HUP IO);
        FCGI::ProcManager::Steadfast::Signals::catch(TERM => \&_on_signal, HUP => \&_on_signal, IO => \&_on_io);
    }
    $this->pm_change_process_name('perl-fcgi');
    return;
}

# Signals

sub _on_signal {
    my ($name) = @_;
    local ($!, $@, $?);
    if ($$ == $server) {
        $leave ||= "SIG$name";
        $manager->sig_handler($name);
    }
    return $before{$name}->(@_) if $before{$name};
    if ($$ != $server) {    # a child that the program has forked: what it would do without us
        $SIG{$name} = 'DEFAULT';
        CORE::kill($name, $$);
    }
    return;
}

sub _on_io {
    local ($!, $@, $?);
    _listen();
    $before{IO}->(@_) if $before{IO};
    return;
}

sub _listen {
    for my $message ($link->hear) {
        $leave ||= $message->{type} if ($message->{type} // '') =~ /\A(?:drain|quit)\z/;
    }
    $leave ||= 'end of the link' if $link->has_ended && $link->is_ours;
    return;
}

sub sig_handler { my ($this, $name) = @_; return $this->pm_received_signal($name, 1) }

sub pm_received_signal {
    my ($this, $signal, $received) = &FCGI::ProcManager::Steadfast::self_or_default;
    return $this->{SIG_RECEIVED} unless $signal;
    $this->{SIG_RECEIVED}{$signal}++ if $received;
    return $this->{SIG_RECEIVED}{$signal};
}

# The request loop

sub _idle { FCGI::ProcManager::Steadfast::Signals::idle(); return }
sub _busy { FCGI::ProcManager::Steadfast::Signals::busy(); return }

sub pm_loop {
    my ($this) = ref $_[0] ? $_[0] : &FCGI::ProcManager::Steadfast::self_or_default;
    $this->{pm_loop_used} = 1;
    FCGI::ProcManager::Steadfast::Signals::idle();
    _listen() if $this->{no_signals} && $server == $$;
    return !$leave;
}

sub pm_pre_dispatch {
    my ($this) = ref $_[0] ? $_[0] : &FCGI::ProcManager::Steadfast::self_or_default;
    FCGI::ProcManager::Steadfast::Signals::busy();
    $this->{requestcount}++;
    return;
}

sub pm_post_dispatch {
    my ($this) = ref $_[0] ? $_[0] : &FCGI::ProcManager::Steadfast::self_or_default;
    FCGI::ProcManager::Steadfast::Signals::idle();
    _listen() if $this->{no_signals} && $server == $$;
    if (!$leave && $this->{max_requests} && $this->{requestcount} >= $this->{max_requests}) {
        $leave = 'max_requests';
        $link->say('recycle');
    }
    return unless $leave;
    return if $this->{pm_loop_used} && $leave !~ /\ASIG/;
    return $this->_leave;
}

sub _leave {
    my ($this) = @_;
    $this->{is_quiet} = 1;    # steadfast knows, and it would be a line for each worker
    return $this->pm_exit("safe exit after $leave", 0);
}

# Ends

sub pm_exit {
    my ($this, $message, $status) = &FCGI::ProcManager::Steadfast::self_or_default;
    $status ||= 0;
    $message //= '';
    if ($status) {
        $link->hello($role);
        $link->say('failed', code => $status & 255, name => FCGI::ProcManager::Steadfast::Common::name_of($status),
            message => $message);
    }
    elsif ($server == $$ && !$leave) { $link->say('recycle') }
    $this->pm_warn($message) unless delete $this->{is_quiet};
    $@ = $message;
    exit $status;
}

sub pm_abort {
    my ($this, $message, $status) = &FCGI::ProcManager::Steadfast::self_or_default;
    return $this->pm_exit($message, $status || 1);
}

sub pm_die {
    my ($this, $message, $status) = &FCGI::ProcManager::Steadfast::self_or_default;
    return $this->pm_exit('dying: ' . ($message // ''), $status);
}

sub pm_fail {
    my ($this, @what) = &FCGI::ProcManager::Steadfast::self_or_default;
    return $this->_delayed_exit('failed', @what);
}

sub pm_broken {
    my ($this, @what) = &FCGI::ProcManager::Steadfast::self_or_default;
    return $this->_delayed_exit('broken', @what);
}

# perl takes its handlers away before it is gone: a TERM that comes again would then end it, and its code would be lost.
END { FCGI::ProcManager::Steadfast::Signals::hold_last_terms() if $server == $$ }

# Says it, and waits for the TERM that answers.
sub _delayed_exit {
    my ($this, $type, $status, $message, $name) = @_;
    $status = (($status || 0) & 255) || 1;
    $message //= '';
    $name //= FCGI::ProcManager::Steadfast::Common::name_of($status);
    my $is_term = $leave =~ /\ASIG/;
    unless ($$ == $server && ($SIG{TERM} // '') eq \&_on_signal) {
        my $before = FCGI::ProcManager::Steadfast::Signals::code_of($SIG{TERM});
        $SIG{TERM} = sub { $is_term = 1; $before->(@_) if $before };
    }
    $link->hello($role);
    $link->say($type, code => $status, name => $name, message => $message);
    $this->pm_warn($message);
    my $left = $link->is_ours ? $this->DELAY_MAX : 0;
    while ($left > 0 && !$is_term && $leave !~ /\A(?:SIG|drain|quit|end)/) {
        $left -= _wait_for_word($left < 1 ? $left : 1);    # a TERM just before the wait would be slept through: it comes again
    }
    exit $status;
}

# Waits for a word on the link or a signal; returns how long it took.
sub _wait_for_word {
    my ($seconds) = @_;
    my $fd = $link->fd;
    my $set = '';
    vec($set, $fd, 1) = 1 if defined $fd;
    my ($count, $left) = select $set, undef, undef, $seconds;
    _listen();
    return $seconds - ($left || 0);
}

sub _pause { my ($this, $seconds) = @_; _wait_for_word($seconds); return }

# The small ones

sub pm_parameter {
    my ($this, $key, $value) = &FCGI::ProcManager::Steadfast::self_or_default;
    $this->{$key} = $value if defined $value;
    return $this->{$key};
}

for my $name (qw(n_processes pid_fname no_signals die_timeout role start_delay)) {
    no strict 'refs';
    *$name = sub { my $this = shift; return $this->pm_parameter($name, @_) };
}

sub pm_change_process_name {
    my ($this, $name) = &FCGI::ProcManager::Steadfast::self_or_default;
    $0 = $name;
    return;
}

# There are no children of ours to wait for.
sub pm_wait { return -1 }

# The manager is the supervisor.
sub pm_write_pid_file {
    my ($this, $file) = &FCGI::ProcManager::Steadfast::self_or_default;
    $file ||= $this->pid_fname or return;
    if (open my $handle, '>', $file) {
        print {$handle} $link->is_ours ? getppid : $$, "\n";
        return 1 if close $handle;
    }
    $this->pm_warn("cannot write $file: $!");
    return;
}

sub pm_remove_pid_file {
    my ($this, $file) = &FCGI::ProcManager::Steadfast::self_or_default;
    $file ||= $this->pid_fname or return;
    my $count = unlink $file or $this->pm_warn("unlink: $file: $!");
    return $count;
}

sub pm_warn {
    my ($this, $message) = &FCGI::ProcManager::Steadfast::self_or_default;
    return $this->pm_notify($message);
}

sub pm_notify {
    my ($this, $message) = &FCGI::ProcManager::Steadfast::self_or_default;
    $message //= '';
    $message =~ s/\s*\z/\n/;
    FCGI::ProcManager::Steadfast::Common::_print_error('FastCGI: ' . $this->role . " (pid $$): $message");
    return;
}

1;
