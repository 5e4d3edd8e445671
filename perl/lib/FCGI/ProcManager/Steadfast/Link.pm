package FCGI::ProcManager::Steadfast::Link;

# What is said over the link, and how: lines of JSON over a connected stream socket (docs/link.md of steadfast).

use 5.016;
use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Fcntl qw(F_GETFL F_SETFD F_SETFL F_SETOWN FD_CLOEXEC O_ASYNC S_ISSOCK);
use POSIX ();
use Socket qw(AF_UNIX MSG_DONTWAIT MSG_NOSIGNAL SOCK_STREAM SOL_SOCKET SO_PEERCRED pack_sockaddr_un);

our $VERSION = '0.1';

use constant LINE_MAX  => 65_536;    # bytes
use constant TEXT_MAX  => 4_096;     # characters of a message: at most six bytes each, so a line stays below LINE_MAX
use constant DEPTH_MAX => 64;        # of what is skipped
use constant PROTOCOL  => 1;

# These are numbers in JSON, all else is text.
my %IS_NUMBER = map { $_ => 1 } qw(version pid concurrency code slot retry_after_ms errno);

# The link that this process was started with: an open handle, or nothing when the fd is no socket.
sub adopt {
    my ($class, $fd) = @_;
    return unless $fd =~ /\A[0-9]{1,9}\z/;
    my $mode = (POSIX::fstat($fd))[2];
    return unless defined $mode && S_ISSOCK($mode) && open my $handle, '+<&=', $fd;
    my $this = $class->new($handle);
    $this->close_on_exec(0);    # as it was: perl sets it on all that it opens
    return $this;
}

# Connects a worker's own link.
sub connect_to {
    my ($class, $path) = @_;
    socket my $handle, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!\n";
    connect $handle, pack_sockaddr_un($path) or die "connect to $path: $!\n";
    return $class->new($handle);
}

# Without a handle it is a link on which nobody is heard and nothing said.
sub new {
    my ($class, $handle) = @_;
    return bless {
        handle     => $handle,
        pid        => $$,
        in         => '',
        said_hello => 0,
        has_ended  => 0,
        is_hearing => 0,
        is_too_long => 0,
    }, $class;
}

# Only the process whose link it is speaks and hears: a child of it has the handle, too.
sub is_ours { my ($this) = @_; return $this->{pid} == $$ && !!$this->{handle} }

sub has_ended { return $_[0]{has_ended} }

# For select; undef when there is none.
sub fd { my ($this) = @_; return $this->{handle} && !$this->{has_ended} ? fileno $this->{handle} : undef }

# The pid of the process at the other end when the link was made, 0 if it is in another namespace or unknown.
sub peer {
    my ($this) = @_;
    return 0 unless $this->{handle};
    my $credentials = getsockopt $this->{handle}, SOL_SOCKET, SO_PEERCRED or return 0;
    return unpack 'i', $credentials;
}

sub close_on_exec {
    my ($this, $is_closed) = @_;
    fcntl $this->{handle}, F_SETFD, $is_closed ? FD_CLOEXEC : 0 if $this->{handle};
    return;
}

# From now on the kernel sends this process SIGIO when there is something to hear, or the link has ended.
sub signal_when_readable {
    my ($this) = @_;
    my $handle = $this->{handle} or return;
    fcntl $handle, F_SETOWN, $$ + 0;
    my $flags = fcntl $handle, F_GETFL, 0;
    fcntl $handle, F_SETFL, ($flags || 0) | O_ASYNC;
    return;
}

sub close {
    my ($this) = @_;
    CORE::close($this->{handle}) if $this->{handle};
    $this->{handle} = undef;
    return;
}

# hello comes first, once.
sub hello {
    my ($this, $role) = @_;
    return if $this->{said_hello}++;
    return $this->_send(encode(_hello($role)));
}

sub _hello { my ($role) = @_; return (type => 'hello', version => PROTOCOL, pid => $$, role => $role, $role eq 'worker' ? (concurrency => 1) : ()) }

