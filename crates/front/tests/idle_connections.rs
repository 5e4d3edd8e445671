//! What connections cost that nobody uses: ten thousand of them, held by a front in a process of its own.

mod hostile;
mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostile::{Peer, page, request_of, take, usual};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use steadfast_proto::front::{FromFront, Life, MESSAGE_MAX, ToFront, decode, encode};

/// So many connections.
const CONNECTIONS: usize = 10_000;
/// What the front may be without any, in bytes of RSS.
const BASE_MAX: usize = 8 * 1024 * 1024;
/// What each may cost beyond that.
const EACH_MAX: usize = 8 * 1024;
/// Set in the front's process.
const MARK: &str = "STEADFAST_TEST_IS_FRONT";

/// The front's process: this program again. Alone it has nothing to do.
#[test]
#[ignore = "the other half of alone_ten_thousand_idle_connections"]
fn the_front_itself() {
    assert!(std::env::var_os(MARK).is_some(), "started by the test that needs it");
    let channel = std::io::stdin().as_fd().try_clone_to_owned().expect("a channel");
    steadfast_front::serve(channel).expect("the supervisor is this test");
}

/// Kills the front when the test ends, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Bytes of memory that it occupies.
    fn rss(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.0.id())).expect("it lives");
        let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        pages * rustix::param::page_size()
    }
}

fn tell(channel: &OwnedFd, message: &ToFront, fds: &[std::os::fd::BorrowedFd<'_>]) {
    let packet = encode(message).expect("short");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let slices = [std::io::IoSlice::new(&packet)];
    rustix::net::sendmsg(channel, &slices, &mut ancillary, SendFlags::empty()).expect("sent");
}

/// Waits for this message; all others pass by.
fn hears(channel: &OwnedFd, is_it: impl Fn(&FromFront) -> bool) {
    let mut packet = vec![0; MESSAGE_MAX];
    loop {
        let (taken, _) = rustix::net::recv(channel, &mut packet[..], RecvFlags::empty()).expect("the front speaks");
        assert!(taken > 0, "the front has gone");
        if is_it(&decode(&packet[..taken]).expect("a message")) {
            return;
        }
    }
}

/// Whether there are fds enough for both ends; the soft limit is raised if it must be.
fn has_fds() -> bool {
    let needed = CONNECTIONS as u64 + 200;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return true;
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    limit.maximum.is_none_or(|maximum| maximum >= needed) && setrlimit(Resource::Nofile, raised).is_ok()
}

#[test]
fn alone_ten_thousand_idle_connections() {
    if !has_fds() {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: the hard limit of open files is below {CONNECTIONS}");
        }
        return;
    }
    let flags = SocketFlags::CLOEXEC;
    let (channel, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "the_front_itself", "--test-threads=1"])
        .env(MARK, "1")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn();
    let front = Process(child.expect("the front starts"));
    hears(&channel, |message| matches!(message, FromFront::Ready { .. }));
    let dir = tempfile::tempdir().expect("a directory");
    let (site, private) = (dir.path().join("site.sock"), dir.path().join("worker"));
    let listener = UnixListener::bind(&site).expect("a socket");
    listener.set_nonblocking(true).expect("non-blocking");
    tell(&channel, &ToFront::Pool(Box::new(support::pool())), &[listener.as_fd()]);
    let worker = UnixListener::bind(&private).expect("a private socket");
    let path = private.to_str().expect("text").to_owned();
    tell(
        &channel,
        &ToFront::WorkerOffered { worker: 1, pool: 1, path, concurrency: 1, pid: None, life: Life::default() },
        &[],
    );
    tell(&channel, &ToFront::WorkerAdmit { worker: 1, max_requests: None }, &[]);
    hears(&channel, |message| *message == FromFront::Admitted { worker: 1 });
    let accept = || Peer::new(worker.accept().expect("the front connects").0);
    let mut at_work = accept();
    // Each has been used, as a web server's kept connections have, by a request of the usual size.
    let cookie = [b'c'; 400];
    let request = request_of(1, &usual("GET", "/idle", &[(b"HTTP_COOKIE", &cookie)]), b"");
    let mut serve = |peer: &mut Peer| {
        peer.send(&request);
        // The connection that showed that it accepts ends when it is admitted.
        if take(&mut at_work).is_err() {
            at_work = accept();
            take(&mut at_work).expect("a request");
        }
        at_work.send(&page("hello"));
        assert_eq!(peer.told().expect("an answer").body(), "hello");
    };
    let connect = || {
        let stream = std::os::unix::net::UnixStream::connect(&site).expect("the front listens");
        stream.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
        Peer::new(stream)
    };
    for _ in 0..50 {
        serve(&mut connect());
    }
    let base = front.rss();
    let mut peers: Vec<Peer> = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut peer = connect();
        serve(&mut peer);
        peers.push(peer);
        if number % 100 == 0 {
            // What it tells is read away.
            tell(&channel, &ToFront::Report { number: number as u64 }, &[]);
            hears(&channel, |message| *message == FromFront::Reported { number: number as u64 });
        }
    }
    let full = front.rss();
    let each = full.saturating_sub(base) / CONNECTIONS;
    #[allow(clippy::print_stderr)]
    {
        eprintln!(
            "RSS of the front: {} KiB without and {} KiB with {CONNECTIONS}: {each} bytes each",
            base / 1024,
            full / 1024
        );
    }
    assert!(each <= EACH_MAX, "{each} bytes for each idle connection");
    assert!(full <= BASE_MAX + CONNECTIONS * EACH_MAX, "{full} bytes in all");
    // They are held, and they are as good as new ones; nobody is slower for them.
    let begun = Instant::now();
    for peer in peers.iter_mut().step_by(100) {
        serve(peer);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "100 requests took {:?}", begun.elapsed());
}
