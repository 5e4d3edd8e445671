//! Draws the status for people: a line per pool, below it why it is not well and its slots.

use jiff::Timestamp;

use steadfast_proto::status::{BreakerState, LastExit, Pool, PoolState, Slot, SlotState, Status, is_told_by_last_line};

use crate::output::{Paint, Style};
use crate::units::{clean, short_duration, since, size, until};

/// So many lines of what a failed reload said are shown.
const FAILED_LINES_MAX: usize = 4;
/// Between two columns.
const GAP: &str = "  ";

/// The whole table.
pub(crate) fn draw(status: &Status, now: Timestamp, style: Style) -> String {
    let up = since(&status.since, now).map(|age| format!(", up {}", short_duration(age))).unwrap_or_default();
    let phase = serde_json::to_value(status.phase).ok().and_then(|word| word.as_str().map(str::to_owned));
    let mut text = format!(
        "{} {}, pid {}, {}{up}\n",
        style.paint(Paint::Strong, "steadfast"),
        clean(&status.steadfast),
        status.pid,
        phase.unwrap_or_default()
    );
    if let Some(front) = &status.front {
        let pid = front.pid.map_or("away".to_owned(), |pid| format!("pid {pid}"));
        let again = match front.restarts {
            0 => String::new(),
            1 => ", started again once".to_owned(),
            times => format!(", started again {times} times"),
        };
        text.push_str(&format!("front {pid}{again}\n"));
    }
    if status.pools.is_empty() {
        text.push_str("no pools\n");
        return text;
    }
    let pools = Grid::of(std::iter::once(POOL_HEAD.map(Cell::head)).chain(status.pools.iter().map(pool_row)));
    let rows = status.pools.iter().flat_map(|pool| &pool.slots).map(|slot| slot_row(slot, now));
    let slots = Grid::of(std::iter::once(SLOT_HEAD.map(Cell::head)).chain(rows));
    text.push_str(&pools.line(0, "", style));
    let mut next_slot = 1;
    for (index, pool) in status.pools.iter().enumerate() {
        text.push_str(&pools.line(index + 1, "", style));
        let told = reasons(pool, now).into_iter().chain(failed_reload(pool, now));
        for line in told.chain(zygote(pool)).chain(requests(pool, now)) {
            text.push_str(&fit(&format!("  {line}"), style));
            text.push('\n');
        }
        if pool.slots.is_empty() {
            continue;
        }
        text.push_str(&slots.line(0, "  ", style));
        for _ in &pool.slots {
            text.push_str(&slots.line(next_slot, "  ", style));
            next_slot += 1;
        }
    }
    text
}

const POOL_HEAD: [(&str, Align); 6] = [
    ("POOL", Align::Left),
    ("STATE", Align::Left),
    ("GENERATION", Align::Right),
    ("WORKERS", Align::Right),
    ("BREAKER", Align::Left),
    ("ENDED", Align::Left),
];

const SLOT_HEAD: [(&str, Align); 8] = [
    ("SLOT", Align::Right),
    ("PID", Align::Right),
    ("STATE", Align::Left),
    ("REQUESTS", Align::Right),
    ("RSS", Align::Right),
    ("PSS", Align::Right),
    ("AGE", Align::Right),
    ("LAST EXIT", Align::Left),
];

fn pool_row(pool: &Pool) -> [Cell; 6] {
    let paint = match pool.state {
        PoolState::Serving => Some(Paint::Good),
        PoolState::Degraded | PoolState::Starting => Some(Paint::Warning),
        PoolState::Down => Some(Paint::Bad),
        PoolState::Asleep | PoolState::Stopping | PoolState::Stopped => Some(Paint::Faint),
    };
    let breaker = match pool.breaker.state {
        BreakerState::Closed => None,
        BreakerState::Open => Some(Paint::Bad),
        BreakerState::HalfOpen => Some(Paint::Warning),
    };
    let generation = match pool.candidate {
        Some(candidate) => format!("{} → {candidate}", pool.generation),
        None => pool.generation.to_string(),
    };
    [
        Cell::new(clean(&pool.name), Align::Left, Some(Paint::Strong)),
        Cell::new(pool.state.word(), Align::Left, paint),
        Cell::new(generation, Align::Right, None),
        Cell::new(format!("{}/{}", pool.workers.serving, pool.workers.target), Align::Right, None),
        Cell::new(pool.breaker.state.word(), Align::Left, breaker),
        Cell::new(ended(pool), Align::Left, None),
    ]
}

