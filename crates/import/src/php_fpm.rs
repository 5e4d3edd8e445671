//! php-fpm's pools, for php-cgi (PHP 8.2).

use std::path::Path;

use crate::address;
use crate::draft::{Draft, Place, Pool, Workers};
use crate::files::{Bounded, Files, Source, find};
use crate::ini::{self, Entry, Sections};
use crate::name;
use crate::settle::{clients_from, settle};

/// Where Debian's php-fpm has its settings: /etc/php/VERSION/fpm.
const SETTINGS: &str = "/etc/php/";

/// `pm` and what belongs to it.
#[derive(Default)]
struct Manager {
    kind: Option<(Place, String)>,
    children: Option<u64>,
    start: Option<u64>,
    spare_least: Option<u64>,
    spare_most: Option<u64>,
    idle: Option<u64>,
}

/// Reads a file of pools, or php-fpm.conf with what it includes.
#[must_use]
pub fn from_file(source: &Source, files: &dyn Files) -> Draft {
    let mut draft = Draft::default();
    let files = &Bounded::new(files);
    let mut pools = Sections::new();
    let mut waiting = vec![(source.shown.clone(), source.text.clone())];
    while let Some((shown, text)) = waiting.pop() {
        let ini = ini::php(&text);
        for line in ini.unread {
            draft.lost(&Place::line(&shown, line), "this line says nothing that php-fpm reads");
        }
        for entry in ini.entries {
            let place = Place::line(&shown, entry.line);
            if entry.key == "include" {
                for path in find(files, Path::new(&entry.value)) {
                    match files.read(&path) {
                        Ok(text) => waiting.push((path.display().to_string(), text)),
                        Err(why) => draft.lost(&place, format!("{} was not read: {why}", path.display())),
                    }
                }
            } else if entry.section.is_empty() || entry.section == "global" {
                draft.word(&place, format!("{} = {}: php-fpm's own affair", entry.key, entry.value));
            } else {
                pools.entry(entry.section.clone(), Vec::new).push((place, entry));
            }
        }
    }
    for (name, entries) in pools.all() {
        let pool = read(name, entries, source.path.as_deref(), files);
        draft.add(pool);
    }
    draft
}

fn read(name: &str, entries: &[(Place, Entry)], path: Option<&Path>, files: &dyn Files) -> Pool {
    let place = entries.first().map(|(place, _)| place.clone()).unwrap_or_default();
    let mut pool = Pool { name: name.to_owned(), place: place.clone(), directory: Some("/".into()), ..Pool::default() };
    program(&mut pool, path, &place, files);
    let mut manager = Manager::default();
    // Recycled by steadfast alone.
    pool.environment.insert("PHP_FCGI_MAX_REQUESTS".into(), "0".into());
    pool.socket.backlog = Some(511);
    for (place, entry) in entries {
        let value = entry.value.replace("$pool", name);
        if !manage(&mut manager, &mut pool, &entry.key, &value, place) {
            take(&mut pool, &entry.key, &value, place);
        }
    }
    workers(&mut pool, manager, &place);
    if pool.listen.is_empty() {
        pool.listen.push(format!("unix:/run/php/{}.sock", name::settled(name)));
        pool.lost(&place, "no `listen`");
    }
    if pool.user.is_none() {
        pool.lost(&place, "no user is named: started as root, a pool must name its `user`");
    }
    pool.lost(
        &place,
        "php-fpm ran .php and .phar alone; php-cgi runs what the web server names in SCRIPT_FILENAME: let it send it .php only",
    );
    pool.word(&place, "each php-cgi has an opcache of its own: what php-fpm's workers shared, each has now");
    settle(&mut pool);
    pool
}

/// php-cgi of the same version, with php-fpm's settings where Debian has them.
fn program(pool: &mut Pool, path: Option<&Path>, place: &Place, files: &dyn Files) {
    let version = path.and_then(Path::to_str).and_then(|path| {
        let (_, rest) = path.split_once(SETTINGS)?;
        let (version, _) = rest.split_once("/fpm/")?;
        version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| version.to_owned())
    });
    let Some(version) = version else {
        pool.command = vec!["/usr/bin/php-cgi".into()];
        pool.lost(
            place,
            "php-cgi has a php.ini of its own: compare it with php-fpm's, or add \"-c\", \"/path/php.ini\"",
        );
        return;
    };
    let settings = format!("{SETTINGS}{version}/fpm");
    pool.command = vec![format!("/usr/bin/php-cgi{version}")];
    if files.read(Path::new(&format!("{settings}/php.ini"))).is_ok() {
        pool.command.extend(["-c".to_owned(), format!("{settings}/php.ini")]);
        pool.environment.insert("PHP_INI_SCAN_DIR".into(), format!("{settings}/conf.d"));
    } else {
        pool.lost(place, format!("{settings}/php.ini was not found: php-cgi takes its own"));
    }
}

/// Seconds: php-fpm has `s`, `m`, `h` and `d`.
fn seconds(value: &str) -> Option<u64> {
    let (number, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()));
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Whether the key is of `pm`.
fn manage(manager: &mut Manager, pool: &mut Pool, key: &str, value: &str, place: &Place) -> bool {
    if key == "pm" {
        manager.kind = Some((place.clone(), value.to_owned()));
        return true;
    }
    if key == "pm.process_idle_timeout" {
        manager.idle = seconds(value);
        if manager.idle.is_none() {
            pool.lost(place, format!("{key} = {value:?} is no time"));
        }
        return true;
    }
    let known = ["pm.max_children", "pm.start_servers", "pm.min_spare_servers", "pm.max_spare_servers"];
    let Some(which) = known.iter().position(|known| *known == key) else { return false };
    let number = value.parse().ok();
    if number.is_none() {
        pool.lost(place, format!("{key} = {value:?} is no number"));
    }
    match which {
        0 => manager.children = number,
        1 => manager.start = number,
        2 => manager.spare_least = number,
        _ => manager.spare_most = number,
    }
    true
}

