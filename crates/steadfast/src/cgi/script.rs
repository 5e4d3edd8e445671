//! Which script a request means, and whether it may run: only what really lies below an allowed directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories, symlinks resolved, below which scripts may lie.
#[derive(Debug)]
pub(super) struct Roots {
    /// As named.
    named: Vec<PathBuf>,
    /// As they were when they were last looked at.
    real: Vec<PathBuf>,
}

/// A script that may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    /// Without symlinks. What is executed is this path, so that a link which is changed between the look and the exec leads
    /// nowhere else; whoever may rename directories below the root can still win that race.
    pub(super) path: PathBuf,
    /// SCRIPT_NAME and PATH_INFO, where they were found by looking what exists.
    pub(super) split: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why none runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotFound(String),
    Forbidden(String),
}

/// What the web server says about the script.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'p> {
    pub(super) script_filename: Option<&'p [u8]>,
    pub(super) document_root: Option<&'p [u8]>,
    pub(super) script_name: Option<&'p [u8]>,
}

impl Roots {
    /// # Errors
    /// One is no directory.
    pub(super) fn new(named: &[PathBuf]) -> io::Result<Roots> {
        let mut roots = Roots { named: named.to_vec(), real: Vec::new() };
        for root in named {
            if !root.is_dir() {
                let why = io::Error::new(io::ErrorKind::NotADirectory, format!("{} is no directory", root.display()));
                return Err(std::fs::metadata(root).err().unwrap_or(why));
            }
        }
        roots.look();
        Ok(roots)
    }

    fn look(&mut self) {
        self.real = self.named.iter().filter_map(|root| root.canonicalize().ok()).collect();
    }

    /// `path` has no symlinks. A root that is a symlink may lead elsewhere since it was looked at.
    fn has(&mut self, path: &Path) -> bool {
        let is_below = |roots: &Roots| roots.real.iter().any(|root| path.starts_with(root) && path != root);
        is_below(self) || {
            self.look();
            is_below(self)
        }
    }

    /// The script that is meant.
    pub(super) fn find(&mut self, said: Said<'_>) -> Result<Script, Refusal> {
        if let Some(name) = said.script_filename.filter(|name| !name.is_empty()) {
            let path = Path::new(OsStr::from_bytes(local(name)));
            return Ok(Script { path: self.allowed(path)?, split: None });
        }
        let (Some(root), Some(name)) = (said.document_root, said.script_name) else {
            let why = "the web server says neither SCRIPT_FILENAME nor DOCUMENT_ROOT and SCRIPT_NAME";
            return Err(Refusal::Forbidden(why.to_owned()));
        };
        let whole = [root, name].concat();
        let mut length = whole.len();
        // The longest beginning that exists; the rest is PATH_INFO.
        loop {
            let path = Path::new(OsStr::from_bytes(whole.get(..length).unwrap_or_default()));
            match self.allowed(path) {
                Ok(path) => {
                    let of = |range: std::ops::Range<usize>| whole.get(range).unwrap_or_default().to_vec();
                    let split = Some((of(root.len()..length), of(length..whole.len())));
                    return Ok(Script { path, split });
                }
                Err(Refusal::NotFound(why)) => {
                    let beginning = whole.get(..length).unwrap_or_default();
                    match beginning.iter().rposition(|byte| *byte == b'/') {
                        Some(slash) if slash > root.len() => length = slash,
                        _ => return Err(Refusal::NotFound(why)),
                    }
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    fn allowed(&mut self, path: &Path) -> Result<PathBuf, Refusal> {
        let shown = path.display();
        if path.is_relative() {
            return Err(Refusal::Forbidden(format!("{shown} is no whole path")));
        }
        let real = path.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Refusal::NotFound(format!("there is no script {shown}"))
            }
            _ => Refusal::Forbidden(format!("{shown}: {error}")),
        })?;
        if !self.has(&real) {
            let roots: Vec<String> = self.named.iter().map(|root| root.display().to_string()).collect();
            let real = if real == path { String::new() } else { format!(" (really {})", real.display()) };
            return Err(Refusal::Forbidden(format!("{shown}{real} is not below --root {}", roots.join(" or "))));
        }
        match real.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(real),
            Ok(_) => Err(Refusal::Forbidden(format!("{shown} is no file"))),
            Err(error) => Err(Refusal::Forbidden(format!("{shown}: {error}"))),
        }
    }
}

