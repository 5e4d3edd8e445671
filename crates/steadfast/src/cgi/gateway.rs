//! From a request to its end: finds the script, starts it, and answers in its place where it cannot.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use steadfast_worker::{Failure, Request, Response};

use super::environment::{self, Inherited};
use super::process::Process;
use super::relay::{Memory, Outcome, Pipes, Relay};
use super::script::{Refusal, Roots, Said};
use super::sys::{self, Image, Starter, Step, Strings};
use super::words;

/// One read of a pipe, or of a body, takes so much.
const PIECE: usize = 64 * 1024;

/// What runs, and for how long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// A program and its arguments; empty: the script that the web server names.
    pub(crate) program: Vec<OsString>,
    /// Below these.
    pub(crate) roots: Vec<PathBuf>,
    /// Variables of this process that scripts get.
    pub(crate) pass: Vec<OsString>,
    /// `None`: as long as it likes.
    pub(crate) timeout: Option<Duration>,
}

/// What is executed for a request.
#[derive(Debug)]
enum Target {
    Program { path: CString, directory: Option<CString> },
    Scripts(Roots),
}

/// The handler. Lives as long as the worker; its memory is used again.
#[derive(Debug)]
pub(crate) struct Gateway {
    target: Target,
    timeout: Option<Duration>,
    inherited: Inherited,
    nothing: OwnedFd,
    starter: Starter,
    arguments: Strings,
    environment: Strings,
    memory: Memory,
}

/// Why a script does not run: what the visitor and the log are told.
struct Unable {
    status: u16,
    message: String,
}

impl Unable {
    fn new(status: u16, message: impl Into<String>) -> Unable {
        Unable { status, message: message.into() }
    }
}

impl Gateway {
    /// # Errors
    /// The program cannot be run, or a root is no directory.
    pub(crate) fn new(options: &Options) -> Result<Gateway, String> {
        sys::close_inherited_on_exec();
        let mut arguments = Strings::default();
        let target = match options.program.first() {
            Some(name) => {
                let path = program(Path::new(name))?;
                for argument in &options.program {
                    arguments.push(&[argument.as_bytes()]);
                }
                // With arguments it may be an interpreter, and they are paths from where this worker is.
                let directory = path.parent().filter(|_| options.program.len() == 1).map(text).transpose()?;
                Target::Program { path: text(&path)?, directory }
            }
            None => Target::Scripts(Roots::new(&options.roots).map_err(|error| format!("cannot use --root: {error}"))?),
        };
        let nothing = File::open("/dev/null").map_err(|error| format!("cannot open /dev/null: {error}"))?;
        let memory = Memory { output: vec![0; PIECE], body: vec![0; PIECE], held: Vec::new() };
        Ok(Gateway {
            target,
            timeout: options.timeout,
            inherited: Inherited::new(&options.pass),
            nothing: nothing.into(),
            starter: Starter::new(),
            arguments,
            environment: Strings::default(),
            memory,
        })
    }

    /// Answers one request.
    ///
    /// # Errors
    /// A part of the answer has been sent, and the rest will not come.
    pub(crate) fn handle(&mut self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
        let line = format!("{} {}", request.method(), request.path());
        let line: String = line.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
        match self.serve(request, response) {
            Err(Unable { status, message }) | Ok(Outcome::Failed(status, message)) => {
                words::log(&format!("{line}: {message}"));
                page(response, status)?;
                Ok(())
            }
            Ok(Outcome::Answered(word)) => {
                if let Some(word) = word {
                    words::log(&format!("{line}: {word}"));
                }
                Ok(())
            }
            Ok(Outcome::Cut(message)) => Err(Failure::request(message)),
            Ok(Outcome::Gone(message)) => {
                words::log(&format!("{line}: {message}"));
                // A part of an answer must not look like the whole; a page that nobody reads does no harm.
                if response.has_begun() {
                    Err(io::Error::from(io::ErrorKind::BrokenPipe))?
                } else {
                    Ok(page(response, 500)?)
                }
            }
        }
    }

