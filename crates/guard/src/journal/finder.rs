//! Finds the entries of one file that a query asks for, on the cheapest of three ways.
//!
//! - **The index of values.** A journal keeps equal values once, with a list of the entries that have them, and a list of all
//!   values of a field. Where a query has tests, each distinct value is tested, and the lists of those that pass are all the
//!   entries there are to read. This costs as much as there are distinct values.
//! - **The list of an alternative.** Where a query names values, their lists are walked, and each entry's values are looked at.
//! - **The list of the file.** The same with all entries.
//!
//! The first way is left for the others when it has tried as many values as they would read entries, so that a wrong choice
//! costs twice the better one at most. It is left as well when the index is broken: it only says faster what the entries say.

use std::fs::File;

use super::arrays::{Offsets, last_entry};
use super::fault::Fault;
use super::fields::FieldValues;
use super::file::{EntryHead, JournalFile};
use super::order::Key;
use super::query::Query;
use super::room::{PAYLOAD_MAX, Room, split};
use crate::entry::Entry;
use crate::export::{FIELDS_MAX, VALUE_MAX};

/// More entries than this are not remembered one by one: 8 MiB.
const CHOSEN_MAX: u64 = 1 << 20;

/// One file, and the place in it.
pub(super) struct Finder {
    file: JournalFile,
    plan: Plan,
    head: EntryHead,
    items: Vec<u64>,
}

enum Plan {
    /// Walk these lists together.
    Scan(Vec<Listed>),
    /// Those that pass the tests, by the index of values.
    Chosen { offsets: Vec<u64>, used: usize },
}

/// A list and its next entry.
struct Listed {
    offsets: Offsets,
    next: Option<u64>,
    is_fetched: bool,
}

impl Finder {
    /// Prepares the search in a file that is open. `is_whole` says that its writer finished it or is still alive, so that its
    /// index of fields can be trusted: where a page of it was lost, a list of values is shorter and looks whole.
    pub(super) fn new(file: JournalFile, is_whole: bool, room: &mut Room, query: &Query<'_>) -> Result<Finder, Fault> {
        // Where the list of all entries breaks off, the entries before that place can be read all the same.
        let end = last_entry(&file, &mut room.pool).unwrap_or(u64::MAX);
        let mut lists = Vec::new();
        if is_whole && !query.alternatives.is_empty() {
            for alternative in &query.alternatives {
                lists.extend(shortest(&file, room, alternative, end)?);
            }
        } else {
            lists.push(Offsets::of_file(&file));
        }
        let mut count: u64 = 0;
        for list in &mut lists {
            if let Some(since) = query.since {
                list.seek(&file, &mut room.pool, since)?;
            }
            let mut after = 0;
            if let Some(until) = query.until {
                let mut rest = list.clone();
                // Where this fails, the walk will say so at its place.
                let _found = rest.seek(&file, &mut room.pool, until.saturating_add(1));
                after = rest.count();
            }
            count = count.saturating_add(list.count().saturating_sub(after));
        }
        let chosen = if is_whole && !query.tests.is_empty() {
            choose(&file, room, query, count, end).ok().flatten()
        } else {
            None
        };
        let plan = match chosen {
            Some(offsets) => Plan::Chosen { offsets, used: 0 },
            None => {
                Plan::Scan(lists.into_iter().map(|offsets| Listed { offsets, next: None, is_fetched: false }).collect())
            }
        };
        Ok(Finder { file, plan, head: EntryHead::default(), items: Vec::new() })
    }

    /// Goes to the next entry that the query asks for. False: there is none.
    pub(super) fn advance(&mut self, room: &mut Room, query: &Query<'_>) -> Result<bool, Fault> {
        loop {
            let next = match &mut self.plan {
                Plan::Scan(lists) => next_of(lists, &self.file, room)?,
                Plan::Chosen { offsets, used } => {
                    *used += 1;
                    offsets.get(*used - 1).copied()
                }
            };
            let Some(offset) = next else { return Ok(false) };
            self.head = self.file.entry(&mut room.pool, offset, &mut self.items)?;
            if query.until.is_some_and(|until| self.head.realtime > until) {
                return Ok(false);
            }
            if query.since.is_some_and(|since| self.head.realtime < since) {
                continue;
            }
            if self.passes(room, query)? {
                return Ok(true);
            }
        }
    }

    /// Whatever list the entry was in: what it has itself decides.
    fn passes(&self, room: &mut Room, query: &Query<'_>) -> Result<bool, Fault> {
        let mut is_accepted = query.tests.is_empty();
        let mut is_alternative = query.has_alternative(&[]);
        let is_simple = query.is_simple();
        let mut named = Vec::new();
        for item in &self.items {
            if is_accepted && is_alternative {
                break;
            }
            let verdict = room.verdict(&self.file, *item, query)?;
            is_accepted |= verdict.is_accepted();
            if verdict.is_named() && !is_alternative {
                if is_simple {
                    is_alternative = true;
                    continue;
                }
                let data = self.file.data(&mut room.pool, *item)?;
                named.push(self.file.payload(&mut room.pool, &mut room.values, &data, PAYLOAD_MAX)?.to_vec());
                is_alternative = query.has_alternative(&named);
            }
        }
        Ok(is_accepted && is_alternative)
    }

