package FCGI::ProcManager::Steadfast::Fallback;

# The manager's methods without steadfast: FCGI::ProcManager::Dynamic or FCGI::ProcManager does the work, and what they do
# not know is added.

use 5.016;
use strict;
use warnings;

use parent 'FCGI::ProcManager::Steadfast::Common';

our $VERSION = '0.1';

my $parent;

# The class that does the work; nothing when none is installed.
sub load {
    return $parent if $parent;
    for my $class (qw(FCGI::ProcManager::Dynamic FCGI::ProcManager)) {
        my $file = $class =~ s{::}{/}gr . '.pm';
        next unless eval { local $SIG{__DIE__}; require $file; 1 };
        push our(@ISA), $parent = $class;
        return $parent;
    }
    return;
}

sub _parent { my ($this, $name, @arguments) = @_; my $method = $parent->can($name); return $this->$method(@arguments) }

sub _is_dynamic { return $parent->can('pm_loop') }

sub new { my ($class, $init) = @_; load(); return _parent($class, 'new', $init) }

sub pm_manage {
    my ($this, %values) = @_;
    $this->pm_parameter($_, $values{$_}) for keys %values;
    return _parent($this, 'pm_manage');
}

sub pm_loop {
    my ($this) = @_;
    my $goes_on = _is_dynamic() ? _parent($this, 'pm_loop') : !$this->{exit_flag};
    $this->{pm_loop_used} = 1;
    return $goes_on && !$this->{SIG_RECEIVED}{TERM} && !$this->{SIG_RECEIVED}{HUP};
}

sub pm_pre_dispatch {
    my ($this) = @_;
    $this->{requestcount}++ unless _is_dynamic();
    return _parent($this, 'pm_pre_dispatch');
}

sub pm_post_dispatch {
    my ($this) = @_;
    _parent($this, 'pm_post_dispatch');
    return if _is_dynamic() || !$this->{max_requests} || $this->{requestcount} < $this->{max_requests};
    return $this->{exit_flag} = 1 if $this->{pm_loop_used};
    return $this->pm_exit('safe exit after max_requests');
}

# Nobody would answer: the manager starts another.
sub pm_fail {
    my ($this, $status, $message) = @_;
    $this->pm_warn($message // '');
    exit((($status || 0) & 255) || 1);
}

# The manager stops all, this process with them; if it does not, this one is gone all the same.
sub pm_broken {
    my ($this, $status, $message) = @_;
    $this->pm_warn($message // '');
    my $manager = $this->{MANAGER_PID};
    if ($manager && $manager != $$) {
        my $is_term = 0;
        local $SIG{TERM} = sub { $is_term = 1 };
        my $left = kill(TERM => $manager) ? $this->DELAY_MAX : 0;
        while ($left > 0 && !$is_term) {
            my ($count, $unslept) = select undef, undef, undef, 0.2;
            $left -= 0.2 - ($unslept || 0);
        }
    }
    exit((($status || 0) & 255) || 1);
}

1;
