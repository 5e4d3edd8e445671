//! What a command line starts: looks through env, spawn-fcgi, multiwatch and the like to the program itself.

use crate::address;
use crate::draft::{Place, Pool, Workers};
use crate::words::split_shell;

/// More programs that only start the next are a circle.
const WRAPPERS_MAX: usize = 16;
/// More words than this are no command line.
const WORDS_MAX: usize = 10_000;

/// The last part of a path.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What a command line says goes into the pool; its program becomes the pool's command.
///
/// # Errors
/// Why it starts nothing.
pub(crate) fn read(pool: &mut Pool, words: &[String], place: &Place) -> Result<(), String> {
    if words.len() > WORDS_MAX {
        return Err(format!("it has more than {WORDS_MAX} words"));
    }
    let mut words = words.to_vec();
    for _ in 0..WRAPPERS_MAX {
        let assignments: Vec<(&str, &str)> = words.iter().map_while(|word| assignment(word)).collect();
        let count = assignments.len();
        pool.environment.extend(assignments.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        words.drain(..count);
        let Some(program) = words.first().filter(|program| !program.is_empty()).cloned() else {
            return Err("it names no program".into());
        };
        if program.ends_with('/') {
            return Err(format!("{program:?} is a directory, not a program"));
        }
        let rest = words.split_off(1);
        words = match base(&program) {
            "spawn-fcgi" => spawn_fcgi(pool, &rest, place)?,
            "multiwatch" => multiwatch(pool, &rest, place)?,
            "exec" | "nohup" | "setsid" | "command" | "--" => rest,
            "env" => env(pool, rest, place),
            "nice" => nice(pool, rest, place),
            "sudo" => sudo(pool, rest, place)?,
            "setuidgid" => {
                let mut rest = rest;
                if !rest.is_empty() {
                    pool.user = Some(rest.remove(0));
                }
                rest
            }
            name => {
                let is_php = name.starts_with("php") && name.contains("cgi");
                pool.command = std::iter::once(program.clone()).chain(rest).collect();
                if is_php {
                    php_cgi(pool, place);
                } else if name == "iipsrv.fcgi" {
                    iipsrv(pool, place);
                }
                return Ok(());
            }
        };
    }
    Err("it starts nothing but programs that start others".into())
}

/// Services begin in `/`: where nothing was said, that is true of most.
pub(crate) fn default_directory(pool: &mut Pool, who: &str) {
    let is_absolute = pool.command.first().is_some_and(|program| program.starts_with('/'));
    if pool.directory.is_none() {
        let place = pool.place.clone();
        if is_absolute {
            pool.directory = Some("/".into());
            pool.word(&place, format!("{who} kept its caller's directory: for services that is /"));
        } else {
            pool.lost(&place, format!("{who} kept its caller's directory, which is not known: set `directory`"));
        }
    }
}

/// `NAME=VALUE`.
pub(crate) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, value))
}

/// Options with their values, and what is left.
type Given = (Vec<(char, String)>, Vec<String>);

/// getopt(3), with letters alone: each option with its value, then what is left. Options end at `--`, or at the first word
/// that is none.
fn options(words: &[String], with_value: &str, flags: &str) -> Result<Given, String> {
    let mut found = Vec::new();
    let mut words = words.iter();
    let mut left = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            left.push(word.clone());
            break;
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            if flags.contains(letter) {
                found.push((letter, String::new()));
            } else if with_value.contains(letter) {
                let attached = letters.as_str().to_owned();
                let value = if attached.is_empty() { words.next().cloned() } else { Some(attached) };
                found.push((letter, value.ok_or_else(|| format!("the option -{letter} has no value"))?));
                break;
            } else {
                return Err(format!("there is no option -{letter} (in {word:?})"));
            }
        }
    }
    left.extend(words.cloned());
    Ok((found, left))
}

fn times(pool: &mut Pool, count: u64) {
    let before = match pool.workers {
        Some(Workers::Fixed(before)) => before,
        _ => 1,
    };
    pool.workers = Some(Workers::Fixed(before.saturating_mul(count)));
}

fn number(pool: &mut Pool, option: &str, value: &str, place: &Place) -> Option<u64> {
    let number = value.trim().parse().ok();
    if number.is_none() {
        pool.lost(place, format!("{option} {value:?} is no number"));
    }
    number
}

