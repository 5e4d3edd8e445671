//! A pool on demand, whatever its mode: what it does is the same.

use std::time::{Duration, Instant};

use super::conditions::{is_soon, tail};
use super::daemon::{Config, Daemon, Pool, SOON, address};
use super::fcgi::Request;
use super::scene::Scene;

/// The pool `site` sleeps, somebody comes, and is answered by the first worker there is; three times.
#[must_use]
pub fn wakes_for_the_first_visitor(scene: &Scene, pool: Pool) -> Daemon {
    let pool = pool.workers("{ min = 0, max = 4, idle = \"500ms\" }");
    let mut daemon = Config::new(&[pool]).start(scene);
    let is_asleep = |daemon: &Daemon| {
        let pool = daemon.pool("site");
        pool["state"] == "asleep" && pool["workers"]["total"] == 0
    };
    daemon.wait_event("supervisor-ready", SOON);
    for _ in 0..3 {
        assert!(is_soon(|| is_asleep(&daemon)), "{}\n{}", daemon.pool("site"), tail(&mut daemon));
        let begun = Instant::now();
        let answer = Request::get("/hello").send(&address(scene, "site")).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"), "{}", tail(&mut daemon));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert_eq!(daemon.pool("site")["breaker"]["failures"], 0.0);
    daemon
}
