//! What php-fpm's status page looks like, in each of its six kinds, so that what reads that one reads ours.
//!
//! Keys, their order and their spelling are those of php-fpm 8.2 (`sapi/fpm/fpm/fpm_status.c`), which looks for the names
//! `full`, `html`, `xml`, `json` and `openmetrics` in the query. Of a worker's last request it tells processor time and
//! memory; we do not know them, and they are always 0.

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use steadfast_proto::front::Manager;

use crate::place::{Page, escape};

/// A pool.
#[derive(Clone, Debug)]
pub(crate) struct Report<'a> {
    /// Its name.
    pub(crate) pool: &'a str,
    /// How the number of its workers is decided.
    pub(crate) manager: Manager,
    /// When it began, in seconds since 1970.
    pub(crate) since: u64,
    /// Now, in the same.
    pub(crate) now: u64,
    /// Requests.
    pub(crate) accepted: u64,
    /// Those that wait.
    pub(crate) waiting: u32,
    /// The most that did.
    pub(crate) waiting_max: u32,
    /// So many may.
    pub(crate) queue_length: u32,
    /// The most workers that were busy.
    pub(crate) busy_max: u32,
    /// How often there were too few workers, and could be no more.
    pub(crate) full: u64,
    /// Slow requests.
    pub(crate) slow: u64,
    /// Its workers.
    pub(crate) processes: Vec<Process>,
}

/// A worker. Its texts have no control characters; they may have anything else.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// The process.
    pub(crate) pid: u32,
    /// It has a request in hand.
    pub(crate) is_busy: bool,
    /// When it began, in seconds since 1970.
    pub(crate) since: u64,
    /// Requests that it was given.
    pub(crate) requests: u64,
    /// How long the request took, or takes.
    pub(crate) took: Duration,
    /// Its method.
    pub(crate) method: String,
    /// Its URI.
    pub(crate) uri: String,
    /// So long its body is.
    pub(crate) length: u64,
    /// Whose it was.
    pub(crate) user: String,
    /// The script that answers it.
    pub(crate) script: String,
}

/// What stands behind a key.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Text(&'a str),
    Number(u64),
    /// Seconds since 1970: a date where people read it.
    Time(u64),
    /// A share of processor time.
    Share,
}

/// The kinds of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Html,
    Xml,
    Json,
    OpenMetrics,
}

impl Kind {
    /// The first that the query names, in php-fpm's order.
    fn asked(query: &[u8]) -> Kind {
        let kinds: [(&[u8], Kind); 4] =
            [(b"html", Kind::Html), (b"xml", Kind::Xml), (b"json", Kind::Json), (b"openmetrics", Kind::OpenMetrics)];
        kinds.into_iter().find(|(word, _)| has(query, word)).map_or(Kind::Text, |(_, kind)| kind)
    }

