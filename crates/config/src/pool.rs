//! One pool: from its table to the type, each value checked for its own sense.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use crate::known::{self, Standing};
use crate::queue;
use crate::report::Findings;
use crate::tree::{Table, choice, choose, number, parsed, shortened, string, word};
use crate::types::{
    Breaker, ClientAbort, Kind, Launch, Mode, Pass, Pool, Quarantine, RequestId, Retry, Socket, Then, Workers,
};
use crate::values::{self, Complaint, WORKERS_DEFAULT, WORKERS_MAX, positive};
use crate::verify;

/// What each word of `mode` means.
const MODES: &[(&str, Mode)] = &[("queue", Mode::Queue), ("direct", Mode::Direct)];
const KINDS: &[(&str, Kind)] = &[("fastcgi", Kind::FastCgi), ("cgi", Kind::Cgi)];
const LAUNCHES: &[(&str, Launch)] = &[("exec", Launch::Exec), ("zygote", Launch::Zygote)];

/// A pool with every default, of which `name` and `command` are known. It has no address yet.
pub(crate) fn with_defaults(name: &str, command: Vec<String>) -> Pool {
    Pool {
        name: name.to_owned(),
        command,
        kind: Kind::FastCgi,
        directory: None,
        user: None,
        group: None,
        environment: BTreeMap::new(),
        pass_environment: Vec::new(),
        listen: Vec::new(),
        socket: Socket { mode: 0o660, owner: None, group: None, backlog: 1024 },
        allowed_clients: Vec::new(),
        mode: Mode::Queue,
        launch: Launch::Exec,
        pass: Pass::Stdin,
        workers: WORKERS_DEFAULT,
        concurrency: 1,
        queue: queue::QUEUE_DEFAULT,
        quarantine: Quarantine::Exact,
        retry: Retry::Idempotent,
        client_abort: ClientAbort::Finish,
        request_id: RequestId::Make,
        status_path: None,
        max_requests: None,
        request_timeout: queue::REQUEST_TIMEOUT_DEFAULT,
        slow_request: Some(queue::SLOW_REQUEST_DEFAULT),
        params: BTreeMap::new(),
        verify: None,
        fallback: queue::FALLBACK_DEFAULT,
        umask: 0o022,
        rlimits: BTreeMap::new(),
        max_memory: None,
        max_age: None,
        ready_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(10),
        breaker: Breaker {
            failures: 10,
            within: Duration::from_secs(90),
            grace: Duration::from_secs(30),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            then: Then::Hold,
            prove: Duration::from_secs(60),
        },
        exit_codes: BTreeMap::new(),
        broken_codes: Vec::new(),
        unavailable_codes: Vec::new(),
    }
}

/// Reads `[pool.NAME]`. What is wrong becomes a finding; the default stands in for it.
pub(crate) fn read(name: &str, table: &Table<'_>, base: &Path, findings: &mut Findings) -> Pool {
    // Where the file's word cannot be read, queue mode stands in for it: it has every key.
    let mode = table.get("mode", choice("mode", MODES, &[]), findings).unwrap_or(Mode::Queue);
    let kind = table.get("type", choice("type", KINDS, &[]), findings).unwrap_or(Kind::FastCgi);
    table.refuse_unknown(known::POOL, |key, standing| refusal(key, standing, mode, kind), findings);

    let command = read_command(table, findings);
    let mut pool = with_defaults(name, command);
    pool.mode = mode;
    be_of_kind(&mut pool, kind);
    pool.launch = table.get("launch", choice("launch", LAUNCHES, &[]), findings).unwrap_or(pool.launch);
    pool.directory = Some(match table.get("directory", word, findings) {
        Some(directory) => base.join(directory),
        None => base.to_owned(),
    });
    pool.user = table.get("user", word, findings);
    pool.group = table.get("group", word, findings);
    let variable = |name: &str| values::variable(name).map(|()| name.to_owned());
    pool.environment = table.map("environment", variable, string, findings).unwrap_or_default();
    if !pool.environment.contains_key("PATH") && table.may_hide("PATH") {
        findings.mark_unread(table.path_of("environment.PATH"));
    }
    let passed = parsed(variable, "PATH");
    pool.pass_environment = table.list("pass-environment", "[\"PATH\"]", passed, findings).unwrap_or_default();
    read_sockets(&mut pool, table, findings);
    read_workers(&mut pool, table, findings);
    read_limits(&mut pool, table, findings);
    if let Some(breaker) = table.table("breaker", findings) {
        read_breaker(&mut pool.breaker, &breaker, findings);
    }
    read_codes(&mut pool, table, findings);
    verify::read(&mut pool, table, findings);
    if mode == Mode::Queue {
        queue::read(&mut pool, table, base, findings);
    } else if kind == Kind::Cgi {
        queue::read_request_timeout(&mut pool, table, findings);
    }
    pool
}

