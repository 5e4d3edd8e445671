//! The language of units: lines, quotes, specifiers and variables (systemd.syntax(7), systemd.unit(5), systemd.service(5)).

use std::collections::BTreeMap;

use crate::ini::SECTION_MAX;

/// A command line that grows past this by what its variables stand for is refused.
const LINE_MAX: usize = 64 * 1024;

/// One `Key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) line: usize,
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// The settings of a unit, and the lines that are none.
pub(crate) fn settings(text: &str) -> (Vec<Setting>, Vec<usize>) {
    let (mut settings, mut unread) = (Vec::new(), Vec::new());
    let mut section = String::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let mut whole = line.trim().to_owned();
        if whole.is_empty() || whole.starts_with(['#', ';']) {
            continue;
        }
        while whole.ends_with('\\') {
            whole.pop();
            whole.push(' ');
            // Comments between the lines are left out.
            match lines.by_ref().map(|(_, line)| line.trim()).find(|line| !line.starts_with(['#', ';'])) {
                Some(next) => whole.push_str(next),
                None => break,
            }
        }
        if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if name.len() > SECTION_MAX {
                unread.push(at + 1);
                section.clear();
            } else {
                name.clone_into(&mut section);
            }
            continue;
        }
        match whole.split_once('=') {
            Some((key, value)) if !section.is_empty() => settings.push(Setting {
                line: at + 1,
                section: section.clone(),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            }),
            _ => unread.push(at + 1),
        }
    }
    (settings, unread)
}

/// Words with systemd's quotes and escapes.
///
/// # Errors
/// A quote that is not closed.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().push(escape(&mut rest)),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) if word.is_none() => {
                quote = Some(c);
                word = Some(String::new());
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a {open} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

fn escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> char {
    match rest.next() {
        Some('a') => '\x07',
        Some('b') => '\x08',
        Some('f') => '\x0c',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('v') => '\x0b',
        Some('s') => ' ',
        Some('x') => {
            let digits: String = std::iter::from_fn(|| rest.next_if(char::is_ascii_hexdigit)).take(2).collect();
            u8::from_str_radix(&digits, 16).map_or('\u{fffd}', char::from)
        }
        Some(c) => c,
        None => '\\',
    }
}

/// The name of a unit in its parts.
pub(crate) struct Name<'a> {
    /// `site@1.service`
    pub(crate) full: &'a str,
}

impl Name<'_> {
    fn bare(&self) -> &str {
        self.full.rsplit_once('.').map_or(self.full, |(name, _)| name)
    }

    fn instance(&self) -> Option<&str> {
        self.bare().split_once('@').map(|(_, instance)| instance)
    }

    fn prefix(&self) -> &str {
        self.bare().split('@').next().unwrap_or_default()
    }

    /// Specifiers of which the machine knows nothing; others stay, and are told.
    pub(crate) fn specify(&self, text: &str) -> (String, Vec<String>) {
        let (mut found, mut unknown) = (String::new(), Vec::new());
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                found.push(c);
                continue;
            }
            match rest.next() {
                Some('%') => found.push('%'),
                Some('n') => found.push_str(self.full),
                Some('N') => found.push_str(self.bare()),
                Some('p' | 'P') => found.push_str(self.prefix()),
                Some('i' | 'I') => found.push_str(self.instance().unwrap_or_default()),
                Some('j' | 'J') => found.push_str(self.prefix().rsplit('-').next().unwrap_or_default()),
                Some('t') => found.push_str("/run"),
                Some('S') => found.push_str("/var/lib"),
                Some('C') => found.push_str("/var/cache"),
                Some('L') => found.push_str("/var/log"),
                Some('E') => found.push_str("/etc"),
                Some('T') => found.push_str("/tmp"),
                Some('V') => found.push_str("/var/tmp"),
                Some(c) => {
                    found.extend(['%', c]);
                    unknown.push(format!("%{c}"));
                }
                None => found.push('%'),
            }
        }
        (found, unknown)
    }
}

