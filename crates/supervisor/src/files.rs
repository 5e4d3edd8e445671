//! What a generation is made of on disk: its directory and program, pinned, and what its files looked like.
//!
//! A generation that is started again executes the *path* inside its pinned directory, so that a program mended on disk
//! serves again by itself. A generation that is gone back to, after a newer one has put other bytes at that path,
//! executes the very file that it noted, by its fd. That works for compiled programs only: of a script the kernel hands
//! the interpreter a path again, so there the pinned directory and the path are all there is, and the start is told to
//! the policy as one from changed files.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use steadfast_policy::event::Files;
use steadfast_proto::estate;

/// Arguments beyond these are not looked at: a list of thousands of files would be looked at before each start.
const ARGUMENTS_MAX: usize = 64;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
}

impl Mark {
    /// The mark of a regular file; `None` for anything else, or when it cannot be told.
    fn of(directory: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Option<Mark> {
        let stat = fs::statat(directory, path, AtFlags::empty()).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Mark::from_stat(&stat))
    }

    fn leave(self) -> estate::Mark {
        let Mark { device, inode, size, modified } = self;
        estate::Mark { device, inode, size, modified }
    }

    fn take_over(left: estate::Mark) -> Mark {
        let estate::Mark { device, inode, size, modified } = left;
        Mark { device, inode, size, modified }
    }

