//! supervisor's `[fcgi-program:x]`, and the `[program:x]` that start spawn-fcgi and the like (supervisor 4.2).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::address;
use crate::command;
use crate::draft::{Draft, Place, Pool, Workers};
use crate::files::{Bounded, Files, Source, find};
use crate::ini::{self, Entry, Sections};
use crate::name;
use crate::settle::settle;
use crate::words::split_plain;

/// A longer environment, or longer values in it by what they stand for, are refused.
const ENVIRONMENT_MAX: usize = 64 * 1024;

/// Sections that say nothing of programs.
const OTHERS: [&str; 6] =
    ["unix_http_server", "inet_http_server", "supervisorctl", "rpcinterface:", "eventlistener:", "ctlplugin:"];

/// One section with where its keys stand; later keys win, as in supervisor.
#[derive(Default)]
struct Section {
    place: Place,
    keys: BTreeMap<String, (Place, String)>,
}

/// Reads a file, and those that it includes.
#[must_use]
pub fn from_file(source: &Source, files: &dyn Files) -> Draft {
    let mut draft = Draft::default();
    let files = &Bounded::new(files);
    let mut sections = Sections::new();
    let here = source.path.as_deref().and_then(Path::parent).map(Path::to_owned);
    read(&source.shown, &source.text, &mut sections, &mut draft);
    for path in included(&sections, here.as_deref(), files) {
        match files.read(&path) {
            Ok(text) => read(&path.display().to_string(), &text, &mut sections, &mut draft),
            Err(why) => {
                draft.lost(&Place { file: path.display().to_string(), line: None }, format!("was not read: {why}"))
            }
        }
    }
    let daemon = sections.named("supervisord");
    for (name, section) in sections.all() {
        match name.split_once(':') {
            Some((kind @ ("fcgi-program" | "program"), program)) => {
                add(&mut draft, kind, program.trim(), section, daemon, here.as_deref());
            }
            Some(("group", group)) => draft.word(&section.place, format!("[group:{group}]: pools have no groups")),
            _ if name == "supervisord" || name == "include" => {}
            _ if OTHERS.iter().any(|other| name.starts_with(other)) => {
                draft.word(&section.place, format!("[{name}] is supervisor's own affair"));
            }
            _ => draft.lost(&section.place, format!("[{name}] is not known")),
        }
    }
    draft
}

fn read(shown: &str, text: &str, sections: &mut Sections<Section>, draft: &mut Draft) {
    let ini = ini::python(text);
    for line in ini.unread {
        draft.lost(&Place::line(shown, line), "this line says nothing that supervisor reads");
    }
    for Entry { line, section, key, value } in ini.entries {
        let place = Place::line(shown, line);
        let section = sections.entry(section, || Section { place: place.clone(), ..Section::default() });
        section.keys.insert(key, (place, value));
    }
}

fn included(sections: &Sections<Section>, here: Option<&Path>, files: &dyn Files) -> Vec<PathBuf> {
    let include = sections.named("include");
    let Some((_, patterns)) = include.and_then(|section| section.keys.get("files")) else { return Vec::new() };
    let here = here.unwrap_or(Path::new("/"));
    let patterns = patterns.replace("%(here)s", &here.display().to_string());
    patterns.split_whitespace().flat_map(|pattern| find(files, &here.join(pattern))).collect()
}

/// What `%(name)s` stands for.
struct Expansions {
    known: BTreeMap<String, String>,
    /// So much may come of names yet: each could stand for two of another.
    left: Cell<usize>,
}

impl Expansions {
    /// The text, and what is not known of it, which stays as it is.
    fn expand(&self, text: &str) -> (String, Vec<String>) {
        let (mut expanded, mut unknown) = (String::new(), Vec::new());
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("%%") {
                expanded.push('%');
                rest = after;
                continue;
            }
            let end = rest.find(')').and_then(|close| {
                let format = rest[close + 1..].find(|c: char| c.is_ascii_alphabetic())?;
                Some((close, close + 1 + format + 1))
            });
            let Some((close, end)) = end.filter(|_| rest.starts_with("%(")) else {
                expanded.push('%');
                rest = &rest[1..];
                continue;
            };
            let value = self.known.get(&rest[2..close]);
            let left = value.and_then(|value| self.left.get().checked_sub(value.len()));
            match value.zip(left) {
                Some((value, left)) => {
                    self.left.set(left);
                    expanded.push_str(value);
                }
                None => {
                    expanded.push_str(&rest[..end]);
                    unknown.push(rest[..end].to_owned());
                }
            }
            rest = &rest[end..];
        }
        expanded.push_str(rest);
        (expanded, unknown)
    }
}

