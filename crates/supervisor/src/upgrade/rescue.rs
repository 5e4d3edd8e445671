//! The way back: until its first turn is over, whatever ends the new image executes the old one again.
//!
//! The old program is an open file that both images have. A panic and a refused start come here by themselves; a fault
//! and a program that hangs do by a signal's handler, which may do little else than execve(2), and needs no more.

use std::ffi::{CString, OsStr, OsString};
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use steadfast_proto::estate::{Estate, RETURNED_VARIABLE, SIZE_MAX, TRIAL_VARIABLE, VARIABLE};

use crate::environment::variable;
use crate::sys::{self, Image};

/// Of the reason so much is passed on.
const WHY_MAX: usize = 1000;
/// A new image turns for the first time within so many seconds.
const SECONDS: u32 = 10;

/// The program that left us its estate, and what it is to be executed with.
struct WayBack {
    program: RawFd,
    environment: Variables,
}

static WAY_BACK: OnceLock<WayBack> = OnceLock::new();
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Names and values.
pub(crate) type Variables = Vec<(OsString, OsString)>;

/// How this process has come to be.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// As any other.
    Birth,
    /// It is to find out whether it could take over this estate.
    Trial(Box<Estate>),
    /// It takes it over.
    Succession(Box<Estate>, Heritage),
}

/// What is left of the image before us until our first turn is over.
#[derive(Debug)]
pub(crate) struct Heritage {
    /// Descriptors of which we have copies, or that are of no use any more.
    fds: Vec<RawFd>,
    /// Descriptors that stay, and that no process of ours is to have.
    kept: Vec<RawFd>,
    /// The version of its program.
    pub(crate) version: String,
    /// We are that image, and this is why the next one could not go on.
    pub(crate) returned: Option<String>,
}

impl Heritage {
    /// Of an estate that has been taken over.
    pub(crate) fn of(estate: &Estate, document: RawFd, returned: Option<String>) -> Heritage {
        let kept: Vec<RawFd> =
            estate.inherited.iter().map(|(fd, _)| *fd).filter(|fd| !estate.taken.contains(fd)).collect();
        let fds = estate.fds().into_iter().chain([document]);
        let fds = fds.filter(|fd| !kept.contains(fd)).collect();
        Heritage { fds, kept, version: estate.program_version.clone(), returned }
    }

    /// There is no way back any more.
    pub(crate) fn settle(&self) {
        if WAY_BACK.get().is_some() && !IS_OVER.swap(true, Ordering::Relaxed) {
            sys::disarm();
        }
        for fd in &self.fds {
            drop(sys::inherited_fd(*fd));
        }
        for fd in &self.kept {
            sys::set_close_on_exec(*fd, true);
        }
    }
}

/// First of all: if an earlier image of ours has left us its estate, whatever ends us now executes that one again.
pub fn arm() {
    let is_trial = std::env::var_os(TRIAL_VARIABLE).is_some() || std::env::var_os(RETURNED_VARIABLE).is_some();
    if is_trial {
        return;
    }
    let Some((_, program)) = numbers() else { return };
    let environment: Variables = std::env::vars_os().collect();
    let why = (RETURNED_VARIABLE, "it crashed, or did not begin within 10 s".to_owned());
    let Some(image) = image(&environment, &[why]) else { return };
    if WAY_BACK.set(WayBack { program, environment }).is_ok() {
        sys::arm(Box::leak(Box::new(image)), program, SECONDS);
    }
}

/// Executes the old image again, if there is a way back; comes back where there is none.
pub fn go_back(why: &str) {
    let Some(WayBack { program, environment }) = WAY_BACK.get() else { return };
    if IS_OVER.swap(true, Ordering::Relaxed) {
        return;
    }
    sys::disarm();
    let why: String = why.chars().filter(|c| *c != '\0').take(WHY_MAX).collect();
    if let (Some(image), Some(program)) = (image(environment, &[(RETURNED_VARIABLE, why)]), sys::copy_of(*program)) {
        let _ = image.execute_fd(program.as_fd());
    }
}

/// A step on the way in has been taken. Tests make an unoptimised program fail there (`STEADFAST_FAIL_AT=STEP:HOW`).
pub(crate) fn pass(step: &str) {
    #[cfg(debug_assertions)]
    fail_at(step);
    #[cfg(not(debug_assertions))]
    let _ = step;
}

#[cfg(debug_assertions)]
fn fail_at(step: &str) {
    let Ok(words) = std::env::var("STEADFAST_FAIL_AT") else { return };
    if WAY_BACK.get().is_none() || IS_OVER.load(Ordering::Relaxed) || !words.starts_with(step) {
        return;
    }
    match words.rsplit(':').next() {
        Some("exit") => go_back("a test asked for it"),
        Some("panic") => panic!("a test asked for it"),
        Some("abort") => std::process::abort(),
        Some("hang") => loop {
            std::thread::park();
        },
        _ => {}
    }
}

/// How we have come, and the lasting words of it are forgotten: no process of ours is to hear them.
///
/// # Errors
/// There is an estate that cannot be read; for people.
pub(crate) fn arrive() -> Result<Arrival, String> {
    let Some((document, _)) = numbers() else {
        return Ok(Arrival::Birth);
    };
    let is_trial = std::env::var_os(TRIAL_VARIABLE).is_some();
    let returned = std::env::var_os(RETURNED_VARIABLE).map(|why| why.to_string_lossy().into_owned());
    sys::remove_variables(&[VARIABLE, TRIAL_VARIABLE, RETURNED_VARIABLE]);
    let copy = sys::copy_of(document).ok_or("the estate of the supervisor before us is not open")?;
    let estate = Box::new(read(copy)?);
    if is_trial {
        return Ok(Arrival::Trial(estate));
    }
    let heritage = Heritage::of(&estate, document, returned);
    Ok(Arrival::Succession(estate, heritage))
}

fn read(document: OwnedFd) -> Result<Estate, String> {
    let file = std::fs::File::from(document);
    let mut bytes = Vec::new();
    // Both images read the same open file: from its beginning, and not from where the other has stopped.
    let mut reader = Positioned { file: &file, at: 0 };
    reader.by_ref().take(SIZE_MAX).read_to_end(&mut bytes).map_err(|error| format!("the estate: {error}"))?;
    Estate::read(&bytes).map_err(|error| format!("the estate cannot be taken over: {error}"))
}

struct Positioned<'a> {
    file: &'a std::fs::File,
    at: u64,
}

impl std::io::Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The numbers of the document and of the program that has left it, as VARIABLE names them.
fn numbers() -> Option<(RawFd, RawFd)> {
    let words = std::env::var(VARIABLE).ok()?;
    let (document, program) = words.split_once(':')?;
    Some((document.parse().ok()?, program.parse().ok()?))
}

/// What is executed: our own arguments, and this environment with some variables more.
pub(crate) fn image(environment: &Variables, more: &[(&str, String)]) -> Option<Image> {
    let arguments: Option<Vec<CString>> =
        std::env::args_os().map(|argument| CString::new(argument.as_bytes()).ok()).collect();
    let is_set = |name: &OsString| more.iter().any(|(other, _)| name == OsStr::new(other));
    let kept = environment.iter().filter(|(name, _)| !is_set(name)).map(|(name, value)| variable(name, value));
    let added = more.iter().map(|(name, value)| variable(OsStr::new(name), OsStr::new(value)));
    let environment: Option<Vec<CString>> = kept.chain(added).collect();
    Some(Image::new(arguments?, environment?, false))
}
