package Test::Steadfast;

# Plays the supervisor's side of docs/link.md with real processes and sockets. Every wait has a deadline.

use 5.016;
use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use Errno qw(EINTR EAGAIN);
use Fcntl qw(F_SETFD);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use JSON::PP ();
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM MSG_NOSIGNAL pack_sockaddr_un);

use Test::Steadfast::Client;

our $DEADLINE = 20;

my $MACHINE = (POSIX::uname())[4];
my %CALLS   = (x86_64 => { prctl => 157, accept => 43, accept4 => 288, write => 1, read => 0, select => 23, pselect6 => 270 },
    aarch64 => { prctl => 167, accept => 202, accept4 => 242, write => 64, read => 63, select => -1, pselect6 => 72 });
my $LIB = abs_path(dirname(__FILE__) . '/../../../lib');
my $APP = abs_path(dirname(__FILE__) . '/../../app');

# Orphans become ours, as the supervisor's do.
sub is_possible {
    my $calls = $CALLS{$MACHINE} or return;
    return syscall($calls->{prctl}, 36, 1, 0, 0, 0) == 0;
}

sub new {
    my ($class, %option) = @_;
    my $directory = tempdir('steadfast-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    my $this = bless { directory => $directory, owner => $$, processes => {}, slots => 0, role => 'zygote', %option }, $class;
    socket $this->{link_listener}, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!";
    bind $this->{link_listener}, pack_sockaddr_un("$directory/link") or die "bind: $!";
    listen $this->{link_listener}, 64;
    return $this;
}

sub path { my ($this, $name) = @_; return "$this->{directory}/$name" }

sub app { my ($name) = @_; return "$APP/$name" }

# Writes a script and returns its path.
sub script {
    my ($this, $text, $name) = @_;
    my $path = $this->path($name // 'app.pl');
    open my $handle, '>', $path or die "$path: $!";
    print {$handle} $text;
    close $handle;
    return $path;
}

# Starts a zygote or worker: (role, command, environment).
sub start {
    my ($this, %what) = @_;
    my $role = $what{role} || $this->{role};
    my $path = $this->path('exec' . $this->{slots}++);
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, 0 or die "socketpair: $!";
    socket my $stdin, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!";
    if ($role eq 'worker' || $what{listens}) {
        bind $stdin, pack_sockaddr_un($path) or die "bind: $!";
        listen $stdin, 8;
    }
    open my $log, '>>', $this->path('log') or die "log: $!";
    my %environment = (STEADFAST_LINK => 3, STEADFAST_ROLE => $role, PERL5LIB => join(':', $LIB, @{ $what{lib} || [] }, $ENV{PERL5LIB} // ()), %{ $what{environment} || {} });
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(TERM PIPE);
        my @high = map { POSIX::dup($_) } map { fileno $_ } $stdin, $log, $log, $theirs;
        @high = map { $_ > 9 ? $_ : do { my $fd = $_; $fd = POSIX::dup($fd) until $fd > 9; $fd } } @high;
        POSIX::dup2($high[$_], $_) for 0 .. 3;
        POSIX::close($_) for 4 .. 40;
        setpgrp 0, 0;
        defined $environment{$_} ? ($ENV{$_} = $environment{$_}) : delete $ENV{$_} for keys %environment;
        exec { $what{command}[0] } @{ $what{command} } or POSIX::_exit(127);
    }
    my $process = { pid => $pid, path => $path, link => { handle => $ours, in => '' }, role => $role };
    $this->{processes}{$pid} = $process;
    return $process;
}

sub start_app { my ($this, $path, %what) = @_; return $this->start(%what, command => [ $^X, @{ $what{switches} || [] }, $path, @{ $what{arguments} || [] } ]) }

# Starts and waits for ready.
sub start_ready {
    my ($this, $path, %what) = @_;
    my $process = $this->start_app($path, %what);
    $process->{hello} = $this->hear($process, 'hello');
    $this->hear($process, 'ready');
    return $process;
}

sub say {
    my ($this, $process, $message) = @_;
    my $line = ref $message ? JSON::PP->new->canonical->encode($message) . "\n" : $message;
    defined send $process->{link}{handle}, $line, MSG_NOSIGNAL or croak "send: $!";
    return;
}

sub close_link { my ($this, $process) = @_; close delete $process->{link}{handle}; return }

# The next message: its type must be the one given, if one is. undef at the end of the link.
sub hear {
    my ($this, $process, $type, $deadline) = @_;
    my $link = $process->{link};
    until ($link->{in} =~ /\n/) {
        _wait($link->{handle}, $deadline) or croak 'nothing was said' . ($type ? ", not even $type" : '') . '; log: ' . $this->log;
        my $got = sysread $link->{handle}, $link->{in}, 65_536, length $link->{in};
        next if !defined $got && $! == EINTR;
        if (!$got) { croak "the link ended before $type; log: " . $this->log if $type; return }
    }
    $link->{in} =~ s/\A(.*)\n//;
    my $message = JSON::PP->new->utf8->decode($1);
    croak "heard $1, not $type; log: " . $this->log if $type && $message->{type} ne $type;
    return $message;
}

# All until the end of the link.
sub hear_all {
    my ($this, $process) = @_;
    my @messages;
    while (my $message = $this->hear($process)) { push @messages, $message }
    return @messages;
}

sub order {
    my ($this, $zygote, %more) = @_;
    my $slot = $this->{slots}++;
    my $path = $this->path("w$slot");
    $this->say($zygote, { type => 'fork', slot => $slot, path => $path, link => $this->path('link'), %more });
    return { slot => $slot, path => $path, role => 'worker' };
}

# Orders a worker and waits until it is ready.
sub fork_worker {
    my ($this, $zygote, %more) = @_;
    my $worker = $this->order($zygote, %more);
    $this->accept_link($worker) unless exists $more{link};
    my $forked = $this->hear($zygote, 'forked');
    croak "slot $forked->{slot}, not $worker->{slot}" unless $forked->{slot} == $worker->{slot};
    $worker->{pid} = $forked->{pid};
    $this->{processes}{ $worker->{pid} } = $worker;
    return $worker if exists $more{link};
    $worker->{hello} = $this->hear($worker, 'hello');
    $this->hear($worker, 'ready');
    return $worker;
}

sub accept_link {
    my ($this, $worker) = @_;
    _wait($this->{link_listener}) or croak 'no worker has connected its link; log: ' . $this->log;
    accept my $handle, $this->{link_listener} or die "accept: $!";
    $worker->{link} = { handle => $handle, in => '' };
    return;
}

sub get { my ($this, $worker, $path, @params) = @_; return Test::Steadfast::Client->get($worker->{path}, $path, @params) }

sub client { my ($this, $worker) = @_; return Test::Steadfast::Client->new($worker->{path}) }

# Waits for its end; returns the exit code, or "SIGnn". With again, TERM is sent again each second as steadfast does.
sub reap {
    my ($this, $process, %option) = @_;
    my $pid = $process->{pid};
    my $pidfd = syscall 434, $pid + 0, 0;
    die "pidfd_open $pid: $!" if $pidfd < 0;
    open my $handle, '<&=', $pidfd or die "pidfd: $!";
    my $left = $option{deadline} || $DEADLINE;
    my $step = $option{again} ? 1 : $left;
    until (_wait($handle, $step)) {
        $left -= $step;
        $process->{terms_again}++;
        croak "process $pid does not end; log: " . $this->log if $left <= 0;
        kill TERM => $pid if $option{again};
    }
    waitpid($pid, 0) == $pid or croak "process $pid is not our child";
    delete $this->{processes}{$pid};
    return $? & 127 ? 'SIG' . ($? & 127) : $? >> 8;
}

sub stop { my ($this, $process) = @_; kill TERM => $process->{pid}; return $this->reap($process, again => 1) }

# Waits until it sleeps in one of these system calls. There is no event for that: it is looked at until it is so.
sub wait_in {
    my ($this, $process, @names) = @_;
    return $this->_wait_syscall($process, "@names", sub { 1 }, @names);
}

# Until it waits in select without an end.
sub wait_endlessly {
    my ($this, $process) = @_;
    return $this->_wait_syscall($process, 'an endless select', sub { hex $_[4] == 0 }, qw(select pselect6));
}

sub _wait_syscall {
    my ($this, $process, $what, $is_it, @names) = @_;
    my %numbers = map { $CALLS{$MACHINE}{$_} => 1 } @names;
    my $end = time + $DEADLINE;
    while (time <= $end) {
        open my $handle, '<', "/proc/$process->{pid}/syscall" or return;
        my ($number, @arguments) = split ' ', <$handle> // '';
        return 1 if defined $number && $number =~ /\A[0-9]+\z/ && $numbers{$number} && $is_it->(@arguments);
        select undef, undef, undef, 0.001;
    }
    croak "process $process->{pid} does not come to $what";
}

sub log { my ($this) = @_; open my $handle, '<', $this->path('log') or return ''; local $/; return <$handle> // '' }

sub _wait {
    my ($handle, $deadline) = @_;
    my $left = $deadline // $DEADLINE;
    while (1) {
        vec(my $set = '', fileno $handle, 1) = 1;
        (my $count, $left) = select $set, undef, undef, $left;
        return $count if $count >= 0;
        die "select: $!" unless $! == EINTR;
    }
}

# Only what this very object has started, by pid.
sub DESTROY {
    my ($this) = @_;
    return if $this->{owner} != $$;
    local ($?, $!, $@);
    for my $pid (keys %{ $this->{processes} }) { kill KILL => $pid, -$pid; waitpid $pid, 0 }
    return;
}

1;
