//! Reads the spanned TOML tree key by key: every value is looked at, and nothing stops at the first mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::known::{self, Keys, Standing};
use crate::place::{Place, Source};
use crate::report::Findings;
use crate::values::Complaint;

/// No list of a configuration has more items; some are compared with each other.
const LIST_MAX: usize = 1_000;
/// A string so long is not taken for a list that was meant.
const MEANT_MAX: usize = 200;

/// The words of a file with a syntax error, of any of its lines. A key that is not in the tree may stand among them,
/// where the parser lost its way; one that is not is really missing.
pub(crate) type Words<'a> = BTreeSet<&'a str>;

/// The words of a text: what a bare key can be made of.
pub(crate) fn words(text: &str) -> Words<'_> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').collect()
}

/// One table of a file, with the key path under which its values are remembered.
#[derive(Clone)]
pub(crate) struct Table<'a> {
    pub(crate) path: String,
    entries: &'a DeTable<'a>,
    source: &'a Arc<Source>,
    /// `None` where the file has no syntax error.
    words: Option<&'a Words<'a>>,
}

impl<'a> Table<'a> {
    /// The top of a file, standing for the table `path`.
    pub(crate) fn new(
        path: &str,
        entries: &'a DeTable<'a>,
        source: &'a Arc<Source>,
        words: Option<&'a Words<'a>>,
    ) -> Self {
        Self { path: path.to_owned(), entries, source, words }
    }

