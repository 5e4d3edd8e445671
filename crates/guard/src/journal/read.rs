//! Reads many journal files as one.

use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::child::Journalctl;
use super::fault::Fault;
use super::file::JournalFile;
use super::finder::Finder;
use super::order::Key;
use super::places::{boot, files_in, is_put_aside};
use super::query::Query;
use super::room::Room;
use crate::entry::Entry;

/// journald may rotate between our look into a directory and our opening of its files: then we look again.
const LOOKS_MAX: u32 = 8;

/// What a run over the journal was like.
#[derive(Debug, Default)]
pub struct Summary {
    /// So many journal files were there.
    pub files: usize,
    /// So many entries were given.
    pub entries: u64,
    /// The files that were not simply read.
    pub troubles: Vec<Trouble>,
}

/// A file that could not be read, or not to its end, by ourselves.
#[derive(Debug)]
pub struct Trouble {
    /// The file.
    pub path: PathBuf,
    /// What stopped us.
    pub fault: Fault,
    /// What became of the rest.
    pub rest: Rest,
}

/// Who read the rest of a file.
#[derive(Debug)]
pub enum Rest {
    /// `journalctl`, as far as that can.
    Read,
    /// `journalctl` was asked, and failed.
    Failed(Fault),
    /// Nobody: `journalctl` was not to be asked, or there is no such file.
    Lost,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.fault)?;
        match &self.rest {
            Rest::Read => f.write_str("; journalctl reads it instead"),
            Rest::Failed(fault) => write!(f, "; the rest of it is missing, for journalctl failed as well: {fault}"),
            Rest::Lost => f.write_str("; its entries, or the rest of them, are missing"),
        }
    }
}

/// The entries of many journal files, in one order.
///
/// Two entries are ordered by the number that the same journald gave them, else by the clock of the same boot, else by the wall
/// clock: as `journalctl` does it. What a file has that this reader does not know, and what is damaged, `journalctl` reads instead.
pub struct Reader<'q> {
    query: Query<'q>,
    journalctl: Option<PathBuf>,
    room: Room,
    /// The boot in which this is.
    boot: Option<[u8; 16]>,
    summary: Summary,
    waiting: Vec<Waiting>,
    streams: Vec<Stream>,
    /// The last entry that was given.
    given: Option<Key>,
    /// The stream that it came from, which has not gone on yet.
    behind: Option<usize>,
}

/// Gives the entries of these files, and of all journal files in these directories, to `each`, until it breaks off: a
/// [`Reader`] in one call.
pub fn read(
    paths: &[PathBuf],
    query: Query<'_>,
    journalctl: Option<&Path>,
    each: &mut dyn FnMut(&Entry) -> ControlFlow<()>,
) -> Summary {
    let mut reader = Reader::open(paths, query, journalctl);
    let mut entry = Entry::default();
    while reader.next(&mut entry) {
        if each(&entry).is_break() {
            break;
        }
    }
    reader.summary
}

/// A file that is open and whose turn has not come: it costs no more than its descriptor.
struct Waiting {
    path: PathBuf,
    file: JournalFile,
}

/// A file at an entry.
struct Stream {
    path: PathBuf,
    way: Way,
    key: Key,
    /// The last entry that was given, or skipped because another file had given it.
    last: Option<Key>,
    /// Its place among the summary's troubles, where it has one.
    trouble: Option<usize>,
}

enum Way {
    Direct(Finder),
    Journalctl(Box<Journalctl>),
}

impl<'q> Reader<'q> {
    /// Opens these files, and all journal files in these directories. `journalctl` is the program to be asked where we fail.
    ///
    /// All files are opened at once, so that a rotation or a vacuum later on takes none of them away.
    #[must_use]
    pub fn open(paths: &[PathBuf], query: Query<'q>, journalctl: Option<&Path>) -> Reader<'q> {
        let mut reader = Reader {
            query,
            journalctl: journalctl.map(Path::to_owned),
            room: Room::new(),
            boot: boot(),
            summary: Summary::default(),
            waiting: Vec::new(),
            streams: Vec::new(),
            given: None,
            behind: None,
        };
        reader.open_all(paths);
        reader
    }

    /// What the reading was like, up to now.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    fn open_all(&mut self, paths: &[PathBuf]) {
        let mut id = 0;
        for look in 1.. {
            let (files, _) = list(paths);
            let opened: Vec<Result<JournalFile, Fault>> = files
                .iter()
                .map(|path| {
                    id += 1;
                    open(path, id, &mut self.room)
                })
                .collect();
            let (again, unread) = list(paths);
            if again != files && look < LOOKS_MAX {
                continue;
            }
            self.summary.files = files.len();
            for (path, error) in unread {
                self.summary.troubles.push(Trouble { path, fault: error.into(), rest: Rest::Lost });
            }
            for (path, file) in files.into_iter().zip(opened) {
                match file {
                    Ok(file) if file.header.entries == 0 => {}
                    Ok(file) => self.waiting.push(Waiting { path, file }),
                    Err(fault) => self.instead(path, None, fault, None),
                }
            }
            break;
        }
        self.waiting.sort_by_key(|waiting| waiting.file.header.head_seqnum);
    }

