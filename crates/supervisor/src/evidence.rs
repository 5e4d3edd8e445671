//! Evidence of service in direct mode, where nobody sees a request: what a worker has read and written since it was ready.
//!
//! A worker that wrote more after ready than came to us (stdout, stderr, link) wrote it to somebody else: a visitor, as
//! far as can be known. How many they were is a guess between 1 and the smaller number of its reads and writes. A
//! program that answers by send(2) is not seen this way, for the kernel counts only read(2) and write(2); the policy's
//! own rule of ten seconds of life after ready stands for it.

use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;

use crate::children::Ended;
use crate::procfs::Io;
use crate::shell::Shell;
use crate::workers::Baseline;

/// So many other workers of the pool are looked at when one dies.
const OTHERS: usize = 8;

/// Notes where a worker stands that has just become ready.
pub(crate) fn begin(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    worker.baseline = shell.procfs.io(worker.pid).map(|io| Baseline { io, heard: worker.voice.heard() });
}

/// It was seen waiting between `before` and its baseline. Unless nothing happened from the one to the other, a request may
/// have come and gone after that look, and a short life gone with it.
pub(crate) fn doubt(shell: &mut Shell, id: WorkerId, before: Option<Io>) {
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.was_in_hand |= worker.baseline.map(|baseline| baseline.io) != before;
    }
}

/// Tells the policy what a dying worker and a few others of its pool have served since they were asked last. The dead
/// one must not be reaped yet.
pub(crate) fn gather(shell: &mut Shell, dying: WorkerId, end: Ended) {
    // Under full load a worker may be seen too late, or never: then its first answers lie before the baseline. Of one
    // that leaves by itself with 0 its whole life is believed; what a crashed one wrote at its start proves nothing.
    if let Some(worker) = shell.workers.get_mut(dying)
        && end == Ended::Code(0)
        && (worker.ready.is_none() || worker.was_in_hand)
        && worker.told == 0
    {
        worker.baseline = Some(Baseline::default());
    }
    tell(shell, dying);
    let others = match shell.pool_of(dying) {
        Some(pool) => pool.next_ready(OTHERS, Some(dying)),
        None => Vec::new(),
    };
    for other in others {
        tell(shell, other);
    }
}

fn tell(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    let Some(before) = worker.baseline else {
        return;
    };
    let Some(io) = shell.procfs.io(worker.pid) else {
        return;
    };
    let served = served(before, Baseline { io, heard: worker.voice.heard() });
    let more = served.saturating_sub(worker.told);
    if more > 0 {
        worker.told = served;
        shell.facts.push_back(Fact::WorkerServed { worker: id, requests: more });
    }
}

/// How many requests lie between two looks, as far as can be told.
fn served(before: Baseline, after: Baseline) -> u64 {
    let Io { wchar, syscr, syscw, .. } = after.io;
    let wrote = wchar.saturating_sub(before.io.wchar);
    let heard = after.heard.saturating_sub(before.heard);
    if wrote <= heard {
        return 0;
    }
    let reads = syscr.saturating_sub(before.io.syscr);
    let writes = syscw.saturating_sub(before.io.syscw);
    reads.min(writes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wchar: u64, syscr: u64, syscw: u64, heard: u64) -> Baseline {
        Baseline { io: Io { rchar: 0, wchar, syscr, syscw }, heard }
    }

    #[test]
    fn what_a_worker_says_to_us_is_no_service() {
        assert_eq!(served(at(100, 5, 2, 100), at(160, 9, 4, 160)), 0);
    }

    #[test]
    fn an_answer_to_somebody_else_is_at_least_one_request() {
        assert_eq!(served(at(100, 5, 2, 100), at(161, 5, 4, 160)), 1);
    }

    #[test]
    fn the_number_is_the_smaller_one_of_reads_and_writes() {
        assert_eq!(served(at(0, 0, 0, 0), at(9000, 40, 12, 0)), 12);
    }

    #[test]
    fn counters_that_went_backwards_are_no_service() {
        assert_eq!(served(at(100, 5, 5, 0), at(0, 0, 0, 0)), 0);
    }
}