    fn media_type(self) -> &'static str {
        match self {
            Kind::Text => "text/plain;charset=UTF-8",
            Kind::Html => "text/html;charset=UTF-8",
            Kind::Xml => "text/xml;charset=UTF-8",
            Kind::Json => "application/json",
            Kind::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Whether one of the query's names is the word, or its beginning: so php-fpm compares.
fn has(query: &[u8], word: &[u8]) -> bool {
    let names = query.split(|byte| *byte == b'&').filter_map(|pair| pair.split(|byte| *byte == b'=').next());
    names.into_iter().any(|name| !name.is_empty() && word.starts_with(name))
}

/// The page that this query asks for.
pub(crate) fn page(report: &Report<'_>, query: &[u8]) -> Page {
    let kind = Kind::asked(query);
    let processes = if has(query, b"full") { &report.processes[..] } else { &[] };
    let is_full = has(query, b"full");
    let body = match kind {
        Kind::Text => text(report, processes),
        Kind::Html => html(report, processes, is_full),
        Kind::Xml => xml(report, processes, is_full),
        Kind::Json => json(report, processes, is_full),
        Kind::OpenMetrics => metrics(report),
    };
    // Four lines, as php-fpm's: there are scripts that cut them off.
    let headers = vec![
        ("X-Steadfast", "status".to_owned()),
        ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT".to_owned()),
        ("Cache-Control", "no-cache, no-store, must-revalidate, max-age=0".to_owned()),
        ("Content-Type", kind.media_type().to_owned()),
    ];
    Page { status: 200, headers, body: Bytes::from(body) }
}

fn manager(manager: Manager) -> &'static str {
    match manager {
        Manager::Static => "static",
        Manager::Dynamic => "dynamic",
        Manager::Ondemand => "ondemand",
    }
}

fn pool<'a>(report: &Report<'a>) -> [(&'static str, Value<'a>); 14] {
    let busy = report.processes.iter().filter(|process| process.is_busy).count() as u64;
    let total = report.processes.len() as u64;
    [
        ("pool", Value::Text(report.pool)),
        ("process manager", Value::Text(manager(report.manager))),
        ("start time", Value::Time(report.since)),
        ("start since", Value::Number(report.now.saturating_sub(report.since))),
        ("accepted conn", Value::Number(report.accepted)),
        ("listen queue", Value::Number(report.waiting.into())),
        ("max listen queue", Value::Number(report.waiting_max.into())),
        ("listen queue len", Value::Number(report.queue_length.into())),
        ("idle processes", Value::Number(total - busy)),
        ("active processes", Value::Number(busy)),
        ("total processes", Value::Number(total)),
        ("max active processes", Value::Number(report.busy_max.into())),
        ("max children reached", Value::Number(report.full)),
        ("slow requests", Value::Number(report.slow)),
    ]
}

/// `uri`: its name, which has capitals in the text and nowhere else.
fn process<'a>(process: &'a Process, now: u64, uri: &'static str) -> [(&'static str, Value<'a>); 13] {
    [
        ("pid", Value::Number(process.pid.into())),
        ("state", Value::Text(if process.is_busy { "Running" } else { "Idle" })),
        ("start time", Value::Time(process.since)),
        ("start since", Value::Number(now.saturating_sub(process.since))),
        ("requests", Value::Number(process.requests)),
        ("request duration", Value::Number(u64::try_from(process.took.as_micros()).unwrap_or(u64::MAX))),
        ("request method", Value::Text(&process.method)),
        (uri, Value::Text(&process.uri)),
        ("content length", Value::Number(process.length)),
        ("user", Value::Text(&process.user)),
        ("script", Value::Text(&process.script)),
        ("last request cpu", Value::Share),
        ("last request memory", Value::Number(0)),
    ]
}

impl Value<'_> {
    /// For people, with whatever strangers have put into it.
    fn told(self) -> String {
        match self {
            Value::Text(text) => text.to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Time(seconds) => Date(seconds).to_string(),
            Value::Share => "0.00".to_owned(),
        }
    }

    fn markup(self, has_dates: bool, out: &mut String) {
        match self {
            Value::Time(seconds) if !has_dates => {
                let _ = write!(out, "{seconds}");
            }
            other => escape(&other.told(), out),
        }
    }

    fn json(self, out: &mut String) {
        match self {
            Value::Text(text) => quote(text, out),
            Value::Number(number) | Value::Time(number) => {
                let _ = write!(out, "{number}");
            }
            Value::Share => out.push_str("0.00"),
        }
    }
}

fn text(report: &Report<'_>, processes: &[Process]) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: Value<'_>| {
        let _ = writeln!(out, "{:<22}{}", format!("{key}:"), value.told());
    };
    pool(report).into_iter().for_each(|(key, value)| line(key, value));
    for one in processes {
        out.push_str("\n************************\n");
        for (key, value) in process(one, report.now, "request URI") {
            let _ = writeln!(out, "{:<22}{}", format!("{key}:"), value.told());
        }
    }
    out
}

fn json(report: &Report<'_>, processes: &[Process], is_full: bool) -> String {
    let mut out = String::new();
    object(&pool(report), &mut out);
    if is_full {
        out.pop();
        out.push_str(", \"processes\":[");
        for (at, one) in processes.iter().enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            object(&process(one, report.now, "request uri"), &mut out);
        }
        out.push_str("]}");
    }
    out
}

fn object(pairs: &[(&'static str, Value<'_>)], out: &mut String) {
    for (at, (key, value)) in pairs.iter().enumerate() {
        out.push(if at > 0 { ',' } else { '{' });
        quote(key, out);
        out.push(':');
        value.json(out);
    }
    out.push('}');
}