/// Apache's mod_proxy_fcgi says `proxy:fcgi://localhost:9000/srv/cgi/a.cgi`.
fn local(name: &[u8]) -> &[u8] {
    let Some(url) = name.strip_prefix(b"proxy:") else { return name };
    let Some(host) = url.windows(3).position(|three| three == b"://") else { return name };
    let after = url.get(host + 3..).unwrap_or_default();
    after.iter().position(|byte| *byte == b'/').and_then(|slash| after.get(slash..)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Place {
            let directory = tempfile::tempdir().expect("a directory");
            let place = Place { directory };
            for path in ["cgi/sub", "other"] {
                fs::create_dir_all(place.path(path)).expect("a directory");
            }
            for path in ["cgi/a.cgi", "cgi/sub/b.cgi", "other/c.cgi", "cginot"] {
                fs::write(place.path(path), "").expect("a file");
            }
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().canonicalize().expect("it is there").join(name)
        }

        fn find(&self, roots: &mut Roots, name: &str) -> Result<Script, Refusal> {
            let path = self.path(name);
            roots.find(Said { script_filename: Some(path.as_os_str().as_bytes()), ..Said::default() })
        }
    }

    #[test]
    fn only_what_lies_below_a_root_may_run() {
        let place = Place::new();
        let mut roots = Roots::new(&[place.path("cgi")]).expect("it is there");
        for good in ["cgi/a.cgi", "cgi/sub/b.cgi", "cgi/sub/../a.cgi", "other/../cgi/a.cgi"] {
            assert!(place.find(&mut roots, good).is_ok(), "{good}");
        }
        symlink(place.path("other/c.cgi"), place.path("cgi/out.cgi")).expect("a link");
        symlink(place.path("other"), place.path("cgi/outside")).expect("a link");
        for bad in ["other/c.cgi", "cgi/../other/c.cgi", "cgi/out.cgi", "cgi/outside/c.cgi", "cginot", "cgi", "cgi/sub"]
        {
            assert!(matches!(place.find(&mut roots, bad), Err(Refusal::Forbidden(_))), "{bad}");
        }
        for missing in ["cgi/x.cgi", "cgi/a.cgi/x", "nothing/x"] {
            assert!(matches!(place.find(&mut roots, missing), Err(Refusal::NotFound(_))), "{missing}");
        }
        let relative = roots.find(Said { script_filename: Some(b"cgi/a.cgi"), ..Said::default() });
        assert!(matches!(relative, Err(Refusal::Forbidden(_))));
        let nothing = roots.find(Said::default());
        assert!(matches!(nothing, Err(Refusal::Forbidden(why)) if why.contains("SCRIPT_FILENAME")));
    }

    #[test]
    fn a_link_within_the_root_runs_what_it_leads_to() {
        let place = Place::new();
        let mut roots = Roots::new(&[place.path("cgi")]).expect("it is there");
        symlink("sub/b.cgi", place.path("cgi/link.cgi")).expect("a link");
        let script = place.find(&mut roots, "cgi/link.cgi").expect("it may run");
        assert_eq!(script.path, place.path("cgi/sub/b.cgi"));
    }

    #[test]
    fn a_root_that_is_a_link_is_followed_where_it_leads_now() {
        let place = Place::new();
        symlink("cgi", place.path("current")).expect("a link");
        let mut roots = Roots::new(&[place.path("current")]).expect("it is there");
        assert!(place.find(&mut roots, "current/a.cgi").is_ok());
        fs::remove_file(place.path("current")).expect("it was there");
        symlink("other", place.path("current")).expect("a link");
        assert!(place.find(&mut roots, "current/c.cgi").is_ok());
        assert!(Roots::new(&[place.path("nowhere")]).is_err());
        assert!(Roots::new(&[place.path("cgi/a.cgi")]).is_err());
    }

    #[test]
    fn the_longest_beginning_that_exists_is_the_script() {
        let place = Place::new();
        let mut roots = Roots::new(&[place.path("cgi")]).expect("it is there");
        let root = place.path("cgi");
        let mut find = |name: &str| {
            let said = Said {
                document_root: Some(root.as_os_str().as_bytes()),
                script_name: Some(name.as_bytes()),
                ..Said::default()
            };
            roots.find(said).map(|script| script.split.expect("it was split"))
        };
        let split = |name: &str, rest: &str| Ok((name.as_bytes().to_vec(), rest.as_bytes().to_vec()));
        assert_eq!(find("/a.cgi"), split("/a.cgi", ""));
        assert_eq!(find("/sub/b.cgi/x/y"), split("/sub/b.cgi", "/x/y"));
        assert!(matches!(find("/x.cgi/y"), Err(Refusal::NotFound(_))));
        assert!(matches!(find("/sub/x.cgi"), Err(Refusal::Forbidden(_))), "sub is a directory");
        assert!(matches!(find("/../other/c.cgi/x"), Err(Refusal::Forbidden(_))));
    }

    #[test]
    fn apache_names_a_proxy_before_the_path() {
        for (said, path) in [
            ("proxy:fcgi://localhost:9000/srv/a.cgi", "/srv/a.cgi"),
            ("proxy:fcgi://localhost/srv/a.cgi", "/srv/a.cgi"),
            ("/srv/a.cgi", "/srv/a.cgi"),
            ("proxy:x", "proxy:x"),
        ] {
            assert_eq!(local(said.as_bytes()), path.as_bytes());
        }
    }
}
