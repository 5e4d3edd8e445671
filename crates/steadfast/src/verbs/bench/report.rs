//! What was measured, for people and as JSON.

use std::time::Duration;

use serde::Serialize;

use steadfast_proto::exit::ExitCode;

use super::load::Outcome;
use super::tally::{Latency, Tally};
use crate::failure::Failure;
use crate::output::{Paint, Style};
use crate::units::{clean, size};

/// From this share of a core on, this program itself may be what is measured.
const BUSY: f64 = 0.9;

/// What was measured how.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    pub(super) address: String,
    pub(super) path: String,
    pub(super) method: String,
    pub(super) connections: usize,
    pub(super) keep_alive: bool,
    /// `null`: closed loop.
    pub(super) rate: Option<f64>,
    /// The length of one request with everything around it.
    pub(super) request_bytes: usize,
}

/// What came of it.
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) outcome: Outcome,
    /// The share of one core that this program used.
    pub(super) cpu: f64,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    setting: &'a Setting,
    elapsed_ms: f64,
    interrupted: bool,
    /// Good answers a second.
    rps: f64,
    requests: Requests,
    /// Of good answers. `null`: there was none.
    latency_ms: Option<Latencies>,
    bytes: Bytes,
    connects: u64,
    /// The most requests that waited for a free connection.
    backlog_peak: u64,
    failures: Vec<Failed<'a>>,
    /// The share of one core that the load generator used: near 1 it measures itself.
    client_cpu: f64,
}

#[derive(Serialize)]
struct Requests {
    total: u64,
    ok: u64,
    failed: u64,
    resent: u64,
}

#[derive(Serialize)]
struct Bytes {
    read: u64,
    written: u64,
}

#[derive(Serialize)]
struct Latencies {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

/// `kind` is `status`, or the name of a [`super::tally::Fault`].
#[derive(Serialize)]
struct Failed<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// `X-Steadfast`.
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latencies>,
    /// The first one's.
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

impl Report {
    fn tally(&self) -> &Tally {
        &self.outcome.tally
    }

    fn rps(&self) -> f64 {
        let elapsed = self.outcome.elapsed.as_secs_f64();
        if elapsed > 0.0 { self.tally().good_in_time as f64 / elapsed } else { 0.0 }
    }

    /// One JSON document.
    ///
    /// # Errors
    /// It cannot be written as JSON: a defect.
    pub(super) fn json(&self) -> Result<String, Failure> {
        let tally = self.tally();
        let (ok, failed) = (tally.good.total(), tally.failed());
        let refused = tally.refusals.iter().map(|refusal| Failed {
            kind: "status",
            status: Some(refusal.status),
            reason: &refusal.word,
            count: refusal.latency.total(),
            latency_ms: latencies(&refusal.latency),
            message: "",
        });
        let faults = tally.faults().map(|(fault, count, message)| Failed {
            kind: fault.name(),
            status: None,
            reason: "",
            count,
            latency_ms: None,
            message,
        });
        let document = Document {
            setting: &self.setting,
            elapsed_ms: rounded(self.outcome.elapsed.as_secs_f64() * 1000.0),
            interrupted: self.outcome.was_interrupted,
            rps: rounded(self.rps()),
            requests: Requests { total: ok + failed, ok, failed, resent: tally.resent },
            latency_ms: latencies(&tally.good),
            bytes: Bytes { read: tally.bytes_read, written: tally.bytes_written },
            connects: tally.connects,
            backlog_peak: tally.backlog_peak,
            failures: refused.chain(faults).collect(),
            client_cpu: rounded(self.cpu),
        };
        serde_json::to_string(&document)
            .map(|text| format!("{text}\n"))
            .map_err(|error| Failure::new(ExitCode::Bug, format!("the report cannot be written as JSON: {error}")))
    }

    /// A few lines.
    pub(super) fn text(&self, style: Style) -> String {
        let tally = self.tally();
        let (ok, failed) = (tally.good.total(), tally.failed());
        let mut text = self.heading();
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<14}{value}\n"));
        line("requests/s", &style.paint(Paint::Strong, &format!("{:.1}", self.rps())));
        let count = format!("{failed} failed");
        let count = if failed > 0 { style.paint(Paint::Bad, &count) } else { count };
        line("requests", &format!("{}, {count}", ok + failed));
        if let Some(latency) = shown(&tally.good) {
            line("latency", &latency);
        }
        let moved = format!("{} read, {} written", size(tally.bytes_read), size(tally.bytes_written));
        line("bytes", &moved);
        line("connections", &format!("{} made", tally.connects));
        if tally.resent > 0 {
            line("sent again", &format!("{}: the kept connection had just been closed", tally.resent));
        }
        if tally.backlog_peak > 0 {
            line("backlog", &format!("{} at most: requests that waited for a free connection", tally.backlog_peak));
        }
        for refusal in &tally.refusals {
            let word = clean(&refusal.word);
            let name = format!("status {} {word}", refusal.status);
            let latency = shown(&refusal.latency).unwrap_or_default();
            line("failed", &format!("{:>9}  {:<24}  {latency}", refusal.latency.total(), name.trim_end()));
        }
        for (fault, count, words) in tally.faults() {
            line("failed", &format!("{count:>9}  {:<24}  {}", fault.name(), clean(words)));
        }
        if self.outcome.was_interrupted {
            text.push_str("note: interrupted; this is what was measured until then\n");
        }
        if self.cpu > BUSY {
            text.push_str(&format!(
                "note: this program used {:.0} % of a core: the server may be able to do more\n",
                self.cpu * 100.0
            ));
        }
        text
    }

    fn heading(&self) -> String {
        let Setting { address, path, method, connections, keep_alive, rate, .. } = &self.setting;
        let pace = rate.map_or("closed loop".to_owned(), |rate| format!("{rate} requests a second"));
        let plural = if *connections == 1 { "" } else { "s" };
        let kept = if *keep_alive { "kept" } else { "new for each request" };
        let elapsed = self.outcome.elapsed.as_secs_f64();
        clean(&format!(
            "{method} {path} of {address}: {pace}, {connections} connection{plural}, {kept}, {elapsed:.1} s"
        )) + "\n"
    }
}

fn latencies(latency: &Latency) -> Option<Latencies> {
    let ms = |duration: Duration| rounded(duration.as_secs_f64() * 1000.0);
    (latency.total() > 0).then(|| Latencies {
        mean: ms(latency.mean()),
        p50: ms(latency.percentile(50.0)),
        p90: ms(latency.percentile(90.0)),
        p99: ms(latency.percentile(99.0)),
        p999: ms(latency.percentile(99.9)),
        max: ms(latency.max()),
    })
}

/// Four digits behind the point: a tenth of a microsecond is noise.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn shown(latency: &Latency) -> Option<String> {
    let percentiles = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];
    let mut parts: Vec<String> =
        percentiles.iter().map(|(name, percent)| format!("{name} {}", short(latency.percentile(*percent)))).collect();
    parts.push(format!("max {}", short(latency.max())));
    (latency.total() > 0).then(|| parts.join("  "))
}

/// Three digits and a unit: `26.1µs`, `1.02ms`, `3.10s`.
fn short(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1_000_000.0;
    let (value, unit) = match micros {
        micros if micros < 999.5 => (micros, "µs"),
        micros if micros < 999_500.0 => (micros / 1000.0, "ms"),
        micros => (micros / 1_000_000.0, "s"),
    };
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
