//! The example site behind nginx, which speaks FastCGI with it.

mod tower;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tower::http::{connect, fetch, request, until};
use tower::routes::{self, Ask};
use tower::site::Site;

struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    /// In the site's directory. `more` is for its `location`.
    fn start(site: &Site, more: &str) -> Nginx {
        let directory = site.directory.path();
        // nginx listens on what it inherits: so nobody else can have taken the port, and it listens from the beginning.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // As root it would change to somebody who may not enter the directory.
        let user = if rustix::process::geteuid().is_root() { "user root; " } else { "" };
        // What it does not buffer it reads to END, and keeps that connection, also one that it has asked the worker to close: of
        // two requests in a row the second would find it closing.
        let keepalive = if more.contains("fastcgi_keep_conn on;") { "keepalive 4;" } else { "" };
        let configuration = format!(
            "{user}daemon off; worker_processes 1; pid nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; client_max_body_size 100m; client_body_temp_path b; proxy_temp_path p;\n\
             fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
             upstream site {{ server unix:{}; {keepalive} }}\n\
             server {{ listen {address}; location / {{ include /etc/nginx/fastcgi_params; fastcgi_pass site; {more} }} }} }}\n",
            site.path.display()
        );
        let file = directory.join("nginx.conf");
        std::fs::write(&file, configuration).expect("it can be written");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(directory)
            .args(["-e", "stderr", "-c"])
            .arg(&file)
            .env("NGINX", "0;")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
            .spawn()
            .expect("nginx is installed");
        Nginx { child, address }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it, when it is asked.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn every_route_answers() {
    let site = Site::start(&[]);
    let nginx = Nginx::start(&site, "");
    routes::check(|ask| fetch(nginx.address, ask));
}

#[test]
fn every_route_answers_on_kept_connections() {
    let site = Site::start(&[]);
    let nginx = Nginx::start(&site, "fastcgi_keep_conn on; fastcgi_request_buffering off;");
    routes::check(|ask| fetch(nginx.address, ask));
}

#[test]
fn events_arrive_one_by_one_and_end_with_their_listener() {
    let site = Site::start(&[]);
    let nginx = Nginx::start(&site, "fastcgi_buffering off;");
    let mut client = connect(nginx.address);
    client.write_all(&request(&Ask::get("/events"), true)).expect("it is read");
    let mut seen = String::new();
    until(&mut client, &mut seen, |seen| seen.contains("\r\n\r\n"));
    // The head comes at once, and not with the comment that keeps a silent connection alive after 15 s.
    assert!(!seen.contains("\n:\n"), "{seen}");
    for text in ["first", "second"] {
        let uri = format!("/tell/{text}");
        assert_eq!(fetch(nginx.address, &Ask::post(&uri, "text/plain", b"")).text(), "1\n");
        until(&mut client, &mut seen, |seen| seen.contains(&format!("data: {text}\n\n")));
    }
}

#[test]
fn a_visitor_that_goes_away_drops_his_handler() {
    let site = Site::start(&[]);
    let nginx = Nginx::start(&site, "");
    let mut client = connect(nginx.address);
    client.write_all(&request(&Ask::get("/wait/a"), true)).expect("it is read");
    assert_eq!(fetch(nginx.address, &Ask::get("/waiting/1")).text(), "1 are waiting\n");
    drop(client);
    assert_eq!(fetch(nginx.address, &Ask::get("/dropped/1")).text(), "1 were dropped\n");
}

#[test]
fn a_part_of_an_answer_is_not_taken_for_the_whole() {
    use std::io::Read;
    let site = Site::start(&[]);
    // Where it keeps no connections, or buffers nothing, nginx takes a connection's end for the answer's.
    let nginx = Nginx::start(&site, "fastcgi_keep_conn on;");
    let mut client = connect(nginx.address);
    client.write_all(&request(&Ask::get("/broken"), true)).expect("it is read");
    let mut text = String::new();
    client.read_to_string(&mut text).expect("text");
    assert!(text.contains("The beginning.") && !text.ends_with("0\r\n\r\n"), "{text:?}");
}
