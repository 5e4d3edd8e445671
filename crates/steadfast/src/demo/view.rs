//! The live view: the pool, its workers, how they ended, and what happened, as HTML for a person.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use steadfast_proto::event::{Event, Level};
use steadfast_proto::status::{BreakerState, LastExit, Pool, PoolState, Slot, SlotState, Status};

use crate::demo::html::{escape, short};
use crate::demo::look::Seen;
use crate::demo::release::Release;
use crate::units::{short_duration, since, size, until};

/// So many events are shown.
const EVENTS_MAX: usize = 12;
/// Lines of a stranger's, such as URLs, are cut here.
const TEXT_MAX: usize = 160;
/// So many lines of what a failed deploy has said.
const LINES_MAX: usize = 4;

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Drawn {
    /// What the supervisor says, or why it says nothing.
    pub(crate) seen: Result<Seen, String>,
    /// Of the worker that draws.
    pub(crate) release: Release,
    pub(crate) pid: u32,
    pub(crate) now: Timestamp,
}

/// The view, to be put into the page.
pub(crate) fn draw(drawn: &Drawn) -> String {
    let seen = match &drawn.seen {
        Ok(seen) => seen,
        Err(why) => return format!("<div class=\"card\"><p class=\"bad\">{}</p></div>", escape(why)),
    };
    let mut text = String::new();
    for pool in &seen.status.pools {
        let _infallible = write!(
            text,
            "<div class=\"card\">{}{}{}</div>\n<div class=\"card\"><h2>Workers</h2>{}</div>\n<div class=\"card\"><h2>Exits</h2>{}</div>\n",
            head(&seen.status, pool, drawn),
            facts(pool, drawn),
            tells(pool, drawn.now),
            workers(pool, drawn),
            exits(pool),
        );
    }
    let _infallible = writeln!(text, "<div class=\"card\"><h2>Events</h2>{}</div>", events(&seen.events, drawn.now));
    text
}

fn head(status: &Status, pool: &Pool, drawn: &Drawn) -> String {
    let tone = match pool.state {
        PoolState::Serving | PoolState::Asleep => "good",
        PoolState::Starting | PoolState::Degraded | PoolState::Stopping | PoolState::Stopped => "warn",
        PoolState::Down => "bad",
    };
    let pid = |pid: Option<u32>| pid.map_or("away".to_owned(), |pid| pid.to_string());
    let front = status.front.as_ref().and_then(|front| front.pid);
    let zygote = pool.zygote.as_ref().and_then(|zygote| zygote.pid);
    let up = since(&status.since, drawn.now).map(short_duration).unwrap_or_default();
    format!(
        "<div class=\"top\"><span class=\"state {tone}\">{}</span><span class=\"soft\">supervisor {} · front {} · zygote {} · up {up}</span></div>",
        pool.state.word(),
        status.pid,
        pid(front),
        pid(zygote),
    )
}

fn fact(name: &str, value: &str, more: &str, class: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(" <small>{}</small>", escape(more)) };
    let (on_box, tone) = if class == "two" { (" class=\"two\"", "") } else { ("", class) };
    format!("<div{on_box}><dt>{name}</dt><dd class=\"{tone}\">{}{more}</dd></div>", escape(value))
}

fn facts(pool: &Pool, drawn: &Drawn) -> String {
    let mut text = String::from("<dl class=\"facts\">");
    let generation = match pool.candidate {
        Some(candidate) => format!("{} → {candidate}", pool.generation),
        None => pool.generation.to_string(),
    };
    let proven = if pool.proven { "proven" } else { "on probation" };
    text.push_str(&fact("Generation", &generation, proven, ""));
    text.push_str(&fact("Release", &drawn.release.number.to_string(), drawn.release.kind.word(), ""));
    let workers = &pool.workers;
    let serving = format!("{} of {}", workers.serving, workers.target);
    text.push_str(&fact("Workers serving", &serving, &format!("at most {}", workers.max), ""));
    let breaker = &pool.breaker;
    let tone = match breaker.state {
        BreakerState::Closed => "good",
        BreakerState::HalfOpen => "warn",
        BreakerState::Open => "bad",
    };
    let left = breaker.until.as_deref().and_then(|at| until(at, drawn.now)).map(short_duration);
    let more = match (breaker.state, left) {
        (BreakerState::Open, Some(left)) => format!("next trial in {left}"),
        _ => format!("{} of {}", rounded(breaker.failures), breaker.limit),
    };
    text.push_str(&fact("Breaker", breaker.state.word(), &more, tone));
    if let Some(queue) = &pool.queue {
        text.push_str(&fact("Waiting", &queue.length.to_string(), &format!("peak {}", queue.peak), ""));
    }
    if let Some(latency) = &pool.latency_ms {
        text.push_str(&fact("Median answer", &format!("{:.1} ms", latency.p50), "", ""));
    }
    if let Some(requests) = &pool.requests {
        let answers = [
            ("errors", requests.error),
            ("tried again", requests.retried),
            ("timeouts", requests.timeout),
            ("shed", requests.shed),
            ("quarantined", requests.quarantined),
        ];
        let answers =
            answers.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}"));
        text.push_str(&fact("Requests", &requests.total.to_string(), &answers.collect::<Vec<_>>().join(", "), "two"));
    }
    text.push_str("</dl>");
    text
}

