//! Ends, reasons and figures in words for people.

use std::time::Duration;

use steadfast_policy::class::{Class, Reason, Weight};
use steadfast_proto::status::is_told_by_last_line;

use crate::pools::LastExit;
use crate::signals::signal_name;

/// How a worker ended: class, code or signal, name, and its own message or else its last line, where that tells why.
pub(crate) fn exit(exit: &LastExit) -> String {
    let mut text = String::from(exit.class);
    if let Some(code) = exit.code {
        text.push_str(&format!(", code {code}"));
    }
    if let Some(signal) = exit.signal {
        text.push_str(&format!(", {}", signal_name(signal)));
    }
    if let Some(name) = &exit.name {
        text.push_str(&format!(" ({name})"));
    }
    let last = exit.stderr.last().filter(|_| is_told_by_last_line(exit.class));
    if let Some(said) = exit.message.as_ref().or(last) {
        text.push_str(&format!(": {said}"));
    }
    text
}

/// Why something opened, was refused or rolled back; `failure` is the pool's last.
pub(crate) fn reason(reason: Reason, failure: Option<&str>) -> String {
    let with = |what: &str, class: Class| match failure {
        Some(failure) => format!("{what}: {failure}"),
        None => format!("{what}: {}", class.word()),
    };
    match reason {
        Reason::Failures(class) => with("too many failures, the last", class),
        Reason::FilesChanged(class) => with("its files changed on disk, and workers started from them failed", class),
        Reason::Canary(class) => with("the trial worker failed", class),
        Reason::Zygote => match failure {
            Some(failure) => format!("the application could not be loaded: {failure}"),
            None => "the application could not be loaded".to_owned(),
        },
        Reason::Operator => "the operator's word".to_owned(),
        Reason::Superseded => "a newer reload took its place".to_owned(),
        Reason::Stopping => "the pool is being stopped".to_owned(),
    }
}

/// The same of a generation that is refused, or gone back from: there one failure may be enough.
pub(crate) fn reason_of_generation(why: Reason, failure: Option<&str>, is_refused: bool) -> String {
    match (why, failure) {
        (Reason::Failures(_), Some(failure)) if is_refused => format!("its first worker failed: {failure}"),
        (Reason::Failures(_), Some(failure)) => format!("its workers failed, the last: {failure}"),
        _ => reason(why, failure),
    }
}

/// A sum of weights: whole failures and quarters.
pub(crate) fn weight(weight: Weight) -> String {
    let quarters = weight.quarters();
    match quarters % 4 {
        0 => (quarters / 4).to_string(),
        _ => format!("{:.2}", f64::from(quarters) / 4.0),
    }
}

/// A duration with the unit that fits.
pub(crate) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        1000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        60_000..7_200_000 => format!("{} min", millis / 60_000),
        _ => format!("{} h", millis / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast_policy::time::Instant;

    fn early() -> LastExit {
        LastExit {
            class: "early",
            code: Some(3),
            signal: None,
            name: Some("preload failed".into()),
            message: None,
            request: None,
            at: Instant::ZERO,
            stderr: vec!["first".into(), "no database".into()],
        }
    }

    #[test]
    fn an_end_names_its_code_and_the_last_line() {
        assert_eq!(exit(&early()), "early, code 3 (preload failed): no database");
    }

    #[test]
    fn the_workers_own_message_goes_before_its_last_line() {
        let told =
            LastExit { message: Some("cannot load".into()), code: None, signal: Some(11), name: None, ..early() };
        assert_eq!(exit(&told), "early, SIGSEGV: cannot load");
    }

    #[test]
    fn what_a_worker_wrote_is_no_reason_for_a_kill_from_outside() {
        let killed = LastExit { class: "killed", code: None, signal: Some(9), name: None, ..early() };
        assert_eq!(exit(&killed), "killed, SIGKILL");
    }

    #[test]
    fn weights_and_durations_are_short() {
        assert_eq!(weight(Weight::whole(3)), "3");
        assert_eq!(weight(Weight::QUARTER), "0.25");
        let words: Vec<String> =
            [0, 999, 5000, 5500, 120_000, 7_200_000].map(|millis| duration(Duration::from_millis(millis))).into();
        assert_eq!(words, ["0 ms", "999 ms", "5 s", "5.5 s", "2 min", "2 h"]);
    }
}
