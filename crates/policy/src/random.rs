//! A seeded generator, so that jitter is part of the state and a recording replays exactly.

use core::time::Duration;

use crate::time::nanos;

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, no weak seeds.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration below `bound`, or zero.
    pub(crate) fn below(&mut self, bound: Duration) -> Duration {
        let bound = nanos(bound);
        // The high half of the product is uniform enough for jitter and needs no loop.
        Duration::from_nanos(((u128::from(self.next()) * u128::from(bound)) >> 64) as u64)
    }
}
