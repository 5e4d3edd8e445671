//! Events in journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram of fields.

use super::event::Event;
use super::human;
use crate::signals::signal_name;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// An entry with more is cut: a datagram must fit the socket's buffer (208 KiB by default).
const ENTRY_MAX: usize = 128 * 1024;

/// The datagram of an event.
pub fn datagram(event: &Event) -> Vec<u8> {
    let mut entry = Entry(Vec::new());
    let mut message = match event.pool.as_deref() {
        Some(pool) => format!("{pool}{}: {}", slot(event), human::sentence(event)),
        None => human::sentence(event),
    };
    for line in &event.stderr {
        message.push_str("\n  | ");
        message.push_str(line);
    }
    entry.field("MESSAGE", &message);
    entry.number("PRIORITY", Some(event.level.priority()));
    entry.field("MESSAGE_ID", event.kind.message_id());
    entry.field("SYSLOG_IDENTIFIER", "steadfast");
    entry.field("STEADFAST_EVENT", event.kind.name());
    entry.text(if event.unit.is_some() { "STEADFAST_RULE" } else { "STEADFAST_POOL" }, event.pool.as_deref());
    entry.text("STEADFAST_UNIT", event.unit.as_deref());
    entry.number("STEADFAST_GENERATION", event.generation);
    entry.number("STEADFAST_SLOT", event.slot);
    entry.number("STEADFAST_PID", event.pid);
    entry.text("STEADFAST_CLASS", event.class);
    entry.number("STEADFAST_CODE", event.code);
    entry.text("STEADFAST_SIGNAL", event.signal.map(signal_name));
    entry.text("STEADFAST_NAME", event.name.as_deref());
    entry.text("STEADFAST_MESSAGE", event.message.as_deref());
    entry.text("STEADFAST_REQUEST", event.request.as_deref());
    entry.text("STEADFAST_ID", event.id.as_deref());
    entry.number("STEADFAST_AFTER_MS", event.after.map(|after| after.as_millis()));
    entry.number("STEADFAST_RAN_MS", event.ran.map(|ran| ran.as_millis()));
    entry.number("STEADFAST_TOOK_MS", event.took.map(|took| took.as_millis()));
    entry.text("STEADFAST_REASON", event.reason.as_deref());
    entry.number("STEADFAST_TIMES", (event.times > 1).then_some(event.times));
    entry.0
}

fn slot(event: &Event) -> String {
    event.slot.map(|slot| format!("/{slot}")).unwrap_or_default()
}

struct Entry(Vec<u8>);

impl Entry {
    fn number(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.field(name, &value.to_string());
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    /// `NAME=value`, or for values with newlines the form with a length, in which nothing can be forged.
    fn field(&mut self, name: &str, value: &str) {
        let room = ENTRY_MAX.saturating_sub(self.0.len());
        let value = &value.as_bytes()[..value.floor_char_boundary(room)];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}