/// A sum of weights: whole as it mostly is.
fn rounded(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What is not well, in words.
fn tells(pool: &Pool, now: Timestamp) -> String {
    let mut text = String::new();
    let mut tell = |words: &str, lines: &[String]| {
        let lines: Vec<String> = lines.iter().rev().take(LINES_MAX).rev().map(|line| short(line, TEXT_MAX)).collect();
        let lines = if lines.is_empty() { String::new() } else { format!("<pre>{}</pre>", lines.join("\n")) };
        let _infallible = write!(text, "<div class=\"tell\">{}{lines}</div>", short(words, 2 * TEXT_MAX));
    };
    if let Some(reason) = &pool.reason {
        tell(reason, &[]);
    }
    if let Some(reason) = pool.breaker.reason.as_ref().filter(|_| pool.breaker.state != BreakerState::Closed) {
        tell(&format!("The breaker is {}: {reason}", pool.breaker.state.word()), &[]);
    }
    if let Some(failed) = &pool.failed_reload {
        let what = if failed.rolled_back { "was rolled back" } else { "was refused, and no visitor has seen it" };
        tell(&format!("Generation {} {what}: {}", failed.generation, failed.reason), &failed.stderr);
    }
    for request in &pool.quarantine {
        let left = until(&request.until, now).map(short_duration).unwrap_or_default();
        tell(
            &format!("Quarantined: {} has killed {} workers; one trial in {left}", request.request, request.kills),
            &[],
        );
    }
    text
}

fn workers(pool: &Pool, drawn: &Drawn) -> String {
    let mut text = String::from(
        "<div class=\"wide\"><table><thead><tr><th class=\"n\">Slot<th class=\"n\">Pid<th>State<th class=\"n\">Generation\
         <th class=\"n\">Requests<th class=\"n\">Memory<th class=\"n\">Age<th>Last exit in this slot</tr></thead><tbody>",
    );
    for slot in &pool.slots {
        text.push_str(&worker(slot, drawn));
    }
    text.push_str("</tbody></table></div>");
    text
}

fn worker(slot: &Slot, drawn: &Drawn) -> String {
    let number = |number: Option<u64>| number.map_or("–".to_owned(), |number| number.to_string());
    let state = match (&slot.request, slot.state) {
        (Some(_), SlotState::Busy) if slot.pid == Some(drawn.pid) => "busy: draws this view".to_owned(),
        (Some(request), SlotState::Busy) => format!("busy: {}", short(request, 32)),
        (_, state) => state.word().to_owned(),
    };
    let tone = match slot.state {
        SlotState::Idle | SlotState::Ready => "good",
        SlotState::Busy => "",
        SlotState::Killed | SlotState::Lost => "bad",
        SlotState::Waiting | SlotState::Starting | SlotState::Verifying | SlotState::Draining | SlotState::Stopping => {
            "warn"
        }
    };
    let age = since(&slot.since, drawn.now).map(short_duration).unwrap_or_default();
    let memory = slot.pss.or(slot.rss).map_or("–".to_owned(), size);
    let exit = slot.last_exit.as_ref().map_or(String::new(), |exit| ended(exit, drawn.now));
    format!(
        "<tr><td class=\"n\">{}<td class=\"n\">{}<td class=\"{tone}\">{state}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{memory}\
         <td class=\"n\">{age}<td class=\"long\">{exit}</tr>",
        slot.slot,
        number(slot.pid.map(u64::from)),
        number(slot.generation),
        number(slot.requests),
    )
}

fn ago(age: Duration) -> String {
    if age < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", short_duration(age)) }
}

/// `crashed, SIGSEGV, POST /crash, 5s ago`.
fn ended(exit: &LastExit, now: Timestamp) -> String {
    let mut words = vec![exit.class.clone()];
    words.extend(exit.signal.clone());
    words.extend(exit.code.map(|code| format!("code {code}")));
    words.extend(exit.name.clone());
    words.extend(exit.request.clone());
    words.extend(since(&exit.at, now).map(ago));
    short(&words.join(", "), TEXT_MAX)
}

fn exits(pool: &Pool) -> String {
    let mut text = String::from("<ul class=\"chips\">");
    let before = text.len();
    for (class, count) in pool.exits.iter().filter(|(_, count)| **count > 0) {
        let tone = if matches!(&**class, "recycled" | "stopped" | "killed") { "soft" } else { "bad" };
        let _infallible = write!(text, "<li>{} <b class=\"{tone}\">{count}</b></li>", escape(class));
    }
    if text.len() == before {
        text.push_str("<li class=\"soft\">none yet</li>");
    }
    text.push_str("</ul>");
    text
}

/// The newest first.
fn events(events: &[Event], now: Timestamp) -> String {
    let mut text = String::from("<div class=\"wide\"><table><tbody>");
    for event in events.iter().rev().take(EVENTS_MAX) {
        let tone = match event.level {
            Level::Error => "bad",
            Level::Warning => "warn",
            Level::Notice | Level::Info | Level::Debug => "",
        };
        let ago = since(&event.time, now).map(ago).unwrap_or_default();
        let place = match (event.slot, event.generation) {
            (Some(slot), Some(generation)) => format!("slot {slot}, g{generation}"),
            (Some(slot), None) => format!("slot {slot}"),
            (None, Some(generation)) => format!("g{generation}"),
            (None, None) => String::new(),
        };
        let words = short(event.text.as_deref().unwrap_or(&event.event), TEXT_MAX);
        let _infallible = write!(
            text,
            "<tr><td class=\"n soft\">{ago}<td class=\"soft\">{place}<td class=\"long {tone}\">{words}</tr>"
        );
    }
    text.push_str("</tbody></table></div>");
    text
}

#[cfg(test)]
mod tests {
    use crate::demo::release::Kind;

    use super::*;

    const HOSTILE: &str = "<script>\"'&";

    fn seen(text: &str) -> Seen {
        let exit = format!(
            r#"{{"class":{text},"signal":{text},"code":3,"name":{text},"at":"2026-11-23T12:00:00Z","request":{text},"stderr":[{text}]}}"#
        );
        let pool = format!(
            r#"{{"name":{text},"state":"degraded","reason":{text},"mode":"queue","generation":1,"proven":false,"previous":null,"zygote":null,
            "workers":{{"min":1,"max":1,"target":1,"total":0,"idle":null,"busy":null,"starting":0,"stopping":0}},
            "queue":{{"length":0,"limit":1,"oldest_ms":0,"peak":0}},
            "breaker":{{"state":"open","failures":1.5,"limit":10,"window_ms":1,"until":{text},"reason":{text}}},
            "quarantine":[{{"request":{text},"kills":2,"until":{text}}}],"requests":null,"latency_ms":null,"exits":{{{text}:1}},
            "failed_reload":{{"generation":2,"rolled_back":false,"at":{text},"reason":{text},"stderr":[{text}]}},
            "slots":[{{"slot":1,"pid":4,"generation":1,"state":"busy","requests":1,"rss":1,"pss":null,"cpu_ms":1,
                "since":{text},"request":{text},"text":{text},"last_exit":{exit}}}]}}"#
        );
        let status = format!(
            r#"{{"version":1,"steadfast":"0","pid":1,"since":{text},"phase":"running","front":null,"pools":[{pool}]}}"#
        );
        let mut event = Event::new(HOSTILE.into(), Level::Error, HOSTILE);
        event.text = Some(HOSTILE.into());
        Seen { status: serde_json::from_str(&status).expect("a status"), events: vec![event] }
    }

    fn drawn(seen: Result<Seen, String>) -> Drawn {
        let now = "2026-11-23T12:00:05Z".parse().expect("a time");
        Drawn { seen, release: Release { number: 1, kind: Kind::Good }, pid: 5, now }
    }

    #[test]
    fn nothing_that_others_say_is_markup() {
        let text = serde_json::Value::from(HOSTILE).to_string();
        let view = draw(&drawn(Ok(seen(&text))));
        assert!(!view.contains("<script") && !view.contains(HOSTILE), "{view}");
        // State, reasons, quarantine, worker, exit and its words, class, event.
        assert!(view.matches("&lt;script&gt;&quot;&#39;&amp;").count() >= 9, "{view}");
        let view = draw(&drawn(Err(HOSTILE.into())));
        assert!(!view.contains("<script"), "{view}");
    }

    #[test]
    fn what_is_not_well_is_said() {
        let view = draw(&drawn(Ok(seen("\"plain\""))));
        for words in [
            "degraded",
            "1.5 of 10",
            "Quarantined: plain has killed 2",
            "Generation 2 was refused",
            "code 3, plain, plain, 5s ago",
        ] {
            assert!(view.contains(words), "no {words} in {view}");
        }
    }
}
