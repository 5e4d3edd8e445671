//! A pool's configuration as the figures that the policy needs.

use std::time::Duration;

use steadfast_config::types::{Every, Mode, Pool, Quarantine, Then};
use steadfast_policy::figures::{self, BreakerFigures, Figures, Launch, Verify};

/// The figures of a pool. Nothing is verified and nothing quarantined in direct mode: nobody sees a request there.
pub(crate) fn figures(pool: &Pool) -> Figures {
    let breaker = &pool.breaker;
    let verify = pool.verify.as_ref().filter(|_| pool.mode == Mode::Queue);
    Figures {
        mode: match pool.mode {
            Mode::Queue => figures::Mode::Queue,
            Mode::Direct => figures::Mode::Direct,
        },
        launch: Launch::Exec,
        verify: match verify.map(|verify| verify.every) {
            None => Verify::Never,
            Some(Every::Each) => Verify::Each,
            Some(Every::Generation) => Verify::Generation,
        },
        min: pool.workers.min,
        max: pool.workers.max,
        step: pool.workers.step,
        idle: pool.workers.idle,
        ready_timeout: pool.ready_timeout,
        verify_timeout: match verify {
            // The front's own deadline comes first, and says what was wrong.
            Some(verify) => verify.timeout + Duration::from_secs(1),
            None => Figures::default().verify_timeout,
        },
        stop_timeout: pool.stop_timeout,
        max_age: pool.max_age,
        quarantine: pool.mode == Mode::Queue && pool.quarantine == Quarantine::Exact,
        breaker: BreakerFigures {
            failures: breaker.failures,
            within: breaker.within,
            grace: breaker.grace,
            backoff_first: breaker.backoff_first,
            backoff_max: breaker.backoff_max,
            then: match breaker.then {
                Then::Hold => figures::Then::Hold,
                Then::Exit => figures::Then::Exit,
            },
            prove: breaker.prove,
        },
        broken_codes: pool.broken_codes.clone(),
        unavailable_codes: pool.unavailable_codes.clone(),
    }
}
