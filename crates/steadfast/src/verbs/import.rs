//! `steadfast import KIND`: what other process managers say, as a configuration.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use steadfast_import::draft::{Draft, Weight};
use steadfast_import::files::{Files, Source, TEXT_MAX};
use steadfast_import::{multiwatch, php_fpm, spawn_fcgi, supervisor, unit, write};
use steadfast_proto::exit::ExitCode;

use crate::arguments::{Import, ImportKind};
use crate::create::create;
use crate::failure::{Failure, reason};
use crate::output;
use crate::places::Around;
use crate::units::clean;

pub(super) fn import(arguments: &Import, around: &Around) -> Result<ExitCode, Failure> {
    let machine = Machine { root: arguments.root.as_ref().map(|root| around.directory.join(root)) };
    let mut draft = translate(arguments, &machine, around)?;
    if let Some(name) = &arguments.name {
        rename(&mut draft, name)?;
    }
    warn(&draft);
    if draft.pools.is_empty() {
        let message = format!("nothing in {} could be a pool", subject(arguments));
        return Err(Failure::new(ExitCode::Failed, message).hint("steadfast import --help has examples"));
    }
    let head = [
        format!("Made by `steadfast import {}` from {}.", kind_word(arguments.kind), subject(arguments)),
        "Workers start with a small clean environment: what the application needs of another, `environment` must say."
            .into(),
        "A request that takes longer than 60 s is ended, unless `request-timeout` says otherwise.".into(),
    ];
    let text = write::text(&draft, &head);
    if arguments.json {
        output::result(&document(&draft, &text)?)?;
    } else if let Some(path) = &arguments.output {
        create(&around.directory, &[(path, &text)])?;
        let shown = path.display();
        output::message(&format!("wrote {shown}\nnext: steadfast check -c {shown}, then steadfast run -c {shown}\n"));
    } else {
        output::result(&text)?;
    }
    Ok(ExitCode::Good)
}

fn translate(arguments: &Import, machine: &Machine, around: &Around) -> Result<Draft, Failure> {
    let kind = arguments.kind;
    if !arguments.words.is_empty() {
        return match kind {
            ImportKind::SpawnFcgi => Ok(spawn_fcgi::from_words(&arguments.words)),
            ImportKind::Multiwatch => Ok(multiwatch::from_words(&arguments.words)),
            ImportKind::Supervisor | ImportKind::PhpFpm | ImportKind::Unit => {
                let message = format!("{} is read from a file, not from a command line", kind_word(kind));
                Err(Failure::new(ExitCode::Usage, message).hint(format!("steadfast import {} FILE", kind_word(kind))))
            }
        };
    }
    let sources = arguments.files.iter().map(|path| source(path, around)).collect::<Result<Vec<Source>, Failure>>()?;
    if kind == ImportKind::Unit {
        return Ok(unit::from_files(&sources, machine));
    }
    let read = match kind {
        ImportKind::SpawnFcgi => spawn_fcgi::from_script,
        ImportKind::Multiwatch => multiwatch::from_script,
        ImportKind::Supervisor => supervisor::from_file,
        ImportKind::PhpFpm | ImportKind::Unit => php_fpm::from_file,
    };
    let mut all = Draft::default();
    for source in &sources {
        let draft = read(source, machine);
        all.notes.extend(draft.notes);
        for pool in draft.pools {
            all.add(pool);
        }
    }
    Ok(all)
}

fn source(path: &Path, around: &Around) -> Result<Source, Failure> {
    if path == Path::new("-") {
        let text = text_of(io::stdin().lock());
        let text = text.map_err(|why| Failure::new(ExitCode::Failed, format!("cannot read stdin: {why}")))?;
        return Ok(Source { shown: "stdin".into(), path: None, text });
    }
    let whole = around.directory.join(path);
    let text = File::open(&whole).map_err(|error| reason(&error)).and_then(text_of);
    let text = text.map_err(|why| Failure::new(ExitCode::Failed, format!("cannot read {}: {why}", path.display())))?;
    Ok(Source { shown: path.display().to_string(), path: Some(whole), text })
}

/// The text of a file that is not too long to be one of these.
fn text_of(file: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let most = u64::try_from(TEXT_MAX).unwrap_or(u64::MAX);
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() > TEXT_MAX {
        return Err(format!("it has more than {} KiB, which no such file has", TEXT_MAX / 1024));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("it is no UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// This machine's files, or those of another below a directory.
struct Machine {
    root: Option<PathBuf>,
}

impl Machine {
    fn place(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) if !path.starts_with(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            _ => path.to_owned(),
        }
    }
}

impl Files for Machine {
    fn read(&self, path: &Path) -> Result<String, String> {
        let path = self.place(path);
        // A pipe or a device would never end.
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err("it is no regular file".into());
        }
        File::open(path).map_err(|error| reason(&error)).and_then(text_of)
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.place(directory)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| directory.join(entry.file_name())).collect();
        paths.sort();
        paths
    }
}

fn rename(draft: &mut Draft, name: &str) -> Result<(), Failure> {
    let is_good = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !is_good {
        let message = format!("{name:?} cannot be the name of a pool");
        return Err(Failure::new(ExitCode::Usage, message).hint("1 to 64 of the letters a-z and A-Z, digits, - and _"));
    }
    if draft.pools.len() > 1 {
        let message = format!("--name names one pool, but there are {}", draft.pools.len());
        return Err(Failure::new(ExitCode::Usage, message).hint("leave it out, and change the names in the file"));
    }
    for pool in &mut draft.pools {
        name.clone_into(&mut pool.name);
    }
    Ok(())
}

/// What was lost, for who looks at the terminal.
fn warn(draft: &Draft) {
    for (pool, note) in draft.notes_of(Weight::Lost) {
        let pool = pool.map(|pool| format!("{pool}: ")).unwrap_or_default();
        output::message(&format!("warning: {pool}{}\n", clean(&write::shown(note))));
    }
}

fn document(draft: &Draft, text: &str) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Warning<'a> {
        pool: Option<&'a str>,
        file: &'a str,
        line: Option<usize>,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct Document<'a> {
        pools: Vec<&'a str>,
        warnings: Vec<Warning<'a>>,
        configuration: &'a str,
    }
    let pools = draft.pools.iter().map(|pool| pool.name.as_str()).collect();
    let warnings = draft.notes_of(Weight::Lost).map(|(pool, note)| Warning {
        pool,
        file: &note.place.file,
        line: note.place.line,
        message: &note.text,
    });
    serde_json::to_string(&Document { pools, warnings: warnings.collect(), configuration: text })
        .map(|text| format!("{text}\n"))
        .map_err(|error| Failure::new(ExitCode::Bug, format!("the result cannot be written as JSON: {error}")))
}

fn subject(arguments: &Import) -> String {
    if arguments.words.is_empty() {
        let names: Vec<String> = arguments.files.iter().map(|path| path.display().to_string()).collect();
        return clean(&names.join(", "));
    }
    clean(&arguments.words.join(" "))
}

const fn kind_word(kind: ImportKind) -> &'static str {
    match kind {
        ImportKind::SpawnFcgi => "spawn-fcgi",
        ImportKind::Multiwatch => "multiwatch",
        ImportKind::Supervisor => "supervisor",
        ImportKind::PhpFpm => "php-fpm",
        ImportKind::Unit => "unit",
    }
}
