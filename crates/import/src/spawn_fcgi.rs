//! `spawn-fcgi`: its command line, or a script that has it (spawn-fcgi(1) 1.6.4).

use crate::command;
use crate::draft::{Draft, Place, Pool};
use crate::files::{Bounded, Files, Source};
use crate::name;
use crate::script::Script;
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
        let mut pool = Pool { environment: found.exported, ..Pool::default() };
        for unknown in found.unknown {
            pool.lost(&place, format!("{unknown} has no value here: fill it in"));
        }
        add(&mut draft, pool, &found.words, &place);
    }
    draft
}

pub(crate) fn add(draft: &mut Draft, mut pool: Pool, words: &[String], place: &Place) {
    pool.place = place.clone();
    if let Err(why) = command::read(&mut pool, words, place) {
        draft.lost(place, why);
        return;
    }
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
