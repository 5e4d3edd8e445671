//! What the reader of journal files gives is what `journalctl` gives, entry by entry, on journals of systemd's own making.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use steadfast_guard::Entry;
use steadfast_guard::journal::{Query, Rest, Test, read};
use support::{
    START, assert_same, by_journalctl, directly, export, export_shifted, has_remote, make, names, skipped, with_help,
};

/// With cursors, as `journalctl -o export` has them.
fn everything<'q>() -> Query<'q> {
    Query { needs_cursor: true, ..Query::default() }
}

fn pid(number: &str) -> (String, Vec<u8>) {
    ("_PID".to_owned(), number.as_bytes().to_vec())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn unit(name: &str) -> (String, Vec<u8>) {
    ("_SYSTEMD_UNIT".to_owned(), name.as_bytes().to_vec())
}

fn contains<'q>(field: &str, text: &'q str) -> Test<'q> {
    let accepts = |value: &[u8]| value.windows(text.len()).any(|part| part == text.as_bytes());
    Test { field: field.to_owned(), accepts: Box::new(accepts) }
}

/// Every kind of query on these files, against `journalctl SOURCE…`.
fn compare(paths: &[PathBuf], source: &[String], what: &str) {
    let truth = by_journalctl(source);
    assert!(truth.len() > 100, "{what}: {} entries", truth.len());
    let (ours, summary) = directly(paths, everything());
    assert!(summary.troubles.is_empty(), "{what}: {}", summary.troubles[0]);
    assert_same(&ours, &truth, what);

    let mut source_of = source.to_vec();
    source_of.extend(words(&["_SYSTEMD_UNIT=u3.service", "+", "_PID=7"]));
    let alternatives = vec![vec![unit("u3.service")], vec![pid("7")], vec![unit("nobody.service")]];
    let (ours, _) = directly(paths, Query { alternatives, ..everything() });
    assert_same(&ours, &by_journalctl(&source_of), &format!("{what}, two alternatives"));

    let mut source_of = source.to_vec();
    source_of.extend(words(&[
        "_SYSTEMD_UNIT=u3.service",
        "_PID=7",
        "+",
        "_SYSTEMD_UNIT=u1.service",
        "_PID=8",
        "MESSAGE=hello",
    ]));
    let message = ("MESSAGE".to_owned(), b"hello".to_vec());
    let alternatives =
        vec![vec![unit("u3.service"), pid("7")], vec![unit("u1.service"), pid("8"), message], vec![pid("7"), pid("x")]];
    let (ours, _) = directly(paths, Query { alternatives, ..everything() });
    assert!(ours.len() > 5, "{what}");
    assert_same(&ours, &by_journalctl(&source_of), &format!("{what}, several values together"));

    let (ours, _) = directly(paths, Query { alternatives: vec![vec![unit("u3.service")], vec![]], ..everything() });
    assert_eq!(ours.len(), truth.len(), "{what}: nothing named is everything");

    // At an entry's own time, between two, before all, after all.
    let (first, middle, last) = (truth[0].realtime, truth[truth.len() / 2].realtime, truth[truth.len() - 1].realtime);
    for (since, until) in
        [(middle, last), (middle + 1, last), (first, middle), (first - 9, middle - 1), (last + 1, last + 9)]
    {
        let mut source_of = source.to_vec();
        source_of.push(format!("--since=@{}.{:06}", since / 1_000_000, since % 1_000_000));
        source_of.push(format!("--until=@{}.{:06}", until / 1_000_000, until % 1_000_000));
        let query = || Query { since: Some(since), until: Some(until), ..everything() };
        let truth = by_journalctl(&source_of);
        assert_same(&directly(paths, query()).0, &truth, &format!("{what}, {since} to {until}"));
        source_of.extend(words(&["_SYSTEMD_UNIT=u3.service"]));
        let truth = by_journalctl(&source_of);
        let query = Query { alternatives: vec![vec![unit("u3.service")]], ..query() };
        assert_same(&directly(paths, query).0, &truth, &format!("{what}, {since} to {until}, one unit"));
    }

    // Tests, on each of the ways: the index of values, a unit's list, the list of the file.
    let passes = |entry: &Entry, text: &str| {
        entry.fields.iter().any(|(name, value)| name == "MESSAGE" && String::from_utf8_lossy(value).contains(text))
    };
    for text in ["gone", "hello", "request 77 ", "lorem", "no such thing"] {
        let mut expected: Vec<Entry> = truth.iter().filter(|entry| passes(entry, text)).cloned().collect();
        let (ours, _) = directly(paths, Query { tests: vec![contains("MESSAGE", text)], ..everything() });
        assert_same(&ours, &expected, &format!("{what}, {text}"));
        expected.retain(|entry| entry.field("_SYSTEMD_UNIT") == Some(b"u3.service") && entry.realtime >= middle);
        for entry in &mut expected {
            entry.fields.retain(|(name, _)| name == "MESSAGE" || name == "_PID");
            entry.cursor = None;
        }
        let query = Query {
            tests: vec![contains("MESSAGE", text), contains("NOBODY_HAS_IT", "")],
            alternatives: vec![vec![unit("u3.service")], vec![unit("nobody.service")]],
            fields: words(&["MESSAGE", "_PID"]),
            since: Some(middle),
            ..Query::default()
        };
        assert_same(&directly(paths, query).0, &expected, &format!("{what}, {text}, one unit, two fields"));
    }
}

