//! A zygote takes orders: the test is the supervisor, who reaps orphans.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getrlimit, kill_process, pidfd_open, set_child_subreaper, waitpid,
};
use steadfast_proto::link::{Fork, FromWorker, Role, ToWorker};
use support::process::{FarLink, PATIENCE, Start, ask, wait};

struct Zygote {
    child: Child,
    link: FarLink,
    directory: tempfile::TempDir,
}

/// A worker that was forked: our own child, though we have not forked it.
struct Worker {
    pid: Pid,
    link: Option<FarLink>,
}

impl Zygote {
    fn start(variables: &[(&str, &str)]) -> Zygote {
        set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
        let variables = [variables, &[("STEADFAST_ROLE", "zygote")]].concat();
        // What a queue pool gives it: a socket that listens nowhere.
        let nowhere = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        let (child, link) = Start { has_link: true, variables: &variables, ..Start::default() }.spawn(nowhere);
        let mut zygote =
            Zygote { child, link: link.expect("a link"), directory: tempfile::tempdir().expect("a directory") };
        let Some(FromWorker::Hello(hello)) = zygote.link.hear() else { panic!("another word") };
        assert_eq!((hello.role, hello.pid), (Role::Zygote, zygote.child.id()));
        zygote
    }

    fn ready(variables: &[(&str, &str)]) -> Zygote {
        let mut zygote = Zygote::start(variables);
        assert_eq!(zygote.link.hear(), Some(FromWorker::Ready));
        zygote
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The order for a worker with all that there is.
    fn order(&self, slot: u32) -> Fork {
        let path = |what: &str| Some(self.path(&format!("{what}-{slot}")).to_str().expect("UTF-8").to_owned());
        Fork { slot, path: path("socket"), stdout: path("out"), stderr: path("err"), link: path("link") }
    }

    /// Gives it, and reads the answer. The links and FIFOs are there.
    fn fork(&mut self, order: Fork) -> Result<(Worker, BufReader<fs::File>), (String, Option<i32>)> {
        let link = UnixListener::bind(order.link.as_ref().expect("a path")).expect("a new path");
        let fifos = [&order.stdout, &order.stderr].map(|path| {
            let path = path.as_ref().expect("a path");
            mknodat(CWD, path.as_str(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a new path");
            // For reading and writing: then it is open at once.
            fs::File::options().read(true).write(true).open(path).expect("a FIFO")
        });
        let slot = order.slot;
        self.link.say(&ToWorker::Fork(order));
        match self.link.hear() {
            Some(FromWorker::Forked { slot: told, pid }) => {
                assert_eq!(told, slot);
                let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
                let mut link = FarLink::new(link.accept().expect("it has connected").0);
                let Some(FromWorker::Hello(hello)) = link.hear() else { panic!("another word") };
                assert_eq!((hello.role, hello.pid), (Role::Worker, pid.as_raw_nonzero().get().cast_unsigned()));
                let [_out, err] = fifos;
                Ok((Worker { pid, link: Some(link) }, BufReader::new(err)))
            }
            Some(FromWorker::ForkFailed { slot: told, message, errno }) => {
                assert_eq!(told, slot);
                Err((message, errno))
            }
            other => panic!("another word: {other:?}"),
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    #[track_caller]
    fn ends(self) -> rustix::process::WaitStatus {
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty()).expect("our own child");
        let patience = Timespec::try_from(PATIENCE).expect("short");
        assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)), Ok(1), "it stays");
        waitpid(Some(self.pid), WaitOptions::empty()).expect("our own child").expect("it has ended").1
    }

    fn term(&self) {
        kill_process(self.pid, Signal::TERM).expect("it runs");
    }

    fn stat(&self) -> Vec<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero())).expect("it runs");
        let rest = stat.rsplit(") ").next().expect("a state").to_owned();
        rest.split(' ').map(str::to_owned).collect()
    }
}

fn fd(pid: Pid, number: u32) -> String {
    let path = format!("/proc/{}/fd/{number}", pid.as_raw_nonzero());
    fs::read_link(path).map_or_else(|error| error.to_string(), |path| path.to_string_lossy().into_owned())
}

fn sockets(pid: Pid) -> Vec<String> {
    let directory = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).expect("it runs");
    let link = |entry: std::io::Result<fs::DirEntry>| {
        fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok()
    };
    directory.filter_map(link).filter(|link| link.starts_with("socket:")).collect()
}

