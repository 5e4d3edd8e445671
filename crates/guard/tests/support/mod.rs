//! Journals to read, made by systemd's own programs, and what `journalctl` says of them.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Write as _, stderr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use steadfast_guard::journal::{Query, Summary, read};
use steadfast_guard::{Entry, ExportReader};

const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

/// Says that this machine cannot make a case. Past the test runner's own capture, so that it is seen.
pub fn skipped(what: &str, reason: &str) {
    // Where stderr is closed nobody wants to know.
    let _unheard = writeln!(stderr(), "SKIPPED {what}: {reason}");
}

/// Whether journals can be made here.
#[must_use]
pub fn has_remote(test: &str) -> bool {
    let is_there = Path::new(REMOTE).exists();
    if !is_there {
        skipped(test, "systemd-journal-remote is not installed");
    }
    is_there
}

/// A journal with the entries of an export. `environment` chooses among the forms of the format.
#[must_use]
pub fn make(directory: &Path, name: &str, export: &[u8], environment: &[(&str, &str)]) -> PathBuf {
    let path = directory.join(name);
    let mut child = Command::new(REMOTE)
        .arg("--output")
        .arg(&path)
        .arg("-")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote");
    child.stdin.take().expect("its input").write_all(export).expect("taken");
    assert!(child.wait().expect("its end").success(), "systemd-journal-remote");
    path
}

/// A small generator of numbers: the same ones each time.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// The first entry's time in [`export`].
pub const START: u64 = 1_700_000_000_000_000;

/// How long a boot takes.
const BOOT: u64 = 400_000_000;

/// An export: several boots, fields that stand twice, binary ones, values of all sizes, messages said again and again.
#[must_use]
pub fn export(entries: u64, seed: u64) -> Vec<u8> {
    export_shifted(entries, seed, 0)
}

/// The same by a wall clock that is so many microseconds ahead.
#[must_use]
pub fn export_shifted(entries: u64, seed: u64, ahead: u64) -> Vec<u8> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = Vec::new();
    let mut realtime = START;
    for number in 0..entries {
        realtime += 1 + chance.below(3_000_000);
        // A boot every 400 s. Journals of one machine, of even or of odd seeds, have the same.
        let (boot, monotonic) = ((realtime - START) / BOOT * 2 + seed % 2, (realtime - START) % BOOT + 5);
        let mut text = String::new();
        let _ = write!(
            text,
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={monotonic}\n_BOOT_ID={:032x}\n",
            realtime + ahead,
            boot + 1
        );
        let _ = write!(text, "_SYSTEMD_UNIT=u{}.service\n_PID={}\nPRIORITY=6\n", chance.below(7), number % 50);
        let _ = match number % 3 {
            0 => writeln!(text, "MESSAGE=worker {} gone", chance.below(20)),
            1 => writeln!(text, "MESSAGE=request {number} of {}", chance.below(1000)),
            _ => writeln!(text, "MESSAGE=hello"),
        };
        if number % 5 == 0 {
            let _ = write!(text, "TWICE=a\nTWICE=b{number}\nEMPTY=\n");
        }
        out.extend_from_slice(text.as_bytes());
        if number % 11 == 0 {
            let value: Vec<u8> = (0..chance.below(300)).map(|_| chance.below(256) as u8).collect();
            binary(&mut out, "BINARY", &value);
        }
        if number % 13 == 0 {
            let value = format!("big {number} {}", "lorem ipsum\n".repeat(60 + chance.below(3000) as usize));
            binary(&mut out, if number % 2 == 0 { "BIG" } else { "MESSAGE" }, value.as_bytes());
        }
        if number == 1000 {
            // It does not fit what is kept of a value, and it cannot be compressed.
            let value: Vec<u8> = (0..1_500_000).map(|_| chance.below(256) as u8).collect();
            binary(&mut out, "HUGE", &value);
        }
        out.push(b'\n');
    }
    out
}

fn binary(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Entries as `journalctl` with these arguments gives them. The boot's id is left out: it prints it at another place.
#[must_use]
pub fn by_journalctl(arguments: &[String]) -> Vec<Entry> {
    let output = Command::new("journalctl")
        .args(["--quiet", "--output=export"])
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .expect("journalctl");
    parse(&output.stdout)
}

/// The entries of an export.
#[must_use]
pub fn parse(mut export: &[u8]) -> Vec<Entry> {
    let mut reader = ExportReader::new(&[]);
    let mut entry = Entry::default();
    let mut entries = Vec::new();
    while reader.next(&mut export, &mut entry).expect("an export") {
        entries.push(without_boot(&entry));
    }
    if reader.finish(&mut entry).expect("a whole entry") {
        entries.push(without_boot(&entry));
    }
    entries
}

/// Entries as our own reader gives them, with nobody's help.
#[must_use]
pub fn directly(paths: &[PathBuf], query: Query<'_>) -> (Vec<Entry>, Summary) {
    with_help(paths, query, None)
}

/// Entries as our own reader gives them.
#[must_use]
pub fn with_help(paths: &[PathBuf], query: Query<'_>, journalctl: Option<&Path>) -> (Vec<Entry>, Summary) {
    let mut entries = Vec::new();
    let summary = read(paths, query, journalctl, &mut |entry| {
        entries.push(without_boot(entry));
        ControlFlow::Continue(())
    });
    assert_eq!(summary.entries, entries.len() as u64);
    (entries, summary)
}

fn without_boot(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    entry.fields.retain(|(name, _)| name != "_BOOT_ID");
    entry
}

/// Fails with the first difference, and not with a page of bytes.
#[track_caller]
pub fn assert_same(ours: &[Entry], truth: &[Entry], what: &str) {
    for (number, (our, true_one)) in ours.iter().zip(truth).enumerate() {
        if our != true_one {
            panic!("{what}: entry {number}:\nours  {}\ntruth {}", draw(our), draw(true_one));
        }
    }
    assert_eq!(ours.len(), truth.len(), "{what}: so many entries");
}

fn draw(entry: &Entry) -> String {
    let mut text = format!("{} {} {:?}", entry.realtime, entry.monotonic, entry.cursor);
    for (name, value) in &entry.fields {
        let start = String::from_utf8_lossy(&value[..value.len().min(60)]).into_owned();
        let _ = write!(text, " {name}={start:?}({})", value.len());
    }
    text
}

/// A directory's files by name.
#[must_use]
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
