//! Hollow workers: they start, they accept, and what they answer is wrong. With a verify request nobody ever sees one.

use steadfast_harness as support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::conditions::{is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::scene::Scene;

/// A worker that is hollow if HOLLOW names a file when it starts, in the way that stands in it. Each request is noted
/// in RUNS with the way of the worker that had it.
const PROGRAM: &str = r#"use strict;
use warnings;
use FCGI;
my $way = 'whole';
if (open my $file, '<', $ENV{HOLLOW}) { $way = <$file>; chomp $way }
my ($runs, $in, $out, $err, %env) = ($ENV{RUNS}, \*STDIN, \*STDOUT, \*STDERR);
my $request = FCGI::Request($in, $out, $err, \%env);
while ($request->Accept() >= 0) {
    open my $log, '>>', $runs or die "$runs: $!";
    syswrite $log, "$way $env{REQUEST_URI}\n";
    close $log;
    if ($way eq 'hang') { sleep 60 }
    if ($way eq 'exit') { exit 3 }
    if ($way eq 'empty') { next }
    my $head = "Content-Type: text/plain\r\n\r\n";
    if ($way eq 'error') { print $out "Status: 500 Internal Server Error\r\n$head", "all is well\n" }
    elsif ($way eq 'wrong') { print $out $head, "<h1>It works!</h1>\n" }
    else { print $out $head, "all is well\n" }
}
"#;

const WAYS: [&str; 5] = ["error", "wrong", "empty", "exit", "hang"];

struct Site {
    scene: Scene,
}

impl Site {
    fn new() -> Site {
        let scene = Scene::new();
        scene.program("site.pl", PROGRAM);
        let _runs = scene.shared_file("runs");
        Site { scene }
    }

    fn pool(&self, every: &str) -> Pool {
        let verify = format!(
            "request = \"GET /health\"\nexpect = {{ status = 200, body = \"well\" }}\ntimeout = \"1s\"\nevery = {every:?}"
        );
        let fallback = format!("status = 503\nfile = {:?}\nretry-after = \"7s\"", self.scene.join("sorry.html"));
        Pool::new("site", &["/usr/bin/perl", "site.pl"])
            .queue()
            .workers("4")
            .environment("HOLLOW", &self.hollow().display().to_string())
            .environment("RUNS", &self.scene.join("runs").display().to_string())
            .table("verify", &verify)
            .table("fallback", &fallback)
    }

    fn hollow(&self) -> PathBuf {
        self.scene.join("hollow")
    }

    /// Workers that start from now on are hollow in this way.
    fn is_hollow(&self, way: &str) {
        let aside = self.scene.write("hollow.new", way);
        fs::rename(aside, self.hollow()).expect("a file in the scene can be renamed");
    }

    /// Workers that start from now on are whole.
    fn is_mended(&self) {
        fs::remove_file(self.hollow()).expect("it was there");
    }

    fn start(&self, every: &str) -> Daemon {
        self.start_on(self.pool(every))
    }

    fn start_on(&self, pool: Pool) -> Daemon {
        let _page = self.scene.write("sorry.html", "<html><body>back soon</body></html>\n");
        Config::new(&[pool]).start(&self.scene)
    }

    fn ask(&self, path: &str) -> support::fcgi::Response {
        Request::get(path).send(&address(&self.scene, "site")).expect("an answer")
    }

    /// Everybody was served by whole workers, and hollow ones have seen nothing but their verify request.
    fn assert_served(&self, all: &[Told], daemon: &mut Daemon) {
        let are_good = all.iter().all(|told| told.is_good() && told.body == "all is well\n");
        assert!(are_good, "{}\n{}", kinds(all), tail(daemon));
        self.assert_unseen();
    }

    fn assert_unseen(&self) {
        let runs = self.runs();
        let seen = runs.iter().find(|line| !line.starts_with("whole ") && !line.ends_with(" /health"));
        assert!(seen.is_none(), "a visitor met a hollow worker: {seen:?}");
    }

    fn runs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.scene.join("runs")).expect("it is ours");
        text.lines().map(str::to_owned).collect()
    }

    fn flood(&self) -> Flood {
        Flood::start(&address(&self.scene, "site"), 200, 8, |number| Request::get(&format!("/page?{number}")))
    }
}

/// Four serve, and nobody else is there: one that was refused a moment ago stands in the list until it has gone.
fn is_whole(daemon: &mut Daemon) {
    let is_whole = is_within(SOON * 2, || {
        let workers = daemon.pool("site")["workers"].clone();
        workers["serving"] == 4 && workers["total"] == 4
    });
    assert!(is_whole, "{}\n{}", daemon.pool("site"), tail(daemon));
}

