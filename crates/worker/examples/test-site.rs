//! A page for each behaviour that the tests want of a real process. What its steps do is said in the environment.

use std::env;
use std::fmt::Display;
use std::io::{Read, Write};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use steadfast_worker::{AfterPanic, Failure, Request, Response, Worker};

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn main() -> ExitCode {
    let max = variable("SITE_MAX_REQUESTS").parse().unwrap_or(0);
    let after_panic = if variable("SITE_AFTER_PANIC") == "leave" { AfterPanic::Leave } else { AfterPanic::GoOn };
    let mut builder = Worker::builder().max_requests(max).after_panic(after_panic);
    if !variable("SITE_LISTEN").is_empty() {
        builder = builder.listen(variable("SITE_LISTEN"));
    }
    builder
        .preload("the pages", || step("SITE_PRELOAD"))
        .start("the database", || step("SITE_START"))
        .on_term(|| {
            let _ = std::io::stderr().write_all(b"asked to leave\n");
        })
        .serve(answer)
}

fn step(name: &str) -> Result<(), Failure> {
    match variable(name).as_str() {
        "fail" => Err(Failure::request("it failed")),
        "panic" => panic!("it panicked"),
        "code" => Err(Failure::failed(42, "it failed with a code")),
        "unavailable" => Err(Failure::unavailable("db", "it is away").retry_after(Duration::from_secs(3))),
        "park" => loop {
            thread::park();
        },
        "unended" => Ok(std::io::stdout().write_all(b"a line without an end")?),
        "thread" => {
            // For a TERM that does not reach the thread that accepts.
            thread::spawn(|| {
                loop {
                    thread::park();
                }
            });
            Ok(())
        }
        _ => Ok(()),
    }
}

fn say(response: &mut Response<'_>, what: impl Display) -> Result<(), Failure> {
    response.header("Content-Type", "text/plain; charset=utf-8")?;
    write!(response, "{what}")?;
    Ok(())
}

fn answer(request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
    match request.path() {
        "/" => say(response, "well"),
        "/pid" => say(response, std::process::id()),
        "/upload" => {
            let (mut length, mut bytes) = (0, [0; 4096]);
            loop {
                match request.read(&mut bytes)? {
                    0 => return say(response, length),
                    got => length += got,
                }
            }
        }
        "/begin" => {
            // The asker knows that it has begun, and lets it go on.
            response.write_all(b"begun ")?;
            response.flush()?;
            request.read_to_end(&mut Vec::new())?;
            say_more(response, "ended")
        }
        "/compute" => {
            response.write_all(b"begun ")?;
            response.flush()?;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            say_more(response, "ended")
        }
        "/large" => Ok(response.write_all(&vec![b'x'; 3_000_000])?),
        "/fail" => Err(Failure::request("it failed")),
        "/panic" => panic!("it panicked"),
        "/failed" => Err(Failure::failed(9, "it cannot go on")),
        "/broken" => Err(Failure::broken(11, "none of us can go on")),
        "/warn" => {
            response.warn("a line for the log");
            say(response, "warned")
        }
        "/program" => {
            // What a program that a worker starts finds in its environment.
            let output = Command::new("sh")
                .args([
                    "-c",
                    "printf '%s|%s|' \"$STEADFAST_ROLE\" \"$STEADFAST_LINK\"; ls -l /proc/$$/fd | grep -o 'socket:.*'",
                ])
                .output()?;
            say(response, String::from_utf8_lossy(&output.stdout))
        }
        path => {
            response.status(404)?;
            say(response, path)
        }
    }
}

fn say_more(response: &mut Response<'_>, what: &str) -> Result<(), Failure> {
    Ok(response.write_all(what.as_bytes())?)
}
