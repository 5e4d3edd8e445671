//! A pool's configuration as the figures that the policy needs.

use steadfast_config::types::{Mode, Pool, Then};
use steadfast_policy::figures::{self, BreakerFigures, Figures, Launch, Verify};

/// The figures of a pool. Nothing is verified and nothing quarantined in direct mode: nobody sees a request there.
pub(crate) fn figures(pool: &Pool) -> Figures {
    let breaker = &pool.breaker;
    Figures {
        mode: match pool.mode {
            Mode::Direct => figures::Mode::Direct,
        },
        launch: Launch::Exec,
        verify: Verify::Never,
        min: pool.workers.min,
        max: pool.workers.max,
        step: pool.workers.step,
        idle: pool.workers.idle,
        ready_timeout: pool.ready_timeout,
        verify_timeout: Figures::default().verify_timeout,
        stop_timeout: pool.stop_timeout,
        max_age: pool.max_age,
        quarantine: false,
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
