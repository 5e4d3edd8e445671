//! What a step or a handler says when it cannot do its part, and what becomes of the worker then.

use std::fmt;
use std::time::Duration;

use crate::codes::{self, EX_REQUEST};

/// The error of steps and handlers. Every [`std::error::Error`] turns into one by `?`: then the request has failed, the
/// visitor gets a 500, and the worker goes on. The constructors say more.
///
/// It does not implement [`std::error::Error`] itself, because then no other error could turn into it.
pub struct Failure {
    pub(crate) consequence: Consequence,
    pub(crate) message: String,
}

/// What follows from a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// This request has failed.
    Request,
    /// This worker cannot go on.
    Failed { code: u8, name: Option<String> },
    /// No worker of this code can.
    Broken { code: u8, name: Option<String> },
    /// A dependency is away.
    Unavailable { name: String, retry_after: Option<Duration> },
}

impl Failure {
    /// This request has failed, and nothing more: the visitor gets a 500.
    pub fn request(message: impl fmt::Display) -> Failure {
        Failure { consequence: Consequence::Request, message: message.to_string() }
    }

    /// This worker cannot go on: it leaves with `code` and is replaced. 0 becomes [`EX_REQUEST`].
    pub fn failed(code: u8, message: impl fmt::Display) -> Failure {
        let code = some_code(code);
        Failure { consequence: Consequence::Failed { code, name: name(code) }, message: message.to_string() }
    }

    /// No worker of this code can do better: the deploy is refused or rolled back. 0 becomes [`EX_REQUEST`].
    pub fn broken(code: u8, message: impl fmt::Display) -> Failure {
        let code = some_code(code);
        Failure { consequence: Consequence::Broken { code, name: name(code) }, message: message.to_string() }
    }

    /// Something that this worker needs, such as a database, is away: nobody's fault. It leaves with 75 (EX_TEMPFAIL of
    /// sysexits.h), and the next one is started later.
    pub fn unavailable(name: impl fmt::Display, message: impl fmt::Display) -> Failure {
        let consequence = Consequence::Unavailable { name: name.to_string(), retry_after: None };
        Failure { consequence, message: message.to_string() }
    }

    /// When a new attempt makes sense, of [`Failure::unavailable`].
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Failure {
        if let Consequence::Unavailable { retry_after, .. } = &mut self.consequence {
            *retry_after = Some(after);
        }
        self
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the worker leaves after it.
    pub(crate) fn is_final(&self) -> bool {
        self.consequence != Consequence::Request
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self.consequence {
            Consequence::Request => EX_REQUEST,
            Consequence::Failed { code, .. } | Consequence::Broken { code, .. } => code,
            Consequence::Unavailable { .. } => UNAVAILABLE,
        }
    }
}

/// EX_TEMPFAIL of sysexits.h: the code that `unavailable-codes` names by default.
const UNAVAILABLE: u8 = 75;

fn some_code(code: u8) -> u8 {
    if code == 0 { EX_REQUEST } else { code }
}

fn name(code: u8) -> Option<String> {
    codes::name(code).map(str::to_owned)
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors repeat their cause.
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Failure { consequence: Consequence::Request, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.consequence, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_failed_request_with_its_causes() {
        fn parse() -> Result<(), Failure> {
            "x".parse::<u8>()?;
            Ok(())
        }
        let failure = parse().expect_err("x is no number");
        assert!(!failure.is_final());
        assert_eq!(failure.message(), "invalid digit found in string");
    }

    #[test]
    fn a_final_failure_never_leaves_with_zero() {
        for failure in [Failure::failed(0, "x"), Failure::broken(0, "x"), Failure::unavailable("db", "x")] {
            assert!(failure.is_final() && failure.code() != 0, "{failure:?}");
        }
    }
}
