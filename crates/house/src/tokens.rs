//! Rust source as tokens with their lines: what comments and strings say is not code.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The tokens of a file.
///
/// # Errors
/// When the text is not Rust.
pub fn tokens(text: &str) -> Result<TokenStream, String> {
    // A first line like `#!/usr/bin/env …` is not Rust's; `#![…]` is.
    text.parse().map_err(|error| format!("is not Rust: {error}"))
}

/// Calls `seen` with every token tree, outer ones first, together with what stands behind it in its group.
pub fn walk(stream: &TokenStream, seen: &mut dyn FnMut(&TokenTree, &[TokenTree])) {
    let trees: Vec<TokenTree> = stream.clone().into_iter().collect();
    for (at, tree) in trees.iter().enumerate() {
        seen(tree, &trees[at + 1..]);
        if let TokenTree::Group(group) = tree {
            walk(&group.stream(), seen);
        }
    }
}

/// Every identifier with its line.
#[must_use]
pub fn identifiers(stream: &TokenStream) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    walk(stream, &mut |tree, _| {
        if let TokenTree::Ident(ident) = tree {
            found.push((ident.to_string(), ident.span().start().line));
        }
    });
    found
}

/// The lines of the items at the top of a file that exist in test builds only.
#[must_use]
pub fn test_lines(stream: &TokenStream) -> Vec<RangeInclusive<usize>> {
    let trees: Vec<TokenTree> = stream.clone().into_iter().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < trees.len() {
        let start = trees[at].span().start().line;
        if is_test_attribute(&trees[at..]) {
            at = end_of_item(&trees, at + 2);
            let last = trees.get(at).or(trees.last());
            let end = last.map_or(start, |tree| tree.span().end().line);
            found.push(start..=end);
        }
        at += 1;
    }
    found
}

/// Whether an attribute's argument makes it `cfg(test)`; `cfg(not(test))` is the opposite.
#[must_use]
pub fn means_test(argument: &TokenStream) -> bool {
    let names = identifiers(argument);
    names.iter().any(|(name, _)| name == "test") && !names.iter().any(|(name, _)| name == "not")
}

fn is_test_attribute(trees: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(group), ..] = trees else {
        return false;
    };
    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
    let [TokenTree::Ident(name), TokenTree::Group(argument), ..] = inner.as_slice() else {
        return false;
    };
    hash.as_char() == '#' && name == "cfg" && means_test(&argument.stream())
}

/// The index of the `;` or the braces that end the item which begins at `at`.
fn end_of_item(trees: &[TokenTree], mut at: usize) -> usize {
    let mut is_use = false;
    while at < trees.len() {
        match &trees[at] {
            TokenTree::Ident(ident) if ident == "use" => is_use = true,
            TokenTree::Punct(punct) if punct.as_char() == ';' => return at,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => {
                return at;
            }
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let stream = tokens("// unsafe\nfn a() { \"unsafe\"; }").expect("Rust");
        assert!(!identifiers(&stream).iter().any(|(name, _)| name == "unsafe"));
    }

    #[test]
    fn test_items_are_found_with_their_lines() {
        let text =
            "fn a() {}\n#[cfg(test)]\nuse a::{\n b};\n#[cfg(not(test))]\nfn c() {}\n#[cfg(test)]\nmod tests {\n}\n";
        let stream = tokens(text).expect("Rust");
        assert_eq!(test_lines(&stream), [2..=4, 7..=9]);
    }
}
