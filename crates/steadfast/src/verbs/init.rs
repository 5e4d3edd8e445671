//! `steadfast init`: a first configuration for a program, and a unit beside it.

use std::path::{Path, PathBuf};

use steadfast_config::command_line::{self, CommandLine};
use steadfast_config::load::Examined;
use steadfast_config::types::{Listen, Pool};
use steadfast_import::draft::{self, Draft, Note, Place, Weight, Workers};
use steadfast_import::{name, write};
use steadfast_proto::exit::ExitCode;
use steadfast_supervisor::reload::ConfigSource;
use steadfast_supervisor::users;

use crate::arguments::Init;
use crate::create::create;
use crate::failure::{Failure, reason};
use crate::output;
use crate::places::Around;
use crate::verbs::run::{broken, read};

/// The unit that is shipped.
const UNIT: &str = include_str!("../../../../examples/systemd/steadfast.service");
/// Where its lines look for program and configuration.
const UNIT_PROGRAM: &str = "/usr/bin/steadfast";
const UNIT_FILE: &str = "/etc/steadfast/steadfast.toml";
/// Who serves web pages on Debian, Fedora, Alpine and Arch.
const USERS: [&str; 4] = ["www-data", "apache", "nginx", "http"];

pub(super) fn init(arguments: &Init, around: &Around) -> Result<ExitCode, Failure> {
    let is_root = rustix::process::geteuid().is_root();
    if arguments.unit.is_some() && arguments.user.is_none() && !is_root {
        let message = "the unit starts steadfast as root, which must be told who the workers are";
        return Err(Failure::new(ExitCode::Usage, message).hint("name the user with --user NAME"));
    }
    let file = arguments.output.clone().unwrap_or_else(|| PathBuf::from("steadfast.toml"));
    let text = configuration(arguments, around, is_root)?;
    let unit = match &arguments.unit {
        Some(unit) => Some((unit.as_path(), service(&program()?, word(&around.directory.join(&file))?))),
        None => None,
    };
    let mut files = vec![(file.as_path(), text.as_str())];
    files.extend(unit.as_ref().map(|(path, text)| (*path, text.as_str())));
    create(&around.directory, &files)?;
    for (path, _) in files {
        output::message(&format!("wrote {}\n", path.display()));
    }
    Ok(look(&file, around))
}

/// What the machine lacks is said now, and not when it is run.
fn look(file: &Path, around: &Around) -> ExitCode {
    let (report, code) = match read(&ConfigSource::File(file.to_owned()), around, Examined::require_pools) {
        Ok(loaded) => (loaded.warnings, ExitCode::Good),
        Err(report) => (report, ExitCode::Configuration),
    };
    output::message(&report.render(output::stderr_style().colour));
    let mend = if code == ExitCode::Good { "" } else { "mend that, then " };
    let shown = file.display();
    output::message(&format!("next: {mend}steadfast check --boot -c {shown}, then steadfast run -c {shown}\n"));
    code
}

fn configuration(arguments: &Init, around: &Around, is_root: bool) -> Result<String, Failure> {
    let name = arguments.name.clone().unwrap_or_else(|| name::of_command(&arguments.command));
    // What `run` refuses is refused with the same words, before anything is written.
    let mut typed =
        CommandLine { command: arguments.command.clone(), user: arguments.user.clone(), ..CommandLine::default() };
    typed.listen.clone_from(&arguments.listen);
    typed.name = Some(name.clone());
    // A relative path in a file begins in the runtime directory, a typed one here.
    let own = if is_root { format!("unix:/run/{name}.sock") } else { format!("unix:{name}.sock") };
    if typed.listen.is_empty() {
        typed.listen.push(own.clone());
    }
    let loaded = command_line::from_command(&typed, &around.context()).map_err(|report| broken(&report))?;
    let pool = loaded.config.pools.get(&name).ok_or_else(|| Failure::new(ExitCode::Bug, "the pool is not there"))?;
    let addresses: Vec<String> = match arguments.listen[..] {
        [] => vec![own],
        _ => pool.listen.iter().map(Listen::to_string).collect(),
    };
    let draft = Draft { pools: vec![drafted(pool, addresses, around, is_root)?], notes: Vec::new() };
    let head = ["Made by `steadfast init`. `steadfast config` shows every key that counts, with its value.".to_owned()];
    Ok(write::text(&draft, &head) + &more(&name))
}