/// How many workers ended in which way.
fn ended(pool: &Pool) -> String {
    let words = pool.exits.iter().filter(|(_, count)| **count > 0).map(|(class, count)| format!("{count} {class}"));
    let words: Vec<String> = words.collect();
    if words.is_empty() { "-".to_owned() } else { clean(&words.join(", ")) }
}

/// Why a pool is not well, and when it tries again.
fn reasons(pool: &Pool, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let is_well = matches!(pool.state, PoolState::Serving | PoolState::Asleep | PoolState::Stopped);
    if is_well && pool.breaker.state == BreakerState::Closed {
        return lines;
    }
    let last = || pool.last_exit.as_ref().map(|exit| format!("the last end: {}", exit_words(exit, now)));
    let breaker = || (pool.breaker.state != BreakerState::Closed).then(|| pool.breaker.reason.clone()).flatten();
    if let Some(reason) = pool.reason.clone().or_else(last).or_else(breaker) {
        lines.push(format!("reason: {}", clean(&reason)));
    }
    if let Some(wait) = pool.breaker.until.as_deref().and_then(|time| until(time, now)) {
        let (name, wait) = (clean(&pool.name), short_duration(wait));
        lines.push(match pool.breaker.state {
            BreakerState::HalfOpen => format!("a trial worker serves; it has passed in {wait} if it goes on"),
            BreakerState::Open | BreakerState::Closed => {
                format!("next trial in {wait}; at once: steadfast breaker {name} reset")
            }
        });
    }
    lines
}

/// What became of the last reload, if that was no good: nobody else may have noticed.
fn failed_reload(pool: &Pool, now: Timestamp) -> Vec<String> {
    let Some(failed) = &pool.failed_reload else {
        return Vec::new();
    };
    let what = if failed.rolled_back { "rolled back" } else { "refused" };
    let ago = since(&failed.at, now).map(|age| format!(" {} ago", short_duration(age))).unwrap_or_default();
    let first = format!("reload: generation {} was {what}{ago}: {}", failed.generation, clean(&failed.reason));
    let lines = failed.stderr.iter().filter(|line| !line.trim().is_empty() && !failed.reason.contains(line.as_str()));
    let lines: Vec<String> = lines.map(|line| format!("| {}", clean(line))).collect();
    let last = lines.len().saturating_sub(FAILED_LINES_MAX);
    std::iter::once(first).chain(lines.into_iter().skip(last)).collect()
}

/// Who forks its workers, and how much of its memory they share with it.
fn zygote(pool: &Pool) -> Option<String> {
    let zygote = pool.zygote.as_ref()?;
    let pid = zygote.pid.map_or("away".to_owned(), |pid| format!("pid {pid}"));
    let memory = zygote.rss.zip(zygote.pss).map(|(rss, pss)| format!(", RSS {}, PSS {}", size(rss), size(pss)));
    Some(format!("zygote: {}, {pid}{}", clean(&zygote.state), memory.unwrap_or_default()))
}

/// What became of a queue pool's requests, and which are kept from its workers.
fn requests(pool: &Pool, now: Timestamp) -> Vec<String> {
    let (Some(queue), Some(requests)) = (&pool.queue, &pool.requests) else {
        return Vec::new();
    };
    let mut words = vec![format!("{} of {} waiting (most: {})", queue.length, queue.limit, queue.peak)];
    words.extend(pool.workers.busy.map(|busy| format!("{busy} busy")));
    words.push(format!("{} requests", requests.total));
    let rare = [
        (requests.error, "answered in a worker's place"),
        (requests.retried, "retried"),
        (requests.shed, "shed"),
        (requests.timeout, "timed out"),
        (requests.lost, "lost"),
        (requests.quarantined, "refused"),
    ];
    words.extend(rare.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    words.extend(pool.latency_ms.as_ref().map(|ms| format!("p50 {} ms, p99 {} ms", ms.p50, ms.p99)));
    let quarantined = pool.quarantine.iter().map(|request| {
        let wait = until(&request.until, now).map_or("-".to_owned(), short_duration);
        format!("quarantined: {}, killed {}, for {wait} more", clean(&request.request), request.kills)
    });
    std::iter::once(format!("queue: {}", words.join(", "))).chain(quarantined).collect()
}

fn slot_row(slot: &Slot, now: Timestamp) -> [Cell; 8] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let paint = match slot.state {
        SlotState::Ready | SlotState::Idle | SlotState::Busy => None,
        SlotState::Starting | SlotState::Verifying | SlotState::Draining | SlotState::Stopping => Some(Paint::Warning),
        SlotState::Killed | SlotState::Lost => Some(Paint::Bad),
        SlotState::Waiting => Some(Paint::Faint),
    };
    let serving = slot.request.iter().map(|line| format!("serving {}", clean(line)));
    let mut notes: Vec<String> = serving.collect();
    notes.extend(slot.last_exit.iter().map(|exit| exit_words(exit, now)));
    notes.extend(slot.text.as_ref().map(|text| format!("says: {}", clean(text))));
    let age = since(&slot.since, now).map(short_duration);
    [
        Cell::new(slot.slot.to_string(), Align::Right, None),
        Cell::new(or_dash(slot.pid.map(|pid| pid.to_string())), Align::Right, None),
        Cell::new(slot.state.word(), Align::Left, paint),
        Cell::new(or_dash(slot.requests.map(|count| count.to_string())), Align::Right, None),
        Cell::new(or_dash(slot.rss.map(size)), Align::Right, None),
        Cell::new(or_dash(slot.pss.map(size)), Align::Right, None),
        Cell::new(or_dash(age), Align::Right, None),
        Cell::new(or_dash(Some(notes.join("; ")).filter(|notes| !notes.is_empty())), Align::Left, None),
    ]
}

