//! Two files that look alike: an ini file as Python's configparser reads it (supervisor), and as PHP does (php-fpm).

use std::collections::BTreeMap;

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) line: usize,
    /// Empty before the first section.
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A section with a longer name is none: each of its keys carries it.
pub(crate) const SECTION_MAX: usize = 255;

/// What a file says, and the lines that say nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ini {
    pub(crate) entries: Vec<Entry>,
    pub(crate) unread: Vec<usize>,
}

/// What is kept of each section, in the order in which they stand.
pub(crate) struct Sections<T> {
    all: Vec<(String, T)>,
    /// Where each is in `all`.
    numbers: BTreeMap<String, usize>,
}

impl<T> Sections<T> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Sections { all: Vec::new(), numbers: BTreeMap::new() }
    }

    /// The one of this name, made when it is not there.
    pub(crate) fn entry(&mut self, name: String, make: impl FnOnce() -> T) -> &mut T {
        let at = *self.numbers.entry(name).or_insert_with_key(|name| {
            self.all.push((name.clone(), make()));
            self.all.len() - 1
        });
        &mut self.all[at].1
    }

    /// The one of this name, if it is there.
    pub(crate) fn named(&self, name: &str) -> Option<&T> {
        self.numbers.get(name).map(|at| &self.all[*at].1)
    }

    /// All of them with their names.
    pub(crate) fn all(&self) -> &[(String, T)] {
        &self.all
    }
}

/// RawConfigParser with the inline comments `;` and `#`, as supervisor has it: both must follow a space.
pub(crate) fn python(text: &str) -> Ini {
    let mut ini = Ini::default();
    let mut section = Some(String::new());
    let mut is_open = false;
    for (at, whole) in text.lines().enumerate() {
        let is_comment = whole.trim_start().starts_with(['#', ';']);
        let line = without_comment(whole);
        let bare = line.trim();
        if bare.is_empty() {
            // A comment within a value changes nothing; an empty line does not end it either.
            continue;
        }
        if whole.starts_with(char::is_whitespace)
            && is_open
            && !is_comment
            && let Some(last) = ini.entries.last_mut()
        {
            last.value.push('\n');
            last.value.push_str(bare);
            continue;
        }
        if let Some((name, _)) = bare.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')) {
            section = section_of(name, at, &mut ini);
            is_open = false;
            continue;
        }
        match (bare.find(['=', ':']), &section) {
            (Some(end), Some(section)) if end > 0 => {
                let (key, value) = (bare[..end].trim().to_lowercase(), bare[end + 1..].trim().to_owned());
                ini.entries.push(Entry { line: at + 1, section: section.clone(), key, value });
                is_open = true;
            }
            _ => ini.unread.push(at + 1),
        }
    }
    ini
}

/// `None` for a section that is none; its line is told, and so are those in it.
fn section_of(name: &str, at: usize, ini: &mut Ini) -> Option<String> {
    if name.len() > SECTION_MAX {
        ini.unread.push(at + 1);
        return None;
    }
    Some(name.to_owned())
}

fn without_comment(line: &str) -> &str {
    let mut is_space = true;
    for (at, c) in line.char_indices() {
        if is_space && matches!(c, ';' | '#') {
            return &line[..at];
        }
        is_space = c.is_whitespace();
    }
    line
}

/// php-fpm's: `;` begins a comment outside of quotes, and words such as `yes` have a meaning.
pub(crate) fn php(text: &str) -> Ini {
    let mut ini = Ini::default();
    let mut section = Some(String::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = section_of(name.trim(), at, &mut ini);
            continue;
        }
        match (line.split_once('='), &section) {
            (Some((key, value)), Some(section)) if !key.trim().is_empty() => {
                let (key, value) = (key.trim().to_owned(), php_value(value));
                ini.entries.push(Entry { line: at + 1, section: section.clone(), key, value });
            }
            _ => ini.unread.push(at + 1),
        }
    }
    ini
}

fn php_value(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some((inner, _)) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.to_owned();
        }
    }
    let bare = text.split(';').next().unwrap_or_default().trim();
    match bare.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" => "1".into(),
        "off" | "no" | "false" | "none" | "null" => String::new(),
        _ => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(ini: &Ini) -> Vec<(&str, &str, &str)> {
        ini.entries.iter().map(|e| (e.section.as_str(), e.key.as_str(), e.value.as_str())).collect()
    }

    #[test]
    fn python_ends_a_value_at_a_comment_behind_a_space() {
        let text = "; c\n[a:b]\nCommand = x;y #z ; not\nk: 1\n  # within\n\n  2\nwhat\n[c]\n d=e\n";
        let ini = python(text);
        let expected = [("a:b", "command", "x;y"), ("a:b", "k", "1\n2"), ("c", "d", "e")];
        assert_eq!((values(&ini).as_slice(), ini.unread.as_slice()), (expected.as_slice(), [8].as_slice()));
    }

    #[test]
    fn php_has_quotes_and_words() {
        let ini = php("a=1\n[www]\nb = \"x;y\" ; z\nc = Yes;1\nphp_flag[d] = off\nwhat\ne = u=v\n");
        let expected =
            [("", "a", "1"), ("www", "b", "x;y"), ("www", "c", "1"), ("www", "php_flag[d]", ""), ("www", "e", "u=v")];
        assert_eq!((values(&ini).as_slice(), ini.unread.as_slice()), (expected.as_slice(), [6].as_slice()));
    }
}