fn add(draft: &mut Draft, kind: &str, program: &str, section: &Section, daemon: Option<&Section>, here: Option<&Path>) {
    let mut pool = Pool { name: program.to_owned(), place: section.place.clone(), ..Pool::default() };
    let mut known = BTreeMap::from([
        ("program_name".to_owned(), program.to_owned()),
        ("group_name".to_owned(), program.to_owned()),
        ("process_num".to_owned(), "0".to_owned()),
    ]);
    known.extend(here.map(|here| ("here".to_owned(), here.display().to_string())));
    let mut expansions = Expansions { known, left: Cell::new(ENVIRONMENT_MAX) };
    for section in daemon.into_iter().chain([section]) {
        if let Some((place, text)) = section.keys.get("environment") {
            environment(&mut pool, place, text, &mut expansions);
        }
    }
    if let Some((place, user)) = daemon.and_then(|daemon| daemon.keys.get("user"))
        && !section.keys.contains_key("user")
    {
        pool.user = Some(user.clone());
        pool.word(place, "the user is that of [supervisord]");
    }
    // The command last: it multiplies what numprocs says.
    let commands_last = |key: &&String| *key == "command";
    let mut keys: Vec<&String> = section.keys.keys().filter(|key| *key != "command" && *key != "environment").collect();
    keys.extend(section.keys.keys().filter(commands_last));
    for key in keys {
        let (place, text) = &section.keys[key];
        let (value, unknown) = expansions.expand(text);
        for what in unknown {
            pool.lost(place, format!("{what} in {key} has no value here: fill it in"));
        }
        if let Err(why) = take(&mut pool, key, &value, place) {
            draft.lost(place, format!("[{kind}:{program}]: {why}"));
            return;
        }
    }
    if pool.command.is_empty() {
        draft.lost(&pool.place, format!("[{kind}:{program}] has no command"));
        return;
    }
    if kind == "program" && pool.listen.is_empty() {
        draft.word(&pool.place, format!("[program:{program}] has no FastCGI socket: it stays with supervisor"));
        return;
    }
    finish(draft, pool);
}

fn finish(draft: &mut Draft, mut pool: Pool) {
    let place = pool.place.clone();
    if pool.listen.is_empty() {
        let listen = format!("unix:/run/{}.sock", name::settled(&pool.name));
        pool.lost(&place, format!("no socket is named: {listen} stands for it"));
        pool.listen.push(listen);
    }
    if pool.listen.iter().any(|listen| listen.starts_with("unix:")) && pool.socket.mode.is_none() {
        pool.socket.mode = Some("0700".into());
        pool.word(&place, "socket_mode is 0700 unless it is said: only the pool's own user may connect");
    }
    pool.workers.get_or_insert(Workers::Fixed(1));
    command::default_directory(&mut pool, "supervisor");
    if pool.user.is_none() {
        pool.lost(&place, "no user is named: started as root, a pool must name its `user`");
    }
    settle(&mut pool);
    draft.add(pool);
}

