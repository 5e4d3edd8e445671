//! Damaged journal files: what can be read is read, the rest is said to be missing, and nothing is made up.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use steadfast_guard::Entry;
use steadfast_guard::journal::{Query, Rest, Test};
use support::{Chance, directly, export, has_remote, make, with_help};

const DATA: u8 = 1;
const FIELD: u8 = 2;
const ENTRY: u8 = 3;
const DATA_HASH_TABLE: u8 = 4;
const FIELD_HASH_TABLE: u8 = 5;
const ENTRY_ARRAY: u8 = 6;

/// A journal of some hundred entries without the room at its end, and what it holds.
struct Sample {
    bytes: Vec<u8>,
    truth: Vec<Entry>,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"))
}

impl Sample {
    fn make(directory: &Path, environment: &[(&str, &str)]) -> Sample {
        let path = make(directory, "sample.journal", &export(200, 8), environment);
        let (truth, summary) = directly(std::slice::from_ref(&path), query(0));
        assert!(summary.troubles.is_empty() && truth.len() == 200);
        let mut bytes = fs::read(&path).expect("read");
        let tail = number(&bytes, 136) as usize;
        bytes.truncate(tail + number(&bytes, tail + 8) as usize);
        fs::remove_file(path).expect("removed");
        Sample { bytes, truth }
    }

    /// Every object: where it begins, its kind and its size.
    fn objects(&self) -> Vec<(usize, u8, usize)> {
        let mut at = number(&self.bytes, 88) as usize;
        let mut objects = Vec::new();
        while at + 16 <= self.bytes.len() {
            let size = number(&self.bytes, at + 8) as usize;
            objects.push((at, self.bytes[at], size));
            at = (at + size).next_multiple_of(8);
        }
        objects
    }

    /// The bytes that hold the file together: not those of values, and not what an entry says of itself. The size of a value or
    /// an entry belongs to these: that a wrong one is wrong cannot always be seen.
    fn structure(&self) -> Vec<usize> {
        let head = if number(&self.bytes, 8) >> 32 & 16 == 0 { 64 } else { 72 };
        // Without the id of the numbers, which is a part of every cursor, and the kind of the format.
        let mut places: Vec<usize> = (16..72).chain(88..208).collect();
        for (at, kind, size) in self.objects() {
            match kind {
                DATA => places.extend((at..at + 8).chain(at + 16..at + head)),
                ENTRY => places.extend(at..at + 8),
                FIELD => places.extend(at..at + 40),
                // Nobody looks into it.
                DATA_HASH_TABLE => {}
                _ => places.extend(at..at + size),
            }
        }
        places
    }
}

/// Everything; one unit; one unit and a text; a text; a span of time.
fn query<'q>(which: u64) -> Query<'q> {
    let mut query = Query { needs_cursor: true, ..Query::default() };
    if matches!(which, 1 | 2) {
        query.alternatives = vec![vec![("_SYSTEMD_UNIT".to_owned(), b"u3.service".to_vec())]];
    }
    if matches!(which, 2 | 3) {
        let accepts = |value: &[u8]| value.ends_with(b"gone");
        query.tests = vec![Test { field: "MESSAGE".to_owned(), accepts: Box::new(accepts) }];
    }
    if which == 4 {
        query.since = Some(support::START + 100_000_000);
        query.until = Some(support::START + 200_000_000);
    }
    query
}

fn is_asked_for(entry: &Entry, which: u64) -> bool {
    let is_unit = entry.field("_SYSTEMD_UNIT") == Some(b"u3.service");
    let is_gone = entry.fields.iter().any(|(name, value)| name == "MESSAGE" && value.ends_with(b"gone"));
    match which {
        1 => is_unit,
        2 => is_unit && is_gone,
        3 => is_gone,
        4 => (100_000_000..=200_000_000).contains(&(entry.realtime - support::START)),
        _ => true,
    }
}

/// Fails unless each of these is one of the file's entries, once, and asked for.
fn assert_true(ours: &[Entry], sample: &Sample, which: u64, what: &str) {
    let mut seen = BTreeSet::new();
    for entry in ours {
        assert!(seen.insert(&entry.cursor), "{what}: twice {:?}", entry.cursor);
        let is_true = sample.truth.iter().any(|true_one| true_one == entry);
        assert!(is_true, "{what}: made up: {} {:?}", entry.realtime, entry.cursor);
        assert!(is_asked_for(entry, which), "{what}: not asked for: {:?}", entry.cursor);
    }
}

