//! `journalctl` reads a file in our place: one that has what we do not know, or is damaged.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::fault::Fault;
use super::order::Key;
use super::query::Query;
use crate::entry::Entry;
use crate::export::ExportReader;

/// Its output, entry by entry. The process ends with this.
pub(super) struct Journalctl {
    child: Child,
    output: ChildStdout,
    reader: ExportReader,
    buffer: Vec<u8>,
    /// What of the buffer is not read yet.
    start: usize,
    end: usize,
    is_at_end: bool,
    /// It opens this one, by its number with us.
    _file: Option<File>,
    /// Entries up to this one were given already.
    after: Option<Key>,
    entry: Entry,
    key: Key,
}

impl Journalctl {
    /// Starts it on a file, by its path where it could not even be opened, else by the descriptor: the name may be another
    /// file's by now.
    pub(super) fn start(
        program: &Path,
        path: &Path,
        source: Option<File>,
        query: &Query<'_>,
        after: Option<Key>,
    ) -> Result<Journalctl, Fault> {
        let pattern = match &source {
            Some(file) => OsString::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())),
            None => as_pattern(path.as_os_str()),
        };
        let mut command = Command::new(program);
        command.args(["--quiet", "--no-pager", "--output=export", "--file"]).arg(pattern);
        if let Some(since) = query.since {
            command.arg(format!("--since=@{}.{:06}", since / 1_000_000, since % 1_000_000));
        }
        if let Some(until) = query.until {
            command.arg(format!("--until=@{}.{:06}", until / 1_000_000, until % 1_000_000));
        }
        let mut wanted = query.fields.clone();
        if !wanted.is_empty() {
            wanted.extend(query.tests.iter().map(|test| test.field.clone()));
            command.arg(format!("--output-fields={}", wanted.join(",")));
        }
        for (number, alternative) in query.alternatives.iter().enumerate() {
            if number > 0 {
                command.arg("+");
            }
            command.args(alternative.iter().map(|(name, value)| as_match(name, value)));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Fault::Journalctl(format!("cannot run {}: {error}", program.display())))?;
        let Some(output) = child.stdout.take() else {
            return Err(Fault::Journalctl("journalctl has no output".to_owned()));
        };
        Ok(Journalctl {
            child,
            output,
            reader: ExportReader::new(&wanted),
            buffer: vec![0; 64 << 10],
            start: 0,
            end: 0,
            is_at_end: false,
            _file: source,
            after,
            entry: Entry::default(),
            key: Key::default(),
        })
    }

    /// Goes to the next entry that the query asks for. False: there is none.
    pub(super) fn advance(&mut self, query: &Query<'_>) -> Result<bool, Fault> {
        while self.read()? {
            let Some(key) = self.entry.cursor.as_deref().and_then(Key::from_cursor) else {
                return Err(Fault::Journalctl("journalctl gave an entry without a cursor".to_owned()));
            };
            self.key = key;
            if self.after.is_some_and(|after| after.seqnum_id == key.seqnum_id && key.seqnum <= after.seqnum) {
                continue;
            }
            let passes = |(name, value): &(String, Vec<u8>)| query.accepts(name.as_bytes(), value);
            if query.tests.is_empty() || self.entry.fields.iter().any(passes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(&mut self) -> Result<bool, Fault> {
        let garbled = |error| Fault::Journalctl(format!("journalctl: {error}"));
        loop {
            let mut input = &self.buffer[self.start..self.end];
            let is_whole = self.reader.next(&mut input, &mut self.entry).map_err(garbled)?;
            self.start = self.end - input.len();
            if is_whole {
                return Ok(true);
            }
            if self.is_at_end {
                return Ok(false);
            }
            match self.output.read(&mut self.buffer) {
                Ok(0) => {
                    self.is_at_end = true;
                    let is_whole = self.reader.finish(&mut self.entry).map_err(garbled)?;
                    let status = self.child.wait()?;
                    // An entry that was cut off by its writer's end is none.
                    if !status.success() {
                        return Err(Fault::Journalctl(format!("journalctl ended with {status}")));
                    }
                    return Ok(is_whole);
                }
                Ok(read) => (self.start, self.end) = (0, read),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) const fn key(&self) -> Key {
        self.key
    }

    pub(super) fn fill(&mut self, query: &Query<'_>, entry: &mut Entry) {
        std::mem::swap(&mut self.entry, entry);
        if !query.fields.is_empty() {
            entry.fields.retain(|(name, _)| query.wants(name.as_bytes()));
        }
        if !query.needs_cursor {
            entry.cursor = None;
        }
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `--file` takes a pattern.
fn as_pattern(path: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut pattern = Vec::new();
    for byte in path.as_bytes() {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    OsString::from_vec(pattern)
}

fn as_match(name: &str, value: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec([name.as_bytes(), b"=", value].concat())
}
