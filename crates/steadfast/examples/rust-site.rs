//! A site on the worker library that can be told to fail at each step: the word in `way` beside it says how.
//!
//! `good`, or: `unloadable` (a preload step fails), `panicking` (it panics), `hollow` (it loads, and answers 500), `startless`
//! (each worker's own step fails), `threads` (a thread before the fork).

use std::io::Write;
use std::process::ExitCode;

use steadfast_worker::codes::EX_REQUEST;
use steadfast_worker::{AfterPanic, Failure, Request, Response, Worker};

fn main() -> ExitCode {
    // Beside the program where it was deployed, as it was when this generation began.
    let way = std::fs::read_to_string("way").unwrap_or_default();
    let way = way.trim();
    let release = std::env::current_dir().unwrap_or_default();
    let release = release.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let after_panic = if way == "leaving" { AfterPanic::Leave } else { AfterPanic::GoOn };
    Worker::builder()
        .preload("templates", || match way {
            "unloadable" => Err(Failure::request("templates/page.html has no place for the text")),
            "panicking" => panic!("templates/page.html is gone"),
            "threads" => {
                let (started, wait) = std::sync::mpsc::channel();
                let work = move || loop {
                    let _ = started.send(());
                    std::thread::park();
                };
                std::thread::Builder::new().name("db-pool".into()).spawn(work)?;
                Ok(wait.recv()?)
            }
            _ => Ok(()),
        })
        .start("database", || match way {
            "startless" => Err(Failure::request("connection refused")),
            "waiting" => Err(Failure::unavailable("database", "connection refused")),
            _ => Ok(()),
        })
        .on_term(|| {
            let _ = writeln!(std::io::stderr(), "leaving in good order");
        })
        .after_panic(after_panic)
        .max_requests(if way == "short" { 3 } else { 0 })
        .serve(|request, response| answer(way, &release, request, response))
}

fn answer(way: &str, release: &str, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
    match request.path() {
        _ if way == "hollow" => return Err(Failure::request("this release has no pages")),
        "/panic" => panic!("as it was asked to"),
        "/failed" => return Err(Failure::failed(EX_REQUEST, "this worker cannot go on")),
        "/broken" => return Err(Failure::broken(70, "nobody of this release can go on")),
        "/abort" => std::process::abort(),
        "/upload" => {
            let length = std::io::copy(request, &mut std::io::sink())?;
            writeln!(response, "{length} bytes")?;
        }
        _ => {
            response.header("Content-Type", "text/plain")?;
            writeln!(response, "ok {release} {}", std::process::id())?;
        }
    }
    Ok(())
}
