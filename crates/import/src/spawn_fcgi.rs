//! `spawn-fcgi`: its command line, or a script that has it (spawn-fcgi(1) 1.6.4).

use std::path::Path;

use crate::command;
use crate::draft::{Draft, Place, Pool};
use crate::files::{Bounded, Files, Source};
use crate::name;
use crate::script::{Found, Script};
use crate::settle::settle;

/// What is looked for in scripts.
const PROGRAMS: &[&str] = &["spawn-fcgi", "multiwatch"];

/// A command line, the program first; `spawn-fcgi` itself may be left out.
#[must_use]
pub fn from_words(words: &[String]) -> Draft {
    let mut draft = Draft::default();
    let mut words = words.to_vec();
    if words.first().is_some_and(|word| word.starts_with('-')) {
        words.insert(0, PROGRAMS[0].to_owned());
    }
    add(&mut draft, Pool::default(), &words, &Place::default());
    draft
}

/// A shell script, an init script or a file of defaults.
#[must_use]
pub fn from_script(source: &Source, files: &dyn Files) -> Draft {
    let mut draft = Draft::default();
    let mut script = Script::default();
    script.read(&source.shown, &source.text, PROGRAMS, &Bounded::new(files));
    for (file, line, why) in &script.unread {
        draft.lost(&Place::line(file, *line), why.clone());
    }
    for found in script.found {
        let place = Place::line(&found.file, found.line);
        let mut pool = Pool::default();
        if let Err(why) = read(&mut pool, found) {
            draft.lost(&place, why);
            continue;
        }
        finish(&mut draft, pool, &place);
    }
    draft
}

/// What a shell script starts that is a unit's or another's program; `None` for all other programs.
pub(crate) fn started_by(program: &str, files: &dyn Files) -> Option<Found> {
    let path = Path::new(program);
    // What is no text is no script, and what is named as these are is not read for nothing.
    let text = files.read(path).ok().filter(|_| path.is_absolute())?;
    let interpreter = text.lines().next()?.strip_prefix("#!")?.split_whitespace().next()?;
    if !["sh", "bash", "dash"].contains(&command::base(interpreter)) {
        return None;
    }
    let mut script = Script::default();
    script.read(program, &text, PROGRAMS, files);
    script.found.into_iter().next()
}

/// A command that was found goes into the pool.
///
/// # Errors
/// Why it starts nothing.
pub(crate) fn read(pool: &mut Pool, found: Found) -> Result<(), String> {
    let place = Place::line(&found.file, found.line);
    pool.environment.extend(found.exported);
    for unknown in found.unknown {
        pool.lost(&place, format!("{unknown} has no value here: fill it in"));
    }
    command::read(pool, &found.words, &place)
}

pub(crate) fn add(draft: &mut Draft, mut pool: Pool, words: &[String], place: &Place) {
    if let Err(why) = command::read(&mut pool, words, place) {
        draft.lost(place, why);
        return;
    }
    finish(draft, pool, place);
}

fn finish(draft: &mut Draft, mut pool: Pool, place: &Place) {
    pool.place = place.clone();
    pool.name = name::of_command(&pool.command);
    if pool.listen.is_empty() {
        let listen = format!("unix:/run/{}.sock", pool.name);
        pool.lost(place, format!("no address is named: {listen} stands for it"));
        pool.listen.push(listen);
    }
    command::default_directory(&mut pool, "its starter");
    if pool.user.is_none() {
        pool.lost(place, "no user is named: started as root, a pool must name its `user`");
    }
    settle(&mut pool);
    draft.add(pool);
}
