//! Unmodified FastCGI programs behind Debian's nginx in direct mode: FCGI.pm, libfcgi, php-cgi at full load, gitweb.

use steadfast_harness as support;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::conditions::{is_soon, tail};
use support::crowd::Crowd;
use support::daemon::{self, Config, Daemon, Pool, USER, is_root};
use support::fcgi::{Address, Request};
use support::nginx::{self, Nginx};
use support::scene::Scene;
use support::{apps, proc};

/// Pages through the web server come from the pool's own workers, and from more than one of them.
fn assert_serves(daemon: &mut Daemon, pool: &str, nginx: &Nginx) {
    let workers: BTreeSet<u32> = daemon.workers(pool).into_iter().collect();
    assert_eq!(workers.len(), 4, "{pool}: {}", daemon.pool(pool));
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let page = nginx.get("/").unwrap_or_else(|error| panic!("{pool}: {error}\n{}", tail(daemon)));
        assert_eq!(page.status, 200, "{pool}: {}", page.body);
        let pid = page.body.trim().strip_prefix("ok ").and_then(|pid| pid.parse().ok());
        seen.insert(pid.unwrap_or_else(|| panic!("{pool} says {:?}", page.body)));
    }
    assert!(seen.is_subset(&workers), "{pool}: {seen:?} are not all of {workers:?}");
    assert!(seen.len() > 1, "{pool}: only {seen:?} answers");
}

/// The line of the manual, as one would type it.
#[test]
fn a_perl_program_behind_nginx_serves_pages_as_its_user() {
    let scene = Scene::new();
    scene.program("app.pl", include_str!("apps/app.pl"));
    let mut daemon = daemon::run(&scene, "perl", &["--workers", "4"], &["perl", "app.pl"]);
    daemon.wait_serving("perl");
    let nginx = Nginx::start(&scene, &daemon::address(&scene, "perl"), "");
    assert_serves(&mut daemon, "perl", &nginx);
    let page = nginx.get("/params?a=b%20c").expect("an answer");
    for param in ["QUERY_STRING=a=b%20c\n", "REQUEST_METHOD=GET\n", "FCGI_ROLE=RESPONDER\n"] {
        assert!(page.body.contains(param), "no {param:?} in {}", page.body);
    }
    if is_root() {
        let said = Command::new("id").args(["-u", USER]).output().expect("id runs");
        let uid = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        for pid in daemon.workers("perl") {
            let uids = proc::status_field(pid, "Uid").unwrap_or_default();
            assert!(uids.split_whitespace().all(|each| each == uid), "{pid} is {uids}, not {USER} ({uid})");
        }
    }
    let said = daemon.verb(&["status"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("serving"), "{}", said.stdout);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_c_program_serves_on_a_unix_socket_and_on_tcp_of_both_families() {
    // Ports that were free a moment ago: the supervisor binds them with SO_REUSEADDR.
    let free = ["127.0.0.1:0", "[::1]:0"].map(|address| {
        let listener = TcpListener::bind(address).expect("a loopback port is free");
        listener.local_addr().expect("it is bound")
    });
    let scene = Scene::new();
    let [v4, v6] = free.map(|address: SocketAddr| {
        let name = if address.is_ipv4() { "v4" } else { "v6" };
        Pool::new(name, &[apps::worker()]).workers("4").listen(&address.to_string())
    });
    let unix = Pool::new("unix", &[apps::worker()]).workers("4");
    let mut daemon = Config::new(&[unix, v4, v6]).start(&scene);
    let places =
        [("unix", daemon::address(&scene, "unix")), ("v4", Address::Tcp(free[0])), ("v6", Address::Tcp(free[1]))];
    for _ in &places {
        daemon.wait_event("pool-serving", daemon::SOON);
    }
    for (pool, address) in &places {
        let place = Scene::new();
        let nginx = Nginx::start(&place, address, "");
        assert_serves(&mut daemon, pool, &nginx);
        // More than one record, and a body on the way in.
        assert_eq!(nginx.get("/body?200000").expect("an answer").body.len(), 200_000, "{pool}");
        let body = vec![b'x'; 100_000];
        let echo = Request::get("/echo").body(&body).send(address).expect("an answer");
        assert!(echo.body == body, "{pool}: {} bytes came back", echo.body.len());
    }
    assert_eq!(daemon.stop(), 0);
}

/// php-cgi leaves after 500 requests, each time, in each worker: nobody notices.
#[test]
fn php_at_full_load_recycles_itself_and_loses_no_request() {
    let scene = Scene::new();
    let command = apps::php();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut daemon = daemon::run(&scene, "php", &["--workers", "4"], &command);
    daemon.wait_serving("php");
    let script = format!("fastcgi_param SCRIPT_FILENAME {};", apps::php_script());
    let nginx = Nginx::start(&scene, &daemon::address(&scene, "php"), &script);
    assert_serves(&mut daemon, "php", &nginx);
    let address = nginx.address();
    let crowd = Crowd::start(6, Duration::ZERO, move || nginx::get(address, "/", Duration::from_secs(10)));
    daemon.wait_never("pool-down or breaker-opened", Duration::from_secs(15), |line| {
        ["pool-down", "breaker-opened"].contains(&line.name())
    });
    let tally = crowd.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}\n{}", tail(&mut daemon));
    let lives = tally.asked / 500;
    assert!(lives >= 4, "no full load: only {} requests", tally.asked);
    let whole = is_soon(|| daemon.pool("php")["workers"]["serving"] == 4);
    let pool = daemon.pool("php");
    assert!(whole, "{pool}");
    assert_eq!(
        (&pool["state"], &pool["breaker"]["state"]),
        (&Value::from("serving"), &Value::from("closed")),
        "{pool}"
    );
    // Each worker may stand anywhere in its 500.
    let recycled = pool["exits"]["recycled"].as_u64().unwrap_or_default();
    assert!(recycled + 4 >= lives && recycled <= lives + 1, "{lives} lives: {}", pool["exits"]);
    let others: Vec<_> = pool["exits"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0).collect();
    assert_eq!(others.len(), 1, "not only recycled: {others:?}\n{}", tail(&mut daemon));
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}");
    assert_eq!(daemon.stop(), 0);
    assert!(!scene.join("php.sock").exists(), "the socket has stayed");
}