/// `$NAME` as a word of its own becomes as many words as its value has, `${NAME}` is put where it stands, `$$` is `$`.
///
/// Gives the words, and the variables that nobody has set: systemd takes them for empty.
///
/// # Errors
/// They stand for too much.
pub(crate) fn expand(
    words: Vec<String>,
    variables: &BTreeMap<String, String>,
) -> Result<(Vec<String>, Vec<String>), String> {
    let mut left = LINE_MAX;
    let mut take = |value: &str| {
        left = left.checked_sub(value.len()).ok_or("its variables stand for too much")?;
        Ok::<(), String>(())
    };
    let (mut expanded, mut unknown) = (Vec::new(), Vec::new());
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    for word in words {
        if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
            match variables.get(name) {
                Some(value) => {
                    take(value)?;
                    expanded.extend(self::words(value).unwrap_or_else(|_| vec![value.clone()]));
                }
                None => unknown.push(name.to_owned()),
            }
            continue;
        }
        let mut text = String::new();
        let mut rest = word.as_str();
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((name, after)) =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).filter(|(name, _)| is_name(name))
            {
                match variables.get(name) {
                    Some(value) => {
                        take(value)?;
                        text.push_str(value);
                    }
                    None => unknown.push(name.to_owned()),
                }
                rest = after;
            } else {
                text.push('$');
            }
        }
        text.push_str(rest);
        expanded.push(text);
    }
    Ok((expanded, unknown))
}

/// A file of `EnvironmentFile=`: assignments with a shell's quotes, and nothing that is expanded.
pub(crate) fn environment_file(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        while line.ends_with('\\') && !line.ends_with("\\\\") {
            line.pop();
            let Some(next) = lines.next() else { break };
            line.push_str(next);
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let (mut text, mut quote) = (String::new(), None);
        let mut rest = value.chars();
        while let Some(c) = rest.next() {
            match (c, quote) {
                ('\\', Some('"') | None) => text.extend(rest.next()),
                (c, Some(open)) if c == open => quote = None,
                ('"' | '\'', None) => quote = Some(c),
                (c, _) => text.push(c),
            }
        }
        found.push((name.trim().to_owned(), text));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_on_past_comments() {
        let (settings, unread) =
            settings("x\n[Service]\n# no\nExecStart=/a \\\n  # between\n  -b \\\n -c\nUser = u\nwhat\n");
        let found: Vec<_> = settings.iter().map(|s| (s.line, s.key.as_str(), s.value.as_str())).collect();
        assert_eq!(found, [(4, "ExecStart", "/a  -b  -c"), (8, "User", "u")]);
        assert_eq!(unread, [1, 9]);
    }

    #[test]
    fn quotes_are_systemds() {
        assert_eq!(
            words(r#"a "b c" 'd e' f\x20g it's "h\"i""#).expect("words"),
            ["a", "b c", "d e", "f g", "it's", "h\"i"]
        );
        words("\"a").expect_err("not closed");
    }

    #[test]
    fn variables_are_words_or_parts() {
        let variables = BTreeMap::from([("A".to_owned(), "1 '2 3'".to_owned())]);
        let (found, unknown) = expand(words("$A x${A}y $$A ${NOT} $NOT $").expect("words"), &variables).expect("short");
        assert_eq!(found, ["1", "2 3", "x1 '2 3'y", "$A", "", "$"]);
        assert_eq!(unknown, ["NOT", "NOT"]);
    }

    #[test]
    fn a_name_has_parts() {
        let name = Name { full: "a-b@c.service" };
        assert_eq!(name.specify("%n %N %p %i %j %t %% %H").0, "a-b@c.service a-b@c a-b c b /run % %H");
        assert_eq!(name.specify("%H").1, ["%H"]);
    }

    #[test]
    fn an_environment_file_has_quotes() {
        let found = environment_file("# c\nA=1\nB=\"x y\" \n C='$A'\\\nz\nno\n");
        let expected = [("A", "1"), ("B", "x y"), ("C", "$Az")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(found, expected);
    }
}
