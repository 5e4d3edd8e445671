//! Answers a pool's status path: what the front and the supervisor know of the pool, in the words of php-fpm (`dialect`).
//!
//! The front answers it itself, whatever its workers do: it is no visit, it is never counted, and it never waits.

use std::time::{Duration, SystemTime};

use steadfast_proto::fcgi::record::{role, status};

use crate::dialect::{Process, Report, page};
use crate::ending::{Outcome, finish};
use crate::keys::{PoolId, RequestKey, WorkerKey};
use crate::request::{Origin, Request, State, TOLD_MAX, param, uri};
use crate::state::{Front, Pool, Standing};
use crate::visitor;

/// Whether a request asks for its pool's status. An authorizer is not told of one: a page would mean yes.
pub(crate) fn is_asked(pool: &Pool, request: &Request) -> bool {
    let Some(status) = &pool.config.status else { return false };
    let path = |name: &[u8]| request.param(name).unwrap_or_default();
    // A web server that splits paths says the same in two.
    request.role == role::RESPONDER
        && status.path.as_bytes().strip_prefix(path(b"SCRIPT_NAME")) == Some(path(b"PATH_INFO"))
}

/// Answers it.
pub(crate) fn answer(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get(key) else { return };
    let Some(pool) = front.pools.get(&request.pool) else { return };
    let query = request.param(b"QUERY_STRING").unwrap_or_default().to_vec();
    let Some(report) = report(front, request.pool, pool) else { return };
    let page = page(&report, &query);
    visitor::show(front, key, &page, status::REQUEST_COMPLETE);
    finish(front, key, Outcome::Told);
}

fn report<'a>(front: &Front, id: PoolId, pool: &'a Pool) -> Option<Report<'a>> {
    let status = pool.config.status.as_ref()?;
    let is_counted = |request: &&Request| {
        let is_visit = !matches!(request.origin, Origin::Verify(_));
        request.pool == id && is_visit && request.state != State::Reading
    };
    let open = front.requests.values().filter(is_counted).count() as u64;
    let workers = front.workers.iter().filter(|(_, worker)| worker.pool == id);
    // Who is being looked at serves nobody, and who has finished is leaving.
    let shown = workers.filter(|(_, worker)| worker.standing == Standing::Admitted || worker.busy > 0);
    let mut processes: Vec<Process> = shown.filter_map(|(key, _)| process(front, key)).collect();
    processes.sort_unstable_by_key(|process| process.pid);
    Some(Report {
        pool: &pool.config.name,
        manager: status.manager,
        since: status.since,
        now: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        accepted: pool.figures.accepted + open,
        waiting: pool.waiting,
        waiting_max: pool.figures.waiting_max,
        queue_length: pool.config.queue_length,
        busy_max: pool.figures.busy_max,
        full: pool.figures.full,
        slow: pool.figures.slow,
        processes,
    })
}

/// A worker with the oldest request that it has in hand, else with its last.
fn process(front: &Front, key: WorkerKey) -> Option<Process> {
    let worker = front.workers.get(key)?;
    let requests = worker.lanes.iter().filter_map(|lane| front.requests.get(front.lanes.get(*lane)?.request?));
    let oldest = requests.min_by_key(|request| request.handed);
    let (params, took) = match (oldest, &worker.last) {
        (Some(request), _) => (&request.params[..], front.now.saturating_duration_since(request.handed)),
        (None, Some((params, took))) => (&params[..], *took),
        (None, None) => (&[][..], Duration::ZERO),
    };
    let told = |value: &[u8]| match plain(value) {
        text if text.is_empty() => "-".to_owned(),
        text => text,
    };
    let length = param(params, b"CONTENT_LENGTH").and_then(|digits| std::str::from_utf8(digits).ok());
    Some(Process {
        pid: worker.life.pid,
        is_busy: worker.busy > 0,
        since: worker.life.since,
        requests: worker.life.served + worker.served + u64::from(worker.busy),
        took,
        method: told(param(params, b"REQUEST_METHOD").unwrap_or_default()),
        uri: told(&uri(params)),
        length: length.and_then(|digits| digits.parse().ok()).unwrap_or(0),
        user: told(param(params, b"REMOTE_USER").unwrap_or_default()),
        script: told(param(params, b"SCRIPT_FILENAME").unwrap_or_default()),
    })
}

/// A stranger's text: not long, and without control characters, which end lines and which XML forbids.
fn plain(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(&value[..value.len().min(TOLD_MAX)]);
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
