//! `steadfast cgi` by itself, and the scripts that it runs.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::conditions::is_soon;
use super::daemon::{SOON, STEADFAST};
use super::fcgi::{Address, Request, Response};
use super::proc;
use super::scene::{Scene, allow};

/// A running `steadfast cgi`, ended when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    address: Address,
    log: PathBuf,
}

impl Gateway {
    /// On a unix socket in the scene, with these arguments.
    #[must_use]
    pub fn start(scene: &Scene, arguments: &[&str]) -> Gateway {
        let path = scene.join("gateway.sock");
        let listener = UnixListener::bind(&path).expect("the scene is fresh");
        allow(&path, 0o666);
        Gateway::on(scene, listener.into(), Address::Unix(path), arguments)
    }

    /// The same on a loopback port.
    #[must_use]
    pub fn tcp(scene: &Scene, arguments: &[&str]) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = Address::Tcp(listener.local_addr().expect("it is bound"));
        Gateway::on(scene, listener.into(), address, arguments)
    }

    fn on(scene: &Scene, listener: OwnedFd, address: Address, arguments: &[&str]) -> Gateway {
        let log = scene.join("gateway.log");
        let child = Command::new(STEADFAST)
            .arg("cgi")
            .args(arguments)
            .env("STEADFAST_SECRET", "ours")
            .env("SITE_ENV", "live")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the scene is ours"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {STEADFAST}: {error}"));
        Gateway { child, address, log }
    }

    /// Asks for a script.
    pub fn ask(&self, script: &Path, request: Request) -> Response {
        let request = request.param("SCRIPT_FILENAME", &script.display().to_string());
        request.send(&self.address).unwrap_or_else(|error| panic!("{}: {error}\n{}", script.display(), self.said()))
    }

    /// GETs a script.
    pub fn get(&self, script: &Path) -> Response {
        self.ask(script, Request::get("/x"))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What it has written to its stderr.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, then its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        proc::kill(self.pid(), Signal::TERM).expect("it is our child and not reaped");
        assert!(proc::wait_gone(self.pid(), SOON), "it does not leave: {}", self.said());
        self.child.wait().expect("it is our child").code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A shell script; `cgi/NAME` in the scene.
pub fn shell(scene: &Scene, name: &str, lines: &str) -> PathBuf {
    scene.write(&format!("cgi/{name}"), "");
    scene.program(&format!("cgi/{name}"), &format!("#!/bin/sh\n{lines}\n"))
}

/// A C program; `cgi/NAME` in the scene.
pub fn c(scene: &Scene, name: &str, source: &str) -> PathBuf {
    let file = scene.write(&format!("cgi/{name}.c"), source);
    let program = scene.join(&format!("cgi/{name}"));
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-Werror", "-o"])
        .args([&program, &file])
        .status()
        .unwrap_or_else(|error| panic!("cannot run cc: {error}: apt-get install gcc libc6-dev"));
    assert!(status.success());
    allow(&program, 0o755);
    program
}

/// Waits until a script has written so many pids into a file, and gives them.
#[must_use]
pub fn pids(file: &Path, count: usize) -> Vec<u32> {
    let read = || -> Vec<u32> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| line.trim().parse().ok()).collect()
    };
    assert!(is_soon(|| read().len() >= count), "{}: {:?}", file.display(), read());
    read()
}

/// All of them end by themselves, soon.
pub fn assert_gone(pids: &[u32], said: &str) {
    for pid in pids {
        assert!(proc::wait_gone(*pid, SOON), "{pid} {:?} is still there\n{said}", proc::command_line(*pid));
    }
}
