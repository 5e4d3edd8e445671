//! Applications that know another manager, or none, run with the Perl module in its place: gitweb, a PSGI application of
//! Debian's, and a plain CGI script.

use steadfast_harness as support;

use std::path::Path;
use std::process::Command;

use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, address};
use support::fcgi::{Request, Response};
use support::releases::Releases;
use support::scene::{Scene, allow};

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=A Committer", "-c", "user.email=committer@example.org", "-c", "safe.directory=*"])
        .args(arguments)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn start(scene: &Scene, pool: Pool) -> Daemon {
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("app");
    daemon
}

fn get(scene: &Scene, daemon: &mut Daemon, path: &str, query: &str) -> Response {
    let request = Request::get(path)
        .param("PATH_INFO", path)
        .param("SCRIPT_NAME", "")
        .param("QUERY_STRING", query)
        .param("SERVER_NAME", "localhost");
    request.send(&address(scene, "app")).unwrap_or_else(|error| panic!("{error}\n{}", tail(daemon)))
}

/// gitweb's own FastCGI mode asks for FCGI::ProcManager by name, and gets ours.
#[test]
fn gitweb_is_served_by_workers_of_a_zygote() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let repository = scene.join("repos/one.git");
    std::fs::create_dir_all(&repository).expect("made");
    git(&repository, &["init", "-q", "--bare", "."]);
    let config = scene.write("gitweb.conf", &format!("$projectroot = {:?};\n$omit_owner = 1;\n", scene.join("repos")));
    let pool = releases
        .module(Pool::new("app", &["/usr/bin/perl", "/usr/share/gitweb/gitweb.cgi", "--fastcgi", "--nproc=2"]).queue())
        .key("launch", "\"zygote\"")
        .workers("2")
        .environment("PERL5OPT", "-MFCGI::ProcManager::Steadfast=:replace");
    let mut daemon = start(&scene, pool);
    let config = config.display().to_string();
    let zygote = daemon.pool("app")["zygote"].clone();
    assert_eq!(zygote["state"], "ready", "{zygote}\n{}", tail(&mut daemon));
    // gitweb ends a worker after 100 requests of its own accord.
    for number in 0..220 {
        let page = Request::get("/").param("GITWEB_CONFIG", &config).param("QUERY_STRING", "");
        let answer = page.send(&address(&scene, "app")).expect("an answer");
        assert_eq!(answer.status, 200, "request {number}: {}\n{}", answer.text(), tail(&mut daemon));
        assert!(answer.text().contains("one.git"), "request {number}: {}", answer.text());
    }
    assert_eq!(daemon.pool("app")["breaker"]["state"], "closed", "{}", daemon.pool("app"));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

/// public-inbox, a PSGI application, under plackup with our manager.
#[test]
fn public_inbox_is_served_by_workers_of_a_zygote() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    scene.write("pi/config", "[publicinbox]\n\twwwlisting = all\n");
    let psgi = "use PublicInbox::WWW;\nmy $www = PublicInbox::WWW->new;\n$www->preload;\nsub { $www->call(@_) };\n";
    let psgi = scene.write("app.psgi", psgi);
    let pool = plackup(&releases, &psgi).environment("PI_CONFIG", &scene.join("pi/config").display().to_string());
    let mut daemon = start(&scene, pool);
    let answer = get(&scene, &mut daemon, "/", "");
    // Without an inbox there is not much to see, but all of it is the application's own.
    assert!(answer.text().contains("public-inbox"), "{}\n{}", answer.text(), tail(&mut daemon));
    let zygote = daemon.pool("app")["zygote"].clone();
    assert_eq!(zygote["state"], "ready", "{zygote}");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

/// plackup, with our manager.
fn plackup(releases: &Releases<'_>, psgi: &Path) -> Pool {
    let command =
        ["/usr/bin/plackup", "-s", "FCGI", "--manager", "FCGI::ProcManager::Steadfast", "-E", "deployment", "-a"];
    let psgi = psgi.display().to_string();
    let command = [&command[..], &[&psgi]].concat();
    releases.module(Pool::new("app", &command).queue()).key("launch", "\"zygote\"").workers("2")
}

/// `psgix.harakiri` ends a worker after its answer, and `psgix.cleanup` runs behind it.
#[test]
fn a_psgi_application_may_end_its_worker_and_clean_up() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let cleaned = scene.shared_file("cleaned");
    let psgi = format!(
        r#"my $cleaned = {cleaned:?};
sub {{
    my $env = shift;
    $env->{{'psgix.harakiri.commit'}} = 1 if $env->{{PATH_INFO}} eq '/harakiri';
    push @{{ $env->{{'psgix.cleanup.handlers'}} }}, sub {{ open my $f, '>>', $cleaned; print $f "$$\n"; close $f }};
    [200, ['Content-Type' => 'text/plain'], ["pid $$ harakiri $env->{{'psgix.harakiri'}}\n"]];
}}
"#
    );
    let psgi = scene.write("app.psgi", &psgi);
    let mut daemon = start(&scene, plackup(&releases, &psgi));
    let first = get(&scene, &mut daemon, "/harakiri", "").text();
    assert!(first.starts_with("pid ") && first.ends_with("harakiri 1\n"), "{first}\n{}", tail(&mut daemon));
    let pid = first.split(' ').nth(1).and_then(|pid| pid.parse::<u32>().ok()).expect("a pid");
    assert!(is_soon(|| !daemon.workers("app").contains(&pid)), "it is still there: {}", daemon.pool("app"));
    assert!(is_soon(|| daemon.pool("app")["workers"]["idle"] == 2), "{}\n{}", daemon.pool("app"), tail(&mut daemon));
    let pool = daemon.pool("app");
    assert_eq!((&pool["exits"]["recycled"], &pool["breaker"]["failures"]), (&1.into(), &0.0.into()), "{pool}");
    let text = std::fs::read_to_string(&cleaned).expect("ours");
    assert_eq!(text, format!("{pid}\n"), "the cleanup handler did not run, or not once");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// A script that knows CGI only, through CGI::Emulate::PSGI: it is compiled once.
#[test]
fn a_plain_cgi_script_is_served_by_workers_of_a_zygote() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let script = r#"print "Status: 201 Created\r\nContent-Type: text/plain\r\n\r\nasked by $ENV{REQUEST_METHOD} for $ENV{QUERY_STRING}\n";
"#;
    let script = scene.write("script.cgi", script);
    allow(&script, 0o755);
    let psgi =
        format!("use CGI::Emulate::PSGI;\nCGI::Emulate::PSGI->handler(sub {{ do {script:?}; die $@ if $@ }});\n");
    let psgi = scene.write("app.psgi", &psgi);
    let mut daemon = start(&scene, plackup(&releases, &psgi));
    for _ in 0..20 {
        let answer = get(&scene, &mut daemon, "/", "a=b");
        assert_eq!((answer.status, answer.text().as_str()), (201, "asked by GET for a=b\n"), "{}", tail(&mut daemon));
    }
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}