/// spawn-fcgi(1) 1.6.4.
fn spawn_fcgi(pool: &mut Pool, words: &[String], place: &Place) -> Result<Vec<String>, String> {
    let (options, mut left) = options(words, "fdapsCFbPMcugUG", "nSv?h").map_err(|why| format!("spawn-fcgi: {why}"))?;
    let (mut host, mut port, mut file) = (String::new(), None, None);
    let (mut forks, mut is_forking) = (None, true);
    for (option, value) in options {
        let shown = format!("spawn-fcgi -{option}");
        match option {
            'f' => file = Some(value),
            'd' => pool.directory = Some(value),
            'a' => host = value,
            'p' => port = Some(value),
            's' => match address::unix(&value) {
                Ok(listen) => {
                    if !value.starts_with('/') {
                        pool.lost(place, format!("{shown} {value}: this path began where spawn-fcgi was started; here it begins in the runtime directory"));
                    }
                    pool.listen.push(listen);
                }
                Err(why) => pool.lost(place, format!("{shown}: {why}")),
            },
            'C' => {
                pool.environment.insert("PHP_FCGI_CHILDREN".into(), value);
            }
            'F' => forks = number(pool, &shown, &value, place),
            'b' => pool.socket.backlog = number(pool, &shown, &value, place),
            'P' => pool.word(place, format!("{shown} {value}: steadfast leaves no file with a pid, see `steadfast status`")),
            'n' => is_forking = false,
            'M' => pool.socket.mode = Some(value),
            'c' => pool.lost(place, format!("{shown} {value}: steadfast does not change the root directory (see RootDirectory= in systemd.exec(5))")),
            'S' => pool.lost(place, format!("{shown}: a socket made before the root directory changes")),
            'u' => pool.user = Some(value),
            'g' => pool.group = Some(value),
            'U' => pool.socket.owner = Some(value),
            'G' => pool.socket.group = Some(value),
            _ => return Err(format!("{shown} starts nothing")),
        }
    }
    if let Some(port) = port {
        match address::tcp(&host, &port) {
            Ok(listen) => pool.listen.push(listen),
            Err(why) => pool.lost(place, format!("spawn-fcgi -p: {why}")),
        }
    }
    match forks {
        Some(forks) if is_forking => times(pool, forks),
        Some(_) => pool.word(place, "spawn-fcgi -F has no meaning beside -n"),
        None => {}
    }
    if let Some(file) = file.filter(|_| left.is_empty()) {
        // spawn-fcgi gives it to /bin/sh.
        let line = split_shell(&file, &|_| None).map_err(|why| format!("spawn-fcgi -f: {why}"))?;
        for unknown in &line.unknown {
            pool.lost(place, format!("spawn-fcgi -f: {unknown} is not known here"));
        }
        left = line.words();
    }
    if left.is_empty() && !pool.listen.is_empty() {
        return Err("spawn-fcgi names no program: it stands behind --".into());
    }
    pool.workers.get_or_insert(Workers::Fixed(1));
    Ok(left)
}

/// multiwatch(1) 1.0.0.
fn multiwatch(pool: &mut Pool, words: &[String], place: &Place) -> Result<Vec<String>, String> {
    let mut short = Vec::new();
    let mut is_done = false;
    for word in words {
        let long = [("--forks", "-f"), ("--retry", "-r"), ("--timeout", "-t"), ("--signal", "-s")];
        let found = long.iter().find(|(name, _)| !is_done && (word == name || word.starts_with(&format!("{name}="))));
        is_done |= word == "--" || !word.starts_with('-') && short.last().is_none_or(|last: &String| last.len() != 2);
        match found.and_then(|(name, letter)| Some((letter, word.strip_prefix(name)?))) {
            Some((letter, value)) => {
                short.push((*letter).to_owned());
                short.extend(value.strip_prefix('=').map(str::to_owned));
            }
            None => short.push(word.clone()),
        }
    }
    let (options, left) = options(&short, "frts", "v?").map_err(|why| format!("multiwatch: {why}"))?;
    let mut forks = 1;
    for (option, value) in options {
        let shown = format!("multiwatch -{option}");
        match option {
            'f' => forks = number(pool, &shown, &value, place).unwrap_or(1),
            'r' | 't' => {
                pool.word(place, format!("{shown} {value}: when to give up is said by [pool.NAME.breaker] here"))
            }
            's' if value == "TERM" => {}
            's' => pool.lost(place, format!("{shown} {value}: steadfast asks workers to leave by TERM")),
            _ => return Err(format!("{shown} starts nothing")),
        }
    }
    times(pool, forks);
    Ok(left)
}

