//! The verify request: asked of a worker before anybody else may be its visitor.

use std::time::Duration;

use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::role;
use steadfast_proto::front::FromFront;

use crate::ending::{Outcome, finish};
use crate::intake;
use crate::keys::{RequestKey, WorkerKey};
use crate::lanes::{self, Handed};
use crate::request::{Method, Origin, Request};
use crate::state::Front;

/// How much of an unexpected answer is told.
const SHOWN: usize = 200;

/// Asks.
pub(crate) fn begin(front: &mut Front, worker: WorkerKey) {
    let now = front.now;
    let Some(entry) = front.workers.get(worker) else { return };
    if entry.busy > 0 {
        // It is being asked.
        return;
    }
    let (id, pool_id) = (entry.id, entry.pool);
    let Some(pool) = front.pools.get(&pool_id) else { return };
    let Some(verify) = &pool.config.verify else {
        let why = "the pool has no verify request".to_owned();
        return front.channel.send(&FromFront::VerifyFailed { worker: id, why });
    };
    let timeout = Duration::from_millis(verify.timeout_ms);
    let mut request = Request::new(pool_id, Origin::Verify(worker), role::RESPONDER, now);
    request.method = Method::named(verify.method.as_bytes());
    request.params = params(&verify.method, &verify.uri, &pool.config.params);
    request.body.is_complete = true;
    let key = front.requests.insert(request);
    let wire = front.buffer();
    let sealed = front.requests.get_mut(key).map(|request| intake::seal(request, &format!("verify-{id}"), wire));
    if sealed != Some(Ok(())) {
        return failed(front, worker, key, "the verify request does not fit into FastCGI's records".to_owned());
    }
    match lanes::hand(front, worker, key) {
        Handed::Yes => front.set_request_due(key, Some(now + timeout)),
        Handed::No => failed(front, worker, key, "it took no connection".to_owned()),
    }
}

/// The parameters of a request that no web server has made.
fn params(method: &str, uri: &str, own: &std::collections::BTreeMap<String, String>) -> Vec<u8> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let usual = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", concat!("steadfast/", env!("CARGO_PKG_VERSION"))),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_ADDR", "127.0.0.1"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "0"),
        ("REQUEST_SCHEME", "http"),
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", uri),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("HTTP_HOST", "localhost"),
        ("HTTP_USER_AGENT", "steadfast-verify"),
    ];
    let mut stream = Vec::new();
    let usual = usual.into_iter().filter(|(name, _)| !own.contains_key(*name));
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in usual.chain(own) {
        // Lengths beyond 2^31 cannot come out of a configuration.
        let _ = push_pair(&mut stream, name.as_bytes(), value.as_bytes());
    }
    stream
}

/// The answer is complete.
pub(crate) fn answered(front: &mut Front, worker: WorkerKey, key: RequestKey) {
    let Some(request) = front.requests.get(key) else { return };
    let Some(verify) = front.pools.get(&request.pool).and_then(|pool| pool.config.verify.as_ref()) else {
        return failed(front, worker, key, "the pool has no verify request any more".to_owned());
    };
    let (status, body) = (request.reply.status, &request.reply.head);
    let why = if status != Some(verify.status) {
        let got = status.map_or("an answer without a proper status".to_owned(), |status| format!("status {status}"));
        Some(format!("{} {}: expected status {}, got {got}: {}", verify.method, verify.uri, verify.status, shown(body)))
    } else if !contains(body, verify.body.as_bytes()) {
        let expected = &verify.body;
        Some(format!("{} {}: expected {expected:?} in the body, got {}", verify.method, verify.uri, shown(body)))
    } else {
        None
    };
    match why {
        Some(why) => failed(front, worker, key, why),
        None => {
            finish(front, key, Outcome::Served);
            if let Some(worker) = front.workers.get(worker) {
                front.channel.send(&FromFront::Verified { worker: worker.id });
            }
        }
    }
}

/// The worker has failed.
pub(crate) fn failed(front: &mut Front, worker: WorkerKey, key: RequestKey, why: String) {
    finish(front, key, Outcome::Aborted);
    if let Some(worker) = front.workers.get(worker) {
        front.channel.send(&FromFront::VerifyFailed { worker: worker.id, why });
    }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    part.is_empty() || body.windows(part.len()).any(|window| window == part)
}

fn shown(body: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&body[..body.len().min(SHOWN)]))
}
