//! A FastCGI responder that says hello: one process, one connection at a time, one read and one write for each kept
//! request. The yardstick for everything that stands between a web server and a worker, and a worker to try things with.
//!
//! It serves the unix socket that is its standard input, as programs started by a FastCGI manager do:
//! `spawn-fcgi -s /tmp/hello.sock -n -- target/release/examples/hello`. SIGTERM ends it, by the kernel's default.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{kind, role, status};
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};
use steadfast_proto::fcgi::values::Values;

const BODY: &str = "Hello from steadfast, one and all\n";
/// What we answer to GET_VALUES: one of everything.
const VALUES: Values = Values { max_conns: Some(1), max_reqs: Some(1), mpxs_conns: Some(false) };
/// So much is taken at a time; every web server's GET fits.
const READ: usize = 64 * 1024;
/// So many bytes are still read from a connection that we close, lest a reset eats the answer.
const LINGER: usize = 1024 * 1024;

fn main() -> ExitCode {
    match serve() {
        Ok(never) => match never {},
        Err(error) => {
            let note = "its standard input must be a listening unix socket";
            // Nobody may be there to read it: the exit code says it, too.
            let _ = writeln!(io::stderr(), "hello: cannot accept: {error} ({note})");
            ExitCode::FAILURE
        }
    }
}

enum Never {}

fn serve() -> io::Result<Never> {
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let page = page();
    let mut input = vec![0; READ];
    let mut output = Vec::with_capacity(1024);
    loop {
        match listener.accept() {
            // What one client does wrong ends its connection, and nothing else.
            Ok((stream, _)) => drop(connection(stream, &page, &mut input, &mut output)),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The whole answer, STDOUT's content.
pub(crate) fn page() -> Vec<u8> {
    format!("Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len()).into_bytes()
}

/// The request that is being read.
#[derive(Clone, Copy)]
struct Current {
    id: u16,
    keep: bool,
}

/// Serves one connection to its end.
pub(crate) fn connection(
    mut stream: UnixStream,
    page: &[u8],
    input: &mut [u8],
    output: &mut Vec<u8>,
) -> io::Result<()> {
    // One living request: a second one beside it is refused by the decoder.
    let mut decoder = RequestDecoder::new(Limits { requests: 1, ..Limits::default() });
    let mut current = None;
    loop {
        let length = match stream.read(input) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut bytes = input.get(..length).unwrap_or_default();
        output.clear();
        let mut close = false;
        while !close {
            match decoder.next(&mut bytes) {
                Ok(Some(event)) => close = answer(event, &mut decoder, &mut current, page, output),
                Ok(None) => break,
                Err(error) => {
                    let _ = stream.write_all(output);
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            }
        }
        if !output.is_empty() {
            stream.write_all(output)?;
        }
        if close {
            return leave(stream, input, decoder.is_idle());
        }
    }
}

/// Writes what an event deserves. True: the connection ends after it.
fn answer(
    event: Event<'_>,
    decoder: &mut RequestDecoder,
    current: &mut Option<Current>,
    page: &[u8],
    output: &mut Vec<u8>,
) -> bool {
    match event {
        Event::Begin { id, role: role::RESPONDER, keep } => *current = Some(Current { id, keep }),
        Event::Begin { id, keep, .. } => {
            encode::end_request(output, id, 0, status::UNKNOWN_ROLE);
            decoder.end(id);
            return !keep;
        }
        // The whole request was read: answering earlier would be allowed, but a client that writes first and reads
        // later would wait for us while we wait for it.
        Event::StdinEnd { id } => return finish(id, page, decoder, current, output),
        Event::Abort { id } => return finish(id, b"", decoder, current, output),
        Event::TooLarge { id } => {
            let refusal = b"Status: 431\r\nContent-Length: 0\r\n\r\n";
            return finish(id, refusal, decoder, current, output);
        }
        Event::Refused { id, .. } => encode::end_request(output, id, 0, status::CANT_MPX_CONN),
        Event::GetValues(asked) => encode::get_values_result(output, VALUES.of(asked)),
        Event::Unknown { kind } => encode::unknown_type(output, kind),
        _ => {}
    }
    false
}

fn finish(
    id: u16,
    stdout: &[u8],
    decoder: &mut RequestDecoder,
    current: &mut Option<Current>,
    output: &mut Vec<u8>,
) -> bool {
    encode::stream(output, kind::STDOUT, id, stdout);
    encode::stream_end(output, kind::STDOUT, id);
    encode::end_request(output, id, 0, status::REQUEST_COMPLETE);
    decoder.end(id);
    !current.take().is_some_and(|current| current.id == id && current.keep)
}

/// Closes. Unread bytes would make the kernel reset the connection, so they are read first, within reason.
fn leave(mut stream: UnixStream, input: &mut [u8], nothing_left: bool) -> io::Result<()> {
    if nothing_left {
        return Ok(());
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut left = LINGER;
    while left > 0 {
        match stream.read(input) {
            Ok(0) => break,
            Ok(length) => left = left.saturating_sub(length),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
