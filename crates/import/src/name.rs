//! What a pool is called.

use crate::command::base;

/// The most that a pool's name may have.
const NAME_MAX: usize = 64;
/// Programs that are told by another word what they do, with options that have a value of their own, and such after which no
/// file is named.
const INTERPRETERS: [(&str, &[&str], &[&str]); 7] = [
    ("env", &["-u", "-C"], &["-S"]),
    ("perl", &["-I"], &["-e", "-E"]),
    ("python", &["-W", "-X"], &["-c", "-m"]),
    ("ruby", &["-I", "-r"], &["-e"]),
    ("node", &["-r"], &["-e"]),
    ("sh", &["-o"], &["-c"]),
    ("bash", &["-o"], &["-c"]),
];

/// A name for the pool that runs this command, where nothing else gives one: `/usr/bin/perl site.fcgi` is `site`.
#[must_use]
pub fn of_command(command: &[String]) -> String {
    settled(stem(program(command)))
}

/// A name that a pool may have.
pub(crate) fn settled(name: &str) -> String {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = name.chars().map(|c| if is_good(c) { c } else { '-' }).take(NAME_MAX).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "site".into() } else { name.to_owned() }
}

/// The word that tells one command from others; the first where an interpreter is told nothing that is a file.
fn program(command: &[String]) -> &str {
    let first = command.first().map(String::as_str).unwrap_or_default();
    let mut words = command.iter().map(String::as_str);
    let mut last = words.next().unwrap_or_default();
    while let Some((_, with_value, without_file)) = interpreter(last) {
        loop {
            match words.next() {
                None => return first,
                Some(word) if without_file.contains(&word) => return first,
                Some(word) if with_value.contains(&word) => {
                    words.next();
                }
                Some(word) if word.starts_with('-') || word.contains('=') => {}
                Some(word) => {
                    last = word;
                    break;
                }
            }
        }
    }
    last
}

/// `python3.11` is python.
fn interpreter(word: &str) -> Option<&'static (&'static str, &'static [&'static str], &'static [&'static str])> {
    let bare = base(word).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.iter().find(|(name, ..)| *name == bare)
}

/// `/usr/bin/dispatch.fcgi` is `dispatch`.
fn stem(program: &str) -> &str {
    let program = base(program);
    [".fcgi", ".fpl", ".fcg", ".pl", ".py", ".rb", ".js", ".cgi", ".psgi", ".sh"]
        .iter()
        .find_map(|end| program.strip_suffix(end))
        .unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(line: &str) -> String {
        of_command(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_pool_is_named_after_what_is_run() {
        assert_eq!(name("/usr/lib/cgi-bin/mapserv"), "mapserv");
        assert_eq!(name("/usr/bin/php-cgi8.4 -d x=y"), "php-cgi8-4");
        assert_eq!(name("/usr/bin/perl -w -I lib /srv/site.fcgi 80"), "site");
        assert_eq!(name("/usr/bin/env -u X A=1 python3.11 -W ignore app.py"), "app");
        assert_eq!(name("bash --norc start.sh"), "start");
    }

    #[test]
    fn an_interpreter_without_a_file_is_named_itself() {
        assert_eq!(name("/usr/bin/perl"), "perl");
        assert_eq!(name("perl -e print"), "perl");
        assert_eq!(name("python3 -m flup"), "python3");
        assert_eq!(name("perl -I"), "perl");
    }

    #[test]
    fn every_name_is_one_that_a_pool_may_have() {
        assert_eq!(name("/opt/…"), "site");
        assert_eq!(name(""), "site");
        assert_eq!(name(&"x".repeat(100)), "x".repeat(64));
        assert_eq!(name("/opt/-a b."), "a");
    }
}
