//! A configuration as it counts: every key with its value as TOML, and where that came from.
//!
//! One value a line, keys with dots, so that each can have its origin beside it; what is written so is read to the same.

use std::fmt::Write;
use std::time::Duration;

use crate::load::Loaded;
use crate::place::{Place, Places};
use crate::types::{
    ClientAbort, Config, Every, Guard, GuardAction, GuardRule, GuardSource, Kind, Launch, Listen, Log, LogLevel, Match,
    MatchFrom, MatchTest, Mode, Pass, Pool, Quarantine, RequestId, Retry, Supervisor, Then,
};

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// `supervisor`, `pool.site`, `guard.site`.
    pub table: String,
    /// Within the table: `workers.min`.
    pub key: String,
    /// As TOML; `None` for a key that nobody has set and that has no value then.
    pub value: Option<String>,
    /// `site.toml:12`, an argument, or `default`.
    pub origin: String,
}

/// Every key of a configuration in the order in which they are written.
#[must_use]
pub fn values(loaded: &Loaded) -> Vec<Value> {
    let mut lister = Lister { table: String::new(), places: Some(&loaded.places), values: Vec::new() };
    let config: &Config = &loaded.config;
    lister.supervisor(&config.supervisor);
    for pool in config.pools.values() {
        lister.pool(pool);
    }
    lister.guard(&config.guard);
    lister.values
}

/// The keys of `[supervisor]`, of which nobody knows the places any more.
#[must_use]
pub fn supervisor_values(supervisor: &Supervisor) -> Vec<Value> {
    let mut lister = Lister { table: String::new(), places: None, values: Vec::new() };
    lister.supervisor(supervisor);
    lister.values
}

/// The keys of one pool, of which nobody knows the places any more.
#[must_use]
pub fn pool_values(pool: &Pool) -> Vec<Value> {
    let mut lister = Lister { table: String::new(), places: None, values: Vec::new() };
    lister.pool(pool);
    lister.values
}

/// The values as a file, each with its origin as a comment.
#[must_use]
pub fn text(values: &[Value]) -> String {
    let mut text = String::new();
    let mut table = "";
    for value in values {
        if value.table != table {
            let gap = if table.is_empty() { "" } else { "\n" };
            let _never_fails = writeln!(text, "{gap}[{}]", value.table);
            table = &value.table;
        }
        let _never_fails = match &value.value {
            Some(toml) => writeln!(text, "{:<40}  # {}", format!("{} = {toml}", value.key), plain(&value.origin)),
            None => writeln!(text, "# {} is not set", value.key),
        };
    }
    text
}

/// No control character can stand in a comment.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

struct Lister<'a> {
    table: String,
    places: Option<&'a Places>,
    values: Vec<Value>,
}