#[test]
fn an_order_makes_a_worker_with_a_socket_a_link_and_an_output_of_its_own() {
    let mut zygote = Zygote::ready(&[]);
    let zygote_sockets = sockets(Pid::from_child(&zygote.child));
    for slot in 0..3 {
        let order = zygote.order(slot);
        let (mut worker, mut err) = zygote.fork(order).expect("it forks");
        assert_eq!(worker.link.as_mut().expect("a link").hear(), Some(FromWorker::Ready));
        let stat = worker.stat();
        let own = std::process::id().to_string();
        assert_eq!(
            (stat[1].as_str(), stat[2].as_str()),
            (own.as_str(), worker.pid.to_string().as_str()),
            "parent, group"
        );
        let socket = zygote.path(&format!("socket-{slot}"));
        assert_eq!(fs::metadata(&socket).expect("bound").permissions().mode() & 0o777, 0o660);
        assert_eq!(ask(&socket, "/pid").text(), worker.pid.to_string());
        assert_eq!(ask(&socket, "/program").text(), "worker||");
        assert_eq!(ask(&socket, "/fail").status(), 500);
        let mut line = String::new();
        err.read_line(&mut line).expect("UTF-8");
        assert_eq!(line, "test-site: GET /fail: it failed\n");
        assert_eq!(fd(worker.pid, 1), zygote.path(&format!("out-{slot}")).to_str().expect("UTF-8"));
        // Its own listener and link, and nothing of the zygote's.
        let sockets = sockets(worker.pid);
        assert!(sockets.iter().all(|socket| !zygote_sockets.contains(socket)), "{sockets:?} {zygote_sockets:?}");
        assert_eq!(sockets.len(), 2, "{sockets:?}");
        worker.term();
        assert_eq!(worker.ends().exit_status(), Some(0));
    }
    zygote.link.say(&ToWorker::Quit);
    assert_eq!(wait(&mut zygote.child).code(), Some(0));
}

#[test]
fn several_orders_in_a_row_are_answered_in_their_order_and_the_workers_outlive_the_zygote() {
    let mut zygote = Zygote::ready(&[]);
    let orders: Vec<_> =
        (0..5).map(|slot| Fork { link: None, stdout: None, stderr: None, ..zygote.order(slot) }).collect();
    for order in &orders {
        zygote.link.say(&ToWorker::Fork(order.clone()));
    }
    let mut workers = Vec::new();
    for order in &orders {
        let Some(FromWorker::Forked { slot, pid }) = zygote.link.hear() else { panic!("another word") };
        assert_eq!(slot, order.slot);
        workers.push(Worker { pid: Pid::from_raw(pid.cast_signed()).expect("a pid"), link: None });
    }
    kill_process(Pid::from_child(&zygote.child), Signal::KILL).expect("it runs");
    wait(&mut zygote.child);
    for (order, worker) in orders.iter().zip(workers) {
        assert_eq!(ask(Path::new(order.path.as_ref().expect("a path")), "/pid").text(), worker.pid.to_string());
        worker.term();
        assert_eq!(worker.ends().exit_status(), Some(0));
    }
}

#[test]
fn an_order_that_cannot_be_carried_out_is_refused_and_the_next_one_is_not() {
    let mut zygote = Zygote::ready(&[]);
    let nowhere = |order: Fork, what: &str| {
        let missing = Some("/nowhere/at/all".to_owned());
        match what {
            "path" => Fork { path: missing, ..order },
            "stdout" => Fork { stdout: missing, ..order },
            _ => Fork { link: missing, ..order },
        }
    };
    for (slot, what, says) in
        [(0, "path", "listen on /nowhere"), (1, "stdout", "open /nowhere"), (2, "link", "connect to /nowhere")]
    {
        let order = Fork { stderr: None, ..zygote.order(slot) };
        let order = nowhere(Fork { link: None, stdout: None, ..order }, what);
        zygote.link.say(&ToWorker::Fork(order));
        let Some(FromWorker::ForkFailed { slot: told, message, errno }) = zygote.link.hear() else {
            panic!("another word")
        };
        assert_eq!((told, errno), (slot, None), "the kernel has not refused the process: {message}");
        assert!(message.starts_with(says), "{message}");
        // Whoever failed is our child, and has ended.
        while rustix::process::wait(WaitOptions::NOHANG).is_ok_and(|ended| ended.is_none()) {
            thread::yield_now();
        }
    }
    // A FIFO that nobody reads is not waited for.
    let fifo = zygote.path("unread");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a new path");
    let unread = Fork { stdout: Some(fifo.to_str().expect("UTF-8").to_owned()), ..zygote.order(3) };
    zygote.link.say(&ToWorker::Fork(Fork { link: None, stderr: None, ..unread }));
    assert!(matches!(zygote.link.hear(), Some(FromWorker::ForkFailed { slot: 3, errno: None, .. })));
    let order = zygote.order(4);
    let (worker, _) = zygote.fork(order).expect("it forks");
    worker.term();
    worker.ends();
}

