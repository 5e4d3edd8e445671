//! What the guard tells.

use std::time::Duration;

/// What a note is about: one of the guard's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A line counts.
    Matched,
    /// Something is done.
    Acted,
    /// What was done went wrong.
    Failed,
    /// Enough lines, or one within the grace, and nothing is done.
    Ignored,
    /// The budget is spent.
    GaveUp,
    /// Something of the guard itself needs a look.
    Warned,
}

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub topic: Topic,
    /// The rule's name; empty for the guard itself.
    pub rule: String,
    /// Its unit; empty for the guard itself.
    pub unit: String,
    /// In words: one sentence.
    pub message: String,
    /// How many lines it speaks of.
    pub times: u64,
}

impl Note {
    /// Something of the guard itself needs a look.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Note {
        let (rule, unit) = (String::new(), String::new());
        Note { topic: Topic::Warned, rule, unit, message: message.into(), times: 1 }
    }
}

/// `90 s`, `1.5 s`, `5 min`, `1 h`.
#[must_use]
pub fn length(length: Duration) -> String {
    let millis = length.as_millis();
    match millis {
        _ if millis < 1000 => format!("{millis} ms"),
        _ if millis.is_multiple_of(3_600_000) => format!("{} h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) && millis >= 120_000 => format!("{} min", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        _ => format!("{:.1} s", length.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_their_own_unit() {
        for (millis, text) in
            [(0, "0 ms"), (90_000, "90 s"), (1500, "1.5 s"), (300_000, "5 min"), (3_600_000, "1 h"), (60_000, "60 s")]
        {
            assert_eq!(length(Duration::from_millis(millis)), text);
        }
        assert_eq!(length(Duration::ZERO), "0 ms");
    }
}