impl Lister<'_> {
    fn put(&mut self, key: &str, value: impl Into<Option<String>>) {
        let origin = self.origin(key);
        let (table, key) = (self.table.clone(), key.to_owned());
        self.values.push(Value { table, key, value: value.into(), origin });
    }

    fn origin(&self, key: &str) -> String {
        let path = format!("{}.{key}", self.table);
        let place = self.places.and_then(|places| places.get(&path));
        match place {
            Some(Place::File(source, span)) => format!("{}:{}", source.path.display(), source.line(span.start).0),
            Some(Place::Argument(argument)) => argument.clone(),
            None => "default".to_owned(),
        }
    }

    fn has_place(&self, key: &str) -> bool {
        self.places.is_some_and(|places| places.get(&format!("{}.{key}", self.table)).is_some())
    }

    fn supervisor(&mut self, supervisor: &Supervisor) {
        self.table = "supervisor".into();
        self.put("runtime-dir", supervisor.runtime_dir.as_ref().map(|path| string(&path.display().to_string())));
        self.put("control", string(&supervisor.control.display().to_string()));
        self.put("front-user", supervisor.front_user.as_deref().map(string));
        self.put(
            "log",
            string(match supervisor.log {
                Log::Auto => "auto",
                Log::Human => "human",
                Log::Logfmt => "logfmt",
                Log::Json => "json",
                Log::Journald => "journald",
            }),
        );
        self.put(
            "log-level",
            string(match supervisor.log_level {
                LogLevel::Error => "error",
                LogLevel::Warning => "warning",
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
            }),
        );
    }

    fn pool(&mut self, pool: &Pool) {
        self.table = format!("pool.{}", pool.name);
        self.put("command", list(&pool.command));
        self.put("directory", pool.directory.as_ref().map(|path| string(&path.display().to_string())));
        self.put("user", pool.user.as_deref().map(string));
        self.put("group", pool.group.as_deref().map(string));
        self.map("environment", pool.environment.iter().map(|(name, value)| (name.clone(), string(value))));
        self.put("pass-environment", list(&pool.pass_environment));
        self.put("listen", list(&pool.listen.iter().map(Listen::to_string).collect::<Vec<_>>()));
        self.put("socket.mode", octal(pool.socket.mode));
        self.put("socket.owner", pool.socket.owner.as_deref().map(string));
        self.put("socket.group", pool.socket.group.as_deref().map(string));
        self.put("socket.backlog", pool.socket.backlog.to_string());
        let clients: Vec<String> = pool.allowed_clients.iter().map(ToString::to_string).collect();
        self.put("allowed-clients", list(&clients));
        self.put(
            "type",
            string(match pool.kind {
                Kind::FastCgi => "fastcgi",
                Kind::Cgi => "cgi",
            }),
        );
        self.put(
            "mode",
            string(match pool.mode {
                Mode::Queue => "queue",
                Mode::Direct => "direct",
            }),
        );
        self.put(
            "launch",
            string(match pool.launch {
                Launch::Exec => "exec",
                Launch::Zygote => "zygote",
            }),
        );
        self.put(
            "pass",
            string(match pool.pass {
                Pass::Stdin => "stdin",
                Pass::ListenFds => "listen-fds",
                Pass::ServerStarter => "server-starter",
            }),
        );
        self.workers(pool);
        self.queue(pool);
        self.map("params", pool.params.iter().map(|(name, value)| (name.clone(), string(value))));
        self.put("umask", octal(pool.umask));
        let limit = |amount: u64| if amount == u64::MAX { string("unlimited") } else { amount.to_string() };
        self.map("rlimits", pool.rlimits.iter().map(|(name, amount)| (name.clone(), limit(*amount))));
        self.put("max-memory", size(pool.max_memory.unwrap_or(0)));
        self.put("max-age", duration(pool.max_age.unwrap_or_default()));
        self.put("ready-timeout", duration(pool.ready_timeout));
        self.put("stop-timeout", duration(pool.stop_timeout));
        self.verify(pool);
        self.breaker(pool);
        self.map("exit-codes", pool.exit_codes.iter().map(|(code, name)| (code.to_string(), string(name))));
        self.put("broken-codes", numbers(&pool.broken_codes));
        self.put("unavailable-codes", numbers(&pool.unavailable_codes));
    }

    /// `workers = 4` is the place of both bounds.
    fn workers(&mut self, pool: &Pool) {
        let parts = ["workers.min", "workers.max", "workers.step", "workers.idle"];
        let is_number = self.has_place("workers") && !parts.iter().any(|part| self.has_place(part));
        let of_number = self.origin("workers");
        let values = [
            pool.workers.min.to_string(),
            pool.workers.max.to_string(),
            pool.workers.step.to_string(),
            duration(pool.workers.idle),
        ];
        for (at, (key, value)) in parts.into_iter().zip(values).enumerate() {
            self.put(key, value);
            if let Some(last) = self.values.last_mut().filter(|_| is_number && at < 2) {
                last.origin.clone_from(&of_number);
            }
        }
    }

    /// Keys that have no meaning in direct mode are refused there.
    fn queue(&mut self, pool: &Pool) {
        let is_queue = pool.mode == Mode::Queue;
        if is_queue || pool.kind == Kind::Cgi {
            self.put("request-timeout", duration(pool.request_timeout));
        }
        if !is_queue {
            return;
        }
        self.put("status-path", string(pool.status_path.as_deref().unwrap_or_default()));
        self.put("concurrency", pool.concurrency.to_string());
        self.put("queue.length", pool.queue.length.to_string());
        self.put("queue.timeout", duration(pool.queue.timeout));
        self.put(
            "quarantine",
            string(match pool.quarantine {
                Quarantine::Off => "off",
                Quarantine::Exact => "exact",
            }),
        );
        self.put(
            "retry",
            string(match pool.retry {
                Retry::Never => "never",
                Retry::Unsent => "unsent",
                Retry::Idempotent => "idempotent",
            }),
        );
        self.put(
            "client-abort",
            string(match pool.client_abort {
                ClientAbort::Finish => "finish",
                ClientAbort::Cancel => "cancel",
            }),
        );
        self.put(
            "request-id",
            string(match pool.request_id {
                RequestId::Make => "make",
                RequestId::Trust => "trust",
            }),
        );
        self.put("max-requests", pool.max_requests.unwrap_or(0).to_string());
        self.put("slow-request", duration(pool.slow_request.unwrap_or_default()));
        self.put("fallback.status", pool.fallback.status.to_string());
        self.put("fallback.file", pool.fallback.file.as_ref().map(|file| string(&file.display().to_string())));
        self.put("fallback.retry-after", duration(pool.fallback.retry_after));
    }

    fn verify(&mut self, pool: &Pool) {
        let Some(verify) = &pool.verify else {
            return self.put("verify", None);
        };
        self.put("verify.request", string(&format!("{} {}", verify.method, verify.uri)));
        self.put("verify.expect.status", verify.status.to_string());
        self.put("verify.expect.body", string(&verify.body));
        self.put("verify.timeout", duration(verify.timeout));
        self.put(
            "verify.every",
            string(match verify.every {
                Every::Each => "each",
                Every::Generation => "generation",
            }),
        );
    }

    fn breaker(&mut self, pool: &Pool) {
        let breaker = &pool.breaker;
        self.put("breaker.failures", breaker.failures.to_string());
        self.put("breaker.within", duration(breaker.within));
        self.put("breaker.grace", duration(breaker.grace));
        self.put("breaker.backoff.first", duration(breaker.backoff_first));
        self.put("breaker.backoff.max", duration(breaker.backoff_max));
        self.put(
            "breaker.then",
            string(match breaker.then {
                Then::Hold => "hold",
                Then::Exit => "exit",
            }),
        );
        self.put("breaker.prove", duration(breaker.prove));
    }

    /// A table of names that the user chooses; without any, nothing.
    fn map(&mut self, table: &str, entries: impl Iterator<Item = (String, String)>) {
        for (name, value) in entries {
            let origin = self.origin(&format!("{table}.{name}"));
            let (key, table) = (format!("{table}.{}", key(&name)), self.table.clone());
            self.values.push(Value { table, key, value: Some(value), origin });
        }
    }

    fn guard(&mut self, guard: &Guard) {
        self.table = "guard".into();
        if let Some(directory) = &guard.state_dir {
            self.put("state-dir", string(&directory.display().to_string()));
        }
        for rule in guard.rules.values() {
            self.table = format!("guard.{}", rule.name);
            self.rule(rule);
        }
    }

    fn rule(&mut self, rule: &GuardRule) {
        self.put("unit", string(&rule.unit));
        self.put("match", format!("[{}]", rule.patterns.iter().map(pattern).collect::<Vec<_>>().join(", ")));
        self.put(
            "source",
            string(&match &rule.source {
                GuardSource::Journal => "journal".to_owned(),
                GuardSource::File(path) => format!("file:{}", path.display()),
                GuardSource::Stdin => "stdin".to_owned(),
            }),
        );
        self.put("failures", rule.failures.to_string());
        self.put("within", duration(rule.within));
        self.put(
            "action",
            match &rule.action {
                GuardAction::Restart => string("restart"),
                GuardAction::Reload => string("reload"),
                GuardAction::Stop => string("stop"),
                GuardAction::Notify => string("notify"),
                GuardAction::Command(command) => list(command),
            },
        );
        self.put("grace", duration(rule.grace));
        self.put("budget.actions", rule.budget_actions.to_string());
        self.put("budget.within", duration(rule.budget_within));
        self.put("lock", rule.lock.as_ref().map(|lock| string(&lock.display().to_string())));
        self.put("notify", rule.notify.as_deref().map(list));
        self.put("timeout", duration(rule.timeout));
    }
}