/// What is other for a CGI program: its worker hears a client leave, and ends the script of nobody.
pub(crate) fn be_of_kind(pool: &mut Pool, kind: Kind) {
    pool.kind = kind;
    if kind == Kind::Cgi {
        pool.client_abort = ClientAbort::Cancel;
    }
}

fn refusal(key: &str, standing: Standing, mode: Mode, kind: Kind) -> Option<Complaint> {
    // Our own worker sees to it, whoever accepts.
    if kind == Kind::Cgi && key == "request-timeout" {
        return None;
    }
    let complaint = match (standing, mode) {
        (Standing::Built, _) | (Standing::Queue, Mode::Queue) => return None,
        (Standing::Later, _) => Complaint::new(format!("`{key}` is not in this version")),
        (Standing::Queue, Mode::Direct) => Complaint::new(format!(
            "`{key}` has no meaning in direct mode: there the workers accept requests themselves"
        )),
    };
    let hint = if standing == Standing::Queue { "remove it, or `mode = \"direct\"`" } else { "remove it" };
    Some(complaint.hint(hint))
}

fn read_command(table: &Table<'_>, findings: &mut Findings) -> Vec<String> {
    let example = "[\"/usr/bin/perl\", \"site.fcgi\"]";
    table.missing(
        "command",
        Complaint::new(format!("{} has no command", table.path.replacen('.', " ", 1)))
            .hint(format!("write `command = {example}`")),
        findings,
    );
    let path = table.path_of("command");
    let command = table.list("command", example, string, findings);
    if findings.is_broken(&path) {
        return Vec::new();
    }
    if let Some(Err(complaint)) = command.as_ref().map(|command| check_command(command)) {
        findings.error(&path, complaint.message, complaint.hint);
    }
    command.unwrap_or_default()
}

/// A command names a program.
pub(crate) fn check_command(command: &[String]) -> Result<(), Complaint> {
    match command.first() {
        None => Err(Complaint::new("the command is empty").hint("the program first, then its arguments")),
        Some(program) if program.is_empty() => {
            Err(Complaint::new("the command's program is an empty string")
                .hint("the program first, then its arguments"))
        }
        Some(program) if program.ends_with('/') => {
            Err(Complaint::new(format!("{program:?} is a directory, not a program")))
        }
        Some(_) => Ok(()),
    }
}

fn read_sockets(pool: &mut Pool, table: &Table<'_>, findings: &mut Findings) {
    let listen = parsed(values::listen, "unix:site.sock");
    if let Some(listen) = table.list("listen", "[\"unix:site.sock\"]", listen, findings) {
        let path = table.path_of("listen");
        if listen.is_empty() && !findings.is_broken(&path) {
            findings.error(&path, "the pool listens nowhere", Some("write `listen = [\"unix:site.sock\"]`".into()));
        }
        pool.listen = listen;
    }
    table.missing(
        "listen",
        Complaint::new("the pool listens nowhere").hint("write `listen = [\"unix:site.sock\"]`"),
        findings,
    );
    let clients = parsed(values::client, "127.0.0.1");
    pool.allowed_clients = table.list("allowed-clients", "[\"127.0.0.1\"]", clients, findings).unwrap_or_default();
    let passes = choice(
        "pass",
        &[("stdin", Pass::Stdin), ("listen-fds", Pass::ListenFds), ("server-starter", Pass::ServerStarter)],
        &[],
    );
    pool.pass = table.get("pass", passes, findings).unwrap_or(pool.pass);
    if let Some(socket) = table.table("socket", findings) {
        socket.refuse_unknown(known::SOCKET, known::no_refusal, findings);
        let mode = socket.get("mode", parsed(values::octal, "0660"), findings);
        pool.socket.mode = mode.unwrap_or(pool.socket.mode);
        pool.socket.owner = socket.get("owner", word, findings);
        pool.socket.group = socket.get("group", word, findings);
        pool.socket.backlog = socket.get("backlog", number(1..=65_535), findings).unwrap_or(pool.socket.backlog);
    }
}

