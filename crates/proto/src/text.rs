//! Shortens text from strangers so that nothing that is kept passes its limit.

/// The longest name (of a code, a dependency) that is kept, in bytes.
pub const NAME_MAX: usize = 64;
/// The longest free text that is kept, in bytes.
pub const TEXT_MAX: usize = 4096;

/// Cuts `text` to at most `limit` bytes, at a character's border, and gives the spare memory back.
pub fn shorten(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.shrink_to_fit();
    }
}

/// As [`shorten`], where there may be none.
pub(crate) fn shorten_option(text: &mut Option<String>, limit: usize) {
    if let Some(text) = text {
        shorten(text, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_never_cut_in_two() {
        for limit in 0..8 {
            let mut text = "aäß€".to_owned();
            shorten(&mut text, limit);
            assert!(text.len() <= limit && "aäß€".starts_with(&text));
        }
    }
}
