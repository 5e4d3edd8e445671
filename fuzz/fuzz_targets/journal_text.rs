//! What journalctl prints, as export and as JSON: the same entries whatever the cut, or the same error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_guard::{Entry, ExportReader, JsonLines};

fn export(data: &[u8], cut: usize) -> (Vec<Entry>, Option<String>) {
    let mut reader = ExportReader::new(&[]);
    let mut entry = Entry::default();
    let mut entries = Vec::new();
    for mut part in data.chunks(cut) {
        loop {
            match reader.next(&mut part, &mut entry) {
                Ok(true) => entries.push(entry.clone()),
                Ok(false) => break,
                Err(error) => return (entries, Some(error.reason.to_owned())),
            }
        }
    }
    match reader.finish(&mut entry) {
        Ok(true) => entries.push(entry),
        Ok(false) => {}
        Err(error) => return (entries, Some(error.reason.to_owned())),
    }
    (entries, None)
}

fn json(data: &[u8], cut: usize) -> Vec<Result<Entry, String>> {
    let mut reader = JsonLines::new(&[]);
    let mut entry = Entry::default();
    let mut entries = Vec::new();
    for mut part in data.chunks(cut) {
        loop {
            match reader.next(&mut part, &mut entry) {
                Ok(true) => entries.push(Ok(entry.clone())),
                Ok(false) => break,
                Err(error) => entries.push(Err(error.to_string())),
            }
        }
    }
    match reader.finish(&mut entry) {
        Ok(true) => entries.push(Ok(entry)),
        Ok(false) => {}
        Err(error) => entries.push(Err(error.to_string())),
    }
    entries
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let cut = usize::from(cut).max(1);
    assert_eq!(export(data, cut), export(data, data.len().max(1)));
    assert_eq!(json(data, cut), json(data, data.len().max(1)));
});
