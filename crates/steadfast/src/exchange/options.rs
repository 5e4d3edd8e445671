//! What `ping` and `bench` are given on the command line, and the request that it describes.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use steadfast_proto::exit::ExitCode;

use super::address::{Address, Protocol};
use super::head::is_token;
use super::question::Question;
use crate::failure::{Failure, reason};
use crate::units::parse_duration;

/// The longest body that is sent.
const BODY_MAX: u64 = 256 * 1024 * 1024;
/// The longest path with its query.
const TARGET_MAX: usize = 60 * 1024;
/// More connections than this need more than one thread.
const CONNECTIONS_MAX: u32 = 10_000;

/// Of whom what is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asked {
    /// unix:PATH or HOST:PORT for FastCGI, http://HOST:PORT for HTTP
    #[arg(value_name = "ADDR")]
    pub(crate) address: Address,
    /// The path with its query [default: /]
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// A header, as visitors send it; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// A FastCGI param of your own, or instead of ours; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_param)]
    pub(crate) params: Vec<(String, String)>,
    /// [default: GET, or POST with --data]
    #[arg(long, value_name = "METHOD", value_parser = parse_method)]
    pub(crate) method: Option<String>,
    /// The body: text, @FILE, or @- for stdin
    #[arg(long, value_name = "TEXT|@FILE")]
    pub(crate) data: Option<String>,
    /// How long one answer may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_patience)]
    pub(crate) timeout: Duration,
}

/// `steadfast ping`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast ping unix:/run/site.sock /health
  steadfast ping 127.0.0.1:9000 /index.php --param SCRIPT_FILENAME=/srv/site/index.php
  steadfast ping http://127.0.0.1:8080/health --status-only

Exit codes: 0 the status is below 500, or as expected; 1 it is not, or there was no answer; 75 timed out.")]
pub(crate) struct Ping {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// The status and the headers before the body
    #[arg(short = 'i', long)]
    pub(crate) include: bool,
    /// Only the status, such as 200
    #[arg(long, conflicts_with = "include")]
    pub(crate) status_only: bool,
    /// Good is this status and no other
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(100..=599))]
    pub(crate) expect_status: Option<u16>,
    /// Good is an answer with this text in its body
    #[arg(long, value_name = "TEXT")]
    pub(crate) expect_body: Option<String>,
    /// For the supervisor, which asks a new worker: whatever is good is not shown
    #[arg(long, hide = true)]
    pub(crate) verify: bool,
}

/// `steadfast bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast bench unix:/run/site.sock / -c 32 -d 30s     a connection for each request
  steadfast bench unix:/run/site.sock / -c 4 --keep-alive
  steadfast bench http://127.0.0.1:8080 / -c 200 --rate 5000 --json

Without --rate each connection sends its next request when it has its answer. With it requests
fall due at fixed times, and their latency counts from then on: a server that stalls cannot hide
the requests that it kept from being sent.")]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) asked: Asked,
    // Named as the -c FILE of all other verbs, which clap then leaves out here: its type has to be the same.
    /// So many at a time, 1 to 10000
    #[arg(id = "config", short = 'c', long = "connections", value_name = "N", default_value = "32", value_parser = parse_connections)]
    pub(crate) connections: PathBuf,
    /// How long [default: 10s, or without end where -n is given]
    #[arg(short = 'd', long, value_name = "DURATION", value_parser = parse_patience)]
    pub(crate) duration: Option<Duration>,
    /// So many requests at most
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// So many requests a second, each at its time
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Keep connections; HTTP does without being told
    #[arg(long)]
    pub(crate) keep_alive: bool,
    /// A connection for each request; FastCGI does without being told, as web servers do
    #[arg(long, conflicts_with = "keep_alive")]
    pub(crate) close: bool,
    /// First so long without counting
    #[arg(long, value_name = "DURATION", value_parser = parse_patience)]
    pub(crate) warmup: Option<Duration>,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Asked {
    /// The request. `is_kept`: another one follows on its connection.
    ///
    /// # Errors
    /// What was typed does not go together, or the file of `--data` cannot be read.
    pub(crate) fn question(&self, is_kept: bool) -> Result<Question, Failure> {
        let target = match (&self.address.path, &self.path) {
            (Some(first), Some(second)) if first != "/" => {
                let message = format!("two paths: {first} in the address, and {second} behind it");
                return Err(Failure::new(ExitCode::Usage, message).hint("leave one of them out"));
            }
            (Some(path), None) | (_, Some(path)) => path.clone(),
            (None, None) => "/".to_owned(),
        };
        check_target(&target)?;
        if self.address.protocol == Protocol::Http && !self.params.is_empty() {
            return Err(Failure::new(ExitCode::Usage, "--param is for FastCGI, and the address is HTTP")
                .hint("send a header instead: --header 'Name: value'"));
        }
        let body = self.data.as_deref().map(body).transpose()?;
        let method = self.method.clone().unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" }.to_owned());
        let (headers, params) = (self.headers.clone(), self.params.clone());
        Ok(Question { method, target, headers, params, body, is_kept })
    }
}

