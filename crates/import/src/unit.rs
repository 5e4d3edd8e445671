//! systemd's units: a .service, with the .socket that gives it its sockets and the files of its .d directories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::address;
use crate::boot::Boot;
use crate::command::{self, base};
use crate::draft::{Draft, Place, Pool, Workers};
use crate::files::{Bounded, Files, Source};
use crate::settle::{LIMITS, settle};
use crate::spawn_fcgi;
use crate::unit_text::{self, Name, Setting};

/// Where units are, the first counts.
const DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// What steadfast does by itself, or in another way.
const NEEDLESS: [&str; 17] = [
    "Type",
    "PIDFile",
    "Restart",
    "RestartSec",
    "SyslogIdentifier",
    "StandardOutput",
    "StandardError",
    "NonBlocking",
    "GuessMainPID",
    "RemainAfterExit",
    "KillMode",
    "NotifyAccess",
    "Sockets",
    "StandardInput",
    "PermissionsStartOnly",
    "TimeoutStartSec",
    "Accept",
];

/// One unit with everything that adds to it, in the order in which systemd reads it.
struct Unit {
    name: String,
    settings: Vec<(String, Setting)>,
}

impl Unit {
    /// The last word on a key of a section; an empty one takes it back.
    fn last(&self, section: &str, key: &str) -> Option<&(String, Setting)> {
        let found = self.settings.iter().rfind(|(_, setting)| setting.section == section && setting.key == key);
        found.filter(|(_, setting)| !setting.value.is_empty())
    }

    /// Every word on a key that is a list; an empty one forgets those before it.
    fn all(&self, section: &str, key: &str) -> Vec<&(String, Setting)> {
        let mut found = Vec::new();
        for setting in self.settings.iter().filter(|(_, s)| s.section == section && s.key == key) {
            if setting.1.value.is_empty() {
                found.clear();
            } else {
                found.push(setting);
            }
        }
        found
    }
}

/// Reads the units that were given: each service is a pool. A socket that was not given is looked for.
#[must_use]
pub fn from_files(sources: &[Source], files: &dyn Files) -> Draft {
    let files = &Bounded::new(files);
    let boot = Boot::new(files);
    let mut draft = Draft::default();
    let mut units: Vec<Unit> = Vec::new();
    let mut directories: Vec<PathBuf> = Vec::new();
    for source in sources {
        let name = base(&source.shown).to_owned();
        directories.extend(source.path.as_deref().and_then(Path::parent).map(Path::to_owned));
        units.push(read(&name, &source.shown, &source.text, &mut draft));
    }
    directories.extend(DIRECTORIES.iter().map(PathBuf::from));
    for unit in &mut units {
        dropped_in(unit, &directories, files, &mut draft);
    }
    let mut sockets: Vec<Unit> = Vec::new();
    let mut services: Vec<Unit> = Vec::new();
    for unit in units {
        if unit.name.ends_with(".socket") { sockets.push(unit) } else { services.push(unit) }
    }
    let mut used = Vec::new();
    for service in &services {
        for name in socket_names(service) {
            if sockets.iter().any(|socket| socket.name == name) {
                continue;
            }
            let found = directories.iter().map(|directory| directory.join(&name)).find_map(|path| {
                let text = files.read(&path).ok()?;
                Some((path, text))
            });
            if let Some((path, text)) = found {
                let mut socket = read(&name, &path.display().to_string(), &text, &mut draft);
                dropped_in(&mut socket, &directories, files, &mut draft);
                sockets.push(socket);
            }
        }
        let stem = service.name.rsplit_once('.').map_or(service.name.as_str(), |(stem, _)| stem);
        let own: Vec<&Unit> = sockets
            .iter()
            .filter(|socket| socket_names(service).contains(&socket.name) || serves(socket, service, stem))
            .collect();
        used.extend(own.iter().map(|socket| socket.name.clone()));
        add(&mut draft, service, stem, &own, files, &boot);
    }
    for socket in sockets.iter().filter(|socket| !used.contains(&socket.name)) {
        draft.lost(&Place { file: socket.name.clone(), line: None }, "no service for this socket was given");
    }
    draft
}