#[test]
fn a_truncated_file_gives_what_it_has() {
    if !has_remote("a truncated file") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for environment in [&[][..], &[("SYSTEMD_JOURNAL_COMPACT", "0")]] {
        let sample = Sample::make(directory.path(), environment);
        let path = directory.path().join("short.journal");
        fs::write(&path, &sample.bytes).expect("written");
        let paths = [path.clone()];
        let file = File::options().write(true).open(&path).expect("opened");
        let mut before = sample.truth.len();
        // The big table at the beginning, into which nobody looks, is one step.
        let table = sample.objects().into_iter().find(|(_, kind, _)| *kind == DATA_HASH_TABLE).expect("a table");
        let table = table.0 + 4096..table.0 + table.2 - 4096;
        for length in (0..sample.bytes.len()).rev().step_by(4096).filter(|length| !table.contains(length)) {
            file.set_len(length as u64).expect("shorter");
            for which in 0..5 {
                let (ours, summary) = directly(&paths, query(which));
                let what = format!("{length} bytes, query {which}");
                assert_true(&ours, &sample, which, &what);
                if which == 0 {
                    assert!(ours.len() <= before, "{what}");
                    assert_eq!(ours, sample.truth[..ours.len()], "{what}: its beginning, and no holes");
                    before = ours.len();
                }
                let expected = sample.truth.iter().filter(|entry| is_asked_for(entry, which)).count();
                assert!(ours.len() == expected || summary.troubles.len() == 1, "{what}: it is said what is missing");
            }
        }
        assert_eq!(before, 0);
    }
}

#[test]
fn journalctl_goes_on_where_the_damage_is() {
    if !has_remote("where the damage is") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = make(directory.path(), "damaged.journal", &export(200, 8), &[]);
    let (truth, _) = directly(std::slice::from_ref(&path), query(0));
    // A value of one entry in the middle: journalctl leaves that value out and goes on.
    let bytes = fs::read(&path).expect("read");
    let needle = b"MESSAGE=request 100 of";
    let at = bytes.windows(needle.len()).position(|part| part == needle).expect("an own message");
    let head = at - 72;
    assert_eq!(bytes[head], 1, "a DATA object");
    let file = File::options().write(true).open(&path).expect("opened");
    file.write_all_at(&[9], head as u64).expect("damaged");
    let said = support::by_journalctl(&[format!("--file={}", path.display())]);
    let (ours, summary) = with_help(std::slice::from_ref(&path), query(0), Some(Path::new("journalctl")));
    assert_eq!(summary.troubles.len(), 1);
    support::assert_same(&ours[..100], &truth[..100], "before the damage");
    assert!(ours.len() >= said.len(), "{} {}", ours.len(), said.len());
    support::assert_same(&ours, &said, "as journalctl has it");
    let (alone, summary) = directly(&[path], query(0));
    assert_eq!(alone, truth[..100]);
    assert!(matches!(summary.troubles[0].rest, Rest::Lost));
}

#[test]
fn the_index_of_a_file_that_was_given_up_is_not_believed() {
    if !has_remote("a file that was given up") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut sample = Sample::make(directory.path(), &[]);
    let expected = |which| sample.truth.iter().filter(|entry| is_asked_for(entry, which)).count();
    let expected = [expected(1), expected(2), expected(3)];
    // The page with the heads of the fields' lists was lost with the power.
    for (at, kind, _) in sample.objects() {
        if kind == FIELD {
            sample.bytes[at + 32..at + 40].fill(0);
        }
    }
    let found = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("written");
        [1, 2, 3].map(|which| directly(std::slice::from_ref(&path), query(which)).0.len())
    };
    assert_eq!(found("put-aside.journal~", &sample.bytes), expected);
    // Its writer never came back to put it aside.
    sample.bytes[16] = 1;
    assert_eq!(found("left.journal", &sample.bytes), expected);
    // The one that is closed in order is believed: so the list is what decides.
    sample.bytes[16] = 0;
    assert_eq!(found("closed.journal", &sample.bytes), [0; 3]);
}

/// Rounds of damage, each read in one of five ways. `places` are the bytes that may be hit.
fn flip(sample: &Sample, directory: &Path, rounds: u64, places: &[usize], is_structure: bool) {
    let path = directory.join("flipped.journal");
    fs::write(&path, &sample.bytes).expect("written");
    let file = File::options().write(true).open(&path).expect("opened");
    let paths: [PathBuf; 1] = [path];
    let mut whole = 0;
    for round in 0..rounds {
        let mut chance = Chance(0x5eed ^ (round + 1) << 20);
        let hits: Vec<usize> =
            (0..=chance.below(3)).map(|_| places[chance.below(places.len() as u64) as usize]).collect();
        for &at in &hits {
            let value = match chance.below(4) {
                0 => 0,
                1 => 255,
                _ => sample.bytes[at] ^ 1 << chance.below(8),
            };
            file.write_all_at(&[value], at as u64).expect("damaged");
        }
        let which = round % 5;
        let begun = Instant::now();
        let (ours, summary) = directly(&paths, query(which));
        let what = format!("round {round}, query {which}, bytes {hits:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {:?}", begun.elapsed());
        assert!(ours.len() <= sample.bytes.len() / 64, "{what}: {}", ours.len());
        if is_structure {
            assert_true(&ours, sample, which, &what);
        }
        whole += u64::from(summary.troubles.is_empty());
        for &at in &hits {
            file.write_all_at(&sample.bytes[at..=at], at as u64).expect("mended");
        }
    }
    // Damage that is not seen and damage that is: both occur.
    assert!((rounds / 20..rounds).contains(&whole), "{whole} of {rounds} were read without trouble");
}

