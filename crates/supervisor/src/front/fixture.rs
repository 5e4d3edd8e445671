//! A shell with one pool of queue mode and a front whose end of the channel a test holds; for tests.

use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendFlags, recvmsg, send};
use rustix::process::PidfdFlags;
use steadfast_config::load::{Context, examine};
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId};
use steadfast_policy::time::Instant;
use steadfast_proto::front::{FDS_MAX, FromFront, MESSAGE_MAX, ToFront, decode, encode};
use tempfile::TempDir;

use crate::children::{Nofile, Pid};
use crate::clock::Clock;
use crate::events::kind::Level;
use crate::events::log::{Format, Log};
use crate::front::channel;
use crate::front::hear;
use crate::front::private::Private;
use crate::front::rate::Rate;
use crate::front::state::Life;
use crate::launch::Launch;
use crate::notify::Notify;
use crate::output::Lines;
use crate::pools::{Plan, Pool};
use crate::run;
use crate::shell::Shell;
use crate::voice::{Pipe, Voice};
use crate::workers::{Leave, Queued, Worker};

/// The pool.
pub(crate) const POOL: PoolId = PoolId(1);

/// The shell, and what it speaks with.
pub(crate) struct Stage {
    pub(crate) shell: Shell,
    directory: TempDir,
    /// The front's end of its channel.
    theirs: Option<OwnedFd>,
    children: Vec<Child>,
}

impl Stage {
    /// A clock that has gone for an hour, a pool of 4 workers, and no front.
    pub(crate) fn new() -> Stage {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("steadfast.toml");
        let text = "[pool.site]\ncommand = [\"/bin/sleep\", \"1000\"]\nlisten = [\"unix:site.sock\"]\nworkers = 4\n\
                    max-requests = 100\n[pool.site.verify]\nrequest = \"GET /health\"\n";
        std::fs::write(&path, text).expect("written");
        let loaded = examine(&path, &Context { directory: directory.path().to_owned() }).finish();
        let loaded = loaded.unwrap_or_else(|report| panic!("{}", report.render(false)));
        let config = loaded.config.pools["site"].clone();
        let launch = Launch::new(&loaded.config, &config, directory.path(), false).expect("it can be started");
        let nowhere = File::options().write(true).open("/dev/null").expect("there");
        let log = Log::with_stream(Format::Json, Level::Debug, false, nowhere.into());
        let nofile = Nofile { soft_before: Some(1024), hard: Some(1024) };
        let mut shell = run::shell(log, Notify::from_environment(), nofile, directory.path().to_owned()).expect("made");
        shell.clock = Clock::started_before(Duration::from_secs(3600));
        shell.now = shell.clock.now();
        shell.pools.insert(Pool::new(
            POOL,
            Plan { config: Rc::new(config), launch: Rc::new(launch), sockets: Vec::new() },
            shell.now,
        ));
        Stage { shell, directory, theirs: None, children: Vec::new() }
    }

    /// The same with a front that runs and has said nothing.
    pub(crate) fn with_front() -> Stage {
        let mut stage = Stage::new();
        stage.begin_front();
        stage
    }

    /// A process that lives until the stage ends.
    fn process(&mut self) -> (Pid, OwnedFd) {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("sleep runs");
        let raw = child.id().cast_signed();
        self.children.push(child);
        let pid = Pid::new(raw).expect("a process");
        (pid, rustix::process::pidfd_open(pid.raw(), PidfdFlags::empty()).expect("our child"))
    }

    fn pipe() -> Pipe {
        Pipe { fd: None, lines: Lines::new() }
    }