fn read(name: &str, shown: &str, text: &str, draft: &mut Draft) -> Unit {
    let (settings, unread) = unit_text::settings(text);
    for line in unread {
        draft.lost(&Place::line(shown, line), "this line says nothing that systemd reads");
    }
    Unit { name: name.to_owned(), settings: settings.into_iter().map(|s| (shown.to_owned(), s)).collect() }
}

fn dropped_in(unit: &mut Unit, directories: &[PathBuf], files: &dyn Files, draft: &mut Draft) {
    let mut seen: Vec<String> = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for directory in directories {
        for path in files.list(&directory.join(format!("{}.d", unit.name))) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".conf") && !seen.contains(&name) {
                seen.push(name);
                paths.push(path);
            }
        }
    }
    paths.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    for path in paths {
        match files.read(&path) {
            Ok(text) => unit.settings.extend(read(&unit.name, &path.display().to_string(), &text, draft).settings),
            Err(why) => {
                draft.lost(&Place { file: path.display().to_string(), line: None }, format!("was not read: {why}"))
            }
        }
    }
}

/// The sockets that a service names, or has by its name.
fn socket_names(service: &Unit) -> Vec<String> {
    let stem = service.name.rsplit_once('.').map_or(service.name.as_str(), |(stem, _)| stem);
    let named = service.all("Service", "Sockets").into_iter().flat_map(|(_, setting)| setting.value.split_whitespace());
    let mut names: Vec<String> = named.map(str::to_owned).collect();
    names.push(format!("{stem}.socket"));
    names
}

fn serves(socket: &Unit, service: &Unit, stem: &str) -> bool {
    match socket.last("Socket", "Service") {
        Some((_, setting)) => setting.value == service.name,
        None => socket.name == format!("{stem}.socket"),
    }
}

fn add(draft: &mut Draft, service: &Unit, stem: &str, sockets: &[&Unit], files: &dyn Files, boot: &Boot<'_>) {
    let name = Name { full: &service.name };
    let whole = Place { file: service.name.clone(), line: None };
    let Some((file, start)) = service.last("Service", "ExecStart") else {
        draft.lost(&whole, format!("{} starts nothing: it has no ExecStart=", service.name));
        return;
    };
    let place = Place::line(file, start.line);
    let mut pool = Pool { name: stem.to_owned(), place: place.clone(), directory: Some("/".into()), ..Pool::default() };
    let variables = environment(service, &mut pool, &name, files);
    for (file, setting) in &service.settings {
        let place = Place::line(file, setting.line);
        match setting.section.as_str() {
            "Service" => take(&mut pool, setting, &name, &place),
            "Unit" | "Install" => {}
            other => pool.lost(&place, format!("[{other}] {}= is not of a service", setting.key)),
        }
    }
    if let Err(why) = start_command(&mut pool, &start.value, &name, variables, &place, files) {
        draft.lost(&place, why);
        return;
    }
    for socket in sockets {
        listen(&mut pool, socket, boot);
    }
    let is_stdin =
        service.last("Service", "StandardInput").is_some_and(|(_, setting)| setting.value.starts_with("socket"));
    if pool.listen.is_empty() {
        let program = base(&pool.command[0]);
        draft.lost(
            &place,
            format!(
                "{} has no socket for FastCGI: name its .socket file, too; if {program} binds one by itself, see whether it \
                 serves on its stdin instead: steadfast init -- {}",
                service.name, pool.command[0]
            ),
        );
        return;
    }
    pool.is_passed_by_number = !sockets.is_empty() && !is_stdin && base(&pool.command[0]) != "fcgiwrap";
    pool.workers.get_or_insert(Workers::Fixed(1));
    if pool.user.is_none() {
        pool.user = Some("root".into());
        pool.lost(&place, "no User=: its workers ran as root; give them a user of their own");
    }
    settle(&mut pool);
    draft.add(pool);
}

