//! Debian's web servers before a pool, each with the settings that people use, on a loopback address of its own.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::apps::Language;
use super::daemon::{SOON, USER, is_root};
use super::fcgi::Address;
use super::nginx::Nginx;
use super::scene::{Scene, allow};
use super::{loopback, proc};

/// Which server, and how it speaks to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// A connection for each request, everything buffered: the defaults.
    Nginx,
    /// `keepalive` and `fastcgi_keep_conn`, answers passed on as they come.
    NginxKeeping,
    /// mod_proxy_fcgi, a connection for each request.
    Apache,
    /// mod_proxy_fcgi with `enablereuse`.
    ApacheReusing,
    /// mod_fcgid: starts our Rust program by itself, a connection for each request, written whole before anything is read.
    ApacheFcgid,
    /// A connection for each request.
    Lighttpd,
    /// A connection for each request.
    Caddy,
    /// Connections are kept, one request at a time on each.
    Haproxy,
    /// `mpxs-conns` and `get-values`: asks for what we can, then many requests at a time on one connection.
    HaproxyMultiplexing,
}

/// A running web server; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Web {
    server: Server,
    address: SocketAddr,
    log: PathBuf,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Nginx(#[expect(dead_code, reason = "it is stopped when this is dropped")] Nginx),
    Other(Child),
}

impl Server {
    /// All that a pool can be behind.
    pub const ALL: [Server; 8] = [
        Server::Nginx,
        Server::NginxKeeping,
        Server::Apache,
        Server::ApacheReusing,
        Server::Lighttpd,
        Server::Caddy,
        Server::Haproxy,
        Server::HaproxyMultiplexing,
    ];

    /// Starts it before the pool that listens at `upstream` and runs a program in this language.
    #[must_use]
    pub fn start(self, scene: &Scene, upstream: &Address, language: Language) -> Web {
        let name = format!("{self:?}-{}", language.name()).to_lowercase();
        let log = scene.join(&format!("{name}.log"));
        if matches!(self, Server::Nginx | Server::NginxKeeping) {
            let script = format!(
                "fastcgi_param SCRIPT_FILENAME {}; fastcgi_buffer_size 64k; fastcgi_buffers 4 64k;
                 fastcgi_busy_buffers_size 128k; fastcgi_buffering {};",
                language.script(),
                if self == Server::Nginx { "on" } else { "off" }
            );
            let kept = if self == Server::Nginx { 0 } else { 8 };
            let nginx = Nginx::start_keeping(scene, upstream, &script, kept);
            let log = scene.join("nginx-error.log");
            return Web { server: self, address: nginx.address(), log, running: Running::Nginx(nginx) };
        }
        let address = loopback::address();
        // The server's own files, which it writes as its own user.
        let directory = scene.join(&name);
        fs::create_dir(&directory).expect("the scene is ours, and one server of a kind is enough for a pool");
        allow(&directory, 0o777);
        let place = Place { address, upstream, script: language.script(), directory: &directory };
        let (text, mut command) = match self {
            Server::Apache => place.apache(false),
            Server::ApacheReusing => place.apache(true),
            Server::ApacheFcgid => place.fcgid(),
            Server::Lighttpd => place.lighttpd(),
            Server::Caddy => place.caddy(),
            Server::Haproxy => place.haproxy(""),
            Server::HaproxyMultiplexing => place.haproxy("option mpxs-conns\n    option get-values"),
            Server::Nginx | Server::NginxKeeping => unreachable!("nginx was started above"),
        };
        fs::write(place.config(), text).expect("the directory is ours");
        let output = fs::File::create(&log).expect("the scene is ours");
        let child = command
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be cloned"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {self:?}: {error}: see .ci/run for its package"));
        let mut web = Web { server: self, address, log, running: Running::Other(child) };
        web.wait_listening();
        web
    }
}

impl Web {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which one it is.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server
    }

    /// Where it says what goes wrong.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it had to say, for the message of a failure.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// These servers have no word for it: they are asked until one answers.
    fn wait_listening(&mut self) {
        let end = Instant::now() + SOON;
        while TcpStream::connect(self.address).is_err() {
            if let Running::Other(child) = &mut self.running {
                let ended = child.try_wait().expect("it is our child");
                assert!(ended.is_none(), "the web server ended with {ended:?}: {}", self.said());
            }
            assert!(Instant::now() < end, "the web server does not listen at {}: {}", self.address, self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // nginx does so by itself.
        if let Running::Other(child) = &mut self.running {
            // TERM first: it then ends its own children. Both fail only when it is gone.
            let _gone = proc::kill(child.id(), Signal::TERM);
            if !proc::wait_gone(child.id(), SOON) {
                let _killed = child.kill();
            }
            let _reaped = child.wait();
        }
    }
}

/// What every configuration names.
struct Place<'a> {
    address: SocketAddr,
    upstream: &'a Address,
    script: String,
    directory: &'a Path,
}

