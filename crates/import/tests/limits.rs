//! Files that name themselves, values that stand for more and more, and texts that no pool can have: told, within bounds.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use steadfast_import::draft::{Draft, Weight};
use steadfast_import::files::{Files, Nothing, Source, TEXT_MAX};
use steadfast_import::{php_fpm, spawn_fcgi, supervisor, unit, write};

/// Every path has this text; counts how often one is read.
struct Everywhere {
    text: String,
    reads: Cell<usize>,
}

impl Files for Everywhere {
    fn read(&self, _path: &Path) -> Result<String, String> {
        self.reads.set(self.reads.get() + 1);
        Ok(self.text.clone())
    }

    fn list(&self, _directory: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
}

fn source(shown: &str, text: impl Into<String>) -> Source {
    Source { shown: shown.into(), path: Some(Path::new("/etc").join(shown)), text: text.into() }
}

#[track_caller]
fn tells(draft: &Draft, wanted: &str) {
    let lost: Vec<String> = draft.notes_of(Weight::Lost).map(|(_, note)| write::shown(note)).collect();
    assert!(lost.iter().any(|line| line.contains(wanted)), "nothing says {wanted:?}: {lost:#?}");
}

#[test]
fn files_that_name_themselves_come_to_an_end() {
    type Read = fn(&Source, &dyn Files) -> Draft;
    let kinds: [(Read, &str); 4] = [
        (spawn_fcgi::from_script, ". /a\n"),
        (php_fpm::from_file, "include=/a\n"),
        (supervisor::from_file, "[include]\nfiles=/a\n /b\n"),
        (
            |service, files| {
                let socket = source("x.socket", "[Socket]\nListenStream=/run/x\n");
                unit::from_files(&[service.clone(), socket], files)
            },
            "[Service]\nExecStart=/a\nEnvironmentFile=/a\n",
        ),
    ];
    for (read, line) in kinds {
        let text = match line.strip_prefix("[include]\nfiles=") {
            Some(_) => format!("[include]\nfiles={}", "/a ".repeat(300)),
            None => line.repeat(300),
        };
        let files = Everywhere { text: text.clone(), reads: Cell::new(0) };
        let draft = read(&source("x.service", text), &files);
        assert_eq!(files.reads.get(), 100, "{line}");
        tells(&draft, "it is one of more than 100 files");
    }
}

#[test]
fn supervisors_variables_do_not_double_for_ever() {
    let mut pairs = "A0=\"0123456789\"".to_owned();
    for number in 1..100 {
        let last = number - 1;
        pairs.push_str(&format!(",A{number}=\"%(ENV_A{last})s%(ENV_A{last})s\""));
    }
    let text = format!("[fcgi-program:x]\ncommand=/x\nuser=u\nsocket=unix:///run/x\nenvironment={pairs}\n");
    let draft = supervisor::from_file(&source("x", text), &Nothing);
    let size: usize = draft.pools[0].environment.values().map(String::len).sum();
    assert!(size < 100 * 1024, "{size}");
    tells(&draft, "has no value here");
}

#[test]
fn a_units_variables_stand_for_a_line_at_most() {
    let value = "x".repeat(60_000);
    let text = format!("[Service]\nUser=u\nEnvironment=A={value}\nExecStart=/x {}\n", "$A ".repeat(1_000));
    let socket = source("x.socket", "[Socket]\nListenStream=/run/x\n");
    let draft = unit::from_files(&[source("x.service", text), socket], &Nothing);
    assert_eq!(draft.pools, []);
    tells(&draft, "its variables stand for too much");
}

#[test]
fn a_scripts_words_and_variables_are_bounded_together() {
    let value = "x".repeat(40_000);
    let text = format!("A={value}\nspawn-fcgi -s /run/x -u u -- /x $A $A\n");
    let draft = spawn_fcgi::from_script(&source("x", text), &Nothing);
    assert_eq!(draft.pools, []);
    tells(&draft, "the line is too long");
    let commands: String = (0..100).map(|number| format!("spawn-fcgi -s /run/{number} -u u -- /x $A\n")).collect();
    let draft = spawn_fcgi::from_script(&source("x", format!("A={value}\n{commands}")), &Nothing);
    let size: usize = draft.pools.iter().flat_map(|pool| &pool.command).map(String::len).sum();
    assert!((500_000..1_200_000).contains(&size), "{size}");
    tells(&draft, "$A has no value here");
    let text: String = (0..1_000).map(|number| format!("spawn-fcgi -s /run/{number} -u u -- /x\n")).collect();
    let draft = spawn_fcgi::from_script(&source("x", text), &Nothing);
    assert_eq!(draft.pools.len(), 100);
    tells(&draft, "more than 100 commands");
}

#[test]
fn a_name_that_is_put_in_everywhere_is_short() {
    type Read = fn(&Source, &dyn Files) -> Draft;
    let kinds: [(Read, &str); 3] = [
        (php_fpm::from_file, "user=$pool$pool$pool$pool\n"),
        (supervisor::from_file, "user=%(program_name)s\n"),
        (|source, files| unit::from_files(std::slice::from_ref(source), files), "User=u\n"),
    ];
    for (read, line) in kinds {
        let head = format!("[fcgi-program:{}]\n", "x".repeat(TEXT_MAX / 2));
        let draft = read(&source("x.service", head + &line.repeat(TEXT_MAX / 2 / line.len())), &Nothing);
        assert_eq!(draft.pools, []);
        tells(&draft, "x.service:1: this line says nothing");
        tells(&draft, "x.service:2: this line says nothing");
    }
}

#[test]
fn what_stands_for_an_address_is_a_socket_that_can_be() {
    let name = "ü".repeat(100);
    let php = php_fpm::from_file(&source("x", format!("[{name}]\nuser=u\n")), &Nothing);
    let program = format!("[fcgi-program:{name}]\ncommand=/x\nuser=u\n");
    let supervisor = supervisor::from_file(&source("x", program), &Nothing);
    for draft in [php, supervisor] {
        let listen = &draft.pools[0].listen[0];
        assert!(listen.is_ascii() && listen.len() < 107, "{listen}");
    }
}

#[test]
fn a_program_is_no_directory_and_no_empty_text() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    for (program, why) in [("", "it names no program"), ("/srv/", "is a directory, not a program")] {
        let draft = spawn_fcgi::from_words(&words(&["-s", "/run/x", "--", program]));
        assert_eq!(draft.pools, [], "{program:?}");
        tells(&draft, why);
    }
}

