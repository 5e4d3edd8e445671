//! Durations, sizes, times and other words, as people type and read them.

use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;

/// `--log`: how what happens is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Auto,
    Human,
    Logfmt,
    Json,
    Journald,
}

/// `500ms`, `90s`, `5m`, `2h`, `1d`; the error says what was wrong and what to write.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "" if !number.is_empty() => {
            return Err(format!("a unit is missing; write `{number}s` for seconds"));
        }
        _ => return Err("no duration; write for example `500ms`, `90s`, `5m`, `2h`".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "no duration; write for example `90s`".to_owned())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "a duration that is too long".to_owned())
}

/// The two largest units: `3d4h`, `5m12s`, `8s`.
pub(crate) fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// `12.1 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// How long before `now` an RFC 3339 time was; nothing when it is none. A time in the future counts as now.
pub(crate) fn since(time: &str, now: Timestamp) -> Option<Duration> {
    let time: Timestamp = time.parse().ok()?;
    Some(now.duration_since(time).try_into().unwrap_or(Duration::ZERO))
}

/// How long after `now` an RFC 3339 time will be; nothing when it is none. A time in the past counts as now.
pub(crate) fn until(time: &str, now: Timestamp) -> Option<Duration> {
    let time: Timestamp = time.parse().ok()?;
    Some(time.duration_since(now).try_into().unwrap_or(Duration::ZERO))
}

/// Text from a stranger on one line without control characters, which could otherwise steer the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "s", "-1s", "1.5s", "1w", "90", "99999999999999999999s", "9999999999999999999h", "1 s"] {
            parse_duration(wrong).expect_err(wrong);
        }
        assert_eq!(parse_duration("90"), Err("a unit is missing; write `90s` for seconds".into()));
    }

    #[test]
    fn durations_are_shown_with_two_units() {
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (60, "1m00s"), (3725, "1h02m"), (86_400 * 3 + 3600 * 4, "3d04h")]
        {
            assert_eq!(short_duration(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn sizes_have_one_digit_and_no_thousands() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (12_700_000, "12.1 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn ages_never_run_backwards() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        assert_eq!(since("2026-11-23T11:59:00Z", now), Some(Duration::from_secs(60)));
        assert_eq!(since("2036-11-23T11:59:00Z", now), Some(Duration::ZERO));
        assert_eq!(until("2026-11-23T12:00:08Z", now), Some(Duration::from_secs(8)));
        assert_eq!(until("2026-11-23T11:00:08Z", now), Some(Duration::ZERO));
        assert_eq!(since("yesterday", now), None);
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
    }
}