/// `exited, code 3 (EX_FCGI_ACCEPT), 5s ago: no database`.
fn exit_words(exit: &LastExit, now: Timestamp) -> String {
    let mut text = clean(&exit.class);
    if let Some(signal) = &exit.signal {
        text.push_str(&format!(", {}", clean(signal)));
    }
    if let Some(code) = exit.code {
        text.push_str(&format!(", code {code}"));
    }
    if let Some(name) = &exit.name {
        text.push_str(&format!(" ({})", clean(name)));
    }
    if let Some(age) = since(&exit.at, now) {
        text.push_str(&format!(", {} ago", short_duration(age)));
    }
    if let Some(request) = &exit.request {
        text.push_str(&format!(", serving {}", clean(request)));
    }
    let last = exit.stderr.iter().rev().find(|line| is_told_by_last_line(&exit.class) && !line.trim().is_empty());
    if let Some(words) = exit.message.as_ref().or(last) {
        text.push_str(&format!(": {}", clean(words.trim())));
    }
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

#[derive(Clone, Debug)]
struct Cell {
    text: String,
    align: Align,
    paint: Option<Paint>,
}

impl Cell {
    fn new(text: impl Into<String>, align: Align, paint: Option<Paint>) -> Cell {
        Cell { text: text.into(), align, paint }
    }

    fn head((text, align): (&str, Align)) -> Cell {
        Cell::new(text, align, Some(Paint::Faint))
    }
}

/// Rows with columns of one width.
struct Grid<const N: usize> {
    rows: Vec<[Cell; N]>,
    widths: [usize; N],
}

impl<const N: usize> Grid<N> {
    fn of(rows: impl Iterator<Item = [Cell; N]>) -> Grid<N> {
        let rows: Vec<[Cell; N]> = rows.collect();
        let mut widths = [0; N];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        Grid { rows, widths }
    }

    /// A row as a line; the last column is not padded, and cut where a terminal ends.
    fn line(&self, row: usize, indent: &str, style: Style) -> String {
        let mut line = indent.to_owned();
        let mut used = indent.chars().count();
        for (column, (cell, &width)) in self.rows[row].iter().zip(&self.widths).enumerate() {
            if column > 0 {
                line.push_str(GAP);
                used += GAP.len();
            }
            let is_last = column + 1 == N;
            let text = match cell.align {
                _ if is_last => {
                    let left = Style { width: style.width.map(|all| all.saturating_sub(used)), ..style };
                    fit(&cell.text, left)
                }
                Align::Left => format!("{:<width$}", cell.text),
                Align::Right => format!("{:>width$}", cell.text),
            };
            used += width;
            line.push_str(&cell.paint.map_or(text.clone(), |paint| style.paint(paint, &text)));
        }
        line.push('\n');
        line
    }
}

/// Cut at the terminal's width.
fn fit(text: &str, style: Style) -> String {
    match style.width {
        Some(width) if text.chars().count() > width => {
            let kept: String = text.chars().take(width.saturating_sub(1)).collect();
            format!("{kept}…")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