/// Workers die, and what comes in their place is hollow for a while: visitors are served by those that are left.
#[test]
fn a_hollow_worker_never_serves_anybody() {
    let site = Site::new();
    // All of them together are more failures than one release is forgiven, and no matter of this test.
    let mut daemon = site.start_on(site.pool("each").table("breaker", "failures = 1000"));
    daemon.wait_serving("site");
    is_whole(&mut daemon);
    let flood = site.flood();
    for way in WAYS {
        site.is_hollow(way);
        proc::kill(daemon.workers("site")[0], Signal::KILL).expect("a worker of our own supervisor");
        let asked = format!("{way} /health");
        assert!(is_soon(|| site.runs().contains(&asked)), "{way}: {}\n{}", daemon.pool("site"), tail(&mut daemon));
        site.is_mended();
        is_whole(&mut daemon);
    }
    let all = flood.stop();
    site.assert_served(&all, &mut daemon);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    let said = daemon.wait("unverified", SOON, |line| line.event["class"] == "unverified");
    assert!(said.text.contains("got status 500"), "{}", said.text);
    eprintln!("{} served, {} unverified", all.len(), pool["exits"]["unverified"]);
    assert_eq!(daemon.stop(), 0);
}

/// All are hollow from the beginning: after a few the breaker opens, visitors get the pool's own page at once, and the
/// first whole worker ends it.
#[test]
fn a_hollow_generation_at_the_start_is_held_and_visitors_get_the_page() {
    let site = Site::new();
    site.is_hollow("wrong");
    let mut daemon = site.start("each");
    let opened = daemon.wait_event("breaker-opened", SOON);
    daemon.wait_event("pool-down", SOON);
    let is_down = is_soon(|| site.ask("/page").status == 503);
    assert!(is_down, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let begun = Instant::now();
    let answer = site.ask("/page");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((answer.status, answer.header("X-Steadfast")), (503, Some("down")), "{}", answer.headers);
    assert_eq!(answer.header("Retry-After"), Some("7"), "{}", answer.headers);
    assert!(answer.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html")), "{}", answer.headers);
    assert_eq!(answer.text(), "<html><body>back soon</body></html>\n");
    let pool = daemon.pool("site");
    assert_eq!((&pool["state"], &pool["breaker"]["state"]), (&"down".into(), &"open".into()), "{pool}");
    assert!(pool["exits"]["unverified"].as_u64().is_some_and(|count| (3..=8).contains(&count)), "{pool}");
    assert_eq!(daemon.verb(&["status"]).code, 69);
    site.is_mended();
    let is_back = is_within(SOON, || site.ask("/page").status == 200);
    assert!(is_back, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    site.assert_unseen();
    assert!(opened.text.contains("site"), "{}", opened.text);
    assert!(
        daemon.pool("site")["requests"]["fallback"].as_u64().is_some_and(|count| count >= 2),
        "{}",
        daemon.pool("site")
    );
    assert_eq!(daemon.stop(), 0);
}

/// The generation that serves stays, whatever is on disk meanwhile.
#[test]
fn a_reload_to_a_hollow_generation_is_refused_and_nobody_notices() {
    let site = Site::new();
    let mut daemon = site.start("each");
    daemon.wait_serving("site");
    is_whole(&mut daemon);
    let workers = daemon.workers("site");
    let flood = site.flood();
    let why = ["got status 500", "It works!", "without a byte", "code 3", "within its timeout"];
    for (way, why) in WAYS.into_iter().zip(why) {
        site.is_hollow(way);
        let said = daemon.verb(&["reload", "site", "--wait"]);
        assert_eq!(said.code, 1, "{way}: {said:?}\n{}", tail(&mut daemon));
        assert!(said.stderr.contains("the old one serves") && said.stderr.contains(why), "{way}: {said:?}");
        assert_eq!(daemon.workers("site"), workers, "{way}");
        assert_eq!(daemon.pool("site")["generation"], 1, "{way}");
        site.is_mended();
    }
    let all = flood.stop();
    site.assert_served(&all, &mut daemon);
    // And whole again it is taken.
    let said = daemon.verb(&["reload", "site", "--wait"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
    assert!(daemon.workers("site").iter().all(|pid| !workers.contains(pid)));
    eprintln!("{} served", all.len());
    assert_eq!(daemon.stop(), 0);
}

/// `every = "generation"`: the first worker of a generation speaks for the others.
#[test]
fn a_generation_may_be_verified_once() {
    for (every, asked) in [("each", 4), ("generation", 1)] {
        let site = Site::new();
        let mut daemon = site.start(every);
        daemon.wait_serving("site");
        is_whole(&mut daemon);
        let health = |site: &Site| site.runs().iter().filter(|line| line.ends_with(" /health")).count();
        assert_eq!(health(&site), asked, "{every}\n{}", tail(&mut daemon));
        // Each new worker is watched for twenty requests before the next one comes.
        let flood = site.flood();
        assert_eq!(daemon.verb(&["reload", "--wait"]).code, 0);
        let all = flood.stop();
        site.assert_served(&all, &mut daemon);
        assert_eq!(health(&site), 2 * asked, "{every}\n{}", tail(&mut daemon));
        // Requests of our own are nobody's visit.
        let is_counted = is_soon(|| daemon.pool("site")["requests"]["total"] == all.len());
        assert!(is_counted, "{} asked: {}", all.len(), daemon.pool("site"));
        assert_eq!(daemon.stop(), 0);
    }
}
