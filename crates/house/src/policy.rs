//! Rules about the policy crate: no standard library, no unsafe, no floats, no order that differs between runs.

use crate::tokens;
use crate::tree::Source;

/// Names that must not occur in the policy, and why.
const FORBIDDEN: [(&str, &str); 6] = [
    ("unsafe", "a decision needs no unsafe"),
    ("f32", "a float rounds differently in another order"),
    ("f64", "a float rounds differently in another order"),
    ("HashMap", "its order differs between runs"),
    ("HashSet", "its order differs between runs"),
    ("SystemTime", "the policy has no clock"),
];

/// The root of the policy crate says `no_std` and forbids unsafe code.
#[must_use]
pub fn root(source: &Source) -> Vec<String> {
    let code: Vec<String> = source.text.lines().map(|line| line.split_whitespace().collect()).collect();
    ["#![no_std]", "#![forbid(unsafe_code)]"]
        .into_iter()
        .filter(|wanted| !code.iter().any(|line| line == wanted))
        .map(|wanted| format!("{}: must say {wanted}", source.path.display()))
        .collect()
}

/// A file of the policy crate uses none of what would make a trace differ from run to run.
#[must_use]
pub fn file(source: &Source) -> Vec<String> {
    let stream = match tokens::tokens(&source.text) {
        Ok(stream) => stream,
        Err(error) => return vec![format!("{}: {error}", source.path.display())],
    };
    let tests = tokens::test_lines(&stream);
    let mut found = Vec::new();
    for (name, line) in tokens::identifiers(&stream) {
        let in_test = tests.iter().any(|range| range.contains(&line));
        let rule = FORBIDDEN.iter().find(|(word, _)| *word == name);
        // `std` in a test is fine: cargo links it there.
        let why = match rule {
            Some((_, why)) => why,
            None if name == "std" && !in_test => "the policy is no_std",
            None => continue,
        };
        found.push(format!("{}:{line}: `{name}`: {why}", source.path.display()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "lib.rs".into(), text: text.into() }
    }

    #[test]
    fn the_root_must_be_no_std_and_forbid_unsafe() {
        let good = "//! A.\n#![no_std]\n#![forbid(unsafe_code)]\n";
        assert!(root(&source(good)).is_empty());
        assert_eq!(root(&source("//! A.\n// #![no_std]\n")).len(), 2);
    }

    #[test]
    fn what_makes_traces_differ_is_found() {
        let good = "// f64 would be wrong\nfn a(b: u64) {}\n#[cfg(test)]\nmod tests { extern crate std; }";
        assert!(file(&source(good)).is_empty());
        for bad in
            ["fn a(b: f64) {}", "fn a(b: f32) {}", "fn a() { unsafe {} }", "use hash::HashMap;", "extern crate std;"]
        {
            assert_eq!(file(&source(bad)).len(), 1, "{bad}");
        }
    }
}
