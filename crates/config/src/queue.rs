//! The keys of a pool that have a meaning in queue mode only.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use crate::known;
use crate::report::Findings;
use crate::tree::{Table, choice, number, parsed, word};
use crate::types::{ClientAbort, Fallback, Pool, Quarantine, Queue, RequestId, Retry};
use crate::values::{self, Complaint, positive};

/// The most requests that one worker takes at a time.
const CONCURRENCY_MAX: i128 = 1024;
/// The most requests that wait: each holds a connection.
const LENGTH_MAX: i128 = 65_536;
/// A worker that lives longer than this many requests lives for ever.
const REQUESTS_MAX: i128 = 1_000_000_000;
/// Statuses that have no body (RFC 9110): a fallback with one says nothing to anybody.
const BODILESS: [u16; 3] = [204, 205, 304];

pub(crate) const QUEUE_DEFAULT: Queue = Queue { length: 1024, timeout: Duration::from_secs(10) };
pub(crate) const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
pub(crate) const SLOW_REQUEST_DEFAULT: Duration = Duration::from_secs(5);
pub(crate) const FALLBACK_DEFAULT: Fallback =
    Fallback { status: 503, file: None, retry_after: Duration::from_secs(30) };

/// Reads them into `pool`. Relative paths start at `base`.
pub(crate) fn read(pool: &mut Pool, table: &Table<'_>, base: &Path, findings: &mut Findings) {
    pool.concurrency = table.get("concurrency", number(1..=CONCURRENCY_MAX), findings).unwrap_or(pool.concurrency);
    if let Some(queue) = table.table("queue", findings) {
        read_queue(&mut pool.queue, &queue, findings);
    }
    let quarantines = choice("quarantine", &[("off", Quarantine::Off), ("exact", Quarantine::Exact)], &[]);
    pool.quarantine = table.get("quarantine", quarantines, findings).unwrap_or(pool.quarantine);
    let retries =
        choice("retry", &[("never", Retry::Never), ("unsent", Retry::Unsent), ("idempotent", Retry::Idempotent)], &[]);
    pool.retry = table.get("retry", retries, findings).unwrap_or(pool.retry);
    let aborts = choice("client-abort", &[("finish", ClientAbort::Finish), ("cancel", ClientAbort::Cancel)], &[]);
    pool.client_abort = table.get("client-abort", aborts, findings).unwrap_or(pool.client_abort);
    let ids = choice("request-id", &[("make", RequestId::Make), ("trust", RequestId::Trust)], &[]);
    pool.request_id = table.get("request-id", ids, findings).unwrap_or(pool.request_id);
    let path = table.get("status-path", parsed(values::status_path, "/status"), findings);
    pool.status_path = path.filter(|path| !path.is_empty());
    let requests = table.get("max-requests", number(0..=REQUESTS_MAX), findings);
    pool.max_requests = requests.filter(|requests: &u64| *requests > 0);
    read_request_timeout(pool, table, findings);
    if let Some(slow) = table.get("slow-request", parsed(values::duration, "5s"), findings) {
        pool.slow_request = Some(slow).filter(|slow| !slow.is_zero());
    }
    if let Some(fallback) = table.table("fallback", findings) {
        read_fallback(&mut pool.fallback, &fallback, base, findings);
    }
}

/// How long a request may take: in direct mode only of a CGI program.
pub(crate) fn read_request_timeout(pool: &mut Pool, table: &Table<'_>, findings: &mut Findings) {
    let timeout = table.get("request-timeout", parsed(positive, "60s"), findings);
    pool.request_timeout = timeout.unwrap_or(pool.request_timeout);
}

fn read_queue(queue: &mut Queue, table: &Table<'_>, findings: &mut Findings) {
    table.refuse_unknown(known::QUEUE, known::no_refusal, findings);
    queue.length = table.get("length", number(0..=LENGTH_MAX), findings).unwrap_or(queue.length);
    let timeout = |text: &str| {
        positive(text).map_err(|complaint| match complaint.hint {
            Some(_) => complaint,
            None => complaint.hint("with `length = 0` nobody waits"),
        })
    };
    queue.timeout = table.get("timeout", parsed(timeout, "10s"), findings).unwrap_or(queue.timeout);
}

fn read_fallback(fallback: &mut Fallback, table: &Table<'_>, base: &Path, findings: &mut Findings) {
    table.refuse_unknown(known::FALLBACK, known::no_refusal, findings);
    let status = |value: &DeValue<'_>| match number(200..=599)(value)? {
        status if BODILESS.contains(&status) => Err(Complaint::new(format!(
            "an answer with the status {status} has no body, so visitors would see nothing"
        ))
        .hint("write `status = 503`")),
        status => Ok(status),
    };
    fallback.status = table.get("status", status, findings).unwrap_or(fallback.status);
    fallback.file = table.get("file", word, findings).map(|file| base.join(file));
    let retry_after = table.get("retry-after", parsed(values::duration, "30s"), findings);
    fallback.retry_after = retry_after.unwrap_or(fallback.retry_after);
}
