//! What is typed, and the request that becomes of it.

use std::io::Write as _;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    bench: Bench,
}

fn read(line: &str) -> Result<Bench, clap::Error> {
    Line::try_parse_from(std::iter::once("bench").chain(line.split('|'))).map(|line| line.bench)
}

fn question(line: &str) -> Result<Question, Failure> {
    read(line).expect(line).asked.question(false)
}

#[test]
fn the_path_stands_in_the_address_or_behind_it() {
    for (line, target) in [
        ("unix:/x", "/"),
        ("unix:/x|/a?b", "/a?b"),
        ("http://site", "/"),
        ("http://site/a", "/a"),
        ("http://site/|/b", "/b"),
        ("unix:/x|*|--method|OPTIONS", "*"),
    ] {
        assert_eq!(question(line).expect(line).target, target, "{line}");
    }
    for line in ["http://site/a|/b", "unix:/x|a", "unix:/x|/a b", "unix:/x|/a\r\nb", "http://site/a#b", "unix:/x|"] {
        assert_eq!(question(line).expect_err(line).code, ExitCode::Usage, "{line}");
    }
}

#[test]
fn a_body_makes_it_a_post_unless_told_otherwise() {
    let get = question("unix:/x").expect("a GET");
    assert_eq!((get.method.as_str(), get.body), ("GET", None));
    let post = question("unix:/x|--data|a=b").expect("a POST");
    assert_eq!((post.method.as_str(), post.body), ("POST", Some(b"a=b".to_vec())));
    assert_eq!(question("unix:/x|--data||--method|PUT").expect("a PUT").method, "PUT");
}

#[test]
fn a_body_may_stand_in_a_file() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"in a file\n").expect("written");
    let line = format!("unix:/x|--data|@{}", file.path().display());
    assert_eq!(question(&line).expect("a POST").body, Some(b"in a file\n".to_vec()));
    let failure = question("unix:/x|--data|@/nowhere/file").expect_err("no file");
    assert_eq!(failure.message, "cannot read the body from /nowhere/file: No such file or directory");
}

#[test]
fn headers_and_params_are_split() {
    let asked = question("unix:/x|-H|A:b: c |--header|X-Y:|--param|K=v=w|--param|E=").expect("all of it");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(asked.headers, [pair("A", "b: c"), pair("X-Y", "")]);
    assert_eq!(asked.params, [pair("K", "v=w"), pair("E", "")]);
    assert_eq!(question("http://site|--param|K=v").expect_err("HTTP has none").code, ExitCode::Usage);
}

#[test]
fn fastcgi_connections_are_closed_and_http_ones_kept_unless_told_otherwise() {
    for (line, kept) in [
        ("unix:/x", false),
        ("unix:/x|--keep-alive", true),
        ("unix:/x|--close", false),
        ("http://site", true),
        ("http://site|--keep-alive", true),
        ("http://site|--close", false),
    ] {
        assert_eq!(read(line).expect(line).is_kept(), kept, "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "",
        "9000",
        "unix:/x|-c|0",
        "unix:/x|-c|10001",
        "unix:/x|-c|file.toml",
        "unix:/x|-n|0",
        "unix:/x|-d|0s",
        "unix:/x|-d|10",
        "unix:/x|--rate|0",
        "unix:/x|--rate|-1",
        "unix:/x|--rate|NaN",
        "unix:/x|--rate|inf",
        "unix:/x|--keep-alive|--close",
        "unix:/x|--header|none",
        "unix:/x|--header|a b: c",
        "unix:/x|--header|A: b\r\nC: d",
        "unix:/x|--header|content-length: 1",
        "unix:/x|--param|K",
        "unix:/x|--param|=v",
        "unix:/x|--method|G T",
        "unix:/x|--method|CONNECT",
        "unix:/x|--timeout|2d",
    ] {
        assert_eq!(read(line).expect_err(line).exit_code(), 2, "{line}");
    }
}
