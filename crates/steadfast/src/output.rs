//! The one place that prints: results to stdout, messages to stderr, colours only where a person looks.

use std::env;
use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// How to write to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// With escape sequences.
    pub(crate) colour: bool,
    /// The terminal's width: free text is cut there. `None`: nothing is ever cut.
    pub(crate) width: Option<usize>,
}

/// The colours that we use, by what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

impl Style {
    /// `text` in a colour, or as it is.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Warning => "33",
            Paint::Bad => "31",
            Paint::Faint => "2",
            Paint::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The style of stdout.
pub(crate) fn stdout_style() -> Style {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let width = if terminal { rustix::termios::tcgetwinsize(&stdout).ok() } else { None };
    let width = width.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0);
    Style { colour: wants_colour(terminal), width }
}

/// The style of stderr.
pub(crate) fn stderr_style() -> Style {
    Style { colour: wants_colour(io::stderr().is_terminal()), width: None }
}

/// Whether somebody looks at stdout.
pub(crate) fn is_watched() -> bool {
    io::stdout().is_terminal()
}

fn wants_colour(terminal: bool) -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let forced = env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
    colour(terminal, set("NO_COLOR"), forced, env::var_os("TERM").is_some_and(|term| term == "dumb"))
}

/// <https://no-color.org> and <https://bixense.com/clicolors>: a refusal is stronger than a force.
const fn colour(terminal: bool, refused: bool, forced: bool, dumb: bool) -> bool {
    !refused && (forced || (terminal && !dumb))
}

/// Writes a result to stdout.
///
/// # Errors
/// As [`Failure::of_stdout`] has it.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::of_stdout(&error))
}

/// Writes a part of a result to stdout, as it is.
///
/// # Errors
/// As [`Failure::of_stdout`] has it.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::of_stdout(&error))
}

/// Writes a message to stderr. Nobody could be told if that fails.
pub(crate) fn message(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Tells a failure.
pub(crate) fn failure(failure: &Failure) {
    message(&render(failure, stderr_style()));
}

fn render(failure: &Failure, style: Style) -> String {
    if failure.message.is_empty() {
        return String::new();
    }
    let drawn = failure.message.trim_end();
    // A drawn report of the configuration has its own heads.
    let mut text =
        if is_drawn(drawn) { format!("{drawn}\n") } else { format!("{} {drawn}\n", style.paint(Paint::Bad, "error:")) };
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("{} {hint}\n", style.paint(Paint::Strong, "hint:")));
    }
    text
}

fn is_drawn(text: &str) -> bool {
    let plain =
        text.trim_start_matches(|c: char| c == '\x1b' || c == '[' || c == ';' || c == 'm' || c.is_ascii_digit());
    plain.starts_with("error") || plain.starts_with("warning")
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast_proto::exit::ExitCode;

    #[test]
    fn colours_are_for_people_unless_somebody_says_otherwise() {
        assert!(colour(true, false, false, false));
        assert!(!colour(false, false, false, false));
        assert!(!colour(true, false, false, true));
        assert!(colour(false, false, true, true));
        assert!(!colour(true, true, true, false));
    }

    #[test]
    fn an_error_has_a_head_and_a_hint() {
        let failure = Failure::new(ExitCode::Failed, "it broke").hint("mend it");
        assert_eq!(render(&failure, Style::default()), "error: it broke\nhint: mend it\n");
        let coloured = render(&failure, Style { colour: true, width: None });
        assert_eq!(coloured, "\x1b[31merror:\x1b[0m it broke\n\x1b[1mhint:\x1b[0m mend it\n");
    }

    #[test]
    fn a_drawn_report_keeps_its_own_head() {
        for head in ["error: unknown key", "\x1b[1m\x1b[91merror\x1b[0m: unknown key"] {
            let failure = Failure::new(ExitCode::Configuration, format!("{head}\n --> a.toml:1:1\n"));
            assert_eq!(render(&failure, Style::default()), format!("{head}\n --> a.toml:1:1\n"));
        }
    }

    #[test]
    fn nothing_is_said_when_nobody_listens() {
        assert_eq!(render(&Failure::new(ExitCode::Good, ""), Style::default()), "");
    }
}
