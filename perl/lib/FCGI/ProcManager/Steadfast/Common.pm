package FCGI::ProcManager::Steadfast::Common;

# What is the same with steadfast and without: parameters, the checks after loading, and the bounded accept loop.

use 5.016;
use strict;
use warnings;

use Errno qw(EINTR EMFILE ENFILE);
use POSIX ();

our $VERSION = '0.1';

use constant { EX_PRELOAD => 1, EX_FCGI_CREATE => 2, EX_FCGI_ACCEPT => 3, EX_REQUEST => 4 };
use constant ACCEPT_FAILURES_MAX => 5;     # in a row
use constant DELAY_MAX           => 10;    # seconds until the delayed exit

my @NAMES = (undef, qw(EX_PRELOAD EX_FCGI_CREATE EX_FCGI_ACCEPT EX_REQUEST));

sub name_of { my ($status) = @_; return $NAMES[$status] }

# What a subclass must offer besides: pm_loop, pm_fail, pm_broken, pm_parameter; and these two.

sub _idle  { }                             # before accept
sub _busy  { }                             # after it
sub _pause { my ($this, $seconds) = @_; select undef, undef, undef, $seconds; return }    # ends early when asked to leave

for my $name (qw(min_nproc max_nproc delta_nproc delta_time max_requests pm_title)) {
    no strict 'refs';
    *$name = sub { my $this = shift; return $this->pm_parameter($name, @_) };
}

sub pm_check {
    my ($this, @checks) = &FCGI::ProcManager::Steadfast::self_or_default;
    my @missing;
    while (my ($module, $methods) = splice @checks, 0, 2) {
        for my $method (ref $methods ? @$methods : $methods // ()) {
            push @missing, _missing($module, $method) unless $module->can($method);
        }
        push @missing, qq{Package "$module" is empty (perhaps a hollow module)} if !defined $methods && !_has_symbols($module);
    }
    return 1 unless @missing;
    return $this->pm_broken(EX_PRELOAD, join('; ', @missing));
}

sub _missing {
    my ($module, $method) = @_;
    my $why = _has_symbols($module) ? 'it defines others'
        : 'perhaps a hollow module: it ' . (_is_loaded($module) ? 'loaded, but defines nothing' : 'was never loaded');
    return qq{Can't locate object method "$method" via package "$module" ($why)};
}

sub _is_loaded { my ($module) = @_; return exists $INC{ $module =~ s{::}{/}gr . '.pm' } }

# Whether a package defines any subroutine.
sub _has_symbols {
    my ($module) = @_;
    no strict 'refs';
    my $parent = \%main::;
    for my $part (split /::/, $module) { $parent = exists $parent->{"${part}::"} ? \%{ $parent->{"${part}::"} } : return }
    return !!grep { !/::\z/ && defined &{"${module}::$_"} } keys %$parent;
}

sub pm_accept {
    my ($this, $request) = &FCGI::ProcManager::Steadfast::self_or_default;
    my $failures = 0;
    while ($this->pm_loop) {
        $this->_idle;
        $! = 0;
        my ($accepted, $errno) = ref $request eq 'CODE' ? _accept_by_code($request) : _accept($request);
        if ($accepted) { $this->_busy; return $accepted }
        next if $errno == EINTR;    # whether to stop is asked above
        return if _is_cgi($request);
        $! = $errno;
        if (++$failures >= ACCEPT_FAILURES_MAX) {
            last unless $this->pm_loop;
            return $this->pm_fail(EX_FCGI_ACCEPT, "accept failed $failures times in a row: " . ($errno ? "$!" : 'no reason given'));
        }
        $this->_pause(1) if $errno == EMFILE || $errno == ENFILE;    # there may be some again
    }
    return;
}

# FCGI.pm returns 0, or -errno.
sub _accept {
    my ($request) = @_;
    my $result = $request->Accept;
    return $result >= 0 ? (1) : (undef, $result > -4096 && $result < -1 ? -$result : $! + 0);
}

sub _accept_by_code {
    my ($code) = @_;
    my $accepted = $code->();
    return ($accepted, $! + 0);
}

# A CGI script's one request is done, and there is no second.
sub _is_cgi {
    my ($request) = @_;
    return ref $request ne 'CODE' && $request->can('IsFastCGI') ? !$request->IsFastCGI : !-S STDIN;
}

# Perl's STDERR may be tied to the request that is under way; this goes to the log, and never dies.
sub _print_error {
    my ($text) = @_;
    if   (tied *STDERR) { POSIX::write(2, $text, length $text) }
    else                { print STDERR $text }
    return;
}

1;
