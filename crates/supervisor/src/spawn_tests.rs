//! Real processes: what a worker finds at its start, and what is told when it cannot start.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::children::Ended;

const NOFILE: Nofile = Nofile { soft_before: Some(1000), hard: Some(4096) };

fn words(arguments: &[&str]) -> Vec<OsString> {
    arguments.iter().map(OsString::from).collect()
}

struct Case {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Environment,
    directory: PathBuf,
}

impl Case {
    fn shell(script: &str) -> Case {
        Case::of("/bin/sh", &["sh", "-c", script])
    }

    fn of(program: &str, arguments: &[&str]) -> Case {
        Case {
            program: program.into(),
            arguments: words(arguments),
            environment: Environment::clean(None, "/usr/bin:/bin"),
            directory: "/".into(),
        }
    }

    fn spec(&self) -> WorkerSpec<'_> {
        WorkerSpec {
            program: &self.program,
            executable: None,
            arguments: &self.arguments,
            environment: &self.environment,
            directory: Directory::Path(&self.directory),
            credentials: None,
            umask: None,
            rlimits: &[],
            nofile: NOFILE,
            pass: Pass::Nothing,
            link: None,
            group: None,
        }
    }
}

/// All that comes until the last writer has closed it, waited for by poll.
fn read_all(fd: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).expect("poll");
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => return String::from_utf8(text).expect("UTF-8"),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => panic!("{errno}"),
        }
    }
}

fn wait(spawned: &Spawned) -> Ended {
    let mut fds = [PollFd::new(&spawned.pidfd, PollFlags::IN)];
    rustix::event::poll(&mut fds, None).expect("poll");
    assert!(children::ended(spawned.pidfd.as_fd()).expect("look").is_some());
    children::reap(spawned.pidfd.as_fd()).expect("reap").expect("ended")
}

fn run(spec: &WorkerSpec<'_>) -> (String, String, Ended) {
    let spawned = spawn(spec).expect("spawn");
    (read_all(&spawned.stdout), read_all(&spawned.stderr), wait(&spawned))
}

/// `name: value` lines as /proc/self/status has them.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim()
}

#[test]
fn signals_are_default_and_unblocked_although_ours_are_not() {
    let before = "$(cat /proc/self/status)";
    let case = Case::shell(&format!("printf '%s\\n' \"{before}\""));
    let thread = std::thread::spawn(move || {
        // Only this thread's mask; the disposition of PIPE is ignored by Rust's own start.
        sys::block_signals(&[libc::SIGTERM, libc::SIGCHLD, libc::SIGUSR1]).expect("block");
        sys::set_disposition(libc::SIGPIPE, true).expect("ignore");
        let ours = fs::read_to_string("/proc/thread-self/status").expect("status");
        assert_ne!(field(&ours, "SigBlk"), "0000000000000000");
        assert_ne!(field(&ours, "SigIgn"), "0000000000000000");
        // The forking thread lives until the worker has ended (PDEATHSIG).
        run(&case.spec())
    });
    let (status, stderr, ended) = thread.join().expect("thread");
    assert_eq!((ended, stderr.as_str()), (Ended::Code(0), ""));
    assert_eq!(field(&status, "SigBlk"), "0000000000000000");
    assert_eq!(field(&status, "SigIgn"), "0000000000000000");
    assert_eq!(field(&status, "SigPnd"), "0000000000000000");
    assert_eq!(field(&status, "NoNewPrivs"), "0");
}

#[test]
fn only_what_is_handed_over_is_open() {
    // As at the supervisor's start: whoever started the tests may have left something open.
    children::close_inherited_on_exec().expect("close_range");
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let _noise: Vec<_> = (0..20).map(|_| fs::File::open("/dev/zero").expect("open")).collect();
    let case = Case::shell(
        "for n in $(seq 0 99); do [ -e /proc/$$/fd/$n ] && printf '%s ' $n; done; echo; \
         cd /proc/self/fd; readlink 0; echo link=$STEADFAST_LINK; readlink 3",
    );
    let spec = WorkerSpec { pass: Pass::Stdin(socket.as_fd()), link: Some(Role::Worker), ..case.spec() };
    let (stdout, _, ended) = run(&spec);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(ended, Ended::Code(0), "{stdout}");
    assert_eq!(lines[0], "0 1 2 3 ", "{stdout}");
    assert!(lines[1].starts_with("socket:["), "{stdout}");
    assert_eq!(lines[2], "link=3");
    assert!(lines[3].starts_with("socket:["), "{stdout}");
}

