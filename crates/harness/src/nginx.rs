//! Debian's nginx before a pool, on a free loopback port, and a small HTTP client for it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::daemon::{USER, is_root};
use super::fcgi::Address;
use super::proc;
use super::scene::Scene;

/// A running nginx; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    address: SocketAddr,
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The status line and the headers.
    pub headers: String,
    /// The body.
    pub body: String,
}

impl Nginx {
    /// Starts nginx; `extra` are more lines for its one location (`fastcgi_param …;`).
    ///
    /// Its listening socket is ours and given to it as fd 0 (nginx's own way of upgrades), so that the port is known
    /// and connections wait in the queue from the first moment.
    #[must_use]
    pub fn start(scene: &Scene, upstream: &Address, extra: &str) -> Nginx {
        Nginx::start_keeping(scene, upstream, extra, 0)
    }

    /// The same, with so many connections that are kept to the pool; 0: each is closed after its request.
    #[must_use]
    pub fn start_keeping(scene: &Scene, upstream: &Address, extra: &str, kept: u32) -> Nginx {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("it is bound");
        let pass = match upstream {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Tcp(address) => address.to_string(),
        };
        let user = if is_root() { format!("user {USER};\n") } else { String::new() };
        let prefix = scene.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {prefix}/nginx-{kind};\n"))
            .concat();
        let (keepalive, keep) = if kept > 0 { (format!("keepalive {kept};"), "on") } else { (String::new(), "off") };
        let text = format!(
            "{user}daemon off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/nginx-error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    large_client_header_buffers 4 64k;
    client_max_body_size 0;
{temporary}    upstream pool {{
        server {pass};
        {keepalive}
    }}
    server {{
        listen {address};
        location / {{
            fastcgi_pass pool;
            fastcgi_keep_conn {keep};
            include /etc/nginx/fastcgi_params;
            {extra}
        }}
    }}
}}
"
        );
        let config = scene.write("nginx.conf", &text);
        let child = Command::new("nginx")
            .args(["-e", &format!("{prefix}/nginx-error.log"), "-c"])
            .arg(config)
            .env("NGINX", "0;")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start nginx: {error}: apt-get install nginx-light"));
        Nginx { child, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// GETs a page.
    ///
    /// # Errors
    /// When nginx does not answer within 10 s.
    pub fn get(&self, path: &str) -> io::Result<Page> {
        get(self.address, path, Duration::from_secs(10))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // TERM first: the master then ends its workers, which are not ours to kill. Both fail only when it is gone.
        let _gone = proc::kill(self.child.id(), Signal::TERM);
        if !proc::wait_gone(self.child.id(), Duration::from_secs(5)) {
            let _killed = self.child.kill();
        }
        let _reaped = self.child.wait();
    }
}

/// One HTTP/1.0 GET, so that the end of the connection is the end of the answer.
///
/// # Errors
/// When connecting, writing or reading fails or takes too long, or the answer is no HTTP.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<Page> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP: {text:?}"));
    let (headers, body) = text.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = headers.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Page { status: status.ok_or_else(no_http)?, headers: headers.to_owned(), body: body.to_owned() })
}
