//! `steadfast status`: the document or the table, and 69 where nothing serves.

use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use steadfast_proto::control::{Answer, Request};
use steadfast_proto::exit::ExitCode;
use steadfast_proto::status;

use crate::arguments::{Status, Target};
use crate::client::AT_ONCE;
use crate::failure::Failure;
use crate::output;
use crate::places::{self, Around};
use crate::table;

/// Between two drawings of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);
/// Cursor to the first place; what is below the drawing is cleared after it, so that nothing flickers.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

pub(super) fn status(arguments: &Status, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    let request = Request::Status { pool: arguments.pool.clone() };
    request.check()?;
    let mut said = ask(&request, target, around)?;
    if arguments.json {
        output::result(&format!("{}\n", said.document))?;
        return Ok(exit_code(&said.status));
    }
    if !arguments.watch {
        output::result(&table::draw(&said.status, Timestamp::now(), output::stdout_style()))?;
        return Ok(exit_code(&said.status));
    }
    if output::is_watched() {
        output::result("\x1b[2J")?;
    }
    loop {
        show(&table::draw(&said.status, Timestamp::now(), output::stdout_style()))?;
        said = loop {
            thread::sleep(PERIOD);
            match ask(&request, target, around) {
                Ok(said) => break said,
                // It may be restarted just now: whoever watches wants to see that.
                Err(failure) if output::is_watched() => show(&format!("{failure}\n"))?,
                Err(failure) => return Err(failure),
            }
        };
    }
}

/// One drawing of `--watch`.
fn show(text: &str) -> Result<(), Failure> {
    if output::is_watched() {
        let text = text.replace('\n', &format!("{CLEAR_LINE}\n"));
        return output::result(&format!("{HOME}{text}{CLEAR_BELOW}"));
    }
    output::result(&format!("{text}\n"))
}

struct Said {
    status: status::Status,
    /// The document as it came: it may have keys that this program does not know.
    document: String,
}

fn ask(request: &Request, target: &Target, around: &Around) -> Result<Said, Failure> {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        status: &'a RawValue,
    }
    let mut client = places::supervisor(target, around)?;
    client.ask(request, Some(AT_ONCE))?;
    let (answer, line) = client.finish(|_, _| Ok(()))?;
    let document = serde_json::from_slice::<Document<'_>>(&line).map(|document| document.status.get().to_owned());
    match (answer, document) {
        (Answer::Status { status }, Ok(document)) => Ok(Said { status, document }),
        _ => Err(Failure::new(ExitCode::Failed, "the supervisor did not answer with its status")
            .hint("use the `steadfast` program that runs the supervisor")),
    }
}

fn exit_code(status: &status::Status) -> ExitCode {
    if status.is_serving() { ExitCode::Good } else { ExitCode::NothingServes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(state: &str) -> status::Status {
        let pool = format!(
            r#"{{"name":"a","state":"{state}","mode":"direct","generation":1,"proven":false,"previous":null,"zygote":null,
               "workers":{{"min":1,"max":1,"target":1,"total":0,"idle":null,"busy":null,"starting":0,"stopping":0}},
               "queue":null,"breaker":{{"state":"closed","failures":0,"limit":10,"window_ms":1,"until":null,"reason":null}},
               "quarantine":[],"requests":null,"latency_ms":null,"exits":{{}},"slots":[]}}"#
        );
        let text = format!(
            r#"{{"version":1,"steadfast":"0","pid":1,"since":"","phase":"running","front":null,"pools":[{pool}]}}"#
        );
        serde_json::from_str(&text).expect("a status")
    }

    #[test]
    fn a_pool_that_does_not_serve_is_69() {
        for (state, code) in [
            ("asleep", 0),
            ("serving", 0),
            ("degraded", 0),
            ("starting", 69),
            ("down", 69),
            ("stopping", 69),
            ("stopped", 69),
        ] {
            assert_eq!(exit_code(&with(state)).number(), code, "{state}");
        }
        let mut both = with("serving");
        both.pools.extend(with("down").pools);
        assert_eq!(exit_code(&both).number(), 69);
        both.pools.clear();
        assert_eq!(exit_code(&both).number(), 0);
    }
}