/// A string of JSON.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

fn xml(report: &Report<'_>, processes: &[Process], is_full: bool) -> String {
    let mut out = String::from("<?xml version=\"1.0\" ?>\n<status>\n");
    let element = |key: &str, value: Value<'_>, out: &mut String| {
        let name = key.replace(' ', "-");
        let _ = write!(out, "<{name}>");
        value.markup(false, out);
        let _ = write!(out, "</{name}>");
    };
    for (key, value) in pool(report) {
        element(key, value, &mut out);
        out.push('\n');
    }
    if is_full {
        out.push_str("<processes>\n");
        for one in processes {
            out.push_str("<process>");
            process(one, report.now, "request uri").into_iter().for_each(|(key, value)| element(key, value, &mut out));
            out.push_str("</process>\n");
        }
        out.push_str("</processes>\n");
    }
    out.push_str("</status>\n");
    out
}

fn html(report: &Report<'_>, processes: &[Process], is_full: bool) -> String {
    let mut out =
        String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>Status Page</title></head>\n<body>\n");
    out.push_str("<table>\n");
    for (key, value) in pool(report) {
        let _ = write!(out, "<tr><th>{key}</th><td>");
        value.markup(true, &mut out);
        out.push_str("</td></tr>\n");
    }
    out.push_str("</table>\n");
    if is_full {
        out.push_str("<table border=\"1\">\n");
        for (at, one) in processes.iter().enumerate() {
            let cells = process(one, report.now, "request uri");
            if at == 0 {
                let heads: String = cells.iter().map(|(key, _)| format!("<th>{key}</th>")).collect();
                let _ = writeln!(out, "<tr>{heads}</tr>");
            }
            out.push_str("<tr>");
            for (_, value) in cells {
                out.push_str("<td>");
                value.markup(true, &mut out);
                out.push_str("</td>");
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table>\n");
    }
    out.push_str("</body></html>\n");
    out
}

fn metrics(report: &Report<'_>) -> String {
    let mut out = String::new();
    let name = report.pool;
    let up = format!("Could pool {name} using a {} PM be reached?", manager(report.manager));
    let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = write!(out, "# HELP phpfpm_{name} {help}\n# TYPE phpfpm_{name} {kind}\nphpfpm_{name} {value}\n");
    };
    metric("up", "gauge", &up, 1);
    let told: [(&str, &str, &str, &str); 11] = [
        ("start_since", "start since", "counter", "The number of seconds since the pool has started."),
        ("accepted_connections", "accepted conn", "counter", "The number of requests accepted by the pool."),
        ("listen_queue", "listen queue", "gauge", "The number of requests that wait for a worker."),
        ("max_listen_queue", "max listen queue", "counter", "The most requests that have waited for a worker."),
        ("listen_queue_length", "listen queue len", "gauge", "The number of requests that may wait for a worker."),
        ("idle_processes", "idle processes", "gauge", "The number of idle processes."),
        ("active_processes", "active processes", "gauge", "The number of active processes."),
        ("total_processes", "total processes", "gauge", "The number of idle + active processes."),
        ("max_active_processes", "max active processes", "counter", "The most processes that have been active."),
        (
            "max_children_reached",
            "max children reached",
            "counter",
            "How often there were too few, and no more allowed.",
        ),
        ("slow_requests", "slow requests", "counter", "The number of requests that took longer than slow-request."),
    ];
    let values = pool(report);
    for (name, key, kind, help) in told {
        let value = values.iter().find(|(other, _)| *other == key);
        if let Some((_, Value::Number(value))) = value {
            metric(name, kind, help, *value);
        }
    }
    out.push_str("# EOF\n");
    out
}

/// A moment in UTC as php-fpm writes it: `28/Nov/2026:22:01:05 +0000`.
struct Date(u64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Years begin in March here, so that a leap day is a year's last (Howard Hinnant, chrono-compatible algorithms).
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, calendar) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12);
        let year = year + era * 400 + u64::from(calendar < 2);
        let name = MONTHS.get(calendar as usize).unwrap_or(&"Jan");
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
    }
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;