fn read_workers(pool: &mut Pool, table: &Table<'_>, findings: &mut Findings) {
    let path = table.path_of("workers");
    let is_table = |value: &DeValue<'_>| Ok(matches!(value, DeValue::Table(_)));
    match table.get("workers", is_table, findings) {
        None => return,
        Some(false) => {
            let count = table.get("workers", number(0..=i128::from(WORKERS_MAX)), findings);
            if let Some(count) = count {
                pool.workers = Workers { min: count, max: count, ..WORKERS_DEFAULT };
            }
        }
        Some(true) => {
            let Some(workers) = table.table("workers", findings) else {
                return;
            };
            workers.refuse_unknown(known::WORKERS, known::no_refusal, findings);
            let count = || number(0..=i128::from(WORKERS_MAX));
            pool.workers = Workers {
                min: workers.get("min", count(), findings).unwrap_or(WORKERS_DEFAULT.min),
                max: workers.get("max", count(), findings).unwrap_or(WORKERS_DEFAULT.max),
                step: workers
                    .get("step", number(1..=i128::from(WORKERS_MAX)), findings)
                    .unwrap_or(WORKERS_DEFAULT.step),
                idle: workers.get("idle", parsed(positive, "60s"), findings).unwrap_or(WORKERS_DEFAULT.idle),
            };
        }
    }
    if findings.is_broken(&path) {
        return;
    }
    if let Err(complaint) = check_workers(&pool.workers, "workers = ") {
        findings.error(&path, complaint.message, complaint.hint);
    }
}

/// The bounds fit each other. `assign` stands before the number where workers are written:
/// `workers = ` or `--workers `.
pub(crate) fn check_workers(workers: &Workers, assign: &str) -> Result<(), Complaint> {
    let Workers { min, max, .. } = *workers;
    if max > WORKERS_MAX {
        return Err(Complaint::new(format!("{max} workers are more than {WORKERS_MAX}, the most for one pool")));
    }
    if max == 0 {
        let complaint = Complaint::new("a pool needs at least one worker");
        return Err(match assign.starts_with("--") {
            true => complaint.hint(format!("on demand only: `{assign}0..4`")),
            false => complaint.hint(format!("on demand only: `{assign}{{ min = 0, max = 4 }}`")),
        });
    }
    if min > max {
        return Err(Complaint::new(format!("workers: min ({min}) passes max ({max})")).hint("write both, min first"));
    }
    Ok(())
}

