//! A JSON Schema (2020-12) of the configuration, made of the tables of keys that the reader uses.
//!
//! A key of `known` that has no shape here is refused by a test, and a shape whose key is none cannot be asked for.

use crate::known::{self, Keys, Standing};

const TEXT: &str = r#""type":"string""#;
const WORD: &str = r#""type":"string","minLength":1"#;
const TEXTS: &str = r#""type":"array","maxItems":1000,"items":{"type":"string"}"#;
const CODES: &str = r#""type":"array","items":{"type":"integer","minimum":1,"maximum":255}"#;
const DURATION: &str =
    r#""type":"string","pattern":"^(0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$","minLength":1"#;
const SIZE: &str = r#""type":"string","pattern":"^(0|[0-9]+(B|KiB|MiB|GiB|TiB))$""#;
const OCTAL: &str = r#""type":"string","pattern":"^[0-7]{1,4}$""#;
const VARIABLES: &str = r#""type":"object","additionalProperties":{"type":"string"}"#;
const NAME: &str = "^[A-Za-z0-9_-]{1,64}$";
const MATCH: &str = r#""type":"array","minItems":1,"items":{"anyOf":[{"type":"string"},{"type":"object","additionalProperties":false,"properties":{"message":{"type":"string"},"message-id":{"type":"string"},"field":{"type":"string"},"is":{"type":"string"},"matches":{"type":"string"},"from":{"enum":["unit","systemd"]}}}]}"#;
const ACTION: &str =
    r#""anyOf":[{"enum":["restart","reload","stop","notify"]},{"type":"array","items":{"type":"string"}}]"#;

/// The schema, as JSON.
#[must_use]
pub fn json() -> String {
    let top = properties(known::TOP, &|key| match key {
        "include" => Some(TEXTS.into()),
        "supervisor" => Some(object(known::SUPERVISOR, &supervisor)),
        "pool" => Some(named(&object(known::POOL, &pool))),
        "guard" => {
            let rule = format!("{},\"required\":[\"unit\",\"match\"]", object(known::GUARD, &guard));
            let directory = "\"properties\":{\"state-dir\":{\"type\":\"string\",\"minLength\":1}}";
            Some(format!("{},{directory}", named(&rule)))
        }
        _ => None,
    });
    format!(
        "{{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"steadfast.toml\",\
         \"type\":\"object\",\"additionalProperties\":false,\"properties\":{{{top}}}}}\n"
    )
}

/// A table whose names are the user's.
fn named(inner: &str) -> String {
    format!("\"type\":\"object\",\"additionalProperties\":false,\"patternProperties\":{{\"{NAME}\":{{{inner}}}}}")
}

fn object(keys: Keys, shape: &dyn Fn(&str) -> Option<String>) -> String {
    format!("\"type\":\"object\",\"additionalProperties\":false,\"properties\":{{{}}}", properties(keys, shape))
}

/// What is not in this version is not in its schema.
fn properties(keys: Keys, shape: &dyn Fn(&str) -> Option<String>) -> String {
    let built = keys.iter().filter(|(_, standing)| *standing != Standing::Later);
    let parts = built.map(|(key, _)| match shape(key) {
        Some(shape) => format!("\"{key}\":{{{shape}}}"),
        // Anything: a test sees it.
        None => format!("\"{key}\":true"),
    });
    parts.collect::<Vec<_>>().join(",")
}

fn one_of(words: &[&str]) -> String {
    format!("\"enum\":[{}]", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(","))
}

fn number(least: u64, most: u64) -> String {
    format!("\"type\":\"integer\",\"minimum\":{least},\"maximum\":{most}")
}

fn supervisor(key: &str) -> Option<String> {
    Some(match key {
        "runtime-dir" | "control" | "front-user" => WORD.into(),
        "log" => one_of(&["auto", "human", "logfmt", "json", "journald"]),
        "log-level" => one_of(&["error", "warning", "info", "debug"]),
        _ => return None,
    })
}