    fn serve(&mut self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<Outcome, Unable> {
        let params: Vec<(&[u8], &[u8])> = request.params().collect();
        let found;
        let (mut path, mut directory) = (c"", None);
        let mut own: Vec<(&'static str, Vec<u8>)> = Vec::new();
        let parts = match &mut self.target {
            Target::Program { path: program, directory: place } => {
                (path, directory) = (program.as_c_str(), place.as_deref());
                None
            }
            Target::Scripts(roots) => {
                let said =
                    |name: &str| environment::param(params.iter().copied(), name.as_bytes()).map(|(_, value)| value);
                let script = roots.find(Said {
                    script_filename: said("SCRIPT_FILENAME"),
                    document_root: said("DOCUMENT_ROOT"),
                    script_name: said("SCRIPT_NAME"),
                });
                let script = script.map_err(|refusal| match refusal {
                    Refusal::NotFound(why) => Unable::new(404, why),
                    Refusal::Forbidden(why) => Unable::new(403, why),
                })?;
                own.push(("SCRIPT_FILENAME", script.path.as_os_str().as_bytes().to_vec()));
                if let Some((name, rest)) = script.split {
                    own.extend([("SCRIPT_NAME", name), ("PATH_INFO", rest)]);
                }
                let cannot = |why| Unable::new(500, why);
                let place = text(script.path.parent().unwrap_or(Path::new("/"))).map_err(cannot)?;
                Some((text(&script.path).map_err(cannot)?, place))
            }
        };
        if let Some(parts) = parts {
            found = parts;
            self.arguments.clear();
            self.arguments.push(&[found.0.as_bytes()]);
            (path, directory) = (found.0.as_c_str(), Some(found.1.as_c_str()));
        }
        let own: Vec<(&'static str, &[u8])> = own.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        environment::fill(&mut self.environment, &own, params.iter().copied(), &self.inherited)
            .map_err(|name| Unable::new(400, format!("the parameter {name:?} cannot be part of an environment")))?;
        let image =
            Image { program: path, directory, arguments: &mut self.arguments, environment: &mut self.environment };
        let name = path.to_string_lossy().into_owned();

        let piece = match request.read_ready(&mut self.memory.body) {
            Ok(got) => Some(got).filter(|got| *got > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(0),
            Err(error) => return Ok(Outcome::Gone(format!("{name} was not run: {error}"))),
        };
        let started = start(&mut self.starter, image, &self.nothing, piece.is_some());
        let started = started
            .map_err(|(step, errno)| unable(&name, directory.map(|d| d.to_string_lossy()).as_deref(), step, errno))?;
        // Our own front has no log: what it hears it tells the supervisor, who hears us as well.
        let hears_words = request.text("SERVER_SOFTWARE").is_none_or(|name| !name.starts_with("steadfast"));
        let relay =
            Relay::new(request, response, started, &mut self.memory, piece.unwrap_or(0), self.timeout, hears_words);
        Ok(relay.run(&name))
    }
}

fn start(
    starter: &mut Starter,
    mut image: Image<'_>,
    nothing: &OwnedFd,
    has_body: bool,
) -> Result<(Process, Pipes), (Step, Errno)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| (Step::Descriptors, errno));
    let (stdout, to_stdout) = pipe()?;
    let (stderr, to_stderr) = pipe()?;
    let stdin = if has_body { Some(pipe()?) } else { None };
    let from_stdin = stdin.as_ref().map_or(nothing.as_fd(), |(read, _)| read.as_fd());
    let process = Process::start(starter, &mut image, [from_stdin, to_stdout.as_fd(), to_stderr.as_fd()])?;
    let stdin = match stdin {
        None => None,
        Some((_, write)) => {
            // Only our end of the pipe: the other is the script's, which expects it to block.
            rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK).map_err(|errno| (Step::Descriptors, errno))?;
            Some(write)
        }
    };
    Ok((process, Pipes { stdin, stdout: Some(stdout), stderr: Some(stderr) }))
}

/// What a failed start means.
fn unable(name: &str, directory: Option<&str>, step: Step, errno: Errno) -> Unable {
    let cause = io::Error::from(errno);
    match (step, errno) {
        (Step::Execute, Errno::ACCESS) => {
            Unable::new(403, format!("{name} cannot be executed: {cause}: chmod +x, for the user of this worker"))
        }
        (Step::Execute, Errno::NOENT) => Unable::new(
            500,
            format!("{name} cannot be executed: {cause}: is it there, and what its first line (#!) names?"),
        ),
        (Step::Execute, Errno::NOEXEC) => {
            Unable::new(500, format!("{name} cannot be executed: {cause}: a script begins with #!"))
        }
        (Step::Execute, Errno::TOOBIG) => {
            Unable::new(431, format!("{name} cannot be executed: the request's parameters are too large ({cause})"))
        }
        (Step::Directory, _) => {
            Unable::new(500, format!("{name} cannot be started in {}: {cause}", directory.unwrap_or("its directory")))
        }
        (_, Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => {
            Unable::new(503, format!("{name} cannot be started now: {cause}"))
        }
        (Step::Fork | Step::Group | Step::Descriptors | Step::Execute, _) => {
            Unable::new(500, format!("{name} cannot be started: {cause}"))
        }
    }
}

/// The program that is named, as a whole path: looked up in PATH where it has no slash.
fn program(name: &Path) -> Result<PathBuf, String> {
    let is_program = |path: &PathBuf| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if !name.as_os_str().as_bytes().contains(&b'/') {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths).map(|directory| directory.join(name)).find(is_program);
        return found.ok_or_else(|| format!("there is no program {} in {}", name.display(), paths.to_string_lossy()));
    }
    let path = std::path::absolute(name).map_err(|error| format!("cannot find {}: {error}", name.display()))?;
    match path.metadata() {
        Err(error) => Err(format!("the program {} cannot be used: {error}", path.display())),
        Ok(metadata) if !metadata.is_file() => Err(format!("{} is not a program", path.display())),
        Ok(_) if !is_program(&path) => Err(format!("the program {} is not executable for us", path.display())),
        Ok(_) => Ok(path),
    }
}

fn text(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| format!("{} has a NUL in it", path.display()))
}

/// What the visitor is told; the log says more.
fn page(response: &mut Response<'_>, status: u16) -> io::Result<()> {
    let (title, text) = match status {
        400 => ("Bad Request", "The request cannot be read."),
        403 => ("Forbidden", "This may not be run."),
        404 => ("Not Found", "There is no such page."),
        431 => ("Request Header Fields Too Large", "The request has too many or too long headers."),
        502 => ("Bad Gateway", "The program has failed."),
        503 => ("Service Unavailable", "Please try again in a moment."),
        504 => ("Gateway Timeout", "The program has taken too long."),
        _ => ("Internal Server Error", "The program cannot be run."),
    };
    response.status_with_reason(status, title)?.header("Content-Type", "text/html; charset=utf-8")?;
    write!(
        response,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1><p>{text}</p></body></html>\n"
    )
}
