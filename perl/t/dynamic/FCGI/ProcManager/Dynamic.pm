package FCGI::ProcManager::Dynamic;

# Stands for the real one: what a script sees of it, without its shared memory.

use strict;
use warnings;
use parent 'FCGI::ProcManager';

our $VERSION = '0.6';

sub pm_loop { my ($this) = @_; $this->{pm_loop_used} = 1; return !$this->{exit_flag} }

sub pm_pre_dispatch { my ($this) = @_; $this->SUPER::pm_pre_dispatch; $this->{requestcount}++; return }

sub pm_post_dispatch {
    my ($this) = @_;
    $this->SUPER::pm_post_dispatch;
    return if !$this->{max_requests} || $this->{requestcount} < $this->{max_requests};
    exit unless $this->{pm_loop_used};
    return $this->{exit_flag} = 1;
}

1;
