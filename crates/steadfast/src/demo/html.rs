//! Text as HTML: the one place where it is escaped.

/// Safe between tags and in a quoted attribute. Control characters are shown as what they are: none that one can read.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(letter),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// The same, of at most so many letters.
pub(crate) fn short(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return escape(text);
    }
    let cut: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{}…", escape(&cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_in_html_passes() {
        assert_eq!(
            escape("<a href=\"x\" id='y'>&\x1b\r"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn a_text_is_cut_before_it_is_escaped() {
        assert_eq!(short("<<<<", 4), "&lt;&lt;&lt;&lt;");
        assert_eq!(short("<<<<<", 4), "&lt;&lt;&lt;…");
    }
}
