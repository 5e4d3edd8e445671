//! A program that is ready and dies on its first request, under 50 requests a second: few starts, few lines, no spin.

use steadfast_harness as support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::conditions::{cpu, tail};
use support::crowd::Crowd;
use support::daemon::{self, Config, Daemon, Pool};
use support::nginx::{self, Nginx};
use support::scene::Scene;
use support::{apps, proc};

/// The story of the module that loads and is hollow: it shows with the first request.
const HOLLOW: &str = r#"#!/usr/bin/perl
use strict;
use warnings;
use FCGI;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

open my $log, '>>', $ENV{START_LOG} or die "cannot open $ENV{START_LOG}: $!";
syswrite $log, sprintf "%d %d\n", clock_gettime(CLOCK_MONOTONIC) * 1e9, $$;
close $log;
# With an error stream of its own, what Perl says when it dies goes to stderr and not to the web server.
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*ERRORS);
while ($request->Accept >= 0) {
    my $response = Site::Response->new;
    print "Content-Type: text/plain\r\n\r\n", $response->text;
}
"#;

/// What is measured, and where it begins.
struct Site {
    daemon: Daemon,
    scene: Scene,
    began: Instant,
    /// nginx, and its directory.
    before: (Nginx, Scene),
    crowd: Crowd,
}

fn begin(command: impl Fn(&Scene) -> Vec<String>) -> Site {
    let scene = Scene::new();
    let starts = scene.shared_file("starts").display().to_string();
    let pool = Pool::new("site", &command(&scene)).workers("4").environment("START_LOG", &starts);
    let began = Instant::now();
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    let place = Scene::new();
    let nginx = Nginx::start(&place, &daemon::address(&scene, "site"), "");
    let address = nginx.address();
    // 50 visitors, each once a second, who wait for less than a second: the rate does not fall when nobody answers.
    let ask = move || nginx::get(address, "/", Duration::from_millis(900));
    let crowd = Crowd::start(50, Duration::from_secs(1), ask);
    Site { daemon, scene, began, before: (nginx, place), crowd }
}

/// The first minute's end: at most 30 starts and 30 lines; the status says why.
fn judge(mut site: Site, said: &str) {
    let minute = site.began + Duration::from_secs(60);
    site.daemon.wait_never("end of the supervisor", minute.saturating_duration_since(Instant::now()), |line| {
        line.name() == "supervisor-stopped"
    });
    let starts = proc::starts(&site.scene.join("starts")).len();
    let used = cpu(site.daemon.pid());
    let pool = site.daemon.pool("site");
    let status = site.daemon.verb(&["status"]);
    // A little more than a minute's, for the second site that is judged.
    let lines: Vec<String> = site.daemon.lines().iter().map(|line| line.text.clone()).collect();
    let tally = site.crowd.stop();
    assert!(tally.asked >= 2500, "not 50 requests a second: {} in all", tally.asked);
    assert_eq!(tally.answered, 0, "this program answers nobody");
    assert!((5..=30).contains(&starts), "{starts} starts\n{}", tail(&mut site.daemon));
    assert!(lines.len() <= 30, "{} lines:\n{}", lines.len(), lines.join("\n"));
    // A debug build takes several times the 0.3 s that the same minute may cost when the crash is at the start.
    assert!(used < Duration::from_secs(2), "{used:?} of processor time");
    assert_ne!(pool["breaker"]["state"], "closed", "{pool}");
    let states = ["down", "degraded", "starting"].map(Value::from);
    assert!(states.contains(&pool["state"]), "{pool}");
    assert!(status.stdout.contains(said), "the status does not say {said:?}:\n{}", status.stdout);
    assert_eq!(site.daemon.stop(), 0);
    assert_eq!(site.scene.processes(), [0; 0], "left behind");
    drop(site.before);
}

#[test]
fn crash_on_the_first_request_at_fifty_requests_a_second() {
    let native = begin(|_| vec![apps::worker(), "--crash-first-request".to_owned()]);
    let hollow =
        begin(|scene| vec!["/usr/bin/perl".to_owned(), scene.program("hollow.pl", HOLLOW).display().to_string()]);
    judge(native, "SIGSEGV");
    judge(hollow, "Can't locate object method \"new\" via package \"Site::Response\"");
}