    /// Replaces `entry` by the next one. False: there is none.
    pub fn next(&mut self, entry: &mut Entry) -> bool {
        if let Some(behind) = self.behind.take() {
            self.advance(behind);
        }
        while let Some(first) = self.first() {
            let stream = &mut self.streams[first];
            if self.given.is_some_and(|given| given.order(&stream.key) == Ordering::Equal) {
                // Another file had it, too.
                stream.last = self.given;
                self.advance(first);
                continue;
            }
            let filled = match &mut stream.way {
                Way::Direct(finder) => finder.fill(&mut self.room, &self.query, entry),
                Way::Journalctl(journalctl) => {
                    journalctl.fill(&self.query, entry);
                    Ok(())
                }
            };
            match filled {
                Ok(()) => {
                    self.given = Some(stream.key);
                    stream.last = self.given;
                    self.behind = Some(first);
                    self.summary.entries += 1;
                    return true;
                }
                Err(fault) => self.replace(first, fault),
            }
        }
        false
    }

    /// The stream whose entry comes next. Files whose turn has come have been started.
    fn first(&mut self) -> Option<usize> {
        loop {
            // A stream of the same journald that stands at a smaller number holds a file back.
            let is_held = |waiting: &Waiting| {
                let header = &waiting.file.header;
                let key = |stream: &Stream| (stream.key.seqnum_id, stream.key.seqnum);
                self.streams.iter().map(key).any(|(id, number)| id == header.seqnum_id && number < header.head_seqnum)
            };
            let Some(turn) = self.waiting.iter().position(|waiting| !is_held(waiting)) else {
                return (0..self.streams.len()).min_by(|a, b| self.streams[*a].key.order(&self.streams[*b].key));
            };
            let Waiting { path, file } = self.waiting.remove(turn);
            self.start(path, file);
        }
    }

    /// The turn of a file has come.
    fn start(&mut self, path: PathBuf, file: JournalFile) {
        let source = file.source.file.try_clone();
        let header = &file.header;
        let is_left = is_put_aside(&path) || header.is_online && self.boot != Some(header.boot);
        match Finder::new(file, !is_left, &mut self.room, &self.query) {
            Ok(finder) => {
                self.streams.push(Stream {
                    path,
                    way: Way::Direct(finder),
                    key: Key::default(),
                    last: None,
                    trouble: None,
                });
                self.advance(self.streams.len() - 1);
            }
            Err(fault) => self.instead(path, source.ok(), fault, None),
        }
    }

    /// On to the stream's next entry; away with it if it has none.
    fn advance(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let (advanced, key) = match &mut stream.way {
            Way::Direct(finder) => (finder.advance(&mut self.room, &self.query), finder.key()),
            Way::Journalctl(journalctl) => (journalctl.advance(&self.query), journalctl.key()),
        };
        stream.key = key;
        match advanced {
            Ok(true) => {}
            Ok(false) => drop(self.streams.swap_remove(index)),
            Err(fault) => self.replace(index, fault),
        }
    }

    /// A stream broke off.
    fn replace(&mut self, index: usize, fault: Fault) {
        let stream = self.streams.swap_remove(index);
        match (stream.way, stream.trouble) {
            (Way::Direct(finder), _) => {
                let source = finder.into_file();
                self.instead(stream.path, Some(source), fault, stream.last);
            }
            (Way::Journalctl(_), Some(trouble)) => self.summary.troubles[trouble].rest = Rest::Failed(fault),
            (Way::Journalctl(_), None) => {}
        }
    }

    /// `journalctl` goes on after the entry `last`.
    fn instead(&mut self, path: PathBuf, source: Option<File>, fault: Fault, last: Option<Key>) {
        let is_missing = matches!(&fault, Fault::Io(error) if error.kind() == io::ErrorKind::NotFound);
        let mut rest = Rest::Lost;
        if let Some(program) = self.journalctl.as_deref().filter(|_| !is_missing) {
            match Journalctl::start(program, &path, source, &self.query, last) {
                Ok(child) => {
                    rest = Rest::Read;
                    self.streams.push(Stream {
                        path: path.clone(),
                        way: Way::Journalctl(Box::new(child)),
                        key: Key::default(),
                        last,
                        trouble: Some(self.summary.troubles.len()),
                    });
                }
                Err(failed) => rest = Rest::Failed(failed),
            }
        }
        let is_started = matches!(rest, Rest::Read);
        self.summary.troubles.push(Trouble { path, fault, rest });
        if is_started {
            self.advance(self.streams.len() - 1);
        }
    }
}

fn open(path: &Path, id: u32, room: &mut Room) -> Result<JournalFile, Fault> {
    if id > Room::FILES_MAX {
        return Err(Fault::Unsupported("too many other files beside it"));
    }
    let file = JournalFile::open(path, id, &mut room.pool)?;
    if file.source.size > Room::SIZE_MAX {
        return Err(Fault::Unsupported("more than 256 TiB"));
    }
    Ok(file)
}

/// The files there, each once, and the directories that cannot be read.
fn list(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
    let mut files = Vec::new();
    let mut unread = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match files_in(path) {
            Ok(found) => files.extend(found),
            Err(error) => unread.push((path.clone(), error)),
        }
    }
    files.sort_unstable();
    files.dedup();
    (files, unread)
}