# ready, and hello before it: together, for the supervisor wakes up for each.
sub ready {
    my ($this, $role) = @_;
    my $hello = $this->{said_hello}++ ? '' : encode(_hello($role));
    return $this->_send($hello . encode(type => 'ready'));
}

# hello was said before this program took the place of another in the same process.
sub said_hello { $_[0]{said_hello} = 1; return }

sub say { my ($this, @message) = @_; return $this->_send(encode('type', @message)) }

# Says it all, or finds that the link has ended. Never raises SIGPIPE.
sub _send {
    my ($this, $line) = @_;
    return if $this->{has_ended} || !$this->is_ours;
    while (length $line) {
        my $sent = send $this->{handle}, $line, MSG_NOSIGNAL;
        if (defined $sent) { substr $line, 0, $sent, '' }
        elsif ($! == EAGAIN || $! == EWOULDBLOCK) { vec(my $set = '', $this->fd, 1) = 1; select undef, $set, undef, undef }
        elsif ($! != EINTR) { $this->{has_ended} = 1; return }
    }
    return 1;
}

# What has been said to us, as hashes; never waits. A signal handler may come in between two steps of this: then it
# leaves the work to the one that it has interrupted.
sub hear {
    my ($this) = @_;
    return if $this->{has_ended} || !$this->is_ours;
    return if $this->{is_hearing}++;
    my @messages;
    do {
        $this->{is_hearing} = 1;
        push @messages, $this->_receive;
    } while ($this->{is_hearing} > 1 && !$this->{has_ended});
    $this->{is_hearing} = 0;
    return @messages;
}

sub _receive {
    my ($this) = @_;
    my @messages;
    until ($this->{has_ended}) {
        my $got = recv $this->{handle}, my $bytes, LINE_MAX, MSG_DONTWAIT;
        if (!defined $got) {
            next if $! == EINTR;
            $this->{has_ended} = 1 unless $! == EAGAIN || $! == EWOULDBLOCK;
            last;
        }
        if (!length $bytes) { $this->{has_ended} = 1; last }
        push @messages, $this->_take($bytes);
        last if length $bytes < LINE_MAX;
    }
    return @messages;
}

# Cuts lines; one that is too long is left out.
sub _take {
    my ($this, $bytes) = @_;
    my @messages;
    $this->{in} .= $bytes;
    while ((my $end = index $this->{in}, "\n") >= 0) {
        my $line = substr $this->{in}, 0, $end + 1, '';
        my $is_tail = $this->{is_too_long};
        $this->{is_too_long} = 0;
        next if $is_tail || length $line > LINE_MAX;
        my $message = decode($line);
        push @messages, $message if $message;
    }
    if (length $this->{in} >= LINE_MAX) { $this->{in} = ''; $this->{is_too_long} = 1 }
    return @messages;
}

# JSON, as much of it as flat objects need. JSON::PP would cost every worker 2.5 MB and each order ten times as long.

my %ESCAPED = ("\"" => '\\"', "\\" => '\\\\', "\n" => '\\n', "\r" => '\\r', "\t" => '\\t');

sub encode {
    my (@pairs) = @_;
    my @members;
    while (my ($key, $value) = splice @pairs, 0, 2) {
        next unless defined $value;
        push @members, "\"$key\":" . ($IS_NUMBER{$key} ? int $value : '"' . _escape($value) . '"');
    }
    return '{' . join(',', @members) . "}\n";
}

