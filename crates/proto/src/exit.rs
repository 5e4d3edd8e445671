//! The exit codes of `steadfast` itself (interface.md, section 1), also the codes of errors on the control socket.

use serde::{Deserialize, Serialize};

/// What the program's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
pub enum ExitCode {
    /// All good.
    Good,
    /// The asked-for thing failed.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// Nothing serves.
    NothingServes,
    /// A defect of steadfast.
    Bug,
    /// A system call failed at start.
    System,
    /// Timed out, still trying.
    TimedOut,
    /// Not allowed.
    NotAllowed,
    /// The configuration is wrong.
    Configuration,
}

impl ExitCode {
    /// The number for exit(3).
    pub const fn number(self) -> u8 {
        match self {
            ExitCode::Good => 0,
            ExitCode::Failed => 1,
            ExitCode::Usage => 2,
            ExitCode::NothingServes => 69,
            ExitCode::Bug => 70,
            ExitCode::System => 71,
            ExitCode::TimedOut => 75,
            ExitCode::NotAllowed => 77,
            ExitCode::Configuration => 78,
        }
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> u8 {
        code.number()
    }
}

impl From<u8> for ExitCode {
    /// A number that this version does not know is a failure.
    fn from(number: u8) -> ExitCode {
        match number {
            0 => ExitCode::Good,
            2 => ExitCode::Usage,
            69 => ExitCode::NothingServes,
            70 => ExitCode::Bug,
            71 => ExitCode::System,
            75 => ExitCode::TimedOut,
            77 => ExitCode::NotAllowed,
            78 => ExitCode::Configuration,
            _ => ExitCode::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_as_itself_or_as_a_failure() {
        let known = [0, 1, 2, 69, 70, 71, 75, 77, 78];
        for number in 0..=u8::MAX {
            let back = ExitCode::from(number).number();
            assert_eq!(back, if known.contains(&number) { number } else { 1 });
        }
    }
}