#[test]
fn sockets_are_listed_for_the_workers_own_pid() {
    let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("bind")).collect();
    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let script = "echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES $STEADFAST_LINK; \
                  readlink /proc/self/fd/0; for n in 3 4 5 6; do stat -Lc %i /proc/self/fd/$n; done";
    let case = Case::shell(script);
    let pass = Pass::ListenFds { fds: &fds, names: &["a", "b", "c"] };
    let spawned = spawn(&WorkerSpec { pass, link: Some(Role::Worker), ..case.spec() }).expect("spawn");
    let stdout = read_all(&spawned.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    let pid = spawned.pid;
    assert_eq!(lines[0], format!("{pid} {pid} 3 a:b:c 6"));
    assert_eq!(lines[1], "/dev/null");
    for (line, fd) in lines[2..5].iter().zip(&fds) {
        assert_eq!(*line, rustix::fs::fstat(fd).expect("stat").st_ino.to_string());
    }
    assert_eq!(lines.len(), 6);
    wait(&spawned);
}

#[test]
fn who_and_where_and_how_much() {
    let directory = tempfile::tempdir().expect("directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let mut case = Case::shell(
        "id -u; id -g; id -G; umask; pwd; ulimit -Sn; ulimit -Hn; ulimit -Sc; cut -d' ' -f5 /proc/$$/stat; echo $$",
    );
    case.directory = directory.path().to_owned();
    let credentials = Credentials { uid: 1, gid: 2, groups: vec![2, 4242] };
    let limits = [(Limit::from_name("core").expect("known"), 12_288)];
    let is_root = rustix::process::getuid().is_root();
    let spec = WorkerSpec {
        credentials: is_root.then_some(&credentials),
        umask: Some(0o027),
        rlimits: &limits,
        ..case.spec()
    };
    let (stdout, stderr, ended) = run(&spec);
    assert_eq!((ended, stderr.as_str()), (Ended::Code(0), ""), "{stdout}");
    let lines: Vec<_> = stdout.lines().collect();
    if is_root {
        assert_eq!(lines[..3], ["1", "2", "2 4242"]);
    }
    assert_eq!(lines[3], "0027");
    assert_eq!(lines[4], directory.path().to_str().expect("UTF-8"));
    // 24 blocks of 512 bytes.
    assert_eq!(lines[5..8], ["1000", "4096", "24"]);
    assert_eq!(lines[8], lines[9], "it leads its own process group");
}

#[test]
fn a_pools_own_nofile_wins_and_an_open_directory_is_entered() {
    let directory = tempfile::tempdir().expect("directory");
    let open = fs::File::open(directory.path()).expect("open");
    let case = Case::shell("ulimit -Sn; pwd -P");
    let limits = [(Limit::from_name("nofile").expect("known"), 64)];
    let spec = WorkerSpec { rlimits: &limits, directory: Directory::Fd(open.as_fd()), ..case.spec() };
    let (stdout, ..) = run(&spec);
    assert_eq!(stdout, format!("64\n{}\n", directory.path().canonicalize().expect("path").display()));
    assert_eq!(Limit::from_name("files"), None);
}

#[test]
fn the_environment_is_complete_and_nothing_else() {
    let mut case = Case::of("/usr/bin/env", &["env"]);
    case.environment.set("SITE", OsStr::new("a b=ü"));
    case.environment.set("PHP_FCGI_CHILDREN", OsStr::new("9"));
    let (stdout, ..) = run(&case.spec());
    let names: Vec<_> = stdout.lines().map(|line| line.split('=').next().expect("name")).collect();
    assert_eq!(names, ["PATH", "LANG", "SITE"]);
    assert!(stdout.contains("SITE=a b=ü\n"), "{stdout}");
}

#[test]
fn the_link_carries_both_ways() {
    let case = Case::of(
        "/usr/bin/perl",
        &["perl", "-e", "open(L, '+<&=', $ENV{STEADFAST_LINK}); $_ = <L>; syswrite(L, \"got $_\"); exit 3"],
    );
    let spawned = spawn(&WorkerSpec { link: Some(Role::Worker), ..case.spec() }).expect("spawn");
    let link = spawned.link.as_ref().expect("link");
    rustix::io::write(link, b"hello\n").expect("write");
    assert_eq!(read_all(link), "got hello\n");
    assert_eq!(wait(&spawned), Ended::Code(3));
}

#[test]
fn ends_are_told_by_code_and_by_signal() {
    for (script, wanted) in [
        ("exit 256", Ended::Code(0)),
        ("exit 257", Ended::Code(1)),
        ("exit 255", Ended::Code(255)),
        ("kill -SEGV $$", Ended::Signal { number: 11, core: false }),
        ("kill -9 $$", Ended::Signal { number: 9, core: false }),
    ] {
        // dash refuses numbers above 255, so perl exits.
        let program = script.strip_prefix("exit ").map(|code| format!("exec perl -e 'exit {code}'"));
        let case = Case::shell(&format!("ulimit -c 0; {}", program.as_deref().unwrap_or(script)));
        assert_eq!(run(&case.spec()).2, wanted, "{script}");
    }
}