    fn from_stat(stat: &fs::Stat) -> Mark {
        Mark {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

/// A generation's directory and program.
#[derive(Debug)]
pub(crate) struct Pins {
    /// The working directory, its symlinks resolved.
    pub(crate) directory: OwnedFd,
    /// What is executed: absolute, or relative to `directory`.
    pub(crate) program: PathBuf,
    executable: OwnedFd,
    is_script: bool,
    arguments: Vec<String>,
    noted: Marks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Marks {
    program: Option<Mark>,
    arguments: Vec<Option<Mark>>,
}

/// How a start is to be made.
#[derive(Debug)]
pub(crate) enum Execute<'a> {
    /// The path, inside the pinned directory.
    Path(&'a Path),
    /// The very file that was noted.
    Pinned(BorrowedFd<'a>),
}

impl Pins {
    /// Pins the directory, the program and the state of its files. The error says what was tried.
    pub(crate) fn take(directory: OwnedFd, program: PathBuf, arguments: &[String]) -> Result<Pins, (PathBuf, Errno)> {
        let executable = match fs::openat(&directory, &program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(error) => return Err((program, error)),
        };
        let mut pins = Pins {
            is_script: is_script(directory.as_fd(), &program),
            arguments: arguments.iter().take(ARGUMENTS_MAX).cloned().collect(),
            noted: Marks { program: None, arguments: Vec::new() },
            directory,
            program,
            executable,
        };
        pins.noted = pins.marks();
        Ok(pins)
    }

    /// What a later image of ours takes over, as long as these descriptors stay open.
    pub(crate) fn leave(&self) -> estate::Pins {
        estate::Pins {
            directory: self.directory.as_raw_fd(),
            executable: self.executable.as_raw_fd(),
            program: self.program.to_string_lossy().into_owned(),
            is_script: self.is_script,
            arguments: self.arguments.clone(),
            program_mark: self.noted.program.map(Mark::leave),
            argument_marks: self.noted.arguments.iter().map(|mark| mark.map(Mark::leave)).collect(),
        }
    }

    /// Takes that over, with its two descriptors.
    pub(crate) fn take_over(left: estate::Pins, directory: OwnedFd, executable: OwnedFd) -> Pins {
        let arguments = left.argument_marks.into_iter().map(|mark| mark.map(Mark::take_over)).collect();
        Pins {
            directory,
            program: left.program.into(),
            executable,
            is_script: left.is_script,
            arguments: left.arguments,
            noted: Marks { program: left.program_mark.map(Mark::take_over), arguments },
        }
    }

    fn marks(&self) -> Marks {
        let directory = self.directory.as_fd();
        Marks {
            program: Mark::of(directory, &self.program),
            arguments: self.arguments.iter().map(|argument| Mark::of(directory, argument.as_str())).collect(),
        }
    }

    /// Notes the files as they are now as the generation's own.
    pub(crate) fn note(&mut self) {
        let opened = fs::openat(&self.directory, &self.program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        if let Ok(executable) = opened {
            self.executable = executable;
            self.is_script = is_script(self.directory.as_fd(), &self.program);
        }
        self.noted = self.marks();
    }

    /// How to start it now, and whether that is what it has noted. `returned`: a newer generation was prepared since.
    pub(crate) fn execute(&self, returned: bool) -> (Execute<'_>, Files) {
        let mut marks = self.marks();
        let pinned = returned && !self.is_script && marks.program != self.noted.program;
        if pinned {
            marks.program = fs::fstat(&self.executable).ok().map(|stat| Mark::from_stat(&stat));
        }
        let files = if marks == self.noted { Files::Noted } else { Files::Changed };
        if pinned { (Execute::Pinned(self.executable.as_fd()), files) } else { (Execute::Path(&self.program), files) }
    }
}

/// Opens a directory to work in; its symlinks are resolved here, once.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What cannot be read is taken for a script: then its path is executed.
fn is_script(directory: BorrowedFd<'_>, program: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = fs::openat(directory, program, flags, Mode::empty()) else {
        return true;
    };
    let mut magic = [0_u8; 2];
    !matches!(rustix::io::pread(&file, &mut magic, 0), Ok(2)) || &magic == b"#!"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs as files;

    fn pins(directory: &Path, program: &str, arguments: &[&str]) -> Pins {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let opened = open_directory(directory).expect("the directory is there");
        Pins::take(opened, PathBuf::from(program), &arguments).expect("the program is there")
    }

    fn verdict(pins: &Pins, returned: bool) -> (bool, Files) {
        let (execute, files) = pins.execute(returned);
        (matches!(execute, Execute::Pinned(_)), files)
    }

    #[test]
    fn an_argument_that_changes_is_noticed_and_can_be_noted() {
        let directory = tempfile::tempdir().expect("a directory");
        files::write(directory.path().join("site.fcgi"), "one").expect("a file");
        let mut pins = pins(directory.path(), "/bin/sh", &["-e", "site.fcgi", "not there"]);
        assert_eq!(verdict(&pins, false), (false, Files::Noted));
        files::write(directory.path().join("site.fcgi"), "three").expect("a file");
        assert_eq!(verdict(&pins, false), (false, Files::Changed));
        pins.note();
        assert_eq!(verdict(&pins, false), (false, Files::Noted));
    }

    #[test]
    fn a_program_replaced_by_a_newer_generation_is_executed_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("program");
        files::write(&path, "\x7fELF one").expect("a file");
        let pins = pins(directory.path(), "program", &[]);
        files::remove_file(&path).expect("it was there");
        files::write(&path, "\x7fELF other").expect("a file");
        assert_eq!(verdict(&pins, false), (false, Files::Changed), "the same generation takes what is on disk");
        assert_eq!(verdict(&pins, true), (true, Files::Noted), "one gone back to takes its own");
    }

    #[test]
    fn a_replaced_script_is_executed_by_its_path_and_said_to_have_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("program");
        files::write(&path, "#!/bin/sh\n").expect("a file");
        let pins = pins(directory.path(), "program", &[]);
        files::write(&path, "#!/bin/sh\nexit 3\n").expect("a file");
        assert_eq!(verdict(&pins, true), (false, Files::Changed));
    }

    #[test]
    fn a_directory_behind_a_symlink_stays_what_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path();
        for release in ["41", "42"] {
            files::create_dir(base.join(release)).expect("a release");
            files::write(base.join(release).join("site"), release).expect("a file");
        }
        std::os::unix::fs::symlink("41", base.join("current")).expect("a link");
        let pins = pins(&base.join("current"), "/bin/sh", &["site"]);
        files::remove_file(base.join("current")).expect("it was there");
        std::os::unix::fs::symlink("42", base.join("current")).expect("a link");
        assert_eq!(verdict(&pins, false), (false, Files::Noted));
    }
}
