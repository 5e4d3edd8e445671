//! What systemd makes for a socket unit before it binds it: the socket's directory, at each boot.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;

use crate::draft::{Place, Pool};
use crate::files::Files;

/// Where packages and people say what is made at each boot (tmpfiles.d(5)).
const DIRECTORIES: [&str; 2] = ["/etc/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// What is made without a socket unit; read when somebody asks for the first time.
pub(crate) struct Boot<'a> {
    files: &'a dyn Files,
    made: OnceCell<Vec<String>>,
}

impl<'a> Boot<'a> {
    pub(crate) fn new(files: &'a dyn Files) -> Boot<'a> {
        Boot { files, made: OnceCell::new() }
    }

    /// Tells of each directory below /run that the pool's sockets need, and that nobody else makes.
    pub(crate) fn look(&self, pool: &mut Pool, place: &Place, mode: &str) {
        let paths = pool.listen.iter().filter_map(|listen| Path::new(listen.strip_prefix("unix:")?).parent());
        let needed: BTreeSet<String> = paths.filter_map(below_run).collect();
        for directory in needed {
            if self.made.get_or_init(|| made(self.files)).contains(&directory) {
                continue;
            }
            let name = directory["/run/".len()..].replace('/', "-");
            pool.lost(
                place,
                format!(
                    "systemd made {directory} for this socket at each boot; let it go on: \
                     echo 'd {directory} {mode} root root' > /etc/tmpfiles.d/steadfast-{name}.conf"
                ),
            );
        }
    }
}

/// `/run/x`, also where it was written as `/var/run/x`.
fn below_run(directory: &Path) -> Option<String> {
    let below = directory.strip_prefix("/run").or_else(|_| directory.strip_prefix("/var/run")).ok()?;
    let below = below.to_str().filter(|below| !below.is_empty())?;
    Some(format!("/run/{below}"))
}

/// The directories of tmpfiles.d(5): lines as `d /run/sympa 0755 sympa sympa`.
fn made(files: &dyn Files) -> Vec<String> {
    let mut made = Vec::new();
    for path in DIRECTORIES.iter().flat_map(|directory| files.list(Path::new(directory))) {
        let text = files.read(&path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let kind = words.next()?;
            words.next().filter(|_| kind.starts_with(['d', 'D']))
        });
        made.extend(lines.filter_map(|path| below_run(Path::new(path))));
    }
    made
}