    /// The key path of `key` in this table.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the file says anything about `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The keys of this table, as typed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().map(|key| key.get_ref().as_ref())
    }

    /// An error about the key itself, drawn under it.
    pub(crate) fn key_error(&self, key: &str, complaint: Complaint, findings: &mut Findings) {
        let path = self.path_of(key);
        if let Some((spanned, _)) = self.entries.get_key_value(key) {
            findings.places.insert(path.clone(), Place::File(self.source.clone(), spanned.span()));
        }
        findings.error(&path, complaint.message, complaint.hint);
    }

    /// A key that has no default is not there.
    pub(crate) fn missing(&self, key: &str, complaint: Complaint, findings: &mut Findings) {
        let path = self.path_of(key);
        if self.words.is_none() && !self.has(key) && !findings.is_unread(&path) {
            findings.error(&path, complaint.message, complaint.hint);
        }
    }

    /// Whether `key`, which is not in the tree, may stand in the file all the same.
    pub(crate) fn may_hide(&self, key: &str) -> bool {
        self.words.is_some_and(|words| words.contains(key))
    }

    fn value(&self, key: &str, findings: &mut Findings) -> Option<&'a Spanned<DeValue<'a>>> {
        let value = self.entries.get(key);
        if value.is_none() && self.may_hide(key) {
            findings.mark_unread(self.path_of(key));
        }
        value
    }

    /// Refuses every key that `refusal` refuses, and every unknown one, with a suggestion.
    pub(crate) fn refuse_unknown(
        &self,
        keys: Keys,
        refusal: impl Fn(&str, Standing) -> Option<Complaint>,
        findings: &mut Findings,
    ) {
        for key in self.keys() {
            match known::standing(keys, key) {
                Some(Standing::Built) => {}
                Some(standing) => {
                    if let Some(complaint) = refusal(key, standing) {
                        self.key_error(key, complaint, findings);
                    }
                }
                None => {
                    let meant = known::suggestion(keys.iter().map(|(name, _)| *name), key);
                    self.key_error(key, self.unknown(keys, key, meant), findings);
                    // What the slip of the finger meant to say is not missing.
                    if let Some(meant) = meant.filter(|meant| !self.has(meant)) {
                        findings.mark_unread(self.path_of(meant));
                    }
                }
            }
        }
    }

    fn unknown(&self, keys: Keys, key: &str, meant: Option<&str>) -> Complaint {
        let place = if self.path.is_empty() { "at the top of the file".into() } else { format!("in [{}]", self.path) };
        let complaint = Complaint::new(format!("unknown key `{}` {place}", shortened(key)));
        if let Some(name) = meant {
            return complaint.hint(format!("did you mean `{name}`?"));
        }
        let names = keys.iter().map(|(name, _)| *name);
        match known::home(key) {
            Some(home) => complaint.hint(format!("`{key}` belongs to {home}")),
            None if keys.len() <= 8 => complaint.hint(format!("known here: {}", names.collect::<Vec<_>>().join(", "))),
            None => complaint,
        }
    }

    /// The value of `key`; `None` where it is absent, or wrong (then a finding says so).
    pub(crate) fn get<T>(
        &self,
        key: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Complaint>,
        findings: &mut Findings,
    ) -> Option<T> {
        self.read_at(self.path_of(key), self.value(key, findings)?, read, findings)
    }

    fn read_at<T>(
        &self,
        path: String,
        value: &Spanned<DeValue<'_>>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Complaint>,
        findings: &mut Findings,
    ) -> Option<T> {
        findings.places.insert(path.clone(), Place::File(self.source.clone(), value.span()));
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(complaint) => {
                // A complaint that begins with `this` speaks of the value: the key takes its place.
                let message = match complaint.message.strip_prefix("this ") {
                    Some(rest) => format!("`{}` {rest}", shortened(within_table(&path))),
                    None => complaint.message,
                };
                findings.error(&path, message, complaint.hint);
                findings.mark_unread(path);
                None
            }
        }
    }

    /// The list at `key`: each item that is good, its place remembered under its index among the good ones.
    /// `example` says how one is written.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        example: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Complaint>,
        findings: &mut Findings,
    ) -> Option<Vec<T>> {
        let value = self.value(key, findings)?;
        let path = self.path_of(key);
        let is_array = |value: &DeValue<'_>| match value {
            DeValue::Array(items) if items.len() > LIST_MAX => {
                Err(Complaint::new(format!("`{key}` has {} items, but at most {LIST_MAX} are possible", items.len())))
            }
            DeValue::Array(_) => Ok(()),
            other => Err(Complaint::new(format!("`{key}` must be a list, not {}", article(other)))
                .hint(format!("write `{key} = {}`", as_list(other, &read).unwrap_or_else(|| example.to_owned())))),
        };
        self.read_at(path.clone(), value, is_array, findings)?;
        let mut good = Vec::new();
        for item in value.get_ref().as_array()? {
            let path = format!("{path}[{}]", good.len());
            good.extend(self.read_at(path, item, &read, findings));
        }
        Some(good)
    }

    /// The table at `key`, its place remembered.
    pub(crate) fn table(&self, key: &str, findings: &mut Findings) -> Option<Table<'a>> {
        let value = self.value(key, findings)?;
        let path = self.path_of(key);
        let is_table = |value: &DeValue<'_>| match value {
            DeValue::Table(_) => Ok(()),
            other => Err(Complaint::new(format!("`{}` must be a table, not {}", shortened(key), article(other)))),
        };
        self.read_at(path.clone(), value, is_table, findings)?;
        Some(Table { path, entries: value.get_ref().as_table()?, source: self.source, words: self.words })
    }

    /// The table at `key` as a map of names that the user chooses: each entry that is good.
    pub(crate) fn map<K: Ord, V>(
        &self,
        key: &str,
        name: impl Fn(&str) -> Result<K, Complaint>,
        read: impl Fn(&DeValue<'_>) -> Result<V, Complaint>,
        findings: &mut Findings,
    ) -> Option<BTreeMap<K, V>> {
        let table = self.table(key, findings)?;
        let mut map = BTreeMap::new();
        for key in table.keys() {
            match name(key) {
                Ok(name) => {
                    if let Some(value) = table.get(key, &read, findings) {
                        map.insert(name, value);
                    }
                }
                Err(complaint) => table.key_error(key, complaint, findings),
            }
        }
        Some(map)
    }
}

/// Long names from a broken file are cut in messages.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain(['…']).collect()
}

