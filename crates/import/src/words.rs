//! Words as a POSIX shell reads them (XCU 2.2, 2.3), with the variables that are known; and as Python's shlex does, with none.

/// A line that grows past this by expansion is refused.
const LINE_MAX: usize = 64 * 1024;
/// A line of more tokens than this is no command line.
const TOKENS_MAX: usize = 10_000;

/// What a line is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word, without its quotes.
    Word(String),
    /// `;`, `&`, `|` and the like: here a command ends.
    End,
    /// `>`, `2>&1` and the like; its target is left out.
    Redirect,
}

/// A line as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) tokens: Vec<Token>,
    /// What could not be known: variables without a value, commands in commands.
    pub(crate) unknown: Vec<String>,
}

impl Line {
    /// The words alone.
    pub(crate) fn words(self) -> Vec<String> {
        let word = |token| match token {
            Token::Word(word) => Some(word),
            Token::End | Token::Redirect => None,
        };
        self.tokens.into_iter().filter_map(word).collect()
    }
}

/// Variables by name.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Python's `shlex.split`: quotes and backslashes, and nothing that is expanded.
///
/// # Errors
/// A quote that is not closed.
pub(crate) fn split_plain(text: &str) -> Result<Vec<String>, String> {
    Reader::new(text, None).read().map(Line::words)
}