/// One key of a program.
fn take(pool: &mut Pool, key: &str, value: &str, place: &Place) -> Result<(), String> {
    let number = |value: &str| value.trim().parse::<u64>().map_err(|_| format!("{key} = {value:?} is no number"));
    match key {
        "command" => command::read(pool, &split_plain(value)?, place)?,
        "socket" => match socket(value) {
            Ok(listen) => pool.listen.push(listen),
            Err(why) => pool.lost(place, format!("socket: {why}")),
        },
        "socket_owner" => {
            let (user, group) = value.split_once(':').unwrap_or((value, ""));
            pool.socket.owner = Some(user.to_owned());
            pool.socket.group = Some(group.to_owned()).filter(|group| !group.is_empty());
        }
        "socket_mode" => pool.socket.mode = Some(value.to_owned()),
        "socket_backlog" => pool.socket.backlog = Some(number(value)?),
        "numprocs" => pool.workers = Some(Workers::Fixed(number(value)?)),
        "user" => pool.user = Some(value.to_owned()),
        "umask" => pool.umask = Some(value.to_owned()),
        "directory" => pool.directory = Some(value.to_owned()),
        "stopwaitsecs" => pool.stop_timeout = Some(number(value)?),
        "stopsignal" if matches!(value, "TERM" | "SIGTERM" | "15") => {}
        "stopsignal" => pool.lost(place, format!("stopsignal = {value}: steadfast asks workers to leave by TERM")),
        "autostart" | "autorestart"
            if matches!(value.to_lowercase().as_str(), "true" | "unexpected" | "yes" | "1" | "on") => {}
        "autostart" | "autorestart" => {
            pool.lost(place, format!("{key} = {value}: steadfast keeps its pools running"));
        }
        "stdout_logfile" | "stderr_logfile" if !matches!(value.to_lowercase().as_str(), "auto" | "none" | "off") => {
            pool.lost(place, format!("{key} = {value}: what workers write goes into steadfast's own log"));
        }
        "startsecs" | "startretries" | "exitcodes" => {
            pool.word(place, format!("{key} = {value}: when to give up is said by [pool.{}.breaker] here", pool.name));
        }
        "priority" | "process_name" | "numprocs_start" | "stopasgroup" | "killasgroup" | "redirect_stderr" => {
            pool.word(place, format!("{key} = {value}: needless here"));
        }
        _ if key.starts_with("stdout_") || key.starts_with("stderr_") => {
            pool.word(place, format!("{key} = {value}: what workers write goes into steadfast's own log"));
        }
        _ => pool.lost(place, format!("{key} = {value}: not translated")),
    }
    Ok(())
}

/// `unix:///path`, `tcp://host:port`.
fn socket(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        return address::unix(path);
    }
    let pair = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
    let (host, port) = pair.ok_or_else(|| format!("{text:?} is neither unix:///PATH nor tcp://HOST:PORT"))?;
    address::tcp(host, port)
}

/// `KEY="value",KEY2=value2` (supervisor's dict_of_key_value_pairs).
fn environment(pool: &mut Pool, place: &Place, text: &str, expansions: &mut Expansions) {
    let pairs = match bounded(text).and_then(pairs) {
        Ok(pairs) => pairs,
        Err(why) => return pool.lost(place, format!("environment: {why}")),
    };
    for (name, value) in pairs {
        let (value, unknown) = expansions.expand(&value);
        if value == format!("%(ENV_{name})s") {
            pool.pass_environment.push(name);
            continue;
        }
        for what in unknown {
            pool.lost(place, format!("{what} in the variable {name} has no value here: fill it in"));
        }
        expansions.known.insert(format!("ENV_{name}"), value.clone());
        pool.environment.insert(name, value);
    }
}

fn bounded(text: &str) -> Result<&str, String> {
    match text.len() {
        0..=ENVIRONMENT_MAX => Ok(text),
        _ => Err(format!("it has more than {} KiB, which no environment has", ENVIRONMENT_MAX / 1024)),
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| format!("{rest:?} has no ="))?;
        let after = after.trim_start();
        let (value, after) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                after[1..].split_once(quote).ok_or_else(|| format!("a {quote} is not closed in {rest:?}"))?
            }
            _ => after.split_at(after.find([',', '\n', ' ', '\t']).unwrap_or(after.len())),
        };
        found.push((name.trim().to_owned(), value.to_owned()));
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_quotes_and_commas() {
        let expected = [("A", "1"), ("B", "x, y"), ("C", "z")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(pairs("A=1,B=\"x, y\",\n C = 'z',").as_deref(), Ok(expected.as_slice()));
        pairs("A=\"1").expect_err("not closed");
        pairs("A").expect_err("no value");
    }

    #[test]
    fn percents_are_expanded_or_told() {
        let expansions =
            Expansions { known: BTreeMap::from([("process_num".into(), "0".into())]), left: Cell::new(100) };
        let (text, unknown) = expansions.expand("%(process_num)02d 5%% 6% %(ENV_X)s %(");
        assert_eq!((text.as_str(), unknown), ("0 5% 6% %(ENV_X)s %(", vec!["%(ENV_X)s".to_owned()]));
    }
}