/// The key path without the table that its header names: `workers.min` of `pool.site.workers.min`.
fn within_table(path: &str) -> &str {
    let tables = if path.starts_with("pool.") || path.starts_with("guard.") { 2 } else { 1 };
    path.splitn(tables + 1, '.').last().unwrap_or(path)
}

/// What a value is, for "must be …, not …".
pub(crate) fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// How the list is written that was meant by one string: its words, if each of them is a good item.
fn as_list<T>(value: &DeValue<'_>, read: impl Fn(&DeValue<'_>) -> Result<T, Complaint>) -> Option<String> {
    let DeValue::String(text) = value else { return None };
    if text.len() > MEANT_MAX || text.contains(['"', '\'', '\\']) || text.trim().is_empty() {
        return None;
    }
    let is_good = |word: &&str| read(&DeValue::String((*word).into())).is_ok();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.iter().all(is_good).then(|| format!("{words:?}"))
}

/// A string without NUL bytes: none could be given to the kernel.
pub(crate) fn string(value: &DeValue<'_>) -> Result<String, Complaint> {
    match value {
        DeValue::String(text) if text.contains('\0') => {
            Err(Complaint::new("a NUL byte cannot be part of this").hint("remove \\u0000"))
        }
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.as_str().len() <= 40 => {
            Err(Complaint::new("this must be a string, not a number").hint(format!("write \"{number}\"")))
        }
        DeValue::Boolean(is_true) => {
            Err(Complaint::new("this must be a string, not true or false").hint(format!("write \"{is_true}\"")))
        }
        other => Err(Complaint::new(format!("this must be a string, not {}", article(other)))),
    }
}

/// A string that is not empty.
pub(crate) fn word(value: &DeValue<'_>) -> Result<String, Complaint> {
    match string(value)? {
        text if text.is_empty() => Err(Complaint::new("this must not be empty")),
        text => Ok(text),
    }
}

/// A string that `parse` understands; for a bare number the hint is `example`.
pub(crate) fn parsed<T>(
    parse: impl Fn(&str) -> Result<T, Complaint>,
    example: &str,
) -> impl Fn(&DeValue<'_>) -> Result<T, Complaint> {
    move |value| match value {
        DeValue::String(_) => parse(&string(value)?),
        other => Err(Complaint::new(format!("this must be a string, not {}", article(other)))
            .hint(format!("with quotes, as in \"{example}\""))),
    }
}

/// A whole number within `range`.
pub(crate) fn number<T: TryFrom<i128>>(range: RangeInclusive<i128>) -> impl Fn(&DeValue<'_>) -> Result<T, Complaint> {
    move |value| {
        let complaint = |what: String| {
            Complaint::new(format!("this must be a whole number from {} to {}, not {what}", range.start(), range.end()))
        };
        let DeValue::Integer(integer) = value else {
            return Err(complaint(article(value).to_owned()));
        };
        i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| complaint(shortened(&integer.to_string())))
    }
}

/// One word of a fixed set; `later` are words of the interface that are not built, each with what to write instead.
pub(crate) fn choice<T: Copy>(
    key: &'static str,
    words: &'static [(&'static str, T)],
    later: &'static [(&'static str, &'static str)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Complaint> {
    move |value| choose(key, words, later, &string(value)?)
}

/// The same for a word that stands on the command line.
pub(crate) fn choose<T: Copy>(
    key: &str,
    words: &[(&str, T)],
    later: &[(&str, &str)],
    text: &str,
) -> Result<T, Complaint> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    if let Some((_, instead)) = later.iter().find(|(word, _)| *word == text) {
        return Err(Complaint::new(format!("`{key} = \"{text}\"` is not in this version")).hint(*instead));
    }
    let names = words.iter().map(|(word, _)| *word);
    let complaint = Complaint::new(format!("`{key}` cannot be {:?}", shortened(text)));
    Err(match known::suggestion(names.clone(), text) {
        Some(name) => complaint.hint(format!("did you mean \"{name}\"?")),
        None => {
            complaint.hint(format!("one of {}", names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")))
        }
    })
}
