//! How need and surplus are noticed where nobody tells of them (direct mode): what is known, and who says something next.

use crate::time::Instant;

/// Who says something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookout {
    /// Nobody: the size is fixed, or what was wanted last has not come yet, and more would not follow.
    Closed,
    /// The driver, when somebody comes.
    Watching,
    /// The driver, asked then; after the last look it watches again, if nobody needs anything.
    Due(Instant, Look),
    /// The driver has been asked.
    Asked(Look),
}

/// Which look it is since somebody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Who came first may be followed by a crowd.
    Early,
    /// Nobody has followed for a while.
    Last,
}

/// How many workers have nothing to do, as far as looks have told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    /// Never were fewer idle than so many; `u32::MAX` before the first look.
    pub(crate) least: u32,
    /// Then they have been idle long enough, if one more look says so.
    pub(crate) due: Instant,
    /// That look has been asked for.
    pub(crate) is_asked: bool,
}

impl Spare {
    /// What a look adds to it.
    pub(crate) fn seen(self, idle: u32) -> Spare {
        Spare { least: self.least.min(idle), ..self }
    }

    /// Nothing is known from here on.
    pub(crate) fn until(due: Instant) -> Spare {
        Spare { least: u32::MAX, due, is_asked: false }
    }
}