    /// The next life of the front.
    pub(crate) fn begin_front(&mut self) {
        let (ours, theirs) = channel::pair().expect("a pair");
        let (pid, pidfd) = self.process();
        self.shell.front.lives += 1;
        let number = self.shell.front.lives;
        self.shell.front.life = Some(Life {
            number,
            pid,
            pidfd,
            channel: ours,
            stdout: Stage::pipe(),
            stderr: Stage::pipe(),
            started: self.shell.now,
            wants_room: false,
            asked: Default::default(),
            why: None,
            is_leaving: false,
            rate: Rate::new(),
        });
        self.theirs = Some(theirs);
    }

    /// A worker that lives, and that nobody was told of.
    pub(crate) fn worker(&mut self, id: u64) -> WorkerId {
        let (pid, pidfd) = self.process();
        let path = self.directory.path().join(id.to_string());
        let now = self.shell.now;
        self.shell.workers.insert(Worker {
            id: WorkerId(id),
            pool: POOL,
            slot: SlotId(1),
            generation: GenerationId(1),
            pid,
            pidfd,
            voice: Voice::new(Stage::pipe(), Stage::pipe(), None, now),
            speaks: false,
            started: now,
            ready: None,
            looks: 0,
            leave: Leave::No,
            baseline: None,
            told: 0,
            was_in_hand: false,
            text: None,
            trial: None,
            held: None,
            is_traced: false,
            brood: Vec::new(),
            nursery: None,
            has_quit: false,
            queued: Some(Queued::new(Private { path, inode: 1, is_workers_own: false, loopback: None })),
        });
        let pool = self.shell.pools.get_mut(POOL).expect("it is there");
        pool.members.insert(WorkerId(id));
        WorkerId(id)
    }

    /// The front says this.
    pub(crate) fn says(&mut self, message: &FromFront) -> Vec<Fact> {
        self.sends(&encode(message).expect("short"))
    }

    /// The front writes this packet.
    pub(crate) fn sends(&mut self, packet: &[u8]) -> Vec<Fact> {
        let theirs = self.theirs.as_ref().expect("a front");
        send(theirs, packet, SendFlags::DONTWAIT).expect("room");
        self.hear()
    }

    /// The front writes this packet, and nobody hears it yet.
    pub(crate) fn leave_unread(&mut self, packet: &[u8]) {
        send(self.theirs.as_ref().expect("a front"), packet, SendFlags::DONTWAIT).expect("room");
    }

    /// What comes of what the front has said.
    pub(crate) fn hear(&mut self) -> Vec<Fact> {
        let number = self.shell.front.lives;
        hear::readable(&mut self.shell, number);
        self.shell.facts.drain(..).collect()
    }

    /// What the front has been told since it was asked last.
    pub(crate) fn told(&mut self) -> Vec<ToFront> {
        let theirs = self.theirs.as_ref().expect("a front");
        let mut told = Vec::new();
        loop {
            let mut packet = vec![0; MESSAGE_MAX];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut packet)];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match recvmsg(theirs, &mut slices, &mut ancillary, flags) {
                Ok(received) if received.bytes > 0 => {
                    told.push(decode(&packet[..received.bytes]).expect("a message"));
                }
                Ok(_) | Err(_) => return told,
            }
        }
    }

    /// Why the front was condemned.
    pub(crate) fn why(&self) -> Option<&str> {
        self.shell.front.life.as_ref()?.why.as_deref()
    }

    /// How many events of this name there have been.
    pub(crate) fn events(&self, name: &str) -> usize {
        self.shell.log.ring().last(usize::MAX).filter(|event| event.event.kind.name() == name).count()
    }

    /// The last event of this name, as JSON.
    pub(crate) fn last_event(&self, name: &str) -> String {
        let all: Vec<_> = self.shell.log.ring().last(usize::MAX).collect();
        all.iter().rev().find(|event| event.event.kind.name() == name).map(|event| event.to_json()).unwrap_or_default()
    }

    /// An instant before now.
    pub(crate) fn ago(&self, by: Duration) -> Instant {
        let by = u64::try_from(by.as_nanos()).expect("short");
        Instant::from_nanos(self.shell.clock.now().as_nanos() - by)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