fn fails(spec: &WorkerSpec<'_>) -> SpawnError {
    let error = spawn(spec).expect_err("must fail");
    assert!(!error.is_host(), "{error}");
    error
}

#[test]
fn errors_name_the_step_and_the_cause() {
    let directory = tempfile::tempdir().expect("directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        path.to_str().expect("UTF-8").to_owned()
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let lost = file("lost", "#!/no/such/perl -w\r\n", 0o755);
    let data = file("data", "nothing that runs", 0o755);
    let cases = [
        ("/no/such/program".to_owned(), libc::ENOENT, "no such program on disk"),
        (plain, libc::EACCES, "not executable"),
        (lost, libc::ENOENT, "its interpreter /no/such/perl is not"),
        (data, libc::ENOEXEC, "a script without a #! line"),
        ("/etc/passwd/x".to_owned(), libc::ENOTDIR, "Not a directory"),
        ("/tmp".to_owned(), libc::EACCES, "it is a directory"),
    ];
    for (program, errno, words) in cases {
        let case = Case::of(&program, &["x"]);
        let error = fails(&case.spec());
        assert_eq!((error.step, error.errno), (Step::Execute, errno), "{error}");
        let text = error.message();
        assert!(text.starts_with(&format!("cannot execute {program}: ")) && text.contains(words), "{text}");
    }
    let mut case = Case::shell("exit 0");
    case.directory = "/no/such/directory".into();
    let error = fails(&case.spec());
    assert_eq!((error.step, error.errno), (Step::Directory, libc::ENOENT));
    assert!(error.message().contains("working directory of /bin/sh (/no/such/directory)"), "{error}");
    let case = Case::of("/bin/sh", &["sh", "a\0b"]);
    assert_eq!(fails(&case.spec()).step, Step::Prepare);
}

#[test]
fn a_program_open_for_writing_is_busy() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("busy");
    fs::copy("/bin/true", &path).expect("copy");
    let _writer = fs::OpenOptions::new().write(true).open(&path).expect("open");
    let case = Case::of(path.to_str().expect("UTF-8"), &["busy"]);
    assert_eq!(fails(&case.spec()).errno, libc::ETXTBSY);
}

#[test]
fn too_many_processes_is_the_hosts_fault() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    // The kernel marks a change to a user with too many processes, and execve(2) then fails.
    let credentials = Credentials { uid: 54_321, gid: 54_321, groups: vec![] };
    let limits = [(Limit::from_name("nproc").expect("known"), 0)];
    let reader = Case::shell("read line <&3");
    let first = WorkerSpec { credentials: Some(&credentials), link: Some(Role::Worker), ..reader.spec() };
    let first = spawn(&first).expect("one process");
    let case = Case::shell("exit 0");
    let spec = WorkerSpec { credentials: Some(&credentials), rlimits: &limits, ..case.spec() };
    let error = spawn(&spec).expect_err("too many");
    children::signal(first.pidfd.as_fd(), Kill::Kill).expect("kill");
    wait(&first);
    assert_eq!(error.errno, libc::EAGAIN, "{error}");
    assert!(error.is_host(), "{error}");
}

#[test]
fn failures_leave_no_zombie_and_no_descriptor() {
    let count = || fs::read_dir("/proc/self/fd").expect("fds").count();
    let case = Case::of("/no/such/program", &["x"]);
    // Other tests open and close theirs meanwhile: a leak of 100 failures would stand out.
    let before = count();
    for _ in 0..100 {
        let error = fails(&case.spec());
        assert_eq!(error.step, Step::Execute);
    }
    assert!(count() < before + 100, "at least one descriptor leaks with each failure");
    let status = fs::read_to_string(format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_nonzero()));
    for pid in status.unwrap_or_default().split_ascii_whitespace() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(!stat.contains(") Z "), "{stat}");
    }
}

#[test]
fn an_open_executable_is_run_although_its_path_is_gone() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("program");
    fs::copy("/bin/echo", &path).expect("copy");
    let open = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
    fs::remove_file(&path).expect("remove");
    let case = Case::of(path.to_str().expect("UTF-8"), &["echo", "still here"]);
    let (stdout, ..) = run(&WorkerSpec { executable: Some(open.as_fd()), ..case.spec() });
    assert_eq!(stdout, "still here\n");
}

