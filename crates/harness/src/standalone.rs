//! Programs that listen without a supervisor, and the verbs that ask them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use rustix::process::Signal;

use super::daemon::{SOON, STEADFAST};
use super::fcgi::Address;
use super::scene::{Scene, allow};
use super::{apps, proc};

/// A FastCGI program on a listening socket of ours, given to it as fd 0; ended when this is dropped.
#[derive(Debug)]
pub struct Standalone {
    child: Child,
    address: String,
    fcgi: Address,
}

impl Standalone {
    /// On `NAME.sock` in the scene.
    #[must_use]
    pub fn unix<S: AsRef<str>>(scene: &Scene, name: &str, command: &[S]) -> Standalone {
        let path = scene.join(&format!("{name}.sock"));
        let listener = UnixListener::bind(&path).expect("the scene is fresh");
        // For nginx's user.
        allow(&path, 0o666);
        let address = format!("unix:{}", path.display());
        Standalone { child: start(command, listener.into()), address, fcgi: Address::Unix(path) }
    }

    /// On a free loopback port.
    #[must_use]
    pub fn tcp<S: AsRef<str>>(command: &[S]) -> Standalone {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("it is bound");
        Standalone { child: start(command, listener.into()), address: address.to_string(), fcgi: Address::Tcp(address) }
    }

    /// php-cgi on a free loopback port.
    #[must_use]
    pub fn php() -> Standalone {
        Standalone::tcp(&apps::php())
    }

    /// As the verbs take it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// As the other harness takes it.
    #[must_use]
    pub fn fcgi(&self) -> Address {
        self.fcgi.clone()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        proc::kill(self.child.id(), signal).expect("it runs until it is dropped");
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn start<S: AsRef<str>>(command: &[S], listener: OwnedFd) -> Child {
    let program = command[0].as_ref();
    Command::new(program)
        .args(command[1..].iter().map(AsRef::as_ref))
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"))
}

/// A server of raw bytes for one connection: reads something, answers this, closes.
#[must_use]
pub fn answering(answer: Vec<u8>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        // The whole request, so that closing is an end and no reset.
        let mut request = [0; 65_536];
        let read = stream.read(&mut request).expect("a request");
        assert!(read > 0, "a request");
        // The client may see early that this is no answer, and leave.
        let _written = stream.write_all(&answer);
    });
    (address, thread)
}

/// Runs a verb to its end.
#[must_use]
pub fn tool(verb: &str, arguments: &[&str]) -> Output {
    Command::new(STEADFAST)
        .arg(verb)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {STEADFAST}: {error}"))
}