#[test]
fn every_form_of_the_format() {
    if !has_remote("every form of the format") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let export = export(3000, 1);
    for (name, environment) in [
        ("compact.journal", &[][..]),
        ("regular.journal", &[("SYSTEMD_JOURNAL_COMPACT", "0")]),
        ("jenkins.journal", &[("SYSTEMD_JOURNAL_COMPACT", "0"), ("SYSTEMD_JOURNAL_KEYED_HASH", "0")]),
    ] {
        let path = make(directory.path(), name, &export, environment);
        compare(std::slice::from_ref(&path), &[format!("--file={}", path.display())], name);
    }
}

#[test]
fn several_machines_in_one_order() {
    if !has_remote("several machines in one order") {
        return;
    }
    // Four journalds at once, two on each of two machines: the same times, other numbers.
    let directory = tempfile::tempdir().expect("a directory");
    let machine = directory.path().join("0123456789abcdef0123456789abcdef");
    fs::create_dir(&machine).expect("a directory");
    for (number, place) in [directory.path(), &machine, &machine, directory.path()].into_iter().enumerate() {
        let _path = make(place, &format!("m{number}.journal"), &export(700, number as u64 + 10), &[]);
    }
    fs::write(directory.path().join("other.txt"), "no journal").expect("written");
    let source = format!("--directory={}", directory.path().display());
    compare(&[directory.path().to_owned()], &[source], "four machines");
}

#[test]
fn the_clock_of_the_boot_comes_before_the_wall_clock() {
    if !has_remote("the clock of the boot") {
        return;
    }
    // Two journalds of one boot, in one of which the wall clock is an hour ahead.
    let directory = tempfile::tempdir().expect("a directory");
    for (name, seed, ahead) in [("a.journal", 21, 0), ("b.journal", 23, 3_600_000_000)] {
        let _path = make(directory.path(), name, &export_shifted(120, seed, ahead), &[]);
    }
    let truth = by_journalctl(&[format!("--directory={}", directory.path().display())]);
    let (ours, _) = directly(&[directory.path().to_owned()], everything());
    assert_same(&ours, &truth, "an hour apart");
    let back = ours.windows(2).filter(|pair| pair[1].realtime < pair[0].realtime).count();
    assert!(back > 20, "they are mixed: {back}");
}

#[test]
fn the_same_entry_in_two_files_is_given_once() {
    if !has_remote("the same entry in two files") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = make(directory.path(), "a.journal", &export(300, 3), &[]);
    fs::copy(&path, directory.path().join("b.journal")).expect("copied");
    let (ours, summary) = directly(&[directory.path().to_owned()], everything());
    assert_eq!((summary.files, ours.len()), (2, 300));
    assert_same(&ours, &directly(&[path], everything()).0, "twice the same");
}

