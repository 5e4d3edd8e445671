//! A pool's configuration in the words of the channel.

use std::time::Duration;

use steadfast_config::types::{self, Kind, Listen, Mode, Pool as Config};
use steadfast_policy::ids::{PoolId, WorkerId};
use steadfast_proto::front::{
    ClientAbort, Fallback, Figures, Listener, Manager, Pool, Protocol, RequestId, Retry, StatusPage, Verify,
};

use crate::clock::millis;

/// A script that is told to end has two seconds for that; then it is killed.
const SCRIPT_ENDS: Duration = Duration::from_secs(5);

/// Whether the front accepts for this pool.
pub(crate) fn is_queued(config: &Config) -> bool {
    config.mode == Mode::Queue
}

/// How long its workers may take to leave, if it is one of queue mode.
pub(crate) fn stop_timeout(config: &Config) -> Option<Duration> {
    is_queued(config).then_some(config.stop_timeout)
}

/// Requests that one worker takes at a time.
pub(crate) fn concurrency(config: &Config) -> u32 {
    config.concurrency.max(1)
}

/// How long a worker may take for a request. Of a CGI program the worker ends the script itself at the pool's timeout, and
/// is killed only if it does not.
pub(crate) fn request_timeout(config: &Config) -> Duration {
    match config.kind {
        Kind::FastCgi => config.request_timeout,
        Kind::Cgi => config.request_timeout.saturating_add(SCRIPT_ENDS),
    }
}

/// How long a request that has come may wait and take.
pub(crate) fn longest(config: &Config) -> Duration {
    config.queue.timeout.saturating_add(request_timeout(config))
}

/// What is spoken on a socket.
pub(crate) fn protocol(listen: &Listen) -> Protocol {
    match listen {
        Listen::Http(_) => Protocol::Http,
        Listen::Unix(_) | Listen::Tcp(_) | Listen::Fd(_) | Listen::Systemd(_) => Protocol::Fastcgi,
    }
}

/// After how many requests this worker is recycled: within a tenth of what is configured, other for each worker, so
/// that those that began together do not end together.
pub(crate) fn max_requests(config: &Config, worker: WorkerId) -> Option<u64> {
    let most = config.max_requests?;
    // A multiplier of Knuth's: neighbours fall far from each other.
    let spread = worker.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let tenth = most / 10;
    Some((most - tenth + spread % (2 * tenth + 1)).max(1))
}

/// The pool's message; whether its fallback has a body is known by whoever opens it.
pub(crate) fn pool(id: PoolId, config: &Config, listeners: Vec<Listener>) -> Pool {
    Pool {
        pool: id.0,
        name: config.name.clone(),
        listeners,
        allowed_clients: config.allowed_clients.clone(),
        queue_length: config.queue.length,
        queue_timeout_ms: millis(config.queue.timeout),
        request_timeout_ms: millis(request_timeout(config)),
        slow_request_ms: config.slow_request.map(millis),
        retry: match config.retry {
            types::Retry::Never => Retry::Never,
            types::Retry::Unsent => Retry::Unsent,
            types::Retry::Idempotent => Retry::Idempotent,
        },
        client_abort: match config.client_abort {
            types::ClientAbort::Finish => ClientAbort::Finish,
            types::ClientAbort::Cancel if config.kind == Kind::Cgi => ClientAbort::Close,
            types::ClientAbort::Cancel => ClientAbort::Cancel,
        },
        request_id: match config.request_id {
            types::RequestId::Make => RequestId::Make,
            types::RequestId::Trust => RequestId::Trust,
        },
        quarantine: config.quarantine == types::Quarantine::Exact,
        params: config.params.clone(),
        verify: config.verify.as_ref().map(|verify| Verify {
            method: verify.method.clone(),
            uri: verify.uri.clone(),
            status: verify.status,
            body: verify.body.clone(),
            timeout_ms: millis(verify.timeout),
        }),
        fallback: Fallback {
            status: config.fallback.status,
            retry_after_ms: millis(config.fallback.retry_after),
            has_body: false,
            content_type: config.fallback.content_type().to_owned(),
        },
        status: None,
    }
}

/// The status page, if the pool has one.
pub(crate) fn status(config: &Config, since: u64, before: Figures) -> Option<StatusPage> {
    let types::Workers { min, max, .. } = config.workers;
    let manager = match min {
        0 => Manager::Ondemand,
        min if min == max => Manager::Static,
        _ => Manager::Dynamic,
    };
    let page = |path: &String| StatusPage { path: path.clone(), manager, workers_max: max, since, before };
    config.status_path.as_ref().map(page)
}
