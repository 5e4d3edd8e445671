//! Rules about single files: their length, their first line, where `unsafe` may stand, words that must not stay.

use proc_macro2::TokenTree;

use crate::tokens;
use crate::tree::Source;

/// Lines of a file that are not tests. The habit is 500 (style.md); a file that reads well may pass it, but at this
/// length there are two rooms in it.
pub const LINES_MAX: usize = 700;

/// Words that say "this is not done", split so that this file does not find itself.
const UNDONE: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// The part of a file that is no test has at most [`LINES_MAX`] lines.
#[must_use]
pub fn length(source: &Source) -> Vec<String> {
    let all = source.text.lines().count();
    let tests: usize = match tokens::tokens(&source.text) {
        Ok(stream) => tokens::test_lines(&stream).into_iter().map(Iterator::count).sum(),
        Err(error) => return vec![format!("{}: {error}", source.path.display())],
    };
    let lines = all - tests;
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{}: {lines} lines without its tests, more than {LINES_MAX}: look for two rooms",
        source.path.display()
    )]
}

/// A file begins with `//! ` and a sentence.
#[must_use]
pub fn first_line(source: &Source) -> Vec<String> {
    let paragraph: Vec<&str> = source.text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
    let sentence = paragraph.join(" ");
    let words = sentence.split_whitespace().count();
    if words >= 3 && sentence.ends_with(['.', ':', '?']) {
        return Vec::new();
    }
    vec![format!(
        "{}:1: must begin with `//! ` and one sentence that says what the file decides or touches",
        source.path.display()
    )]
}

/// `unsafe`, and the permission to write it, stand in files named `sys.rs` only.
#[must_use]
pub fn unsafe_code(source: &Source) -> Vec<String> {
    if source.path.file_name().is_some_and(|name| name == "sys.rs") {
        return Vec::new();
    }
    let stream = match tokens::tokens(&source.text) {
        Ok(stream) => stream,
        Err(error) => return vec![format!("{}: {error}", source.path.display())],
    };
    let mut found = Vec::new();
    tokens::walk(&stream, &mut |tree, rest| {
        let TokenTree::Ident(ident) = tree else {
            return;
        };
        let permits = || match rest.first() {
            Some(TokenTree::Group(group)) => {
                tokens::identifiers(&group.stream()).iter().any(|(name, _)| name == "unsafe_code")
            }
            _ => false,
        };
        let name = ident.to_string();
        let guilty = match name.as_str() {
            "unsafe" => true,
            "allow" | "expect" | "warn" => permits(),
            _ => false,
        };
        if guilty {
            found.push(format!(
                "{}:{}: `{name}` outside sys.rs: unsafe code stands in one file per crate",
                source.path.display(),
                ident.span().start().line
            ));
        }
    });
    found
}

/// Nothing says that it is not done.
#[must_use]
pub fn undone(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| UNDONE.contains(word)) {
            found.push(format!("{}:{}: {word}: do it, or open an issue", source.path.display(), number + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let code = "fn a() {}\n".repeat(LINES_MAX);
        let tests = "#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert!(length(&source("a.rs", &format!("{code}{tests}"))).is_empty());
        let found = length(&source("a.rs", &format!("{code}fn c() {{}}\n{tests}")));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("701 lines"), "{found:?}");
    }

    #[test]
    fn a_first_line_must_be_a_sentence() {
        assert!(first_line(&source("a.rs", "//! Reads the\n//! clock.\n\nfn a() {}")).is_empty());
        for bad in ["fn a() {}", "//! .\n", "//! Reads the clock\nfn a() {}", "#![no_std]\n//! Reads the clock."] {
            assert_eq!(first_line(&source("a.rs", bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn unsafe_code_stands_in_sys_only() {
        let block = "fn a() { unsafe { b() } }";
        assert!(unsafe_code(&source("src/sys.rs", block)).is_empty());
        assert!(unsafe_code(&source("a.rs", "#![forbid(unsafe_code)]\n// unsafe\n")).is_empty());
        for bad in [
            block,
            "#![allow(unsafe_code)]",
            "#[expect(unsafe_code, reason = \"x\")]\nfn a() {}",
            "mod a { #![allow(dead_code, unsafe_code)] }",
        ] {
            assert_eq!(unsafe_code(&source("src/system.rs", bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn undone_work_is_found() {
        assert!(undone(&source("a.rs", "mkdtemp(\"/tmp/a.XXXXXX\"); // todo lists are fine")).is_empty());
        for word in UNDONE {
            let found = undone(&source("a.rs", &format!("fn a() {{}}\n// {word}: later\n")));
            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with("a.rs:2:"), "{found:?}");
        }
    }
}