/// A small bare repository, as root's own or anybody's.
fn repository(scene: &Scene) {
    let script = r#"set -e
        cd "$1"; mkdir repositories work; export HOME="$1" GIT_CONFIG_NOSYSTEM=1
        git init -q -b main work; cd work
        git config user.name Ada; git config user.email ada@example.org
        echo "good morning" > greeting.txt; git add greeting.txt; git commit -q -m "Say good morning"
        git clone -q --bare . ../repositories/small.git"#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(scene.path()).output().expect("sh runs");
    assert!(output.status.success(), "no repository: {}", String::from_utf8_lossy(&output.stderr));
}

/// An application of Debian's, as it is: CGI::Fast, children by fork and exec, and one that leaves after each error.
#[test]
fn gitweb_of_debian_works_without_a_change() {
    let scene = Scene::new();
    repository(&scene);
    let root = scene.join("repositories");
    let config = scene.write("gitweb.conf", &format!("$projectroot = {root:?};\n1;\n"));
    let command = ["perl", "/usr/share/gitweb/gitweb.cgi", "--fastcgi"];
    let mut daemon = daemon::run(&scene, "gitweb", &["--workers", "2"], &command);
    daemon.wait_serving("gitweb");
    let place = Scene::new();
    let param = format!("fastcgi_param GITWEB_CONFIG {};", config.display());
    let nginx = Nginx::start(&place, &daemon::address(&scene, "gitweb"), &param);
    for (path, status, text) in [
        ("/", 200, "small.git"),
        ("/?p=small.git;a=summary", 200, "Say good morning"),
        ("/?p=small.git;a=tree", 200, "greeting.txt"),
        ("/?p=small.git;a=blob_plain;f=greeting.txt", 200, "good morning\n"),
        ("/?p=small.git;a=log", 200, "Ada"),
        ("/?p=missing.git", 404, "No such project"),
        ("/?p=small.git;a=summary", 200, "Say good morning"),
    ] {
        let page = nginx.get(path).unwrap_or_else(|error| panic!("{path}: {error}\n{}", tail(&mut daemon)));
        assert_eq!(page.status, status, "{path}: {}\n{}", page.body, tail(&mut daemon));
        assert!(page.body.contains(text), "{path}: no {text:?} in {}", page.body);
    }
    // It leaves after an error: that is its way of recycling, and costs nobody an answer.
    for turn in 0..10 {
        assert_eq!(nginx.get("/?p=missing.git").expect("an answer").status, 404, "turn {turn}");
    }
    let all_told = is_soon(|| daemon.pool("gitweb")["exits"]["recycled"] == 11);
    let pool = daemon.pool("gitweb");
    assert!(all_told, "{pool}\n{}", tail(&mut daemon));
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), [0; 0], "left behind");
}
