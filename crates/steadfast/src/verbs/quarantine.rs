//! `steadfast quarantine`: the requests that are kept from a pool's workers because they killed some, and their release.

use jiff::Timestamp;

use steadfast_proto::control::{Answer, QuarantineAction, Request};
use steadfast_proto::exit::ExitCode;
use steadfast_proto::status::Quarantined;

use crate::arguments::{Quarantine, QuarantineVerb, Target};
use crate::client::AT_ONCE;
use crate::failure::Failure;
use crate::output;
use crate::places::{self, Around};
use crate::units::{clean, short_duration, until};

/// Lists or clears.
pub(super) fn quarantine(verb: &Quarantine, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    let action = match verb.action {
        QuarantineVerb::List => QuarantineAction::List,
        QuarantineVerb::Clear => QuarantineAction::Clear,
    };
    let request = Request::Quarantine { pool: verb.pool.clone(), action };
    request.check()?;
    let mut client = places::supervisor(target, around)?;
    client.ask(&request, Some(AT_ONCE))?;
    let (answer, _) = client.finish(|_, _| Ok(()))?;
    let text = match &answer {
        Answer::Quarantine { requests } if verb.json => {
            let document = serde_json::to_string_pretty(requests)
                .map_err(|error| Failure::new(ExitCode::Bug, format!("the list cannot be written as JSON: {error}")))?;
            document + "\n"
        }
        Answer::Quarantine { requests } => draw(&verb.pool, requests, Timestamp::now()),
        Answer::Done { text } => format!("{}\n", clean(text)),
        _ => String::new(),
    };
    output::result(&text)?;
    Ok(ExitCode::Good)
}

/// One line for each.
fn draw(pool: &str, requests: &[Quarantined], now: Timestamp) -> String {
    if requests.is_empty() {
        return format!("{}: nothing is quarantined\n", clean(pool));
    }
    requests.iter().map(|request| format!("{}\n", line(request, now))).collect()
}

/// `GET /x  killed 3 workers, refused for 42s more`.
pub(crate) fn line(request: &Quarantined, now: Timestamp) -> String {
    let wait = until(&request.until, now).map_or("-".to_owned(), short_duration);
    let workers = if request.kills == 1 { "worker" } else { "workers" };
    format!("{}  killed {} {workers}, refused for {wait} more", clean(&request.request), request.kills)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_for_and_how_long() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().expect("a time");
        let request =
            |kills| Quarantined { request: "GET /x\u{1b}[2J".into(), kills, until: "2026-11-24T12:00:42Z".into() };
        let drawn = draw("site", &[request(3), request(1)], now);
        assert_eq!(
            drawn,
            "GET /x\u{fffd}[2J  killed 3 workers, refused for 42s more\n\
             GET /x\u{fffd}[2J  killed 1 worker, refused for 42s more\n"
        );
        assert_eq!(draw("site", &[], now), "site: nothing is quarantined\n");
    }
}