fn env(pool: &mut Pool, mut words: Vec<String>, place: &Place) -> Vec<String> {
    while let Some(word) = words.first().cloned() {
        match word.as_str() {
            "-" | "-i" | "--ignore-environment" => {}
            "-u" if words.len() > 1 => {
                let name = words.remove(1);
                pool.word(place, format!("env -u {name}: workers start with a small clean environment"));
            }
            // `env - $E PROGRAM`: variables of whoever calls it.
            other
                if other.starts_with('$')
                    && !other.contains('=')
                    && words.get(1).is_some_and(|next| !next.starts_with('-')) =>
            {
                pool.lost(place, format!("env {other}: left out; its variables belong into `environment`"));
            }
            other if other.contains('=') && assignment(other).is_none() => {
                pool.lost(place, format!("{other} is no variable: fill in `environment`"));
            }
            _ => break,
        }
        words.remove(0);
    }
    words
}

fn nice(pool: &mut Pool, mut words: Vec<String>, place: &Place) -> Vec<String> {
    let mut by = "10".to_owned();
    while let Some(word) = words.first().cloned().filter(|word| word.starts_with('-')) {
        words.remove(0);
        by = match word.as_str() {
            "-n" if !words.is_empty() => words.remove(0),
            other => other.trim_start_matches("-n").trim_start_matches('-').to_owned(),
        };
    }
    pool.lost(place, format!("nice {by}: not translated; Nice= of steadfast's own unit is for all of its pools"));
    words
}

fn sudo(pool: &mut Pool, mut words: Vec<String>, place: &Place) -> Result<Vec<String>, String> {
    while let Some(word) = words.first().cloned().filter(|word| word.starts_with('-')) {
        words.remove(0);
        match word.as_str() {
            "-u" if !words.is_empty() => pool.user = Some(words.remove(0)),
            "-g" if !words.is_empty() => pool.group = Some(words.remove(0)),
            "--" => break,
            "-n" | "-H" | "-S" => {}
            "-E" => pool.lost(place, "sudo -E: workers start with a small clean environment; see `pass-environment`"),
            other => return Err(format!("sudo {other}: not understood")),
        }
    }
    Ok(words)
}

/// `-b ADDRESS`: php-cgi would bind it by itself.
fn php_cgi(pool: &mut Pool, place: &Place) {
    if let Some(value) = taken(&mut pool.command, "-b") {
        bound(pool, "php-cgi -b", &value, place);
    }
}

/// iipsrv(8): the socket that it would bind by itself. Without one it serves on its stdin.
fn iipsrv(pool: &mut Pool, place: &Place) {
    if let Some(value) = taken(&mut pool.command, "--bind") {
        bound(pool, "iipsrv --bind", &value, place);
    }
    if let Some(value) = taken(&mut pool.command, "--backlog") {
        pool.socket.backlog = number(pool, "iipsrv --backlog", &value, place);
    }
}

/// Takes an option away, whose value is in the same word or the next.
fn taken(command: &mut Vec<String>, option: &str) -> Option<String> {
    let at = command.iter().position(|word| word.starts_with(option))?;
    let word = command.remove(at);
    match word.strip_prefix(option) {
        Some("") if at < command.len() => Some(command.remove(at)),
        value => value.map(str::to_owned),
    }
}

fn bound(pool: &mut Pool, what: &str, value: &str, place: &Place) {
    let listen =
        address::port_or_pair(value.trim_start_matches(':'), "0.0.0.0").unwrap_or_else(|| address::unix(value));
    match listen {
        Ok(listen) => pool.listen.push(listen),
        Err(why) => pool.lost(place, format!("{what}: {why}")),
    }
}
