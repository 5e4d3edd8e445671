//! The worker of the web servers' tests, on the worker library: what tests/apps/queue.c does, by the same paths, and more.
//!
//! Answers carry `X-Worker: PID` and `X-Connection: socket:[INODE]`, the connection to the web server.
//!
//!   /hello  /sleep?ms=N        hello
//!   /echo                      what it was asked: all params, then length and CRC-32 of the body
//!   /big?bytes=N[&length=1]    N bytes of lines that say where they stand, with a Content-Length if wanted
//!   /header?back=N             length and CRC-32 of the request's X-Large; N bytes of X-Large come back
//!   /headers                   length and CRC-32 of all values of X-Part-…, in the order of their names
//!   /early?bytes=N[&read=1]    answers N bytes before it reads the body, which it tells of then, or does not read at all
//!   /empty                     a head and nothing else
//!   /cookies                   two of Set-Cookie
//!   /not-modified              304

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::time::Duration;

use steadfast_worker::{Failure, Request, Response, Worker};

const BLOCK: usize = 64 * 1024;
const LINE: usize = 64;

fn main() -> ExitCode {
    Worker::serve(answer)
}

fn answer(request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
    let fd = request.as_fd().as_raw_fd();
    let connection = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    response.header("X-Worker", std::process::id().to_string())?;
    response.header("X-Connection", connection.to_string_lossy().as_bytes())?;
    response.header("Content-Type", "text/plain")?;
    match request.path() {
        "/hello" => response.write_all(b"hello\n")?,
        "/sleep" => {
            std::thread::sleep(Duration::from_millis(number(request, "ms")? as u64));
            response.write_all(b"hello\n")?;
        }
        "/echo" => {
            for (name, value) in request.params() {
                writeln!(response, "{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))?;
            }
            say_sum(response, "body", request)?;
        }
        "/big" => {
            let bytes = number(request, "bytes")?;
            if query(request, "length").is_some() {
                response.header("Content-Length", bytes.to_string())?;
            }
            say_lines(response, bytes)?;
        }
        "/header" => {
            let back: Vec<u8> = (b'a'..=b'z').cycle().take(number(request, "back")?).collect();
            response.header("X-Large", back)?;
            say_sum(response, "large", &mut request.param("HTTP_X_LARGE").unwrap_or_default())?;
        }
        "/headers" => {
            let mut parts: Vec<_> = request.params().filter(|(name, _)| name.starts_with(b"HTTP_X_PART_")).collect();
            parts.sort_unstable();
            let all: Vec<u8> = parts.iter().flat_map(|(_, value)| value.iter().copied()).collect();
            say_sum(response, "headers", &mut all.as_slice())?;
        }
        "/early" => {
            say_lines(response, number(request, "bytes")?)?;
            response.flush()?;
            if query(request, "read").is_some() {
                say_sum(response, "body", request)?;
            }
        }
        "/empty" => {}
        "/cookies" => {
            response.header("Set-Cookie", "a=1; Path=/")?.header("Set-Cookie", "b=2; Path=/")?;
            response.write_all(b"hello\n")?;
        }
        "/not-modified" => {
            response.status(304)?.header("ETag", "\"one\"")?;
        }
        _ => {
            response.status(404)?;
            response.write_all(b"hello\n")?;
        }
    }
    Ok(())
}

fn query<'q>(request: &Request<'q>, name: &str) -> Option<&'q str> {
    request.query().split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, it)| it)
}

fn number(request: &Request<'_>, name: &str) -> Result<usize, Failure> {
    let text = query(request, name).unwrap_or("0");
    text.parse().map_err(|_| Failure::request(format!("{name} is no number: {text}")))
}

/// Length and CRC-32, as zlib has it.
fn say_sum(response: &mut Response<'_>, what: &str, from: &mut impl Read) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let (mut length, mut crc) = (0, u32::MAX);
    loop {
        let got = from.read(&mut block)?;
        if got == 0 {
            break;
        }
        length += got;
        for byte in block.iter().take(got) {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            }
        }
    }
    writeln!(response, "{what} {length} {:08x}", !crc)
}

/// Lines of 64 bytes: 15 hexadecimal digits that say where the line begins, dots, a newline.
fn say_lines(response: &mut Response<'_>, bytes: usize) -> io::Result<()> {
    let mut block = Vec::with_capacity(BLOCK);
    for start in (0..bytes).step_by(BLOCK) {
        block.clear();
        for at in (start..bytes.min(start + BLOCK)).step_by(LINE) {
            writeln!(block, "{at:015x}{}", ".".repeat(LINE - 16))?;
        }
        block.truncate(bytes - start);
        response.write_all(&block)?;
    }
    Ok(())
}
