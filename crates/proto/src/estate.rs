//! What one image of the supervisor leaves to the next when its program is replaced in place (USR2): the processes, the
//! descriptors by which they are heard, and what is known of them. One JSON document in a memfd that both inherit.
//!
//! Keys are added and never change their meaning; another [`VERSION`] is refused by the dry run. A descriptor is a number
//! that stays open across execve(2). Instants are nanoseconds of the supervisor's own clock.

use serde::{Deserialize, Serialize};

use crate::front::{Figures, Histogram, Requests};

/// Of this document.
pub const VERSION: u32 = 1;
/// Names the document's descriptor to the next image.
pub const VARIABLE: &str = "STEADFAST_ESTATE";
/// Set for a trial: nothing is to be taken over.
pub const TRIAL_VARIABLE: &str = "STEADFAST_ESTATE_TRIAL";
/// Set for the old image when it comes back: why the new one could not go on.
pub const RETURNED_VARIABLE: &str = "STEADFAST_ESTATE_RETURNED";
/// What a trial says at its end, before its version, when all would go well.
pub const TRIAL_PASSED: &str = "steadfast-estate taken by ";
/// A larger document is no estate of ours: a thousand workers take half a megabyte.
pub const SIZE_MAX: u64 = 64 * 1024 * 1024;

/// A number of an open file.
pub type Fd = i32;

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estate {
    /// [`VERSION`].
    pub version: u32,
    /// Of the front's channel, [`crate::front::VERSION`]: the front goes on under the next image.
    pub channel_version: u32,
    /// Of the program that leaves it.
    pub program_version: String,
    /// How often this has happened.
    pub upgrades: u32,
    /// What the supervisor's clock showed …
    pub clock: u64,
    /// … when CLOCK_MONOTONIC did this.
    pub monotonic: u64,
    /// The program that leaves it, for the way back.
    pub program: Fd,
    /// The lock of the runtime directory.
    pub lock: Fd,
    /// What the policy is told, as lines of a recording.
    pub policy: Vec<String>,
    /// The control socket.
    pub control: Socket,
    /// Sockets that somebody else has opened, by their numbers and names …
    pub inherited: Vec<(Fd, String)>,
    /// … and those of them that are in use.
    pub taken: Vec<Fd>,
    /// Names under which the service manager keeps sockets.
    pub stored: Vec<String>,
    /// Pools of which it is not known yet whether they serve.
    pub unsettled: Vec<u32>,
    /// Why the configuration was refused last.
    pub refusal: Option<String>,
    /// The group in which control groups are made.
    pub cgroup: Option<String>,
    /// Soft limit of open files before it was raised.
    pub nofile: Option<u64>,
    /// The last number of a pool.
    pub last_pool: u32,
    /// The last number of a public socket.
    pub last_socket: u64,
    /// The pools.
    pub pools: Vec<Pool>,
    /// The workers.
    pub workers: Vec<Worker>,
    /// The zygotes.
    pub zygotes: Vec<Zygote>,
    /// The front.
    pub front: Front,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// The socket.
    pub fd: Fd,
    /// As people know it.
    pub address: String,
    /// Its place, when we have bound it to one.
    pub path: Option<Path>,
}

/// A unix socket's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// Where.
    pub path: String,
    /// Which file it is.
    pub device: u64,
    /// The same.
    pub inode: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner, where it is not ours.
    pub uid: Option<u32>,
    /// Group, where it is not ours.
    pub gid: Option<u32>,
    /// listen(2)'s.
    pub backlog: u32,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its public sockets, in the order of `listen`.
    pub sockets: Vec<Public>,
    /// What its generation is made of; `None` while it is stopped.
    pub generation: Option<Generation>,
    /// When it began.
    pub since: u64,
    /// What its status page counts.
    pub figures: Figures,
    /// All requests by their ends.
    pub requests: Requests,
    /// How long they took.
    pub duration: Histogram,
    /// How long they waited.
    pub wait: Histogram,
    /// Visitors get the fallback.
    pub has_fallback: bool,
    /// Requests that are watched: their keys, until when they are kept from workers, and their lines.
    pub suspects: Vec<(u64, Option<u64>, String)>,
}

/// A public socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Public {
    /// Its number.
    pub id: u64,
    /// The entry of `listen`, by its place there.
    pub entry: usize,
    /// How often it was bound again.
    pub renewed: u32,
    /// The socket itself.
    pub socket: Socket,
}

