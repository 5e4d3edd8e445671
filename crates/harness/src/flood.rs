//! Requests at a fixed rate whatever becomes of them, each one noted; and `steadfast bench`, for rates that threads
//! cannot keep.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::STEADFAST;
use super::fcgi::{Address, Request};

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its number, from 0.
    pub number: u64,
    /// When it was sent.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// Of the answer; 0 when there was none.
    pub status: u16,
    /// `X-Steadfast`; for a request without an answer, what went wrong.
    pub reason: String,
    /// The body.
    pub body: String,
}

impl Told {
    /// Answered 200 by a worker.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.status == 200 && self.reason.is_empty()
    }

    /// Nobody took the connection.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.status == 0 && self.reason.starts_with("connect")
    }

    fn ask(number: u64, request: &Request, address: &Address) -> Told {
        let begun = Instant::now();
        let mut told =
            Told { number, begun, took: Duration::ZERO, status: 0, reason: String::new(), body: String::new() };
        match request.send(address) {
            Ok(answer) => {
                told.status = answer.status;
                told.reason = answer.header("X-Steadfast").unwrap_or_default().to_owned();
                told.body = answer.text();
            }
            Err(error) => {
                let refused = [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::NotFound];
                let what = if refused.contains(&error.kind()) { "connect: " } else { "" };
                told.reason = format!("{what}{error}");
            }
        }
        told.took = begun.elapsed();
        told
    }
}

/// How many of what kind there are, for the message of a failure: `200 ×99, 502 worker-died ×1`.
#[must_use]
pub fn kinds(all: &[Told]) -> String {
    let mut kinds = std::collections::BTreeMap::<String, u64>::new();
    for told in all {
        *kinds.entry(format!("{} {}", told.status, told.reason)).or_default() += 1;
    }
    kinds.iter().map(|(kind, count)| format!("{} ×{count}", kind.trim_end())).collect::<Vec<_>>().join(", ")
}

/// A running flood.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Told>>>,
}

impl Flood {
    /// `rate` requests a second by so many threads: each takes the next number and sends its request when it is due.
    /// Late ones are sent at once, so that a stall is followed by a crowd.
    #[must_use]
    pub fn start<F>(address: &Address, rate: u32, threads: u32, make: F) -> Flood
    where
        F: Fn(u64) -> Request + Send + Sync + 'static,
    {
        let (stop, next, make) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(make));
        let begun = Instant::now();
        let threads = (0..threads)
            .map(|_| {
                let (stop, next, make) = (Arc::clone(&stop), Arc::clone(&next), Arc::clone(&make));
                let address = address.clone();
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let due = begun + Duration::from_secs(1).mul_f64(number as f64 / f64::from(rate));
                        // The pause is the rate itself, and no wait for anything.
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        all.push(Told::ask(number, &make(number), &address));
                    }
                    all
                })
            })
            .collect();
        Flood { stop, threads }
    }

    /// Ends after the requests in flight; all of them in their order.
    #[must_use]
    pub fn stop(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let mut all: Vec<Told> = threads.flat_map(|thread| thread.join().expect("a visitor does not panic")).collect();
        all.sort_by_key(|told| told.number);
        all
    }
}

/// A running `steadfast bench --json`.
#[derive(Debug)]
pub struct Bench {
    /// Gone once it has been waited for.
    child: Option<Child>,
}

impl Bench {
    /// With these arguments after the address and the path.
    #[must_use]
    pub fn start(address: &Address, path: &str, arguments: &[&str]) -> Bench {
        let address = match address {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Tcp(address) => address.to_string(),
        };
        let child = Command::new(STEADFAST)
            .args(["bench", &address, path, "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {STEADFAST} bench: {error}"));
        Bench { child: Some(child) }
    }

    /// Whether it is not at its end yet.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was not waited for");
        child.try_wait().expect("it is our child").is_none()
    }

    /// Its document, when it has ended by itself.
    #[must_use]
    pub fn finish(mut self) -> Measured {
        let child = self.child.take().expect("it was not waited for");
        let output = child.wait_with_output().expect("it is our child");
        let text = String::from_utf8_lossy(&output.stdout);
        Measured(serde_json::from_str(&text).unwrap_or_else(|error| panic!("bench said {text:?}: {error}")))
    }
}

/// What `steadfast bench` has measured.
#[derive(Debug)]
pub struct Measured(pub Value);

impl Measured {
    /// A number by its JSON pointer.
    #[must_use]
    pub fn number(&self, pointer: &str) -> f64 {
        self.0.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {}", self.0))
    }

    /// The entry of `failures` with this `X-Steadfast`, if there were any.
    #[must_use]
    pub fn refused(&self, reason: &str) -> Option<&Value> {
        self.failures().iter().find(|failure| failure["reason"] == reason)
    }

    /// All that failed.
    #[must_use]
    pub fn failures(&self) -> &[Value] {
        self.0["failures"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when it has ended meanwhile.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}
