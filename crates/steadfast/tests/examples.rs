//! The examples do what their first lines say.

use steadfast_harness as support;

use std::fs;
use std::path::{Path, PathBuf};

use support::conditions::is_soon;
use support::daemon::{Config, Daemon, Pool, STEADFAST, address, is_root, socket, steadfast};
use support::fcgi::Request;
use support::nginx::Nginx;
use support::proc;
use support::scene::Scene;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// The text of an example, its socket moved into the scene.
fn moved(scene: &Scene, file: &str, socket_there: &str, pool: &str) -> String {
    let text = fs::read_to_string(examples().join(file)).expect("the example is there");
    let here = socket(scene, pool).display().to_string();
    assert!(text.contains(socket_there), "{file} does not name {socket_there}");
    // Two of these tests may run at once, and there is one port.
    text.replace(socket_there, &here).replace("\"http://127.0.0.1:8080\", ", "")
}

/// The hello example, from a copy that every user may read.
fn start_hello(scene: &Scene) -> Daemon {
    let program = fs::read_to_string(examples().join("hello/hello.pl")).expect("the example is there");
    scene.program("hello.pl", &program);
    let file = if is_root() { "hello/root.toml" } else { "hello/steadfast.toml" };
    let pool = moved(scene, file, "/tmp/steadfast-hello.sock", "hello");
    let text = Config::new(&[]).text(scene) + &pool;
    let config = scene.write("steadfast.toml", &text);
    let mut command = std::process::Command::new(STEADFAST);
    command.arg("run").arg("-c").arg(config);
    Daemon::spawn(command, scene, &scene.join("run/control.sock"))
}

#[test]
fn hello_serves_pages_behind_nginx() {
    let scene = Scene::new();
    let mut daemon = start_hello(&scene);
    daemon.wait_serving("hello");
    let nginx = Nginx::start(&scene, &address(&scene, "hello"), "");
    let page = nginx.get("/").expect("an answer");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Hello from process"), "{}", page.body);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new(), "workers are left");
}

#[test]
fn hello_survives_its_own_crash_page() {
    let scene = Scene::new();
    let mut daemon = start_hello(&scene);
    daemon.wait_serving("hello");
    let address = address(&scene, "hello");
    let answer = Request::get("/crash").send(&address).expect("the front answers in the worker's place");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let answer = Request::get("/").send(&address).expect("another worker answers");
    assert!(answer.text().contains("Hello from process"));
    let exited = daemon.wait_event("worker-exited", support::daemon::SOON);
    assert_eq!(exited.event["class"], "crashed");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn every_configuration_passes_the_check() {
    let directories = fs::read_dir(examples()).expect("the examples are there");
    let mut checked = 0;
    for directory in directories {
        let directory = directory.expect("it can be read").path();
        for file in fs::read_dir(&directory).expect("it is a directory") {
            let file = file.expect("it can be read").path();
            let needs_root =
                file.file_name().is_some_and(|name| name != "steadfast.toml") || !directory.ends_with("hello");
            // One that names a user is for root, the other for everybody else.
            if file.extension().is_none_or(|ending| ending != "toml") || needs_root != is_root() {
                continue;
            }
            // The C program is not compiled in the checkout.
            if directory.ends_with("c") {
                continue;
            }
            let said = steadfast(&directory, &["check", "-c", &file.display().to_string()]);
            assert_eq!(said.code, 0, "{}: {}", file.display(), said.stderr);
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn as_root_a_pool_without_a_user_is_refused() {
    if !is_root() {
        return;
    }
    let file = examples().join("hello/steadfast.toml");
    let said = steadfast(&examples(), &["check", "-c", &file.display().to_string()]);
    assert_eq!(said.code, 78, "{}", said.stderr);
    assert!(said.stderr.contains("must name its user"), "{}", said.stderr);
}

/// The whole story: what happens to the site on FCGI::ProcManager, and on steadfast.
#[test]
fn the_accident_is_a_refused_reload() {
    let output = std::process::Command::new("/usr/bin/perl")
        .arg(examples().join("perl-site/accident"))
        .env("STEADFAST", STEADFAST)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("perl runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.ends_with("As promised.\n") && told.matches("   ok: ").count() >= 17, "{told}");
}

/// The link in another language, as docs/link.md tells it.
#[test]
fn a_zygote_in_python_forks_workers_that_serve_and_leave_with_the_supervisor() {
    for mode in ["queue", "direct"] {
        let scene = Scene::new();
        let program = fs::read_to_string(examples().join("link/zygote.py")).expect("the example is there");
        let program = scene.program("zygote.py", &program).display().to_string();
        let pool = Pool::new("link", &["/usr/bin/python3", &program]).workers("3").key("launch", "\"zygote\"");
        let pool = if mode == "queue" { pool.queue() } else { pool };
        let mut daemon = Config::new(&[pool.table("verify", "request = \"GET /\"")]).start(&scene);
        daemon.wait_serving("link");
        assert!(is_soon(|| daemon.pool("link")["workers"]["serving"] == 3), "{mode}: {}", daemon.pool("link"));
        let workers = daemon.workers("link");
        for worker in &workers {
            assert_eq!((proc::parent(*worker), proc::group(*worker)), (Some(daemon.pid()), Some(*worker)), "{mode}");
        }
        let answer = Request::get("/").send(&address(&scene, "link")).expect("an answer");
        let pid = answer.text().trim().strip_prefix("hello from ").and_then(|pid| pid.parse().ok());
        assert!(pid.is_some_and(|pid| workers.contains(&pid)), "{mode}: {} of {workers:?}", answer.text());
        // A killed supervisor tells nobody anything: the zygote's and the workers' links end.
        daemon.signal(rustix::process::Signal::KILL);
        let left = is_soon(|| scene.processes().is_empty());
        assert!(left, "{mode}: {:?} are left", scene.processes());
    }
}