impl Bench {
    /// Whether connections are kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep_alive || (self.asked.address.protocol == Protocol::Http && !self.close)
    }

    /// How many connections there are at most.
    ///
    /// # Errors
    /// `-c FILE` stood before the verb.
    pub(crate) fn connections(&self) -> Result<usize, Failure> {
        self.connections.to_str().and_then(connections).ok_or_else(|| {
            let message = format!("-c {} is no number of connections", self.connections.display());
            Failure::new(ExitCode::Usage, message).hint("`bench` reads no configuration; write for example `-c 32`")
        })
    }
}

fn check_target(target: &str) -> Result<(), Failure> {
    let why = if target.is_empty() || !(target.starts_with('/') || target == "*") {
        "it does not begin with `/`"
    } else if target.len() > TARGET_MAX {
        "it is too long"
    } else if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        "it has a blank or a control character; write `%20` for a blank"
    } else if target.contains('#') {
        "what follows `#` is for browsers only; write `%23`"
    } else {
        return Ok(());
    };
    Err(Failure::new(ExitCode::Usage, format!("the path {target:?} cannot be asked for: {why}"))
        .hint("write for example `/health?full`"))
}

fn body(data: &str) -> Result<Vec<u8>, Failure> {
    let Some(path) = data.strip_prefix('@') else {
        return Ok(data.as_bytes().to_vec());
    };
    let failed = |why: &str| {
        Failure::new(ExitCode::Failed, format!("cannot read the body from {path}: {why}"))
            .hint("name a file that can be read, or write the text itself")
    };
    let mut body = Vec::new();
    let read = if path == "-" {
        io::stdin().lock().take(BODY_MAX + 1).read_to_end(&mut body)
    } else {
        File::open(path).and_then(|file| file.take(BODY_MAX + 1).read_to_end(&mut body))
    };
    match read {
        Err(error) => Err(failed(&reason(&error))),
        Ok(_) if body.len() as u64 > BODY_MAX => Err(failed("it is longer than 256 MiB")),
        Ok(_) => Ok(body),
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("no header; write for example `Accept: text/html`")?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("`{name}` cannot be a header's name"));
    }
    let value = value.trim_matches([' ', '\t']);
    if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err("a header's value cannot have control characters".to_owned());
    }
    let ours =
        ["Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Expect", "TE", "Trailer"];
    if let Some(ours) = ours.into_iter().find(|ours| ours.eq_ignore_ascii_case(name)) {
        return Err(format!("{ours} follows from what is sent and cannot be chosen"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_param(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("no param; write for example `SCRIPT_FILENAME=/srv/site/index.php`".to_owned()),
    }
}

fn parse_method(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(is_token) && text != "CONNECT" {
        return Ok(text.to_owned());
    }
    Err("no method that can be asked with; write for example `GET`, `POST`, `HEAD`".to_owned())
}

fn parse_patience(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() || duration > Duration::from_secs(24 * 3600) {
        return Err("at least 1ms, at most 1d".to_owned());
    }
    Ok(duration)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| "no number of requests a second; write for example `500`".to_owned())
}

fn parse_connections(text: &str) -> Result<PathBuf, String> {
    connections(text).map(|_| text.into()).ok_or_else(|| format!("no number from 1 to {CONNECTIONS_MAX}"))
}

fn connections(text: &str) -> Option<usize> {
    let number = text.parse::<u32>().ok().filter(|number| (1..=CONNECTIONS_MAX).contains(number))?;
    usize::try_from(number).ok()
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
