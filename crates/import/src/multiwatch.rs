//! `multiwatch`: its command line, or a script that has it (multiwatch(1) 1.0.0). Who calls it gives it its socket: spawn-fcgi or
//! systemd.

use crate::draft::Draft;
use crate::files::{Files, Source};
use crate::spawn_fcgi;

/// A command line, the program first; `multiwatch` itself may be left out, and `spawn-fcgi … --` may stand before it.
#[must_use]
pub fn from_words(words: &[String]) -> Draft {
    let mut words = words.to_vec();
    if words.first().is_some_and(|word| word.starts_with('-')) {
        words.insert(0, "multiwatch".to_owned());
    }
    spawn_fcgi::from_words(&words)
}

/// A script that has such a line.
#[must_use]
pub fn from_script(source: &Source, files: &dyn Files) -> Draft {
    spawn_fcgi::from_script(source, files)
}
