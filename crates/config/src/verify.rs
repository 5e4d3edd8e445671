//! The request that a new worker must answer before anybody else may ask it.

use std::time::Duration;

use toml::de::DeValue;

use crate::known;
use crate::report::Findings;
use crate::tree::{Table, choice, number, parsed, string};
use crate::types::{Every, Mode, Pool, Verify};
use crate::values::{self, Complaint, positive};

/// Longest body that a verify request may ask for, in bytes.
const BODY_MAX: usize = 1024;

/// Reads `verify`, and the `params` that go with it.
pub(crate) fn read(pool: &mut Pool, table: &Table<'_>, findings: &mut Findings) {
    let name = |name: &str| values::param(name).map(|()| name.to_owned());
    pool.params = table.map("params", name, line, findings).unwrap_or_default();
    if let Some(verify) = table.table("verify", findings) {
        pool.verify = read_verify(&verify, pool.mode, findings);
    }
}

/// What verifies a worker by this request where nothing else is said.
pub(crate) fn by((method, uri): (String, String), mode: Mode) -> Verify {
    let timeout = Duration::from_secs(10);
    let every = if mode == Mode::Direct { Every::Generation } else { Every::Each };
    Verify { method, uri, status: 200, body: String::new(), timeout, every }
}

fn read_verify(table: &Table<'_>, mode: Mode, findings: &mut Findings) -> Option<Verify> {
    table.refuse_unknown(known::VERIFY, known::no_refusal, findings);
    table.missing(
        "request",
        Complaint::new("a worker is verified by a request, but there is none")
            .hint("write `request = \"GET /health\"`"),
        findings,
    );
    let request = table.get("request", parsed(values::request, "GET /health"), findings);
    let timeout = table.get("timeout", parsed(positive, "10s"), findings);
    let everies = choice("every", &[("each", Every::Each), ("generation", Every::Generation)], &[]);
    let every = table.get("every", everies, findings);
    if every == Some(Every::Each) && mode == Mode::Direct {
        findings.error(
            &table.path_of("every"),
            "in direct mode a worker serves from its first moment, and only one of each generation can be asked before",
            Some("write `every = \"generation\"`, or leave it out".into()),
        );
    }
    let (mut status, mut body) = (None, None);
    if let Some(expect) = table.table("expect", findings) {
        expect.refuse_unknown(known::EXPECT, known::no_refusal, findings);
        status = expect.get("status", number(100..=599), findings);
        body = expect.get("body", expected_body, findings);
    }
    let mut verify = by(request?, mode);
    verify.status = status.unwrap_or(verify.status);
    verify.body = body.unwrap_or(verify.body);
    verify.timeout = timeout.unwrap_or(verify.timeout);
    verify.every = every.unwrap_or(verify.every);
    Some(verify)
}

fn expected_body(value: &DeValue<'_>) -> Result<String, Complaint> {
    match string(value)? {
        body if body.len() > BODY_MAX => Err(Complaint::new(format!(
            "the expected body has {} bytes, but at most {BODY_MAX} are possible",
            body.len()
        ))
        .hint("a part of the body is enough: a word that stands in a good answer only")),
        body => Ok(body),
    }
}

/// A string of one line.
fn line(value: &DeValue<'_>) -> Result<String, Complaint> {
    match string(value)? {
        text if text.chars().any(char::is_control) => {
            Err(Complaint::new("a parameter's value is one line, without control characters"))
        }
        text => Ok(text),
    }
}