fn workers(pool: &mut Pool, manager: Manager, place: &Place) {
    let Some(max) = manager.children else {
        pool.lost(place, "pm.max_children is not said: the default number of workers stands for it");
        return;
    };
    let (kind_place, kind) = manager.kind.unwrap_or_else(|| (place.clone(), "static".into()));
    match kind.as_str() {
        "ondemand" => {
            pool.workers = Some(Workers::Range { min: 0, max, idle: Some(manager.idle.unwrap_or(10)) });
        }
        "dynamic" => {
            let (least, most) = (manager.spare_least.unwrap_or(1), manager.spare_most.unwrap_or(1));
            let start = manager.start.unwrap_or_else(|| least.saturating_add(most.saturating_sub(least) / 2));
            pool.workers = Some(Workers::Range { min: start.min(max).max(1), max, idle: None });
            pool.word(
                &kind_place,
                format!("pm = dynamic with {least} to {most} spare: here the number grows when somebody waits, from pm.start_servers on, and shrinks when workers were idle for a minute"),
            );
        }
        "static" => pool.workers = Some(Workers::Fixed(max)),
        other => {
            pool.workers = Some(Workers::Fixed(max));
            pool.lost(&kind_place, format!("pm = {other} is not known: it stands as static"));
        }
    }
}

/// `php_value[memory_limit]`.
fn in_brackets<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')
}

fn take(pool: &mut Pool, key: &str, value: &str, place: &Place) {
    if let Some(name) = in_brackets(key, "env") {
        return variable(pool, name, value, place);
    }
    for kind in ["php_value", "php_flag", "php_admin_value", "php_admin_flag"] {
        if let Some(name) = in_brackets(key, kind) {
            let value = if kind.ends_with("flag") && value.is_empty() { "0" } else { value };
            pool.command.extend(["-d".to_owned(), format!("{name}={}", quoted(value))]);
            if kind.contains("admin") {
                pool.lost(
                    place,
                    format!("{key}: scripts may change {name} by ini_set() now, unless PHP itself forbids it"),
                );
            }
            return;
        }
    }
    let number = value.parse::<u64>();
    match key {
        "listen" => match address::port_or_pair(value, "::").unwrap_or_else(|| address::unix(value)) {
            Ok(listen) => pool.listen.push(listen),
            Err(why) => pool.lost(place, format!("listen: {why}")),
        },
        "listen.allowed_clients" => clients_from(pool, value, place),
        "listen.owner" => pool.socket.owner = Some(value.to_owned()),
        "listen.group" => pool.socket.group = Some(value.to_owned()),
        "listen.mode" => pool.socket.mode = Some(value.to_owned()),
        "listen.backlog" if value == "-1" => pool.socket.backlog = None,
        "user" => pool.user = Some(value.to_owned()),
        "group" => pool.group = Some(value.to_owned()),
        "chdir" => pool.directory = Some(value.to_owned()),
        "clear_env" if value == "1" => {}
        "clear_env" => pool.lost(place, "clear_env = no: name what is needed in `pass-environment`"),
        "request_terminate_timeout" if seconds(value) == Some(0) => {}
        "request_terminate_timeout" if seconds(value).is_some() => pool.request_timeout = seconds(value),
        "request_slowlog_timeout" if seconds(value) == Some(0) => {}
        "request_slowlog_timeout" if seconds(value).is_some() => pool.slow_request = seconds(value),
        "slowlog" => pool.word(place, format!("slowlog = {value}: slow requests are events here (`steadfast events`)")),
        "catch_workers_output" | "decorate_workers_output" => {
            pool.word(place, format!("{key}: what workers write to stderr is in steadfast's log, always"));
        }
        "pm.status_path" | "ping.path" | "ping.response" | "pm.status_listen" => {
            pool.lost(
                place,
                format!("{key} = {value}: `steadfast status` and `steadfast ping` tell; no page does in this version"),
            );
        }
        "access.log" | "access.format" | "access.suppress_path[]" => {
            pool.lost(place, format!("{key} = {value}: not translated; the web server has a log of requests"));
        }
        "prefix" | "chroot" => {
            pool.lost(place, format!("{key} = {value}: steadfast does not change the root directory"));
        }
        _ => match (key, number) {
            ("listen.backlog", Ok(number)) => pool.socket.backlog = Some(number),
            ("pm.max_requests", Ok(0)) => {}
            ("pm.max_requests", Ok(number)) => pool.max_requests = Some(number),
            ("rlimit_files", Ok(number)) => {
                pool.rlimits.insert("nofile".into(), Some(number));
            }
            ("rlimit_core", number) if number.is_ok() || value == "unlimited" => {
                pool.rlimits.insert("core".into(), number.ok());
            }
            _ => pool.lost(place, format!("{key} = {value}: not translated")),
        },
    }
}

/// `env[NAME] = $NAME` is passed on, any other text is a value.
fn variable(pool: &mut Pool, name: &str, value: &str, place: &Place) {
    match value.strip_prefix('$') {
        Some(other) if other == name => pool.pass_environment.push(name.to_owned()),
        Some(_) => pool.lost(place, format!("env[{name}] = {value}: a variable is passed on under its own name only")),
        None => {
            pool.environment.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// As php-cgi's `-d` reads it: as a line of php.ini, where some letters need quotes (it quotes by itself what has none of them).
fn quoted(value: &str) -> String {
    let is_plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:,".contains(c));
    if is_plain || value.contains('"') { value.to_owned() } else { format!("\"{value}\"") }
}