/// `Environment=` and the files, for the command's own variables and for the workers.
fn environment(service: &Unit, pool: &mut Pool, name: &Name<'_>, files: &dyn Files) -> BTreeMap<String, String> {
    for (file, setting) in service.all("Service", "Environment") {
        let place = Place::line(file, setting.line);
        let (value, unknown) = name.specify(&setting.value);
        told(pool, &unknown, &place);
        match unit_text::words(&value) {
            Ok(words) => {
                for word in words {
                    match command::assignment(&word) {
                        Some((name, value)) => {
                            pool.environment.insert(name.to_owned(), value.to_owned());
                        }
                        None => pool.lost(&place, format!("Environment={word:?} is no variable")),
                    }
                }
            }
            Err(why) => pool.lost(&place, format!("Environment=: {why}")),
        }
    }
    for (file, setting) in service.all("Service", "EnvironmentFile") {
        let place = Place::line(file, setting.line);
        let (path, unknown) = name.specify(setting.value.trim_start_matches('-'));
        told(pool, &unknown, &place);
        match files.read(Path::new(&path)) {
            Ok(text) => {
                pool.word(&place, format!("{path} was read now: what is changed there later counts no more"));
                pool.environment.extend(unit_text::environment_file(&text));
            }
            Err(_) if setting.value.starts_with('-') => {
                pool.word(&place, format!("{path} is not here, which is no fault"));
            }
            Err(why) => pool.lost(&place, format!("EnvironmentFile={path} was not read: {why}")),
        }
    }
    for (file, setting) in service.all("Service", "PassEnvironment") {
        pool.word(&Place::line(file, setting.line), "PassEnvironment= is `pass-environment`");
        pool.pass_environment.extend(setting.value.split_whitespace().map(str::to_owned));
    }
    pool.environment.clone()
}

fn told(pool: &mut Pool, unknown: &[String], place: &Place) {
    for what in unknown {
        pool.lost(place, format!("{what} has no value here: fill it in"));
    }
}

fn start_command(
    pool: &mut Pool,
    value: &str,
    name: &Name<'_>,
    variables: BTreeMap<String, String>,
    place: &Place,
    files: &dyn Files,
) -> Result<(), String> {
    let (value, unknown) = name.specify(value);
    told(pool, &unknown, place);
    let prefixes: String = value.chars().take_while(|c| "-@:+!|".contains(*c)).collect();
    let mut words = unit_text::words(&value[prefixes.len()..])?;
    if prefixes.contains(['+', '!']) {
        pool.lost(place, format!("the prefix {prefixes} of ExecStart=: workers are their user's, with no more rights"));
    }
    if prefixes.contains('@') && words.len() > 1 {
        let shown = words.remove(1);
        pool.word(place, format!("the program was shown as {shown:?}"));
    }
    if !prefixes.contains(':') {
        let (expanded, unset) = unit_text::expand(words, &variables)?;
        words = expanded;
        for name in unset {
            pool.lost(place, format!("${name} in ExecStart= has no value here, so that it stands for nothing"));
        }
    }
    if base(words.first().map(String::as_str).unwrap_or_default()).starts_with("php-fpm") {
        return Err("php-fpm's own unit: `steadfast import php-fpm` reads its pools".into());
    }
    match words.first().and_then(|program| spawn_fcgi::started_by(program, files)) {
        Some(found) => spawn_fcgi::read(pool, found),
        None => command::read(pool, &words, place),
    }
}

/// One key of `[Service]`.
fn take(pool: &mut Pool, setting: &Setting, name: &Name<'_>, place: &Place) {
    let key = setting.key.as_str();
    let (value, unknown) = name.specify(&setting.value);
    if matches!(key, "ExecStart" | "Environment" | "EnvironmentFile" | "PassEnvironment") {
        return;
    }
    told(pool, &unknown, place);
    let filled = Some(value.clone()).filter(|value| !value.is_empty());
    match key {
        "User" => pool.user = filled,
        "Group" => pool.group = filled,
        "UMask" => pool.umask = filled,
        "WorkingDirectory" => {
            let path = value.trim_start_matches('-');
            if path.starts_with('/') {
                pool.directory = Some(path.to_owned());
            } else {
                pool.lost(place, format!("WorkingDirectory={value}: write the path into `directory`"));
            }
        }
        "TimeoutStopSec" | "TimeoutSec" => match seconds(&value) {
            Some(seconds) => pool.stop_timeout = Some(seconds),
            None => pool.lost(place, format!("{key}={value}: no time that `stop-timeout` could have")),
        },
        "Nice" | "RuntimeDirectory" | "StateDirectory" | "LogsDirectory" | "CacheDirectory" => {
            pool.lost(place, format!("{key}={value}: put it into steadfast's own unit, for all of its pools"));
        }
        "ExecReload" => pool.word(place, format!("{key}={value}: `steadfast reload` takes its place")),
        _ if key.starts_with("Exec") => {
            pool.lost(
                place,
                format!("{key}={value}: steadfast runs nothing beside the workers; put it into its own unit"),
            );
        }
        _ if key.starts_with("Limit") => limit(pool, key, &value, place),
        _ if NEEDLESS.contains(&key) => pool.word(place, format!("{key}={value}: needless here")),
        _ => pool.lost(
            place,
            format!("{key}={value}: not translated; steadfast's own unit can have it, for all of its pools"),
        ),
    }
}