impl Place<'_> {
    fn config(&self) -> PathBuf {
        self.directory.join("server.conf")
    }

    fn apache(&self, reuse: bool) -> (String, Command) {
        let pool = match self.upstream {
            Address::Unix(path) => format!("unix:{}|fcgi://localhost/", path.display()),
            Address::Tcp(address) => format!("fcgi://{address}/"),
        };
        let rules = format!(
            "ProxyPass \"/\" \"{pool}\" enablereuse={}
ProxyFCGISetEnvIf \"true\" SCRIPT_FILENAME \"{}\"
",
            if reuse { "on" } else { "off" },
            self.script
        );
        self.apache_with(&["proxy", "proxy_fcgi"], &rules)
    }

    /// Its own three workers of a copy of our program, which its user may run.
    fn fcgid(&self) -> (String, Command) {
        let directory = self.directory.display();
        let program = self.directory.join("program");
        fs::copy(super::apps::rust(), &program).expect("the directory is ours");
        allow(&program, 0o755);
        let rules = format!(
            "ScriptAlias \"/\" \"{directory}/program/\"
<Directory \"{directory}\">
    Options +ExecCGI
    SetHandler fcgid-script
    Require all granted
</Directory>
FcgidIPCDir {directory}/fcgid
FcgidProcessTableFile {directory}/fcgid_shm
FcgidMaxProcesses 3
FcgidMaxRequestLen 20000000
"
        );
        self.apache_with(&["alias", "fcgid"], &rules)
    }

    fn apache_with(&self, modules: &[&str], rules: &str) -> (String, Command) {
        let modules: String = ["mpm_event", "authz_core"]
            .iter()
            .chain(modules)
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .collect();
        let user = if is_root() { format!("User {USER}\nGroup {USER}\n") } else { String::new() };
        let directory = self.directory.display();
        let text = format!(
            "ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
ErrorLog /dev/stderr
ServerName localhost
Listen {}
{modules}{user}StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
LimitRequestFieldSize 32760
{rules}",
            self.address
        );
        let mut command = Command::new("apache2");
        command.arg("-DFOREGROUND").arg("-f").arg(self.config());
        (text, command)
    }

    fn lighttpd(&self) -> (String, Command) {
        let user = if is_root() {
            format!("server.username = \"{USER}\"\nserver.groupname = \"{USER}\"\n")
        } else {
            String::new()
        };
        let pool = match self.upstream {
            Address::Unix(path) => format!("\"socket\" => \"{}\"", path.display()),
            Address::Tcp(address) => format!("\"host\" => \"{}\", \"port\" => {}", address.ip(), address.port()),
        };
        let script = Path::new(&self.script);
        let (root, name) = (script.parent().unwrap_or(script), script.file_name().unwrap_or_default());
        let name = name.to_string_lossy();
        // It makes SCRIPT_FILENAME of the document root and what stands in the path up to the extension.
        let text = format!(
            "server.modules = ( \"mod_rewrite\", \"mod_fastcgi\" )
server.document-root = \"{}\"
server.bind = \"{}\"
server.port = {}
server.max-request-field-size = 65535
server.upload-dirs = ( \"{}\" )
{user}url.rewrite-once = ( \"^/(.*)$\" => \"/{name}/$1\" )
fastcgi.server = ( \".{}\" => (( {pool}, \"check-local\" => \"disable\" )) )
",
            root.display(),
            self.address.ip(),
            self.address.port(),
            self.directory.display(),
            name.rsplit('.').next().unwrap_or_default(),
        );
        let mut command = Command::new("lighttpd");
        command.arg("-D").arg("-f").arg(self.config());
        (text, command)
    }

    fn caddy(&self) -> (String, Command) {
        let pool = match self.upstream {
            Address::Unix(path) => format!("unix/{}", path.display()),
            Address::Tcp(address) => address.to_string(),
        };
        let text = format!(
            "{{
    admin off
    auto_https off
}}
:{} {{
    bind {}
    reverse_proxy {pool} {{
        transport fastcgi {{
            env SCRIPT_FILENAME {}
        }}
    }}
}}
",
            self.address.port(),
            self.address.ip(),
            self.script
        );
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(self.config());
        command.env("HOME", self.directory).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        (text, command)
    }

    fn haproxy(&self, options: &str) -> (String, Command) {
        let user = if is_root() { format!("    user {USER}\n    group {USER}\n") } else { String::new() };
        let pool = match self.upstream {
            Address::Unix(path) => format!("unix@{}", path.display()),
            Address::Tcp(address) => address.to_string(),
        };
        let text = format!(
            "global
    maxconn 500
    nbthread 1
    log stdout format raw local0
{user}defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    retries 0
frontend visitors
    bind {}
    default_backend pool
backend pool
    use-fcgi-app app
    http-reuse always
    server one {pool} proto fcgi
fcgi-app app
    docroot /
    option keep-conn
    set-param SCRIPT_FILENAME {}
    {options}
",
            self.address, self.script
        );
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(self.config());
        (text, command)
    }
}
