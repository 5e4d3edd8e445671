//! A draft as the text of a configuration, with its notes as comments.

use std::fmt::Write;

use crate::draft::{Draft, Note, Place, Pool, Weight, Workers};

/// The whole file. `head` are lines of comment for its top.
#[must_use]
pub fn text(draft: &Draft, head: &[String]) -> String {
    let mut text = String::new();
    for line in head {
        comment(&mut text, line);
    }
    notes(&mut text, &draft.notes);
    for pool in &draft.pools {
        write_pool(&mut text, pool);
    }
    text
}

fn notes(text: &mut String, notes: &[Note]) {
    let lost: Vec<&Note> = notes.iter().filter(|note| note.weight == Weight::Lost).collect();
    if !lost.is_empty() {
        comment(text, "NOT TRANSLATED, or not to the same:");
    }
    for note in &lost {
        comment(text, &format!("  {}", brief(note)));
    }
    for note in notes.iter().filter(|note| note.weight == Weight::Word) {
        comment(text, &brief(note));
    }
}

/// A note within its file, where the path stands above already.
fn brief(note: &Note) -> String {
    let file = note.place.file.rsplit('/').next().unwrap_or_default().to_owned();
    shown(&Note { place: Place { file, line: note.place.line }, ..note.clone() })
}

/// A note in one line.
#[must_use]
pub fn shown(note: &Note) -> String {
    let place = note.place.shown();
    let text: String = note.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if place.is_empty() { text } else { format!("{place}: {text}") }
}

fn comment(text: &mut String, line: &str) {
    // Control characters cannot stand in TOML, not even in a comment.
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = format!("# {line}");
    text.push_str(line.trim_end());
    text.push('\n');
}

fn write_pool(text: &mut String, pool: &Pool) {
    text.push('\n');
    let place = pool.place.shown();
    if !place.is_empty() {
        comment(text, &format!("From {place}."));
    }
    notes(text, &pool.notes);
    let _never_fails = writeln!(text, "[pool.{}]", pool.name);
    let mut line = |key: &str, value: String| {
        let _never_fails = writeln!(text, "{key} = {value}");
    };
    line("command", list(&pool.command));
    for (key, value) in [("directory", &pool.directory), ("user", &pool.user), ("group", &pool.group)] {
        if let Some(value) = value {
            line(key, string(value));
        }
    }
    if !pool.environment.is_empty() {
        let pairs = pool.environment.iter().map(|(name, value)| format!("{} = {}", key(name), string(value)));
        line("environment", format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", ")));
    }
    if !pool.pass_environment.is_empty() {
        line("pass-environment", list(&pool.pass_environment));
    }
    line("listen", list(&pool.listen));
    socket(pool, &mut line);
    if !pool.allowed_clients.is_empty() {
        line("allowed-clients", list(&pool.allowed_clients));
    }
    if pool.is_passed_by_number {
        line("pass", string("listen-fds"));
    }
    rest(pool, &mut line);
}

fn socket(pool: &Pool, line: &mut impl FnMut(&str, String)) {
    let socket = &pool.socket;
    let mut parts = Vec::new();
    for (key, value) in [("mode", &socket.mode), ("owner", &socket.owner), ("group", &socket.group)] {
        if let Some(value) = value {
            parts.push(format!("{key} = {}", string(value)));
        }
    }
    if let Some(backlog) = socket.backlog {
        parts.push(format!("backlog = {backlog}"));
    }
    if !parts.is_empty() {
        line("socket", format!("{{ {} }}", parts.join(", ")));
    }
}

fn rest(pool: &Pool, line: &mut impl FnMut(&str, String)) {
    match &pool.workers {
        None => {}
        Some(Workers::Fixed(count)) => line("workers", count.to_string()),
        Some(Workers::Range { min, max, idle }) => {
            let idle = idle.map(|idle| format!(", idle = \"{idle}s\"")).unwrap_or_default();
            line("workers", format!("{{ min = {min}, max = {max}{idle} }}"));
        }
    }
    if let Some(requests) = pool.max_requests {
        line("max-requests", requests.to_string());
    }
    let durations = [
        ("request-timeout", pool.request_timeout),
        ("slow-request", pool.slow_request),
        ("stop-timeout", pool.stop_timeout),
    ];
    for (key, seconds) in durations {
        if let Some(seconds) = seconds {
            line(key, format!("\"{seconds}s\""));
        }
    }
    if let Some(umask) = &pool.umask {
        line("umask", string(umask));
    }
    if !pool.rlimits.is_empty() {
        let limit = |amount: &Option<u64>| amount.map_or_else(|| string("unlimited"), |amount| amount.to_string());
        let pairs = pool.rlimits.iter().map(|(name, amount)| format!("{name} = {}", limit(amount)));
        line("rlimits", format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", ")));
    }
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| string(item)).collect::<Vec<_>>().join(", "))
}

/// A key: bare where it can be.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_bare { name.to_owned() } else { string(name) }
}

/// A basic string of TOML 1.0.
#[must_use]
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => {
                let _never_fails = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
