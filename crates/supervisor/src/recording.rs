//! Writes every fact that the policy is told, with its time, so that an incident can be played again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use steadfast_policy::event::Event as Fact;
use steadfast_policy::record::{write, write_header};
use steadfast_policy::time::Instant;

/// A recording, or none.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    file: Option<BufWriter<File>>,
}

impl Recording {
    /// Begins a recording of a policy with this seed.
    pub(crate) fn begin(path: &Path, seed: u64) -> io::Result<Recording> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{}", write_header(seed))?;
        Ok(Recording { file: Some(file) })
    }

    /// One fact. An error ends the recording, and nothing else.
    pub(crate) fn note(&mut self, now: Instant, fact: &Fact) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let written = writeln!(file, "{}", write(now, fact));
        self.checked(written)
    }

    /// The end of a turn.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let written = file.flush();
        self.checked(written)
    }

    fn checked(&mut self, written: io::Result<()>) -> io::Result<()> {
        if written.is_err()
            && let Some(file) = self.file.take()
        {
            // What is still in the buffer would be tried again when it is dropped.
            let _ = file.into_parts();
        }
        written
    }
}