fn drafted(pool: &Pool, listen: Vec<String>, around: &Around, is_root: bool) -> Result<draft::Pool, Failure> {
    let mut made = draft::Pool { name: pool.name.clone(), command: pool.command.clone(), ..draft::Pool::default() };
    let mut note = |text: &str| {
        made.notes.push(Note { weight: Weight::Word, place: Place::default(), text: text.to_owned() });
    };
    if listen.iter().any(|address| address.starts_with("unix:") && !address.starts_with("unix:/")) {
        note("A relative path in `listen` begins in the runtime directory.");
    }
    if pool.command.first().is_some_and(|program| program.contains("php-cgi")) {
        note("Without PHP_FCGI_MAX_REQUESTS php-cgi leaves after 500 requests.");
        made.environment.insert("PHP_FCGI_MAX_REQUESTS".to_owned(), "0".to_owned());
    }
    made.directory = Some(word(&around.directory)?.to_owned());
    made.user = pool.user.clone().or_else(|| is_root.then(web_user));
    made.listen = listen;
    made.workers = Some(Workers::Range { min: 2, max: 8, idle: None });
    Ok(made)
}

/// The web server's user, as this machine calls it.
fn web_user() -> String {
    let is_here = |name: &&&str| users::user(name).is_ok_and(|user| user.is_some());
    (*USERS.iter().find(is_here).unwrap_or(&USERS[0])).to_owned()
}

/// What most sites want sooner or later, to be uncommented.
fn more(name: &str) -> String {
    format!(
        "
# A new worker serves nobody before it has answered this well: the best guard against a broken deploy.
# [pool.{name}.verify]
# request = \"GET /\"
# expect = {{ status = 200 }}

# What visitors get when nothing serves.
# [pool.{name}.fallback]
# file = \"maintenance.html\"
"
    )
}

/// A path as text, which files of text can say.
fn word(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        let message = format!("the path {} is no UTF-8, which a configuration must be", path.display());
        Failure::new(ExitCode::Failed, message).hint("rename it")
    })
}

/// Our own program, as a unit names it.
fn program() -> Result<String, Failure> {
    let path = std::env::current_exe().map_err(|error| {
        Failure::new(ExitCode::Failed, format!("cannot tell where this program lies: {}", reason(&error)))
    })?;
    word(&path).map(str::to_owned)
}

/// The unit for this program and this configuration.
fn service(program: &str, file: &str) -> String {
    let (program, file) = (quoted(program), quoted(file));
    // The head tells how the shipped file is installed.
    let body = UNIT.lines().skip_while(|line| !line.starts_with("[Unit]"));
    let named = body.map(|line| line.replace(UNIT_PROGRAM, &program).replace(UNIT_FILE, &file));
    let head =
        "# Made by `steadfast init`. Copy it to /etc/systemd/system, then systemctl daemon-reload; docs/systemd.md.";
    std::iter::once(head.to_owned()).chain(named).map(|line| line + "\n").collect()
}

/// A word of a command line in a unit (systemd.syntax(7), systemd.service(5)).
fn quoted(word: &str) -> String {
    if word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:".contains(c)) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '%' | '$' => quoted.extend([c, c]),
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_this_program_and_this_file() {
        let text = service("/opt/steadfast", "/srv/my site/50%.toml");
        assert!(text.contains("\nExecStart=/opt/steadfast run -c \"/srv/my site/50%%.toml\"\n"), "{text}");
        assert!(text.contains("\nExecReload=/opt/steadfast reload --wait -c \"/srv/my site/50%%.toml\"\n"), "{text}");
        assert!(!text.contains(UNIT_PROGRAM) && !text.contains(UNIT_FILE), "{text}");
        assert!(text.starts_with("# Made by `steadfast init`.") && text.contains("\n[Unit]\n"), "{text}");
    }
}