/// journald itself, in a mount namespace where `/run` and `/var/log` are empty: rotated, killed in the middle of a file, started
/// again. `$1` is where the files go.
const JOURNALD: &str = r#"
set -eu
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal /run/lock /var/log/journal
say() { # FIRST LAST
    python3 -c '
import socket, sys
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for n in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
    fields = b"MESSAGE=worker %d gone\n_PID=1\nBIG=%s\nDUP=1\nDUP=2\n" % (n % 9, b"x" * (n % 40 * 50))
    to.sendto(fields, "/run/systemd/journal/socket")
' "$1" "$2"
}
# Until journald has written what was said to it.
until_seen() {
    until journalctl -D /var/log/journal --quiet -o cat BY=end-"$1" MESSAGE=end | grep -q end; do sleep 0.02; done
}
end() {
    python3 -c '
import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"MESSAGE=end\nBY=end-%s\n" % sys.argv[1].encode(), "/run/systemd/journal/socket")
' "$1"
    until_seen "$1"
}
start() {
    /lib/systemd/systemd-journald 2>/dev/null & journald=$!
    until journalctl --sync 2>/dev/null; do kill -0 $journald; sleep 0.02; done
}
start
journalctl --flush
say 1 300
journalctl --rotate
say 301 500
end one
kill -9 $journald
wait $journald || true
start
say 501 600
end two
# The live file is copied while it is online.
cp -r /var/log/journal/*/. "$1"
kill $journald
wait $journald || true
"#;

#[test]
fn journald_rotated_and_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new("timeout")
        .args(["60", "unshare", "--mount", "--propagation", "private", "bash", "-c", JOURNALD, "journald"])
        .arg(directory.path())
        .output()
        .expect("timeout of coreutils");
    if !rustix::process::geteuid().is_root() {
        skipped("journald rotated and killed", "mount namespaces need root here");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = names(directory.path());
    assert!(files.iter().any(|name| name.contains('@')), "rotated: {files:?}");
    assert!(files.len() >= 3, "put aside after the kill: {files:?}");
    let truth = by_journalctl(&[format!("--directory={}", directory.path().display())]);
    assert!(truth.len() >= 602, "{} entries in {files:?}", truth.len());
    let (ours, summary) = directly(&[directory.path().to_owned()], everything());
    assert!(summary.troubles.is_empty(), "{}", summary.troubles[0]);
    assert_same(&ours, &truth, "journald's files");
    for text in ["worker 3", "end"] {
        let (ours, _) =
            directly(&[directory.path().to_owned()], Query { tests: vec![contains("MESSAGE", text)], ..everything() });
        let passes =
            |entry: &&Entry| String::from_utf8_lossy(entry.field("MESSAGE").unwrap_or_default()).contains(text);
        let expected: Vec<Entry> = truth.iter().filter(passes).cloned().collect();
        assert!(expected.len() >= 2, "{text}");
        assert_same(&ours, &expected, text);
    }
}

#[test]
fn journalctl_reads_what_we_do_not_know() {
    if !has_remote("what we do not know") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let known = make(directory.path(), "known.journal", &export(500, 4), &[]);
    let unknown = make(directory.path(), "unknown [1]*.journal", &export(500, 5), &[]);
    let truth = by_journalctl(&[format!("--directory={}", directory.path().display())]);
    // A journalctl of tomorrow, which knows the feature: it reads the file as it was.
    let original = directory.path().join("original");
    fs::copy(&unknown, &original).expect("copied");
    let mut bytes = fs::read(&unknown).expect("read");
    bytes[12] |= 0x80;
    fs::write(&unknown, bytes).expect("written");
    let tomorrow = directory.path().join("tomorrow");
    let script = format!(
        "#!/bin/bash\nargs=()\nfor a; do case $a in /proc/*|*unknown*) a={};; esac; args+=(\"$a\"); done\nexec journalctl \"${{args[@]}}\"\n",
        original.display()
    );
    fs::write(&tomorrow, script).expect("written");
    fs::set_permissions(&tomorrow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");

    let paths = [known, unknown.clone()];
    let (ours, summary) = with_help(&paths, everything(), Some(&tomorrow));
    assert_same(&ours, &truth, "one by us, one by journalctl");
    assert_eq!(summary.troubles.len(), 1);
    assert!(matches!(summary.troubles[0].rest, Rest::Read), "{}", summary.troubles[0]);
    let query = Query {
        tests: vec![contains("MESSAGE", "gone")],
        fields: words(&["_PID"]),
        alternatives: vec![vec![unit("u3.service")], vec![pid("7")]],
        since: Some(truth[300].realtime),
        until: Some(truth[800].realtime),
        ..Query::default()
    };
    let (ours, _) = with_help(&paths, query, Some(&tomorrow));
    let has = |entry: &Entry, name: &str, value: &[u8]| entry.field(name) == Some(value);
    let expected: Vec<Entry> = truth[300..=800]
        .iter()
        .filter(|entry| has(entry, "_SYSTEMD_UNIT", b"u3.service") || has(entry, "_PID", b"7"))
        .filter(|entry| {
            let messages = entry.fields.iter().filter(|(name, _)| name == "MESSAGE");
            messages.into_iter().any(|(_, value)| value.windows(4).any(|part| part == b"gone"))
        })
        .map(|entry| {
            let fields = entry.fields.iter().filter(|(name, _)| name == "_PID").cloned().collect();
            Entry { realtime: entry.realtime, monotonic: entry.monotonic, cursor: None, fields }
        })
        .collect();
    assert!(expected.len() > 5);
    assert_same(&ours, &expected, "a query, half of it by journalctl");

    // Without help it is said what is missing.
    let (ours, summary) = directly(&paths, everything());
    assert_eq!(ours.len(), 500);
    assert!(matches!(summary.troubles[0].rest, Rest::Lost));
    let said = summary.troubles[0].to_string();
    assert!(said.contains("unknown [1]*.journal") && said.contains("feature"), "{said}");
    // The real journalctl does not know it either.
    let (_, summary) = with_help(&[unknown], everything(), Some(Path::new("journalctl")));
    assert!(matches!(summary.troubles[0].rest, Rest::Failed(_)), "{}", summary.troubles[0]);
}

#[test]
fn what_is_not_there_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("a.journal"), "not a journal, but long enough for a header".repeat(10))
        .expect("written");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        directory.path().join("b.journal"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a pipe");
    let missing = directory.path().join("missing");
    let (ours, summary) = directly(&[directory.path().to_owned(), missing], Query::default());
    assert!(ours.is_empty());
    let said: Vec<String> = summary.troubles.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for (said, part) in said.iter().zip(["LPKSHHRH", "regular", "No such file"]) {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn each_may_break_off() {
    if !has_remote("each may break off") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = make(directory.path(), "a.journal", &export(100, 6), &[]);
    let mut seen = 0;
    let summary = read(&[path], Query { since: Some(START), ..Query::default() }, None, &mut |_| {
        seen += 1;
        if seen == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((seen, summary.entries), (7, 7));
}