/// A shell's line.
///
/// # Errors
/// A quote that is not closed, or too much of it.
pub(crate) fn split_shell(text: &str, lookup: Lookup<'_>) -> Result<Line, String> {
    Reader::new(text, Some(lookup)).read()
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    lookup: Option<Lookup<'a>>,
    line: Line,
    /// `None` between words: an empty word in quotes is one.
    word: Option<String>,
    /// How much all words have.
    size: usize,
    /// The next word is a redirection's target.
    is_target: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, lookup: Option<Lookup<'a>>) -> Self {
        Reader { rest: text.chars().peekable(), lookup, line: Line::default(), word: None, size: 0, is_target: false }
    }

    fn read(mut self) -> Result<Line, String> {
        while let Some(c) = self.rest.next() {
            self.take(c)?;
            if self.line.tokens.len() > TOKENS_MAX || self.size > LINE_MAX {
                return Err("the line is too long".into());
            }
        }
        self.finish();
        Ok(self.line)
    }

    fn take(&mut self, c: char) -> Result<(), String> {
        let is_shell = self.lookup.is_some();
        match c {
            '\'' => self.single()?,
            '"' => self.double()?,
            '\\' => {
                if let Some(next) = self.rest.next() {
                    // A line that goes on.
                    if !(is_shell && next == '\n') {
                        self.push(next);
                    }
                }
            }
            '$' if is_shell => {
                if let Some(value) = self.expand()? {
                    self.split_fields(&value);
                }
            }
            '`' if is_shell => {
                let inner = self.until('`')?;
                self.unknown(format!("`{inner}`"));
            }
            '#' if is_shell && self.word.is_none() => while self.rest.next_if(|c| *c != '\n').is_some() {},
            ';' | '&' | '|' | '(' | ')' | '\n' if is_shell => self.end(c),
            '<' | '>' if is_shell => self.redirect(),
            c if c.is_whitespace() => self.finish(),
            c => self.push(c),
        }
        Ok(())
    }

    fn push(&mut self, c: char) {
        self.push_str(c.encode_utf8(&mut [0; 4]));
    }

    fn push_str(&mut self, text: &str) {
        self.size += text.len();
        self.word.get_or_insert_default().push_str(text);
    }

    fn unknown(&mut self, what: String) {
        self.push_str(&what);
        self.line.unknown.push(what);
    }

    fn finish(&mut self) {
        if let Some(word) = self.word.take() {
            if std::mem::take(&mut self.is_target) {
                return;
            }
            self.line.tokens.push(Token::Word(word));
        }
    }

    fn end(&mut self, c: char) {
        self.finish();
        // `2>&1`: this & ends nothing.
        if c == '&' && self.is_target {
            self.word = Some(String::new());
            return;
        }
        self.is_target = false;
        self.line.tokens.push(Token::End);
    }

    fn redirect(&mut self) {
        // `2>`: the number is no word.
        match self.word.take() {
            Some(word) if !word.chars().all(|c| c.is_ascii_digit()) => self.line.tokens.push(Token::Word(word)),
            _ => {}
        }
        while self.rest.next_if(|c| matches!(c, '<' | '>' | '|')).is_some() {}
        self.line.tokens.push(Token::Redirect);
        self.is_target = true;
    }

    fn single(&mut self) -> Result<(), String> {
        let inner = self.until('\'')?;
        self.push_str(&inner);
        Ok(())
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let mut inner = String::new();
        loop {
            match self.rest.next() {
                Some(c) if c == end => return Ok(inner),
                Some(c) => inner.push(c),
                None => return Err(format!("a {end} is not closed")),
            }
        }
    }

    fn double(&mut self) -> Result<(), String> {
        self.word.get_or_insert_default();
        let is_shell = self.lookup.is_some();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.rest.next() {
                    Some('\n') if is_shell => {}
                    Some(c @ ('"' | '\\')) => self.push(c),
                    Some(c @ ('$' | '`')) if is_shell => self.push(c),
                    Some(c) => {
                        self.push('\\');
                        self.push(c);
                    }
                    None => return Err("a \" is not closed".into()),
                },
                Some('$') if is_shell => {
                    if let Some(value) = self.expand()? {
                        self.push_str(&value);
                    }
                }
                Some('`') if is_shell => {
                    let inner = self.until('`')?;
                    self.unknown(format!("`{inner}`"));
                }
                Some(c) => self.push(c),
                None => return Err("a \" is not closed".into()),
            }
            if self.size > LINE_MAX {
                return Err("the line is too long".into());
            }
        }
    }

    /// What stands behind a `$`; `None` where it was kept as it is.
    fn expand(&mut self) -> Result<Option<String>, String> {
        match self.rest.peek() {
            Some('{') => {
                self.rest.next();
                let inner = self.until('}')?;
                Ok(self.braced(&inner))
            }
            Some('(') => {
                let mut depth = 0;
                let mut inner = String::from("$");
                for c in self.rest.by_ref() {
                    inner.push(c);
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    if depth == 0 {
                        self.unknown(inner);
                        return Ok(None);
                    }
                }
                Err("a $( is not closed".into())
            }
            Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
                let mut name = String::new();
                while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                Ok(self.value(&name))
            }
            Some(c @ ('@' | '*' | '#' | '?' | '$' | '!' | '0'..='9')) => {
                let what = format!("${c}");
                self.rest.next();
                self.unknown(what);
                Ok(None)
            }
            _ => {
                self.push('$');
                Ok(None)
            }
        }
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.lookup.and_then(|lookup| lookup(name));
        if value.is_none() {
            self.unknown(format!("${name}"));
        }
        value
    }

    fn braced(&mut self, inner: &str) -> Option<String> {
        let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
        let (name, operator) = inner.split_at(end);
        if name.is_empty() {
            self.unknown(format!("${{{inner}}}"));
            return None;
        }
        let known = self.lookup.and_then(|lookup| lookup(name));
        let (is_default, default, is_for_empty) = match operator {
            "" => return self.value(name),
            operator if operator.starts_with(":-") || operator.starts_with(":=") => (true, &operator[2..], true),
            operator if operator.starts_with(['-', '=']) => (true, &operator[1..], false),
            _ => (false, "", false),
        };
        if !is_default || default.contains('$') {
            self.unknown(format!("${{{inner}}}"));
            return None;
        }
        match known {
            Some(value) if !(is_for_empty && value.is_empty()) => Some(value),
            _ => Some(default.to_owned()),
        }
    }

    /// Without quotes a value becomes as many words as it has.
    fn split_fields(&mut self, value: &str) {
        for c in value.chars() {
            if c.is_whitespace() {
                self.finish();
            } else {
                self.push(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Line {
        let lookup = |name: &str| match name {
            "TWO" => Some("one  two".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        split_shell(text, &lookup).expect(text)
    }

    #[test]
    fn quotes_are_those_of_a_shell() {
        assert_eq!(shell(r#"a 'b c' "d \" e" f\ g '' "$TWO""#).words(), ["a", "b c", "d \" e", "f g", "", "one  two"]);
        assert_eq!(shell("$TWO x$EMPTY $EMPTY ${TWO}s").words(), ["one", "two", "x", "one", "twos"]);
        assert_eq!(shell("${NOT:-4} ${EMPTY:-5} ${EMPTY-6} '$TWO'").words(), ["4", "5", "$TWO"]);
        assert_eq!(shell("a \\\n b # c").words(), ["a", "b"]);
    }

    #[test]
    fn what_is_not_known_is_told() {
        let line = shell("$NOT `id -u` $(pidof \"x\" (y)) $@ ${#x}");
        assert_eq!(line.unknown, ["$NOT", "`id -u`", "$(pidof \"x\" (y))", "$@", "${#x}"]);
    }

    #[test]
    fn a_command_ends_and_its_output_goes_elsewhere() {
        let word = |text: &str| Token::Word(text.into());
        let line = shell("a 2>&1 >/dev/null b; c && d");
        let end = Token::End;
        let expected = [
            word("a"),
            Token::Redirect,
            Token::Redirect,
            word("b"),
            end.clone(),
            word("c"),
            end.clone(),
            end,
            word("d"),
        ];
        assert_eq!(line.tokens, expected);
    }

    #[test]
    fn shlex_expands_nothing() {
        assert_eq!(split_plain(r#"a "b $c" 'd;e' f\;g #h"#).expect("words"), ["a", "b $c", "d;e", "f;g", "#h"]);
        split_plain("a 'b").expect_err("not closed");
        split_plain("a \"b").expect_err("not closed");
    }
}
