//! Sites whose program is tests/apps/zygote.py: loaded once, forked, and told by a file how to misbehave.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::conditions::{is_soon, is_within, tail};
use super::daemon::{Config, Daemon, Pool, SOON, address};
use super::fcgi::{Load, Request, Response};
use super::flood::{Flood, kinds};
use super::proc;
use super::scene::Scene;

/// What the program writes and reads, by the variables of its environment.
const SHARED: [(&str, &str); 5] =
    [("START_LOG", "starts"), ("LOAD_LOG", "loads"), ("ORDER_LOG", "orders"), ("DONE", "done"), ("PID", "pid")];

/// One scene with the program, its mode and its logs.
#[derive(Debug)]
pub struct Site {
    /// Where everything of it is.
    pub scene: Scene,
}

impl Site {
    /// With a program that behaves.
    #[must_use]
    pub fn new() -> Site {
        let site = Site { scene: Scene::new() };
        for (_, file) in SHARED {
            let _empty = site.scene.shared_file(file);
        }
        site.mode(&json!({}));
        site.release("1");
        site
    }

    /// The program's text on disk is that of this release from now on.
    pub fn release(&self, name: &str) -> PathBuf {
        self.scene.program("zygote.py", &program(name))
    }

    /// The same as deployments do it: a directory of its own, and then `current` leads there.
    pub fn deploy(&self, name: &str) -> PathBuf {
        let directory = self.scene.join(&format!("releases/{name}"));
        fs::create_dir_all(&directory).expect("the scene is ours");
        self.scene.program(&format!("releases/{name}/zygote.py"), &program(name));
        symlink(&directory, self.scene.join("current.new")).expect("the scene is ours");
        fs::rename(self.scene.join("current.new"), self.scene.join("current")).expect("the scene is ours");
        directory
    }

    /// What is loaded from now on goes by this.
    pub fn mode(&self, mode: &Value) {
        self.mode_as("mode", mode);
    }

    /// The same for pools that go by another file than the first one: what a release does is its own then, also in
    /// workers that are executed.
    pub fn mode_as(&self, file: &str, mode: &Value) {
        // Renamed into its place, so that nobody reads half of it.
        let aside = self.scene.write("mode.new", &mode.to_string());
        fs::rename(aside, self.scene.join(file)).expect("the scene is ours");
    }

    /// Its workers that live, by their own word: those that leave are among them.
    #[must_use]
    pub fn living(&self) -> Vec<u32> {
        self.starts().into_iter().map(|(_, pid)| pid).filter(|pid| proc::alive(*pid)).collect()
    }

    /// A pool `site` of so many workers that a zygote forks, in queue mode.
    #[must_use]
    pub fn pool(&self, workers: &str) -> Pool {
        self.exec(workers).key("launch", "\"zygote\"")
    }

    /// The same program, each worker started by itself.
    #[must_use]
    pub fn exec(&self, workers: &str) -> Pool {
        self.exec_as("mode", workers)
    }

    /// The same, going by another file.
    #[must_use]
    pub fn exec_as(&self, file: &str, workers: &str) -> Pool {
        let mode = self.scene.join(file).display().to_string();
        let pool = Pool::new("site", &["/usr/bin/python3", "zygote.py"]).queue().workers(workers);
        let pool = pool.environment("MODE", &mode);
        SHARED.iter().fold(pool, |pool, (variable, file)| {
            pool.environment(variable, &self.scene.join(file).display().to_string())
        })
    }

    /// Starts it, and waits until all of its workers serve.
    #[must_use]
    pub fn start(&self, pool: &Pool, workers: u64) -> Daemon {
        let mut daemon = Config::new(std::slice::from_ref(pool)).start(&self.scene);
        daemon.wait_serving("site");
        is_whole(&mut daemon, workers);
        daemon
    }

    /// A zygote does at once what stands under "now", for itself and for what it forks from then on.
    pub fn now(&self, zygote: u32, what: &Value) {
        self.mode(&json!({ "now": what }));
        let done = || self.lines("done").len();
        let before = done();
        proc::kill(zygote, Signal::USR1).expect("a zygote of our own supervisor");
        assert!(is_soon(|| done() > before), "the zygote {zygote} has not heard of it");
        self.mode(&json!({}));
    }