/// What a generation is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub id: u32,
    /// Its files; an error's text where they could not be found.
    pub pins: Result<Pins, String>,
}

/// A generation's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pins {
    /// The directory.
    pub directory: Fd,
    /// The program.
    pub executable: Fd,
    /// Its path.
    pub program: String,
    /// It is executed by an interpreter.
    pub is_script: bool,
    /// Arguments that may be files.
    pub arguments: Vec<String>,
    /// How the program looked.
    pub program_mark: Option<Mark>,
    /// How they looked.
    pub argument_marks: Vec<Option<Mark>>,
}

/// How a file looked: device, inode, size, and when it was modified.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// st_dev.
    pub device: u64,
    /// st_ino.
    pub inode: u64,
    /// st_size.
    pub size: i64,
    /// st_mtim.
    pub modified: (i64, u64),
}

/// Where a process is heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voice {
    /// Its stdout, while it is open, and how much has come.
    pub stdout: Pipe,
    /// The same of stderr.
    pub stderr: Pipe,
    /// Its link.
    pub link: Option<Fd>,
    /// Bytes that came over it.
    pub link_bytes: u64,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipe {
    /// Our end.
    pub fd: Option<Fd>,
    /// Bytes that have come.
    pub bytes: u64,
    /// A line that has begun.
    pub begun: Vec<u8>,
}

/// A worker that serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub id: u64,
    /// Its pool.
    pub pool: u32,
    /// Its seat.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// Its process.
    pub pid: u32,
    /// Where it is heard.
    pub voice: Voice,
    /// It said hello.
    pub speaks: bool,
    /// When it was started.
    pub started: u64,
    /// When it was ready.
    pub ready: u64,
    /// What it had read and written then: rchar, wchar, syscr, syscw, and bytes of it that went to us.
    pub baseline: Option<[u64; 5]>,
    /// Requests that the policy knows of.
    pub told: u64,
    /// It was first seen with a request in hand.
    pub was_in_hand: bool,
    /// Its word for the status table.
    pub text: Option<String>,
    /// Its private socket; `None` in direct mode.
    pub private: Option<Private>,
    /// Its control group.
    pub cgroup: Option<String>,
}

/// A worker of queue mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Private {
    /// Where the front connects.
    pub path: String,
    /// The socket's inode.
    pub inode: u64,
    /// The worker has bound it.
    pub is_workers_own: bool,
    /// The front's life that has it.
    pub life: u64,
    /// It has connected.
    pub is_connected: bool,
    /// So many requests, and no more.
    pub max_requests: Option<u64>,
    /// Served for fronts that have gone.
    pub served_before: u64,
    /// Served for this one.
    pub served: u64,
}

/// A zygote that can fork.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Zygote {
    /// Its name.
    pub id: u64,
    /// Its pool.
    pub pool: u32,
    /// Its generation.
    pub generation: u32,
    /// It was made of changed files.
    pub has_changed_files: bool,
    /// Its process.
    pub pid: u32,
    /// Where it is heard.
    pub voice: Voice,
    /// When it was started.
    pub started: u64,
    /// When it was ready.
    pub ready: u64,
    /// Its memory at the first look.
    pub memory: Option<u64>,
    /// Its control group.
    pub cgroup: Option<String>,
}

/// The front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Front {
    /// The one that runs.
    pub life: Option<FrontLife>,
    /// The number of the last life.
    pub lives: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// By which it names requests.
    pub secret: String,
    /// The last number of a report.
    pub reports: u64,
}

/// The front that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontLife {
    /// Its number.
    pub number: u64,
    /// Its process.
    pub pid: u32,
    /// Our end of its channel.
    pub channel: Fd,
    /// Its stdout.
    pub stdout: Pipe,
    /// Its stderr.
    pub stderr: Pipe,
    /// When it was started.
    pub started: u64,
}

impl Estate {
    /// As one document.
    ///
    /// # Errors
    /// It cannot be written as JSON; for people.
    pub fn write(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }

    /// Reads it back.
    ///
    /// # Errors
    /// It is not understood: another version, or something is missing; for people.
    pub fn read(document: &[u8]) -> Result<Estate, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("it is of version {version}, and this program takes over version {VERSION}"));
        }
        let estate: Estate = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        if estate.channel_version != crate::front::VERSION {
            let (theirs, ours) = (estate.channel_version, crate::front::VERSION);
            return Err(format!("its front speaks version {theirs} of the channel, and this program {ours}"));
        }
        Ok(estate)
    }

    /// Every number that must stay open across execve(2), each once.
    pub fn fds(&self) -> Vec<Fd> {
        let mut fds = vec![self.program, self.lock, self.control.fd];
        fds.extend(self.inherited.iter().map(|(fd, _)| *fd).filter(|fd| !self.taken.contains(fd)));
        for pool in &self.pools {
            fds.extend(pool.sockets.iter().map(|public| public.socket.fd));
            if let Some(Generation { pins: Ok(pins), .. }) = &pool.generation {
                fds.extend([pins.directory, pins.executable]);
            }
        }
        let voices = self.workers.iter().map(|worker| &worker.voice);
        for voice in voices.chain(self.zygotes.iter().map(|zygote| &zygote.voice)) {
            fds.extend([voice.stdout.fd, voice.stderr.fd, voice.link].into_iter().flatten());
        }
        if let Some(life) = &self.front.life {
            fds.push(life.channel);
            fds.extend([life.stdout.fd, life.stderr.fd].into_iter().flatten());
        }
        fds.sort_unstable();
        fds.dedup();
        fds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(fd: Fd) -> Pipe {
        Pipe { fd: Some(fd), bytes: 3, begun: b"half".to_vec() }
    }

    fn estate() -> Estate {
        let socket = |fd| Socket { fd, address: "unix:/x".into(), path: None };
        let voice = Voice { stdout: pipe(20), stderr: pipe(21), link: Some(22), link_bytes: 0 };
        let worker = Worker {
            id: 7,
            pool: 1,
            slot: 1,
            generation: 1,
            pid: 99,
            voice,
            speaks: false,
            started: 1,
            ready: 2,
            baseline: Some([1, 2, 3, 4, 5]),
            told: 0,
            was_in_hand: false,
            text: None,
            private: None,
            cgroup: None,
        };
        let pins = Pins {
            directory: 12,
            executable: 13,
            program: "/bin/x".into(),
            is_script: false,
            arguments: Vec::new(),
            program_mark: Some(Mark { device: 1, inode: 2, size: 3, modified: (4, 5) }),
            argument_marks: Vec::new(),
        };
        let pool = Pool {
            id: 1,
            name: "site".into(),
            sockets: vec![Public { id: 1, entry: 0, renewed: 0, socket: socket(11) }],
            generation: Some(Generation { id: 1, pins: Ok(pins) }),
            since: 5,
            figures: Figures { slow: 6, ..Figures::default() },
            requests: Requests::default(),
            duration: Histogram::default(),
            wait: Histogram::default(),
            has_fallback: false,
            suspects: vec![(5, Some(6), "GET /".into())],
        };
        let life = FrontLife { number: 1, pid: 98, channel: 30, stdout: pipe(31), stderr: pipe(32), started: 0 };
        Estate {
            version: VERSION,
            channel_version: crate::front::VERSION,
            program_version: "0.1.0".into(),
            upgrades: 0,
            clock: 1,
            monotonic: 2,
            program: 8,
            lock: 9,
            policy: vec!["1 names-minted 7".into()],
            control: socket(10),
            inherited: vec![(3, "site".into()), (4, "other".into())],
            taken: vec![3],
            stored: Vec::new(),
            unsettled: Vec::new(),
            refusal: None,
            cgroup: None,
            nofile: Some(1024),
            last_pool: 1,
            last_socket: 1,
            pools: vec![pool],
            workers: vec![worker],
            zygotes: Vec::new(),
            front: Front { life: Some(life), lives: 1, restarts: 0, secret: "s".into(), reports: 2 },
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let estate = estate();
        assert_eq!(Estate::read(&estate.write().expect("JSON")), Ok(estate));
    }

    #[test]
    fn another_version_is_named_before_anything_is_missing() {
        assert!(Estate::read(br#"{"version":2}"#).expect_err("newer").contains("version 2"));
        assert!(Estate::read(br#"{"version":1}"#).is_err());
        assert!(Estate::read(b"").is_err());
        let other = Estate { channel_version: 77, ..estate() };
        assert!(Estate::read(&other.write().expect("JSON")).expect_err("another").contains("77"));
    }

    #[test]
    fn what_stays_open_is_named_once_and_what_is_in_use_by_its_new_owner_is_not() {
        assert_eq!(estate().fds(), [4, 8, 9, 10, 11, 12, 13, 20, 21, 22, 30, 31, 32]);
    }
}
