//! Real CGI programs, unchanged, behind nginx and `steadfast cgi`: gitweb, cgit, and git itself, cloned from and pushed to; in
//! queue mode, in direct mode, and under spawn-fcgi.

use steadfast_harness as support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, STEADFAST, USER, address, is_root};
use support::fcgi::Address;
use support::nginx::Nginx;
use support::scene::Scene;

const BACKEND: &str = "/usr/lib/git-core/git-http-backend";

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=A Committer", "-c", "user.email=committer@example.org", "-c", "safe.directory=*"])
        .args(["-c", "init.defaultBranch=main"])
        .args(arguments)
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .expect("git runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "git {arguments:?}: {out}{err}");
    out.trim().to_owned()
}

/// A bare repository `repos/one.git` with one commit; it belongs to `owner` when we are root.
fn repository(scene: &Scene, owner: &str) {
    let work = scene.join("first");
    std::fs::create_dir_all(&work).expect("made");
    git(&work, &["init", "-q", "."]);
    // Larger than any buffer on the way, and nothing that packs well.
    let noise: Vec<u8> = (0..3_000_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
    std::fs::write(work.join("noise"), noise).expect("written");
    std::fs::write(work.join("README"), "a word of the first commit\n").expect("written");
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "the first commit"]);
    std::fs::create_dir_all(scene.join("repos")).expect("made");
    git(scene.path(), &["clone", "-q", "--bare", "first", "repos/one.git"]);
    if is_root() {
        let changed = Command::new("chown").arg("-R").arg(owner).arg(scene.join("repos")).status();
        assert!(changed.expect("chown of coreutils").success());
    }
}

/// nginx as git-http-backend(1) has it.
fn before(scene: &Scene, upstream: &Address) -> Nginx {
    let extra = format!(
        "fastcgi_param SCRIPT_FILENAME {BACKEND};\nfastcgi_param GIT_HTTP_EXPORT_ALL '';\n\
         fastcgi_param GIT_PROJECT_ROOT {};\nfastcgi_param PATH_INFO $uri;\nfastcgi_param REMOTE_USER somebody;",
        scene.join("repos").display()
    );
    Nginx::start(scene, upstream, &extra)
}

fn clone_and_push(scene: &Scene, nginx: &Nginx) {
    let url = format!("http://{}/one.git", nginx.address());
    git(scene.path(), &["clone", "-q", &url, "copy"]);
    let copy = scene.join("copy");
    assert_eq!(git(&copy, &["log", "--format=%s"]), "the first commit");
    assert!(
        std::fs::read(copy.join("noise")).expect("cloned") == std::fs::read(scene.join("first/noise")).expect("made")
    );
    let more: Vec<u8> = (0..3_000_000_u64).map(|n| (n.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as u8).collect();
    std::fs::write(copy.join("more"), more).expect("written");
    git(&copy, &["add", "."]);
    git(&copy, &["commit", "-qm", "the second commit"]);
    git(&copy, &["push", "-q", "origin", "HEAD"]);
    let head = git(&copy, &["rev-parse", "HEAD"]);
    assert_eq!(git(&scene.join("repos/one.git"), &["rev-parse", "HEAD"]), head);
    // A small push, too: it is not chunked.
    git(&copy, &["commit", "-q", "--allow-empty", "-m", "the third commit"]);
    git(&copy, &["push", "-q", "origin", "HEAD"]);
    git(scene.path(), &["clone", "-q", &url, "again"]);
    assert_eq!(git(&scene.join("again"), &["log", "-1", "--format=%s"]), "the third commit");
}

fn start(scene: &Scene, pool: Pool) -> Daemon {
    let mut daemon = Config::new(&[pool.key("type", "\"cgi\"").workers("2")]).start(scene);
    daemon.wait_serving("git");
    daemon
}

#[test]
fn git_is_cloned_from_and_pushed_to_in_both_modes() {
    for mode in ["queue", "direct"] {
        let scene = Scene::new();
        repository(&scene, USER);
        let pool = Pool::new("git", &[BACKEND]).key("socket", "{ mode = \"0666\" }");
        let pool = if mode == "queue" { pool.queue() } else { pool };
        let mut daemon = start(&scene, pool);
        let nginx = before(&scene, &address(&scene, "git"));
        clone_and_push(&scene, &nginx);
        assert!(!tail(&mut daemon).contains("exited with"), "{}", tail(&mut daemon));
        daemon.stop_idle();
    }
}

/// A process that is ended when this is dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn git_is_cloned_from_and_pushed_to_under_spawn_fcgi() {
    let scene = Scene::new();
    let user = if is_root() { "root" } else { "" };
    repository(&scene, user);
    let socket = scene.join("git.sock");
    let child = Command::new("spawn-fcgi")
        .arg("-n")
        .arg("-s")
        .arg(&socket)
        .args(["-M", "0666", "--", STEADFAST, "cgi", "--root", "/usr/lib/git-core", "--timeout", "1m"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start spawn-fcgi: {error}: apt-get install spawn-fcgi"));
    let _child = Started(child);
    assert!(is_soon(|| socket.exists()));
    let nginx = before(&scene, &Address::Unix(socket));
    clone_and_push(&scene, &nginx);
}

#[test]
fn gitweb_and_cgit_show_a_repository() {
    let scene = Scene::new();
    repository(&scene, USER);
    let repositories = scene.join("repos").display().to_string();
    let gitweb = scene.write("gitweb.conf", &format!("$projectroot = {repositories:?};\n$omit_owner = 1;\n"));
    let cgit = scene.write("cgitrc", &format!("virtual-root=/\nscan-path={repositories}\n"));
    for mode in ["queue", "direct"] {
        for (program, name, config, path, word) in [
            ("/usr/share/gitweb/gitweb.cgi", "GITWEB_CONFIG", &gitweb, "/?p=one.git;a=shortlog", "the first commit"),
            ("/usr/lib/cgit/cgit.cgi", "CGIT_CONFIG", &cgit, "/one.git/log/", "the first commit"),
            ("/usr/lib/cgit/cgit.cgi", "CGIT_CONFIG", &cgit, "/one.git/plain/README", "a word of the first commit"),
        ] {
            let pool = Pool::new("git", &[program]).key("socket", "{ mode = \"0666\" }");
            let pool = pool.environment(name, &config.display().to_string());
            let mut daemon = start(&scene, if mode == "queue" { pool.queue() } else { pool });
            let nginx = Nginx::start(&scene, &address(&scene, "git"), "fastcgi_param PATH_INFO $uri;");
            let page = nginx.get(path).expect("an answer");
            assert!(page.status == 200 && page.body.contains(word), "{program}: {}\n{}", page.body, tail(&mut daemon));
            daemon.stop_idle();
        }
    }
}
