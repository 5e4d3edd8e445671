//! Follows a text file: lines as they are written, over rotation by rename and by truncation.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use crate::errand::reason;
use crate::lines::Lines;
use crate::store::Position;

/// So much is read in a turn.
const BLOCK: usize = 64 * 1024;
/// inotify(7) says nothing of what other machines write, and directories may come later: so often the file is looked at
/// anyway.
const LOOK: Duration = Duration::from_secs(5);
/// A directory with more files is not searched for one that has been renamed.
const FILES_MAX: usize = 10_000;

/// One file that grows.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    watch: OwnedFd,
    open: Option<Open>,
    lines: Lines,
    looked: Instant,
    /// What was said about it; not twice.
    said: Option<String>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
    /// Of the next byte to read.
    offset: u64,
}

impl Tail {
    /// From `position` on where that is known, else from the end. What has not been written to for longer than `within` is
    /// old news.
    ///
    /// # Errors
    /// inotify(7) cannot be had.
    pub(crate) fn new(path: &Path, position: Option<Position>, within: Duration, now: Instant) -> io::Result<Tail> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut tail = Tail {
            path: path.to_owned(),
            watch,
            open: None,
            lines: Lines::default(),
            looked: now,
            said: None,
            buffer: vec![0; BLOCK].into_boxed_slice(),
        };
        tail.watch_directory();
        match position {
            Some(position) => tail.open = tail.find(position, within),
            None => {
                if let Ok(mut open) = Open::new(&tail.path) {
                    open.offset = open.file.metadata()?.len();
                    tail.open = Some(open);
                }
            }
        }
        tail.watch_file();
        Ok(tail)
    }

    /// The file that was read before: here, or under another name beside it.
    fn find(&self, position: Position, within: Duration) -> Option<Open> {
        let is_it = |open: &Open| (open.device, open.inode) == (position.device, position.inode);
        let here = Open::new(&self.path).ok().filter(is_it);
        let mut open = here.or_else(|| {
            let entries = fs::read_dir(self.path.parent()?).ok()?;
            let mut names = entries.take(FILES_MAX).filter_map(Result::ok);
            let renamed = names.find(|entry| entry.metadata().is_ok_and(|data| data.ino() == position.inode))?;
            Open::new(&renamed.path()).ok().filter(is_it)
        })?;
        let data = open.file.metadata().ok()?;
        let since = SystemTime::now().checked_sub(within);
        let is_old = data.modified().ok().zip(since).is_some_and(|(modified, since)| modified < since);
        open.offset = match data.len() < position.offset {
            true => 0,
            false if is_old => data.len(),
            false => position.offset,
        };
        Some(open)
    }

    /// Behind the last whole line.
    pub(crate) fn position(&self) -> Option<Position> {
        self.open.as_ref().map(|open| Position {
            device: open.device,
            inode: open.inode,
            offset: open.offset.saturating_sub(self.lines.pending()),
        })
    }

    /// What to wait for.
    pub(crate) fn add<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::new(&self.watch, PollFlags::IN));
    }

    /// How long until the file is looked at anyway.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        (self.looked + LOOK).saturating_duration_since(now)
    }

    /// Reads a piece; true when there may be more. The text is what people must know.
    pub(crate) fn turn(&mut self, now: Instant, mut each: impl FnMut(&[u8])) -> (bool, Option<String>) {
        self.drain_watch();
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.watch_directory();
        }
        if let Some(open) = &mut self.open {
            match open.file.read_at(&mut self.buffer, open.offset) {
                Ok(0) => {}
                Ok(count) => {
                    open.offset += count as u64;
                    self.lines.take(self.buffer.get(..count).unwrap_or_default(), each);
                    return (true, None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return (true, None),
                Err(error) => {
                    return (false, self.say(format!("cannot read {}: {}", self.path.display(), reason(&error))));
                }
            }
            if open.file.metadata().is_ok_and(|data| data.len() < open.offset) {
                open.offset = 0;
                self.lines = Lines::default();
                return (true, None);
            }
        }
        // All of what is open has been read: is it still the one of this name?
        let here = match fs::metadata(&self.path) {
            Ok(data) => (data.dev(), data.ino()),
            Err(error) if self.open.is_none() => {
                let words = format!("cannot read {} yet: {}", self.path.display(), reason(&error));
                return (false, self.say(words));
            }
            // Between two names, or gone: what is open may still be written to.
            Err(_) => return (false, None),
        };
        if self.open.as_ref().is_some_and(|open| (open.device, open.inode) == here) {
            return (false, None);
        }
        match Open::new(&self.path) {
            Ok(open) => {
                self.lines.end(&mut each);
                self.open = Some(open);
                self.said = None;
                self.watch_file();
                (true, None)
            }
            Err(error) => (false, self.say(format!("cannot open {}: {}", self.path.display(), reason(&error)))),
        }
    }

    fn say(&mut self, words: String) -> Option<String> {
        if self.said.as_ref() == Some(&words) {
            return None;
        }
        self.said = Some(words.clone());
        Some(words)
    }

    fn watch_directory(&self) {
        let directory = match self.path.parent() {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        };
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        // Where that fails the file is looked at from time to time.
        let _unwatched = inotify::add_watch(&self.watch, directory, flags);
    }

    /// The file that is open, whatever its name is now.
    fn watch_file(&self) {
        if let Some(open) = &self.open {
            let path = format!("/proc/self/fd/{}", open.file.as_raw_fd());
            let _unwatched = inotify::add_watch(&self.watch, path, WatchFlags::MODIFY);
        }
    }

    fn drain_watch(&self) {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.watch, &mut buffer);
        while reader.next().is_ok() {}
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Open> {
        // Whoever opens a pipe waits for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let file = File::open(path)?;
        let data = file.metadata()?;
        Ok(Open { file, device: data.dev(), inode: data.ino(), offset: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn append(path: &Path, text: &str) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    }

    /// Everything that is there now.
    fn read(tail: &mut Tail) -> Vec<String> {
        let mut found = Vec::new();
        while tail.turn(Instant::now(), |line| found.push(String::from_utf8_lossy(line).into_owned())).0 {}
        found
    }

    fn is_woken(tail: &Tail) -> bool {
        let mut fds = Vec::new();
        tail.add(&mut fds);
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&limit)).expect("poll") > 0
    }

    #[test]
    fn lines_come_when_they_are_whole_and_nothing_is_lost_by_rotation() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("site.log");
        append(&path, "old\n");
        let mut tail = Tail::new(&path, None, HOUR, Instant::now()).expect("a tail");
        assert_eq!(read(&mut tail), [""; 0], "what was there before has no time");
        append(&path, "one\ntw");
        assert!(is_woken(&tail));
        assert_eq!(read(&mut tail), ["one"]);
        append(&path, "o\nlast before");
        // Renamed; who writes goes on with the old file for a while.
        fs::rename(&path, directory.path().join("site.log.1")).expect("renamed");
        append(&directory.path().join("site.log.1"), " rename\n");
        assert_eq!(read(&mut tail), ["two", "last before rename"]);
        append(&path, "three\n");
        assert!(is_woken(&tail));
        assert_eq!(read(&mut tail), ["three"]);
        // Truncated in place.
        File::create(&path).expect("truncated");
        append(&path, "4\n");
        assert!(is_woken(&tail));
        assert_eq!(read(&mut tail), ["4"]);
    }

    #[test]
    fn a_second_tail_goes_on_where_the_first_was_killed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("site.log");
        append(&path, "");
        let mut tail = Tail::new(&path, None, HOUR, Instant::now()).expect("a tail");
        append(&path, "one\ntwo\nthr");
        assert_eq!(read(&mut tail), ["one", "two"]);
        let position = tail.position();
        drop(tail);
        append(&path, "ee\n");
        let mut tail = Tail::new(&path, position, HOUR, Instant::now()).expect("a tail");
        assert_eq!(read(&mut tail), ["three"]);
        let position = tail.position();
        drop(tail);
        // Meanwhile it is rotated.
        append(&path, "four\n");
        fs::rename(&path, directory.path().join("site.log.1")).expect("renamed");
        append(&path, "five\n");
        let mut tail = Tail::new(&path, position, HOUR, Instant::now()).expect("a tail");
        assert_eq!(read(&mut tail), ["four", "five"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_told_once_and_read_when_it_comes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("site.log");
        let mut tail = Tail::new(&path, None, HOUR, Instant::now()).expect("a tail");
        let (_, said) = tail.turn(Instant::now(), |_| ());
        assert!(said.is_some_and(|said| said.contains("site.log")));
        assert_eq!(tail.turn(Instant::now(), |_| ()), (false, None));
        append(&path, "one\n");
        assert!(is_woken(&tail));
        assert_eq!(read(&mut tail), ["one"]);
    }
}
