//! Decides when the workers that a worker has started itself die in a row (Starman's master starts them again for ever).
//!
//! They are not our children, so that their ends are not told. But who was there at one look and is not at the next has gone.

use std::collections::BTreeSet;

/// One may have had its reasons.
const GONE_MAX: u32 = 2;

/// A worker's own workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nest {
    seen: BTreeSet<u32>,
    gone: u32,
}

impl Nest {
    /// Those that there are now. How many have gone, when that is too many.
    pub(crate) fn look(&mut self, children: &[u32]) -> Option<u32> {
        let now: BTreeSet<u32> = children.iter().copied().collect();
        let gone = self.seen.difference(&now).count();
        self.gone = self.gone.saturating_add(u32::try_from(gone).unwrap_or(u32::MAX));
        self.seen = now;
        (self.gone >= GONE_MAX).then_some(self.gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_lives_is_not_counted_and_whoever_has_gone_is_counted_once() {
        let mut nest = Nest::default();
        assert_eq!(nest.look(&[]), None);
        assert_eq!(nest.look(&[1, 2]), None);
        assert_eq!(nest.look(&[2, 3]), None, "one may go");
        assert_eq!(nest.look(&[2, 3]), None, "it is counted once");
        assert_eq!(nest.look(&[4, 5]), Some(3));
    }
}
