package Site::Utils;

# Small things that every page needs.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(escape_html query);

my %ENTITIES = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;', "'" => '&#39;');

sub escape_html {
    my ($text) = @_;
    $text =~ s/([&<>"'])/$ENTITIES{$1}/g;
    return $text;
}

# The query string's pairs, decoded; of equal names the last one counts.
sub query {
    my ($string) = @_;
    return map { /\A([^=]*)=?(.*)\z/s ? (_decode($1), _decode($2)) : () } split /[&;]/, $string // '';
}

sub _decode {
    my ($text) = @_;
    $text =~ tr/+/ /;
    $text =~ s/%([0-9a-fA-F]{2})/chr hex $1/ge;
    return $text;
}

1;
