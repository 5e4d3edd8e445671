//! What `steadfast snippet` prints works in Debian's web servers as it is.

use steadfast_harness as support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use support::conditions::is_soon;
use support::daemon::{Config, Pool, SOON, USER, is_root, steadfast};
use support::scene::{Scene, allow};
use support::{apps, loopback, nginx, proc};

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = proc::kill(self.0.id(), Signal::TERM);
        if !proc::wait_gone(self.0.id(), SOON) {
            let _killed = self.0.kill();
        }
        let _reaped = self.0.wait();
    }
}

/// The rest of a server's configuration around the lines, and how it is started.
fn around(server: &str, lines: &str, address: SocketAddr, directory: &Path) -> (String, Vec<String>) {
    let place = directory.display();
    let config = format!("{place}/server.conf");
    let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).chain([config.clone()]).collect();
    let user = |text: &str| if is_root() { text.replace("USER", USER) } else { String::new() };
    match server {
        "nginx" => {
            let (first, second) = lines.split_once("\n\n").expect("two blocks");
            fs::copy("/etc/nginx/fastcgi_params", directory.join("fastcgi_params")).expect("nginx is installed");
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
                .concat();
            let text = format!(
                "{}daemon off;\npid {place}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
                 {first}\nserver {{\nlisten {address};\n{second}\n}}\n}}\n",
                user("user USER;\n")
            );
            (text, command(&["nginx", "-e", "stderr", "-c"]))
        }
        "apache" => {
            let modules: String = ["mpm_event", "authz_core", "proxy", "proxy_fcgi"]
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .concat();
            let text = format!(
                "ServerRoot {place}\nDefaultRuntimeDir {place}\nPidFile {place}/pid\nErrorLog /dev/stderr\n\
                 ServerName localhost\nListen {address}\n{modules}{}{lines}",
                user("User USER\nGroup USER\n")
            );
            (text, command(&["apache2", "-DFOREGROUND", "-f"]))
        }
        "caddy" => {
            let (port, ip) = (address.port(), address.ip());
            let text = format!("{{\nadmin off\nauto_https off\n}}\n:{port} {{\nbind {ip}\n{lines}}}\n");
            (text, command(&["caddy", "run", "--adapter", "caddyfile", "--config"]))
        }
        "lighttpd" => {
            let text = format!(
                "server.document-root = \"{place}\"\nserver.bind = \"{}\"\nserver.port = {}\n{}{lines}",
                address.ip(),
                address.port(),
                user("server.username = \"USER\"\nserver.groupname = \"USER\"\n")
            );
            (text, command(&["lighttpd", "-D", "-f"]))
        }
        "haproxy" => {
            let text = format!(
                "global\n    maxconn 100\n{}defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n\
                 frontend visitors\n    bind {address}\n    default_backend steadfast-site\n{lines}",
                user("    user USER\n    group USER\n")
            );
            (text, command(&["haproxy", "-db", "-f"]))
        }
        _ => unreachable!("the servers are named below"),
    }
}

#[test]
fn the_lines_for_each_server_reach_the_pool() {
    let scene = Scene::new();
    let value = "a \\\"quoted\\\" word";
    let pool = Pool::new("site", &[apps::rust()]).workers("2").queue();
    let pool = pool.key("params", &format!("{{ SITE_WORD = \"{value}\" }}"));
    let config = Config::new(&[pool]);
    let mut daemon = config.start(&scene);
    daemon.wait_serving("site");
    let file = config.write(&scene).display().to_string();
    for server in ["nginx", "apache", "caddy", "lighttpd", "haproxy"] {
        let said = steadfast(scene.path(), &["snippet", server, "site", "-c", &file]);
        assert_eq!(said.code, 0, "{server}: {}", said.stderr);
        let directory = scene.join(server);
        fs::create_dir(&directory).expect("the scene is ours");
        allow(&directory, 0o777);
        let address = loopback::address();
        let (text, command) = around(server, &said.stdout, address, &directory);
        fs::write(directory.join("server.conf"), &text).expect("the scene is ours");
        let log = directory.join("log");
        let output = fs::File::create(&log).expect("the scene is ours");
        let child = Command::new(&command[0])
            .args(&command[1..])
            .current_dir(&directory)
            .env("HOME", &directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {server}: {error}: see .ci/run for its package"));
        let _server = Server(child);
        let says = || format!("{server}: {}\n{text}", fs::read_to_string(&log).unwrap_or_default());
        assert!(is_soon(|| TcpStream::connect(address).is_ok()), "{}", says());
        let page = nginx::get(address, "/echo?x=1", Duration::from_secs(10)).unwrap_or_else(|_| panic!("{}", says()));
        assert_eq!(page.status, 200, "{}\n{}", says(), page.body);
        assert!(page.body.contains("SITE_WORD=a \"quoted\" word"), "{}\n{}", says(), page.body);
    }
    let unknown = steadfast(scene.path(), &["snippet", "nginx", "sit", "-c", &file]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("there are: site"), "{}", unknown.stderr);
    assert_eq!(daemon.stop(), 0);
}