fn read_limits(pool: &mut Pool, table: &Table<'_>, findings: &mut Findings) {
    pool.umask = table.get("umask", parsed(values::octal, "0022"), findings).unwrap_or(pool.umask);
    let limit = |name: &str| match known::standing(known::RLIMITS, name) {
        Some(_) => Ok(name.to_owned()),
        None => {
            let complaint = Complaint::new(format!("unknown resource limit `{}`", shortened(name)));
            let names = known::RLIMITS.iter().map(|(name, _)| *name);
            let bare = name.to_lowercase();
            let bare = bare.trim_start_matches("rlimit_").trim_start_matches("limit");
            Err(match known::suggestion(names.clone(), bare) {
                Some(meant) => complaint.hint(format!("did you mean `{meant}`?")),
                None => complaint.hint(format!("known: {}", names.collect::<Vec<_>>().join(", "))),
            })
        }
    };
    let amount = |value: &DeValue<'_>| match value {
        DeValue::String(text) if text == "unlimited" => Ok(u64::MAX),
        DeValue::String(_) => {
            Err(Complaint::new("a resource limit is a number without quotes, or \"unlimited\"").hint("write 1024"))
        }
        other => number(0..=i128::from(i64::MAX))(other),
    };
    pool.rlimits = table.map("rlimits", limit, amount, findings).unwrap_or_default();
    let memory = table.get("max-memory", parsed(values::size, "512MiB"), findings);
    pool.max_memory = memory.filter(|bytes| *bytes > 0);
    let age = table.get("max-age", parsed(values::duration, "1h"), findings);
    pool.max_age = age.filter(|age| !age.is_zero());
    let ready = table.get("ready-timeout", parsed(positive, "30s"), findings);
    pool.ready_timeout = ready.unwrap_or(pool.ready_timeout);
    let stop = table.get("stop-timeout", parsed(positive, "10s"), findings);
    pool.stop_timeout = stop.unwrap_or(pool.stop_timeout);
}

/// A duration of a second or more.
fn second(text: &str) -> Result<Duration, Complaint> {
    match values::duration(text)? {
        duration if duration < Duration::from_secs(1) => Err(Complaint::new("this must be at least a second")),
        duration => Ok(duration),
    }
}

fn read_breaker(breaker: &mut Breaker, table: &Table<'_>, findings: &mut Findings) {
    table.refuse_unknown(known::BREAKER, known::no_refusal, findings);
    let duration = || parsed(values::duration, "30s");
    breaker.failures = table.get("failures", number(1..=1_000_000), findings).unwrap_or(breaker.failures);
    breaker.within = table.get("within", parsed(second, "90s"), findings).unwrap_or(breaker.within);
    breaker.grace = table.get("grace", duration(), findings).unwrap_or(breaker.grace);
    breaker.prove = table.get("prove", duration(), findings).unwrap_or(breaker.prove);
    let thens = choice("then", &[("hold", Then::Hold), ("exit", Then::Exit)], &[]);
    breaker.then = table.get("then", thens, findings).unwrap_or(breaker.then);
    if let Some(backoff) = table.table("backoff", findings) {
        backoff.refuse_unknown(known::BACKOFF, known::no_refusal, findings);
        let first = backoff.get("first", parsed(positive, "100ms"), findings);
        breaker.backoff_first = first.unwrap_or(breaker.backoff_first);
        breaker.backoff_max = backoff.get("max", parsed(positive, "30s"), findings).unwrap_or(breaker.backoff_max);
    }
}

fn read_codes(pool: &mut Pool, table: &Table<'_>, findings: &mut Findings) {
    let code = |text: &str| match text.parse::<u8>() {
        Ok(code) if code.to_string() == text => Ok(code),
        _ => Err(Complaint::new(format!("{:?} is not an exit code", shortened(text))).hint("a number from 0 to 255")),
    };
    let name = |value: &DeValue<'_>| match word(value)? {
        name if name.chars().count() > 100 => Err(Complaint::new("a name for an exit code has at most 100 characters")),
        name if name.chars().any(char::is_control) => {
            Err(Complaint::new("a name for an exit code is one line, without control characters"))
        }
        name => Ok(name),
    };
    pool.exit_codes = table.map("exit-codes", code, name, findings).unwrap_or_default();
    pool.broken_codes = table.list("broken-codes", "[78]", number(1..=255), findings).unwrap_or_default();
    pool.unavailable_codes = table.list("unavailable-codes", "[75]", number(1..=255), findings).unwrap_or_default();
}

/// `--mode`: as in the file.
pub(crate) fn choose_mode(text: &str) -> Result<Mode, Complaint> {
    choose("mode", MODES, &[], text)
}

/// `--type`: as in the file.
pub(crate) fn choose_kind(text: &str) -> Result<Kind, Complaint> {
    choose("type", KINDS, &[], text)
}

/// `--launch`: as in the file.
pub(crate) fn choose_launch(text: &str) -> Result<Launch, Complaint> {
    choose("launch", LAUNCHES, &[], text)
}