/// As an item of `match`.
fn pattern(pattern: &Match) -> String {
    let mut parts = match &pattern.test {
        MatchTest::Message(regex) if pattern.from.is_none() => return string(regex),
        MatchTest::Set(name) => return string(&format!("@{name}")),
        MatchTest::Message(regex) => vec![format!("message = {}", string(regex))],
        MatchTest::Is { field, value } => {
            vec![format!("field = {}", string(field)), format!("is = {}", string(value))]
        }
        MatchTest::Matches { field, regex } => {
            vec![format!("field = {}", string(field)), format!("matches = {}", string(regex))]
        }
    };
    match pattern.from {
        Some(MatchFrom::Unit) => parts.push("from = \"unit\"".into()),
        Some(MatchFrom::Systemd) => parts.push("from = \"systemd\"".into()),
        None => {}
    }
    format!("{{ {} }}", parts.join(", "))
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_bare { name.to_owned() } else { string(name) }
}

/// A basic string of TOML 1.0.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => {
                let _never_fails = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| string(item)).collect::<Vec<_>>().join(", "))
}

fn numbers(items: &[u8]) -> String {
    format!("[{}]", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn octal(mode: u32) -> String {
    format!("\"{mode:04o}\"")
}

fn duration(duration: Duration) -> String {
    let (seconds, rest) = (duration.as_secs(), duration.subsec_millis());
    match (seconds, rest) {
        (0, 0) => "\"0\"".into(),
        (0, rest) => format!("\"{rest}ms\""),
        (seconds, 0) => format!("\"{seconds}s\""),
        (seconds, rest) => format!("\"{seconds}s{rest}ms\""),
    }
}

fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("\"{}{unit}\"", bytes >> shift),
        None if bytes == 0 => "\"0\"".into(),
        None => format!("\"{bytes}B\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::{self, Standing};
    use crate::load::{Context, load};

    const ALL: &str = "[supervisor]\n[pool.a]\ncommand = [\"a\"]\nlisten = [\"unix:a\"]\nenvironment = { A = \"1\" }\n\
        params = { B = \"2\" }\nrlimits = { core = 0 }\nexit-codes = { 1 = \"x\" }\nverify = { request = \"GET /\" }\n\
        [guard.g]\nunit = \"g\"\nmatch = [\"x\"]\n";

    #[test]
    fn each_key_of_the_reader_is_listed() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("a.toml"), ALL).expect("written");
        let context = Context { directory: directory.path().to_owned() };
        let values = values(&load("a.toml".as_ref(), &context).expect("good"));
        let tables = [
            (known::SUPERVISOR, "supervisor", ""),
            (known::POOL, "pool.a", ""),
            (known::SOCKET, "pool.a", "socket."),
            (known::WORKERS, "pool.a", "workers."),
            (known::QUEUE, "pool.a", "queue."),
            (known::VERIFY, "pool.a", "verify."),
            (known::EXPECT, "pool.a", "verify.expect."),
            (known::BREAKER, "pool.a", "breaker."),
            (known::BACKOFF, "pool.a", "breaker.backoff."),
            (known::FALLBACK, "pool.a", "fallback."),
            (known::GUARD, "guard.g", ""),
        ];
        for (keys, table, start) in tables {
            for (key, standing) in keys {
                let key = format!("{start}{key}");
                let of_key = |value: &&Value| value.key == key || value.key.starts_with(&format!("{key}."));
                let is_there = values.iter().filter(|value| value.table == table).any(|value| of_key(&value));
                assert_eq!(is_there, *standing != Standing::Later, "{table} {key}");
            }
        }
    }
}
