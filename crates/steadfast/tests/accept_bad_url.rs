//! One bad URL that kills its worker every two seconds, in direct mode: everybody else is answered.

use steadfast_harness as support;

use std::time::{Duration, Instant};

use support::apps;
use support::conditions::{is_soon, own_lines, tail};
use support::crowd::Crowd;
use support::daemon::{self, Config, Pool};
use support::nginx::{self, Nginx};
use support::scene::Scene;

/// How long it is watched; the whole two minutes when STEADFAST_LONG is set.
fn long() -> Duration {
    let is_whole = std::env::var_os("STEADFAST_LONG").is_some_and(|value| value == "1");
    Duration::from_secs(if is_whole { 120 } else { 20 })
}

#[test]
fn a_url_that_crashes_its_worker_every_two_seconds_costs_nobody_else_a_request() {
    let scene = Scene::new();
    let pools =
        [Pool::new("native", &[apps::worker()]).workers("4"), Pool::new("perl", &apps::perl(None)).workers("4")];
    let mut daemon = Config::new(&pools).start(&scene);
    let mut sites = Vec::new();
    for name in ["native", "perl"] {
        daemon.wait(&format!("pool-serving of {name}"), daemon::SOON, |line| line.name() == "pool-serving");
        let place = Scene::new();
        let nginx = Nginx::start(&place, &daemon::address(&scene, name), "");
        let address = nginx.address();
        // 40 requests a second, steadily.
        let ask = move || nginx::get(address, "/", Duration::from_secs(10));
        sites.push((name, nginx, place, Crowd::start(4, Duration::from_millis(100), ask)));
    }
    let begun = Instant::now();
    let mut bad = 0;
    while begun.elapsed() < long() {
        for (name, nginx, ..) in &sites {
            // The bad URL itself gets what nginx says of a backend that has hung up.
            let page = nginx.get("/segv").unwrap_or_else(|error| panic!("{name}: {error}\n{}", tail(&mut daemon)));
            assert_eq!(page.status, 502, "{name}: {}", page.body);
        }
        bad += 1;
        let next = begun + Duration::from_secs(2) * bad;
        // The wait for the next one is the wait for a line that must not come.
        daemon.wait_never("pool-down or breaker-opened", next.saturating_duration_since(Instant::now()), |line| {
            ["pool-down", "breaker-opened"].contains(&line.name())
        });
    }
    assert!(bad >= 10, "only {bad} bad requests");
    for (name, nginx, place, crowd) in sites {
        let tally = crowd.stop();
        assert_eq!(tally.failed(), 0, "{name}: {tally:?}\n{}", tail(&mut daemon));
        assert!(tally.asked > u64::from(bad) * 60, "{name}: only {} requests", tally.asked);
        let pool = daemon.pool(name);
        assert_eq!(pool["breaker"]["state"], "closed", "{name}: {pool}");
        assert_eq!(pool["exits"]["crashed"], bad, "{name}: {pool}");
        assert!(is_soon(|| daemon.pool(name)["workers"]["serving"] == 4), "{name}: {}", daemon.pool(name));
        drop((nginx, place));
    }
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60 + 1).expect("minutes are few");
    let lines = own_lines(&mut daemon);
    assert!(lines <= 2 * 30 * minutes, "{lines} lines:\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), [0; 0], "left behind");
}