#[test]
fn a_process_that_the_kernel_refuses_is_told_with_its_errno() {
    let mut zygote = Zygote::ready(&[]);
    // For root there is no limit of processes: descriptors, then. The pipe that is refused says EMFILE.
    let pid = Some(Pid::from_child(&zygote.child));
    let limit = rustix::process::Rlimit { current: Some(4), ..getrlimit(rustix::process::Resource::Nofile) };
    let old = rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("our child");
    let order = zygote.order(0);
    let Err((message, errno)) = zygote.fork(order) else { panic!("it was not to fork") };
    assert_eq!(errno, Some(24), "{message}");
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, old).expect("our child");
    let order = zygote.order(1);
    let (worker, _) = zygote.fork(order).expect("it forks");
    worker.term();
    worker.ends();
}

#[test]
fn a_zygote_with_threads_forks_nobody() {
    let mut zygote = Zygote::ready(&[("SITE_PRELOAD", "thread")]);
    let order = zygote.order(0);
    let Err((message, errno)) = zygote.fork(order) else { panic!("it was not to fork") };
    assert_eq!(errno, None);
    assert!(message.contains("this process has 2 threads"), "{message}");
}

#[test]
fn a_zygote_ends_with_its_link_and_its_preload() {
    let mut zygote = Zygote::ready(&[]);
    zygote.link = FarLink::new(std::os::unix::net::UnixStream::pair().expect("a pair").0);
    assert_eq!(wait(&mut zygote.child).code(), Some(0));

    let mut zygote = Zygote::start(&[("SITE_PRELOAD", "fail")]);
    assert!(matches!(zygote.link.hear(), Some(FromWorker::Broken(_))));
    kill_process(Pid::from_child(&zygote.child), Signal::TERM).expect("it runs");
    assert_eq!(wait(&mut zygote.child).code(), Some(1));
}

#[test]
fn a_step_that_fails_in_a_forked_worker_is_that_workers_word() {
    let mut zygote = Zygote::ready(&[("SITE_START", "fail")]);
    let order = zygote.order(0);
    let (mut worker, _) = zygote.fork(order).expect("it forks");
    assert!(
        matches!(worker.link.as_mut().expect("a link").hear(), Some(FromWorker::Failed(failure)) if failure.code == Some(5))
    );
    worker.term();
    assert_eq!(worker.ends().exit_status(), Some(5));
}

#[test]
fn what_a_zygote_has_not_written_yet_is_not_written_by_each_of_its_workers() {
    // The site prints a line without an end in its preload step: it waits in a buffer, which a fork copies.
    let mut zygote = Zygote::ready(&[("SITE_PRELOAD", "unended")]);
    let order = zygote.order(0);
    let out = order.stdout.clone().expect("a path");
    let (worker, _) = zygote.fork(order).expect("it forks");
    let mut out = fs::File::options().read(true).write(true).open(out).expect("a FIFO");
    worker.term();
    worker.ends();
    out.write_all(b"\n").expect("room");
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).expect("UTF-8");
    assert_eq!(line, "\n");
}

#[test]
fn a_forked_worker_does_not_survive_its_supervisor() {
    set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    // Another supervisor, who gives one order, tells the worker's pid, and dies when it is told to.
    let script = r#"
        use Socket; use POSIX;
        my ($site, $path) = @ARGV;
        syscall(157, 36, 1, 0, 0, 0) == 0 or die "prctl: $!";
        socketpair(my $mine, my $its, AF_UNIX, SOCK_STREAM, 0) or die $!;
        if (!fork) {
            open STDIN, '<', '/dev/null';
            POSIX::dup2(fileno $its, 3);
            @ENV{qw(STEADFAST_LINK STEADFAST_ROLE)} = (3, 'zygote');
            exec $site;
        }
        close $its;
        syswrite $mine, qq({"type":"fork","slot":1,"path":"$path"}\n);
        while (my $line = <$mine>) { next unless $line =~ /forked.*"pid":(\d+)/; $| = 1; print "$1\n"; last }
        <STDIN>;
        POSIX::_exit(0);
    "#;
    let mut command = Command::new("perl");
    command.args(["-e", script]).arg(support::process::site()).arg(&socket);
    let mut supervisor = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("perl");
    let mut told = String::new();
    BufReader::new(supervisor.stdout.take().expect("a pipe")).read_line(&mut told).expect("UTF-8");
    assert_eq!(ask(&socket, "/pid").text(), told.trim());
    drop(supervisor.stdin.take());
    wait(&mut supervisor);
    // It is ours now.
    let pid = Pid::from_raw(told.trim().parse().expect("a pid")).expect("a pid");
    assert_eq!(Worker { pid, link: None }.ends().exit_status(), Some(0), "SIGTERM, and all is well");
}