#[test]
fn pointers_that_lead_astray_make_nothing_up() {
    if !has_remote("pointers that lead astray") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let sample = Sample::make(directory.path(), &[("SYSTEMD_JOURNAL_COMPACT", "0")]);
    let path = directory.path().join("astray.journal");
    fs::write(&path, &sample.bytes).expect("written");
    let file = File::options().write(true).open(&path).expect("opened");
    let paths = [path];
    let objects = sample.objects();
    let all_of = |kind: u8| objects.iter().filter(move |object| object.1 == kind).map(|object| object.0 as u64);
    // Where the pointers of an object are, and to what they point.
    let mut pointers: Vec<(usize, u8)> = vec![(120, FIELD_HASH_TABLE), (176, ENTRY_ARRAY)];
    for &(at, kind, size) in &objects {
        match kind {
            DATA => pointers.extend([(at + 32, DATA), (at + 40, ENTRY), (at + 48, ENTRY_ARRAY)]),
            FIELD => pointers.extend([(at + 24, FIELD), (at + 32, DATA)]),
            ENTRY_ARRAY => {
                pointers.push((at + 16, ENTRY_ARRAY));
                pointers.extend((at + 24..at + size).step_by(8).map(|item| (item, ENTRY)));
            }
            FIELD_HASH_TABLE => pointers.extend((at + 16..at + size).step_by(16).map(|bucket| (bucket, FIELD))),
            _ => {}
        }
    }
    let mut chance = Chance(77);
    let mut troubles = 0;
    // Most belong to values, of which there are many.
    let mut values = 0..;
    pointers.retain(|&(at, kind)| {
        let is_value = matches!(kind, DATA | ENTRY)
            && objects.iter().any(|object| object.0 + 16 < at && at < object.0 + 56 && object.1 == DATA);
        number(&sample.bytes, at) != 0 && (!is_value || values.next().is_some_and(|value| value % 4 == 0))
    });
    for (round, &(at, kind)) in pointers.iter().enumerate() {
        let there: Vec<u64> = all_of(kind).collect();
        let own = objects.iter().rev().find(|object| object.0 <= at).map_or(0, |object| object.0 as u64);
        let astray = match chance.below(6) {
            0 => own,
            1 => there[0],
            2 => there[there.len() - 1],
            3 => u64::MAX - 7,
            _ => there[chance.below(there.len() as u64) as usize],
        };
        file.write_all_at(&astray.to_le_bytes(), at as u64).expect("damaged");
        let which = round as u64 % 5;
        let (ours, summary) = directly(&paths, query(which));
        assert_true(&ours, &sample, which, &format!("{astray} at {at}, query {which}"));
        troubles += summary.troubles.len();
        file.write_all_at(&sample.bytes[at..at + 8], at as u64).expect("mended");
    }
    assert!(troubles > 50, "{troubles} of {}", pointers.len());

    // The list of all entries, one of them twice: what stands before is given.
    let (array, _, size) =
        objects.iter().rev().copied().find(|object| object.1 == ENTRY_ARRAY && object.2 > 200).expect("long");
    let item = array + size / 2 / 8 * 8;
    let before = sample.truth.len();
    file.write_all_at(&sample.bytes[item - 8..item], item as u64).expect("damaged");
    let (ours, summary) = directly(&paths, query(0));
    assert_true(&ours, &sample, 0, "one entry twice");
    assert!(ours.len() == before || summary.troubles[0].to_string().contains("does not go forwards"), "{}", ours.len());
}

#[test]
fn flipped_bits_of_the_structure_make_nothing_up() {
    if !has_remote("flipped bits of the structure") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for environment in [&[][..], &[("SYSTEMD_JOURNAL_COMPACT", "0")]] {
        let sample = Sample::make(directory.path(), environment);
        flip(&sample, directory.path(), 1500, &sample.structure(), true);
    }
}

#[test]
fn flipped_bits_anywhere_are_stood() {
    if !has_remote("flipped bits anywhere") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let sample = Sample::make(directory.path(), &[]);
    let mut places: Vec<usize> = (0..272).collect();
    for (at, kind, size) in sample.objects() {
        if kind != DATA_HASH_TABLE {
            places.extend(at..at + size.min(400));
        }
    }
    flip(&sample, directory.path(), 1500, &places, false);
}