fn limit(pool: &mut Pool, key: &str, value: &str, place: &Place) {
    let name = key.trim_start_matches("Limit").to_lowercase();
    let most = value.split(':').next_back().unwrap_or_default();
    let amount = match most {
        "infinity" => Some(None),
        other => other.parse().ok().map(Some),
    };
    match amount.filter(|_| LIMITS.contains(&name.as_str())) {
        Some(amount) => {
            if value.contains(':') {
                pool.lost(place, format!("{key}={value}: both limits are {most} here"));
            }
            pool.rlimits.insert(name, amount);
        }
        None => pool.lost(place, format!("{key}={value}: write the number into `rlimits`")),
    }
}

/// `90`, `1min 30s`.
fn seconds(value: &str) -> Option<u64> {
    let mut total = 0u64;
    for part in value.split_whitespace() {
        let (number, unit) = part.split_at(part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len()));
        let unit = match unit {
            "" | "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hr" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
    }
    (total > 0).then_some(total)
}

/// What the socket unit binds, the pool binds.
fn listen(pool: &mut Pool, socket: &Unit, boot: &Boot<'_>) {
    let name = Name { full: &socket.name };
    let whole = Place { file: socket.name.clone(), line: None };
    let unit = socket.name.clone();
    pool.lost(&whole, format!("steadfast binds this socket itself: systemctl disable --now {unit}"));
    let mut mode = None;
    let mut made = None;
    for (file, setting) in &socket.settings {
        let place = Place::line(file, setting.line);
        let (value, unknown) = name.specify(&setting.value);
        told(pool, &unknown, &place);
        match (setting.section.as_str(), setting.key.as_str()) {
            ("Unit" | "Install", _) | ("Socket", "Service") => {}
            ("Socket", "ListenStream") if value.is_empty() => pool.listen.clear(),
            ("Socket", "ListenStream") => {
                let address = address::port_or_pair(&value, "::").unwrap_or_else(|| address::unix(&value));
                match address {
                    Ok(listen) => pool.listen.push(listen),
                    Err(why) => pool.lost(&place, format!("ListenStream=: {why}")),
                }
            }
            ("Socket", "SocketMode") => mode = Some(value),
            ("Socket", "DirectoryMode") => made = Some(value),
            ("Socket", "SocketUser") => pool.socket.owner = Some(value),
            ("Socket", "SocketGroup") => pool.socket.group = Some(value),
            ("Socket", "Backlog") => pool.socket.backlog = value.parse().ok(),
            ("Socket", "Accept") if matches!(value.as_str(), "no" | "false" | "0" | "off") => {}
            ("Socket", "RemoveOnStop" | "FileDescriptorName") => {
                pool.word(&place, format!("{}={value}: needless here", setting.key));
            }
            (_, key) => pool.lost(&place, format!("{key}={value}: not translated")),
        }
    }
    boot.look(pool, &whole, made.as_deref().unwrap_or("0755"));
    if pool.listen.iter().any(|listen| listen.starts_with("unix:")) {
        if mode.is_none() {
            pool.word(&whole, "SocketMode= is 0666 unless it is said: everybody on this machine may connect");
        }
        pool.socket.mode = mode.or_else(|| Some("0666".into()));
    }
}