fn pool(key: &str) -> Option<String> {
    Some(match key {
        "command" | "listen" => format!("{TEXTS},\"minItems\":1"),
        "directory" | "user" | "group" => WORD.into(),
        "environment" | "params" => VARIABLES.into(),
        "pass-environment" | "allowed-clients" => TEXTS.into(),
        "socket" => object(known::SOCKET, &|key| match key {
            "mode" => Some(OCTAL.into()),
            "owner" | "group" => Some(WORD.into()),
            "backlog" => Some(number(1, 65_535)),
            _ => None,
        }),
        "type" => one_of(&["fastcgi", "cgi"]),
        "mode" => one_of(&["queue", "direct"]),
        "launch" => one_of(&["exec", "zygote"]),
        "pass" => one_of(&["stdin", "listen-fds", "server-starter"]),
        "workers" => format!(
            "\"anyOf\":[{{{}}},{{{}}}]",
            number(1, 10_000),
            object(known::WORKERS, &|key| match key {
                "min" => Some(number(0, 10_000)),
                "max" | "step" => Some(number(1, 10_000)),
                "idle" => Some(DURATION.into()),
                _ => None,
            })
        ),
        "concurrency" => number(1, 1024),
        "queue" => object(known::QUEUE, &|key| match key {
            "length" => Some(number(0, 65_536)),
            "timeout" => Some(DURATION.into()),
            _ => None,
        }),
        "quarantine" => one_of(&["off", "exact"]),
        "status-path" => r#""type":"string","pattern":"^(/[A-Za-z0-9._/~-]+)?$""#.into(),
        "retry" => one_of(&["never", "unsent", "idempotent"]),
        "client-abort" => one_of(&["finish", "cancel"]),
        "request-id" => one_of(&["make", "trust"]),
        "umask" => OCTAL.into(),
        "rlimits" => object(known::RLIMITS, &|_| {
            Some("\"anyOf\":[{\"type\":\"integer\",\"minimum\":0},{\"const\":\"unlimited\"}]".into())
        }),
        "max-requests" => number(0, 1_000_000_000),
        "max-memory" => SIZE.into(),
        "max-age" | "ready-timeout" | "request-timeout" | "stop-timeout" | "slow-request" => DURATION.into(),
        "verify" => format!("{},\"required\":[\"request\"]", object(known::VERIFY, &verify)),
        "breaker" => object(known::BREAKER, &breaker),
        "fallback" => object(known::FALLBACK, &|key| match key {
            "status" => Some(number(200, 599)),
            "file" => Some(WORD.into()),
            "retry-after" => Some(DURATION.into()),
            _ => None,
        }),
        "exit-codes" => format!("{VARIABLES},\"propertyNames\":{{\"pattern\":\"^[0-9]{{1,3}}$\"}}"),
        "broken-codes" | "unavailable-codes" => CODES.into(),
        _ => return None,
    })
}

fn verify(key: &str) -> Option<String> {
    Some(match key {
        "request" => WORD.into(),
        "expect" => object(known::EXPECT, &|key| match key {
            "status" => Some(number(100, 599)),
            "body" => Some(TEXT.into()),
            _ => None,
        }),
        "timeout" => DURATION.into(),
        "every" => one_of(&["each", "generation"]),
        _ => return None,
    })
}

fn breaker(key: &str) -> Option<String> {
    Some(match key {
        "failures" => number(1, 1_000_000),
        "within" | "grace" | "prove" => DURATION.into(),
        "backoff" => object(known::BACKOFF, &|_| Some(DURATION.into())),
        "then" => one_of(&["hold", "exit"]),
        _ => return None,
    })
}

fn guard(key: &str) -> Option<String> {
    Some(match key {
        "unit" | "source" => WORD.into(),
        "match" => MATCH.into(),
        "failures" => number(1, 1000),
        "within" | "grace" | "timeout" => DURATION.into(),
        "action" => ACTION.into(),
        "budget" => object(known::BUDGET, &|key| match key {
            "actions" => Some(number(1, 1000)),
            "within" => Some(DURATION.into()),
            "then" => Some(one_of(&["notify"])),
            _ => None,
        }),
        "lock" => TEXT.into(),
        "notify" => TEXTS.into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_the_reader_has_a_shape_and_no_other_has() {
        assert!(!json().contains(":true"), "a key has no shape: {}", json());
        let pool = |key: &str| pool(key).expect("a shape");
        let tables = [
            (known::SUPERVISOR, object(known::SUPERVISOR, &supervisor)),
            (known::QUEUE, pool("queue")),
            (known::SOCKET, pool("socket")),
            (known::WORKERS, pool("workers")),
            (known::RLIMITS, pool("rlimits")),
            (known::FALLBACK, pool("fallback")),
            (known::BACKOFF, breaker("backoff").expect("a shape")),
            (known::EXPECT, verify("expect").expect("a shape")),
            (known::BUDGET, guard("budget").expect("a shape")),
        ];
        for (keys, json) in tables {
            for (key, standing) in keys {
                assert_eq!(json.contains(&format!("\"{key}\":{{")), *standing != Standing::Later, "{key}");
            }
            // Each is an object whose only properties are these, of which none holds another.
            let built = keys.iter().filter(|(_, standing)| *standing != Standing::Later).count();
            let (_, properties) = json.split_once("\"properties\":{").expect("an object");
            assert_eq!(properties.matches("\":{").count(), built, "{json}");
        }
        for (key, standing) in known::POOL {
            let has = object(known::POOL, &super::pool).contains(&format!("\"{key}\":{{"));
            assert_eq!(has, *standing != Standing::Later, "{key}");
        }
        for key in known::POOL.iter().filter(|(_, standing)| *standing == Standing::Later).map(|(key, _)| key) {
            assert_eq!(super::pool(key), None, "{key} is not in this version");
        }
    }
}