# Text may come as characters or as bytes; bytes are UTF-8 if they can be, Latin-1 otherwise.
sub _escape {
    my ($text) = @_;
    $text = "$text";
    utf8::decode($text) unless utf8::is_utf8($text);
    $text = substr($text, 0, TEXT_MAX - 1) . "\x{2026}" if length $text > TEXT_MAX;
    $text =~ s/[\x{d800}-\x{dfff}]|[^\x{0}-\x{10ffff}]/\x{fffd}/g;
    $text =~ s/(["\\\x00-\x1f\x7f])/$ESCAPED{$1} \/\/ sprintf '\\u%04x', ord $1/ge;
    utf8::encode($text);
    return $text;
}

my %UNESCAPED = ('"' => '"', '\\' => '\\', '/' => '/', b => "\b", f => "\f", n => "\n", r => "\r", t => "\t");

# An object's members whose values are text or numbers (text as UTF-8 bytes, for paths are bytes); true, false, null,
# arrays and objects are read past. undef if the line is not one valid JSON object.
sub decode {
    my ($line) = @_;
    my $plain = _plain($line);
    return $plain if $plain;
    return unless utf8::decode(my $copy = $line);
    my $object = eval {
        local $SIG{__DIE__};
        _space(\$line);
        my $value = _value(\$line, 0);
        _space(\$line);
        ref $value eq 'HASH' && (pos($line) || 0) == length $line ? $value : undef;
    };
    return $object;
}

# What the supervisor mostly says: ASCII text without escapes, whole numbers, and no blanks between. nothing if it is not that.
sub _plain {
    my ($line) = @_;
    my %object;
    return unless $line =~ /\A\{/gc;
    while ($line =~ /\G"([a-z_]++)":(?:"([ !#-\[\]-~]*+)"|(0|[1-9][0-9]*+))(?:,(?=")|(?=\}))/gc) { $object{$1} = $2 // $3 }
    return $line =~ /\G\}\n\z/ ? \%object : undef;
}

sub _space { ${ $_[0] } =~ /\G[ \t\r\n]*+/gc; return }

sub _value {
    my ($line, $depth) = @_;
    return _string($line)         if $$line =~ /\G"/gc;
    return _object($line, $depth) if $$line =~ /\G\{/gc;
    return _array($line, $depth)  if $$line =~ /\G\[/gc;
    return $1                     if $$line =~ /\G(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)/gc;
    return                        if $$line =~ /\G(?:true|false|null)/gc;
    die "no value\n";
}

sub _object {
    my ($line, $depth) = @_;
    die "too deep\n" if $depth >= DEPTH_MAX;
    my %object;
    _space($line);
    return \%object if $$line =~ /\G\}/gc;
    while (1) {
        _space($line);
        $$line =~ /\G"/gc or die "no key\n";
        my $key = _string($line);
        $$line =~ /\G[ \t\r\n]*+:[ \t\r\n]*+/gc or die "no colon\n";
        my $value = _value($line, $depth + 1);
        if (defined $value && !ref $value) { $object{$key} = $value }
        else                               { delete $object{$key} }
        $$line =~ /\G[ \t\r\n]*+([,}])/gc or die "no comma\n";
        return \%object if $1 eq '}';
    }
}

sub _array {
    my ($line, $depth) = @_;
    die "too deep\n" if $depth >= DEPTH_MAX;
    return [] if $$line =~ /\G[ \t\r\n]*+\]/gc;
    while (1) {
        _space($line);
        _value($line, $depth + 1);
        $$line =~ /\G[ \t\r\n]*+([,\]])/gc or die "no comma\n";
        return [] if $1 eq ']';
    }
}

# The rest of a string, after its first quote. A loop, for a regex of perl 5.16 repeats a group 32,766 times at most.
sub _string {
    my ($line) = @_;
    my $text = '';
    while (1) {
        $$line =~ /\G([^"\\\x00-\x1f]*+)(["\\])/gc or die "no end of a string\n";
        $text .= $1;
        return $text if $2 eq '"';
        if    ($$line =~ m{\G(["\\/bfnrt])}gc)      { $text .= $UNESCAPED{$1} }
        elsif ($$line =~ /\Gu([0-9a-fA-F]{4})/gc) { $text .= _unicode($line, hex $1) }
        else                                      { die "no such escape\n" }
    }
}

sub _unicode {
    my ($line, $code) = @_;
    if ($code >= 0xd800 && $code <= 0xdbff) {
        $$line =~ /\G\\u([dD][c-fC-F][0-9a-fA-F]{2})/gc or die "half a pair\n";
        $code = 0x10000 + (($code - 0xd800) << 10) + (hex($1) - 0xdc00);
    }
    elsif ($code >= 0xdc00 && $code <= 0xdfff) { die "half a pair\n" }
    my $character = chr $code;
    utf8::encode($character);
    return $character;
}

1;
