# The tiny JSON of the link: whatever JSON::PP writes is read, whatever is written JSON::PP reads.
use 5.016;
use strict;
use warnings;
use Test::More;
use JSON::PP ();

use FCGI::ProcManager::Steadfast::Link;

my $decode = \&FCGI::ProcManager::Steadfast::Link::decode;
my $encode = \&FCGI::ProcManager::Steadfast::Link::encode;

my @texts = ('', 'a', "\"\\/\b\f\n\r\t", "\x00\x01\x1f\x7f", "\x{e9}\x{20ac}", "\x{1f600}x\x{10ffff}", "/run/\x{fc}.sock", "\x{d7ff}\x{e000}");
for my $text (@texts) {
    (my $bytes = $text) =~ s/x/x/;
    utf8::encode($bytes);
    for my $json (JSON::PP->new->utf8->canonical, JSON::PP->new->ascii->canonical) {
        is $decode->($json->encode({ type => 'x', text => $text }))->{text}, $bytes, 'read: ' . $json->encode([$text]);
    }
    my $message = JSON::PP->new->utf8->decode($encode->(type => 'x', message => $text));
    is_deeply $message, { type => 'x', message => $text }, 'written';
}

is $decode->('{"a":"\ud83d\uDE00"}')->{a}, "\xf0\x9f\x98\x80", 'a surrogate pair';
is_deeply $decode->(q( { "type" : "fork" , "slot" : 3 , "new" : [ 1 , { "slot" : [ ] , "x" : "]}" } , null ] , "o" : { "slot" : 9 } , "t" : true } ) . "\r\n"),
    { type => 'fork', slot => 3 }, 'what is nested is read past';
is_deeply $decode->('{"a":-0,"b":1.5e-3,"c":12}'), { a => '-0', b => '1.5e-3', c => 12 }, 'numbers';
is_deeply $decode->('{}'), {}, 'empty';
is_deeply $decode->('{"a":"x","a":null}'), {}, 'the last of two counts';
is length $decode->('{"a":"' . ('x\\n' x 40_000) . '"}')->{a}, 80_000, 'many escapes';
ok $decode->('{"a":' . ('[' x 60) . (']' x 60) . '}'), 'deep';

for my $line (
    '', ' ', 'x', '[]', '3', '"a"', 'null', '{', '{}}', '{}x', '{"a"}', '{"a":}', '{"a":1,}', '{a:1}', '{"a":01}', '{"a":+1}', '{"a":1.}',
    '{"a":"\x"}', '{"a":"\u12"}', '{"a":"\ud83d"}', '{"a":"\ude00"}', '{"a":"\ud83dx"}', "{\"a\":\"\n\"}", '{"a":"x}', '{"a":[1,]}', '{"a":nul}', '{"a":{"b":}}',
    "{\"a\":\"\xff\"}", '{"a":' . ('[' x 100_0) . (']' x 100_0) . '}', q({'a':1}),
    )
{
    is $decode->($line), undef, 'not a message: ' . substr $line, 0, 20;
}

my $message = JSON::PP->new->utf8->decode($encode->(type => 'failed', code => '3', message => "caf\xe9", name => undef));
is_deeply $message, { type => 'failed', code => 3, message => "caf\x{e9}" }, 'Latin-1 bytes, and nothing for undef';
for my $key (qw(version pid concurrency code slot retry_after_ms errno)) { is $encode->($key => '3'), qq({"$key":3}\n), "$key is a number" }
is(JSON::PP->new->utf8->decode($encode->(message => "caf\xc3\xa9"))->{message}, "caf\x{e9}", "UTF-8 bytes");
ok length($encode->(message => "\x01" x 100_000)) < 65_536, 'a message stays below the limit';
ok eval { JSON::PP->new->utf8->decode($encode->(message => "\x{d800}x")); 1 }, 'half a pair does no harm';

# The supervisor's plain lines are read by a shorter way, which must not take what is no message.
is_deeply $decode->(qq({"type":"fork","slot":12,"path":"/run/s/1","link":"/l"}\n)), { type => 'fork', slot => 12, path => '/run/s/1', link => '/l' }, 'plain';
is_deeply $decode->(qq({"a":"x","a":1}\n)), { a => 1 }, 'the last of two counts here, too';
is_deeply $decode->(qq({"a":null,"b":"c\\n"}\n)), { b => "c\n" }, 'what is not plain goes the long way';
for my $line ('{"a":1,}', '{"a":1 "b":2}', '{"a":01}', '{"a":1}}', '{"a":"x}', '{,"a":1}', '{"a":1,"b"}', '"a":1}', '{"a":1', '{"a"1}') {
    is $decode->("$line\n"), undef, "no message: $line";
}

done_testing;
