//! The clocks of this machine.

use rustix::time::{ClockId, clock_gettime};

use crate::moment::{Id, Moment};

/// Reads them; the boot is asked for once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    boot: Option<Id>,
}

impl Clock {
    /// Of this boot.
    pub(crate) fn new() -> Clock {
        let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Clock { boot: Id::parse(text.trim_ascii()) }
    }

    /// Now.
    pub(crate) fn now(self) -> Moment {
        Moment { wall: micros(ClockId::Realtime), monotonic: micros(ClockId::Monotonic), boot: self.boot }
    }
}

fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_nsec / 1000).unwrap_or_default())
}