#[test]
fn an_open_script_is_run_by_its_path() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("script");
    fs::write(&path, "#!/bin/sh\necho $0\n").expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    let open = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
    let text = path.to_str().expect("UTF-8").to_owned();
    let case = Case::of(&text, &["script"]);
    let (stdout, ..) = run(&WorkerSpec { executable: Some(open.as_fd()), ..case.spec() });
    assert_eq!(stdout, format!("{text}\n"));
}

#[test]
fn the_worker_gets_term_when_its_forking_thread_ends() {
    // The kernel's "parent" is the thread: its end is what the supervisor's death would be.
    let mut case = Case::of(
        "/usr/bin/perl",
        &[
            "perl",
            "-e",
            "$SIG{TERM} = sub { print 'term'; exit 0 }; $| = 1;
        syswrite(STDERR, 'up'); sleep 1000 while 1",
        ],
    );
    case.environment.set("LC_ALL", OsStr::new("C"));
    let if_root = Credentials { uid: 1, gid: 1, groups: vec![] };
    let is_root = rustix::process::getuid().is_root();
    let spawned = std::thread::spawn(move || {
        let spec = WorkerSpec { credentials: is_root.then_some(&if_root), ..case.spec() };
        let spawned = spawn(&spec).expect("spawn");
        let mut fds = [PollFd::new(&spawned.stderr, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).expect("poll");
        spawned
    });
    let spawned = spawned.join().expect("thread");
    assert_eq!(read_all(&spawned.stdout), "term");
    assert_eq!(wait(&spawned), Ended::Code(0));
}

#[test]
fn a_group_dies_together_and_strangers_are_never_signalled() {
    let case = Case::shell("sleep 1000 & echo $!; wait");
    let spawned = spawn(&case.spec()).expect("spawn");
    let mut line = [0u8; 64];
    let mut fds = [PollFd::new(&spawned.stdout, PollFlags::IN)];
    rustix::event::poll(&mut fds, None).expect("poll");
    rustix::io::read(&spawned.stdout, &mut line).expect("line");
    children::signal_group(spawned.pid, Kill::Kill).expect("signal");
    // The grandchild held the other end too: end of file means that both are gone.
    assert_eq!(read_all(&spawned.stdout), "");
    assert_eq!(wait(&spawned), Ended::Signal { number: 9, core: false });
    let error = children::signal(spawned.pidfd.as_fd(), Kill::Term).expect_err("reaped");
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    assert_eq!(children::reap(spawned.pidfd.as_fd()).ok().flatten(), None);
}

#[test]
fn our_ends_do_not_block_and_the_workers_do() {
    let case = Case::of(
        "/usr/bin/perl",
        &[
            "perl",
            "-MFcntl",
            "-e",
            "for my $n (0..3) { open(my $f, '<&=', $n); printf '%d', !!(fcntl($f, F_GETFL, 0) & O_NONBLOCK) }",
        ],
    );
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let spec = WorkerSpec { pass: Pass::Stdin(socket.as_fd()), link: Some(Role::Worker), ..case.spec() };
    let spawned = spawn(&spec).expect("spawn");
    for fd in [&spawned.stdout, &spawned.stderr, spawned.link.as_ref().expect("link")] {
        assert!(rustix::fs::fcntl_getfl(fd).expect("flags").contains(OFlags::NONBLOCK));
        assert!(rustix::io::fcntl_getfd(fd).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
    }
    assert_eq!(read_all(&spawned.stdout), "0000");
    wait(&spawned);
}

/// Where control groups of the second kind can be made here.
fn second_kind() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| PathBuf::from(fields[1]))
}

#[test]
fn a_process_begins_in_its_control_group() {
    let name = format!("steadfast-test-spawn-{}", std::process::id());
    let Some(group) = second_kind().map(|root| root.join(&name)).filter(|group| fs::create_dir(group).is_ok()) else {
        let reason = "no control group of the second kind can be made here";
        let _unheard = writeln!(std::io::stderr(), "SKIPPED a_process_begins_in_its_control_group: {reason}");
        return;
    };
    let case = Case::shell("grep ^0:: /proc/self/cgroup");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(&group, flags, Mode::empty()).expect("it is there");
    let inside = run(&WorkerSpec { group: Some(directory.as_fd()), ..case.spec() });
    let is_removed = fs::remove_dir(&group);
    assert!(inside.0.trim_end().ends_with(&name), "{inside:?}");
    is_removed.expect("all that was in it has been reaped");
    // A group that is no more refuses everybody.
    let spawned = spawn(&WorkerSpec { group: Some(directory.as_fd()), ..case.spec() }).expect("it runs without");
    let refusal = spawned.outside.as_ref().and_then(Errno::from_io_error);
    // By the version of the kernel.
    assert!(matches!(refusal, Some(Errno::NOENT | Errno::NODEV)), "{refusal:?}");
    assert_eq!(wait(&spawned), Ended::Code(0));
}
