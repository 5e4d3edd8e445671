//! A pool's configuration as the figures that the policy needs.

use std::time::Duration;

use steadfast_config::types::{self, Every, Mode, Pool, Quarantine, Then};
use steadfast_policy::figures::{self, BreakerFigures, Figures, Launch, Verify};

/// The figures of a pool. Nothing is quarantined in direct mode: nobody sees a request there.
pub(crate) fn figures(pool: &Pool) -> Figures {
    let breaker = &pool.breaker;
    let verify = pool.verify.as_ref();
    Figures {
        mode: match pool.mode {
            Mode::Queue => figures::Mode::Queue,
            Mode::Direct => figures::Mode::Direct,
        },
        launch: match pool.launch {
            types::Launch::Exec => Launch::Exec,
            types::Launch::Zygote => Launch::Zygote,
        },
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
            // The own deadline of whoever asks comes first, and says what was wrong.
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