#[test]
fn what_no_pool_can_have_is_left_out_and_told() {
    let text = "[Service]\nUser=u\nLimitNOFILE=18446744073709551615\nPassEnvironment=A LISTEN_FDS\n\
                WorkingDirectory=/a\nExecStart=/x \"a\\x00b\"\n";
    let listen: String = (0..100).map(|number| format!("ListenStream=/run/{number}\n")).collect();
    let socket = source("x.socket", format!("[Socket]\nSocketUser=\n{listen}ListenStream=/run/0\n"));
    let draft = unit::from_files(&[source("x.service", text), socket], &Nothing);
    let pool = &draft.pools[0];
    assert_eq!(pool.command, ["/x", "ab"]);
    assert_eq!((pool.pass_environment.len(), pool.rlimits.len(), pool.socket.owner.as_deref()), (1, 0, None));
    assert_eq!(pool.listen.len(), 63);
    for wanted in
        ["NUL byte", "LISTEN_FDS is steadfast's own", "a resource limit", "socket's owner", "more than 63 addresses"]
    {
        tells(&draft, wanted);
    }
}

#[test]
fn lines_that_do_not_end_are_not_read_again_and_again() {
    let command = "spawn-fcgi -s /run/x -u u -- \\\n  /x\n";
    let draft = spawn_fcgi::from_script(&source("x", format!("{}{command}", "x ${A:-2\n".repeat(19))), &Nothing);
    assert_eq!(draft.pools.len(), 1);
    let draft = spawn_fcgi::from_script(&source("x", format!("{}{command}", "x ${A:-2\n".repeat(20))), &Nothing);
    assert_eq!(draft.pools, []);
    tells(&draft, "x:21: the line does not end");
}