    /// `reload --wait`, which goes well. Visitors are there meanwhile: new workers soak for twenty requests, or for long.
    pub fn reload(&self, daemon: &mut Daemon) {
        let load = Load::start(&address(&self.scene, "site"), &Request::get("/"), 2, Duration::from_millis(5));
        let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
        let report = load.stop();
        assert_eq!(said.code, 0, "{said:?}\n{}", tail(daemon));
        assert_eq!(report.failed, 0, "{report:?}\n{}", tail(daemon));
    }

    /// Visitors, each with a URL of his own: where a release dies of whatever it is asked, one URL of all would be taken
    /// for the reason.
    #[must_use]
    pub fn visitors(&self) -> Flood {
        Flood::start(&address(&self.scene, "site"), 100, 4, |number| Request::get(&format!("/page?{number}")))
    }

    /// When workers were started, and their pids.
    #[must_use]
    pub fn starts(&self) -> Vec<(u64, u32)> {
        proc::starts(&self.scene.join("starts"))
    }

    /// When the application was loaded, and by whom.
    #[must_use]
    pub fn loads(&self) -> Vec<(u64, u32)> {
        proc::starts(&self.scene.join("loads"))
    }

    /// The lines of one of its files.
    #[must_use]
    pub fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.scene.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// One page.
    #[must_use]
    pub fn ask(&self) -> Response {
        Request::get("/").send(&address(&self.scene, "site")).expect("an answer")
    }

    /// Which release answers.
    #[must_use]
    pub fn answers(&self) -> String {
        self.ask().header("X-Release").unwrap_or_default().to_owned()
    }
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

/// The program's text as that of a release.
#[must_use]
pub fn program(release: &str) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../steadfast/tests/apps/zygote.py");
    let text = fs::read_to_string(source).expect("the sources of the test programs are there");
    let own = "RELEASE = \"1\"";
    assert!(text.contains(own), "the program does not say its release");
    text.replace(own, &format!("RELEASE = {release:?}"))
}

/// They were all served, but for so many at most.
pub fn all_served(visitors: Flood, lost: usize, daemon: &mut Daemon) {
    let all = visitors.stop();
    let failed = all.iter().filter(|told| !told.is_good()).count();
    assert!(failed <= lost && all.len() > failed, "S: {lost} may be lost: {}\n{}", kinds(&all), tail(daemon));
}

/// Waits until so many workers of `site` serve, and its breaker is closed.
pub fn is_whole(daemon: &mut Daemon, workers: u64) {
    let is_so = is_within(SOON * 2, || {
        let pool = daemon.pool("site");
        pool["workers"]["serving"] == workers && pool["breaker"]["state"] == "closed"
    });
    assert!(is_so, "{}\n{}", daemon.pool("site"), tail(daemon));
}

/// Kills one worker of `site` that serves, and gives its pid.
pub fn kill_one(daemon: &Daemon) -> u32 {
    let pool = daemon.pool("site");
    let slots = pool["slots"].as_array().cloned().unwrap_or_default();
    let serving = slots.iter().filter(|slot| ["idle", "busy", "ready"].iter().any(|state| slot["state"] == *state));
    let pids: Vec<u32> = serving.filter_map(|slot| u32::try_from(slot["pid"].as_u64()?).ok()).collect();
    let pid = *pids.first().unwrap_or_else(|| panic!("nobody serves: {pool}"));
    proc::kill(pid, Signal::KILL).expect("a worker of our own supervisor");
    pid
}

/// The pid of a zygote of `site` that is ready and is not one of these.
#[must_use]
pub fn zygote(daemon: &mut Daemon, not: &[u32]) -> u32 {
    let mut pid = 0;
    let is_there = is_soon(|| {
        let zygote = &daemon.pool("site")["zygote"];
        pid = zygote["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        pid > 1 && zygote["state"] == "ready" && !not.contains(&pid)
    });
    assert!(is_there, "no other zygote than {not:?}: {}\n{}", daemon.pool("site"), tail(daemon));
    pid
}

/// `reload --wait`, which is refused or rolled back: what it has said, within so long.
pub fn reload_fails(daemon: &mut Daemon, within: Duration) -> String {
    let begun = Instant::now();
    let said = daemon.verb(&["reload", "--wait", "--timeout", "20s"]);
    assert_eq!(said.code, 1, "{said:?}\n{}", tail(daemon));
    assert!(begun.elapsed() < within, "it took {:?}\n{}", begun.elapsed(), tail(daemon));
    said.stderr
}
