//! Why a verb did not do what was asked, as it will be told to a person.

use std::fmt;
use std::io;

use steadfast_proto::control::Refusal;
use steadfast_proto::exit::ExitCode;

/// What was tried, on what, why it failed, what to type next, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ExitCode,
    /// Empty: there is nobody to tell (the reader of our stdout has gone).
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What became of writing to stdout. `head` leaving early is no failure of ours.
    pub(crate) fn of_stdout(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(ExitCode::Good, "");
        }
        Failure::new(ExitCode::Failed, format!("cannot write the result to stdout: {}", reason(error)))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure { code: refusal.code, message: refusal.message, hint: refusal.hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The system's word for an error, without the number that std adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_exit_code_and_hint() {
        let failure = Failure::from(Refusal::new(ExitCode::TimedOut, "late").with_hint("wait"));
        assert_eq!(failure, Failure::new(ExitCode::TimedOut, "late").hint("wait"));
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let failure = Failure::of_stdout(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.code, failure.message.as_str()), (ExitCode::Good, ""));
        let failure = Failure::of_stdout(&io::Error::from_raw_os_error(28));
        assert_eq!(failure.code, ExitCode::Failed);
        assert_eq!(failure.message, "cannot write the result to stdout: No space left on device");
    }
}
