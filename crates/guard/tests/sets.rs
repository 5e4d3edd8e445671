//! Each set of patterns on what its manager really writes: `sets/NAME.txt`.
//!
//! A line that begins with `+` was written by the manager when something had gone wrong, one with `-` when nothing had; `?` is a
//! line that could not be made here and was taken from the manager's own source. Lines that begin with `{` are whole entries.

use std::fs;
use std::path::Path;

use steadfast_guard::Entry;
use steadfast_guard::sets;

fn entry(text: &str) -> Entry {
    let fields = match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(object) => {
            object.into_iter().map(|(name, value)| (name, value.as_str().unwrap_or_default().into())).collect()
        }
        Err(_) => vec![("MESSAGE".to_owned(), text.as_bytes().to_vec())],
    };
    Entry { fields, ..Entry::default() }
}

#[test]
fn each_set_finds_what_its_manager_writes_when_workers_die_and_nothing_else() {
    for set in sets::ALL {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sets/{}.txt", set.name));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let patterns = set.patterns().unwrap_or_else(|bad| panic!("@{}: {bad}", set.name));
        let mut used = vec![false; patterns.len()];
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (mark, line) = line.split_once(' ').expect("a mark and a line");
            let entry = entry(line);
            let found: Vec<bool> = patterns.iter().map(|pattern| pattern.matches(&entry)).collect();
            assert_eq!(found.contains(&true), mark != "-", "@{}: {line}", set.name);
            used.iter_mut().zip(found).for_each(|(used, found)| *used |= found);
        }
        assert!(!used.contains(&false), "@{}: a pattern that no line needs: {used:?}", set.name);
    }
}

#[test]
fn a_file_of_lines_belongs_to_a_set() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sets");
    for file in fs::read_dir(directory).expect("a directory") {
        let path = file.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(sets::find(name).is_some(), "{}", path.display());
    }
}