    pub(super) fn into_file(self) -> File {
        self.file.source.file
    }

    pub(super) const fn key(&self) -> Key {
        let EntryHead { seqnum, realtime, monotonic, boot, xor } = self.head;
        Key { seqnum_id: self.file.header.seqnum_id, seqnum, boot, monotonic, realtime, xor }
    }

    /// Fills in what the query wants of the entry.
    pub(super) fn fill(&self, room: &mut Room, query: &Query<'_>, entry: &mut Entry) -> Result<(), Fault> {
        entry.realtime = self.head.realtime;
        entry.monotonic = self.head.monotonic;
        entry.cursor = query.needs_cursor.then(|| self.key().cursor());
        let mut filled = 0;
        for item in &self.items {
            if !query.fields.is_empty() && !room.verdict(&self.file, *item, query)?.is_wanted() || filled == FIELDS_MAX
            {
                continue;
            }
            let data = self.file.data(&mut room.pool, *item)?;
            let payload = self.file.payload(&mut room.pool, &mut room.values, &data, PAYLOAD_MAX)?;
            let Some((name, value)) = split(payload) else { continue };
            if filled == entry.fields.len() {
                entry.fields.push(<(String, Vec<u8>)>::default());
            }
            let (own, kept) = &mut entry.fields[filled];
            own.clear();
            // Checked: capitals, digits, underscores.
            own.extend(name.iter().map(|byte| char::from(*byte)));
            kept.clear();
            kept.extend_from_slice(&value[..value.len().min(VALUE_MAX)]);
            filled += 1;
        }
        entry.fields.truncate(filled);
        Ok(())
    }
}

/// The entries that have a value that passes, by the index of values. None: to look at the entries is less work.
fn choose(
    file: &JournalFile,
    room: &mut Room,
    query: &Query<'_>,
    mut budget: u64,
    end: u64,
) -> Result<Option<Vec<u64>>, Fault> {
    let mut accepted = Vec::new();
    let mut names: Vec<&str> = query.tests.iter().map(|test| test.field.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut entries: u64 = 0;
    for name in names {
        let mut values = FieldValues::of(file, &mut room.pool, name)?;
        while let Some((_, data)) = values.next(file, &mut room.pool)? {
            if budget == 0 {
                return Ok(None);
            }
            budget -= 1;
            let payload = file.payload(&mut room.pool, &mut room.values, &data, PAYLOAD_MAX)?;
            let Some((own, value)) = split(payload).filter(|(own, _)| *own == name.as_bytes()) else {
                return Ok(None);
            };
            if query.accepts(own, value) {
                entries = entries.saturating_add(data.entries);
                accepted.push(data);
            }
            if entries > CHOSEN_MAX {
                return Ok(None);
            }
        }
    }
    let mut chosen = Vec::new();
    for data in accepted {
        let mut offsets = Offsets::of_data(file, &data, end);
        while let Some(offset) = offsets.next(file, &mut room.pool)? {
            chosen.push(offset);
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(Some(chosen))
}

/// The first of the lists' next entries, once.
fn next_of(lists: &mut [Listed], file: &JournalFile, room: &mut Room) -> Result<Option<u64>, Fault> {
    for list in lists.iter_mut().filter(|list| !list.is_fetched) {
        list.next = list.offsets.next(file, &mut room.pool)?;
        list.is_fetched = true;
    }
    let Some(offset) = lists.iter().filter_map(|list| list.next).min() else { return Ok(None) };
    for list in lists.iter_mut().filter(|list| list.next == Some(offset)) {
        list.is_fetched = false;
    }
    Ok(Some(offset))
}

/// The list of the rarest of these values. None: one of them does not occur.
fn shortest(
    file: &JournalFile,
    room: &mut Room,
    alternative: &[(String, Vec<u8>)],
    end: u64,
) -> Result<Option<Offsets>, Fault> {
    let Some((first, others)) = alternative.split_first() else { return Ok(Some(Offsets::of_file(file))) };
    let Some(mut shortest) = find_value(file, room, &first.0, &first.1, end)? else { return Ok(None) };
    for (name, value) in others {
        let Some(list) = find_value(file, room, name, value, end)? else { return Ok(None) };
        if list.count() < shortest.count() {
            shortest = list;
        }
    }
    Ok(Some(shortest))
}

/// The entries that have this value, if any has.
fn find_value(
    file: &JournalFile,
    room: &mut Room,
    name: &str,
    value: &[u8],
    end: u64,
) -> Result<Option<Offsets>, Fault> {
    let mut values = FieldValues::of(file, &mut room.pool, name)?;
    while let Some((offset, data)) = values.next(file, &mut room.pool)? {
        let payload = file.payload(&mut room.pool, &mut room.values, &data, PAYLOAD_MAX)?;
        let Some((_, found)) = split(payload).filter(|(own, _)| *own == name.as_bytes()) else {
            return Fault::corrupt(offset, "a value in the list of another field");
        };
        if found == value {
            return Ok(Some(Offsets::of_data(file, &data, end)));
        }
    }
    Ok(None)
}
