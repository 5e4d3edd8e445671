//! Releases of the demo's site, deployed as real ones are: a directory each, and `current` leads to one of them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// The file of a release, in its directory, which is where its zygote and workers run.
const FILE: &str = "release";
/// A finger that sleeps on a button fills no disk.
const RELEASES_MAX: u32 = 1000;

/// How a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As it should be.
    Good,
    /// It loads, and its pages are missing.
    Hollow,
    /// It passes every check, and then its workers die.
    Dying,
}

/// A release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
}

impl Kind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Kind::Good => "good",
            Kind::Hollow => "hollow",
            Kind::Dying => "dying",
        }
    }

    fn of(word: &str) -> Option<Kind> {
        [Kind::Good, Kind::Hollow, Kind::Dying].into_iter().find(|kind| kind.word() == word)
    }
}

impl Release {
    /// The one in the current directory.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn here() -> io::Result<Release> {
        Release::in_directory(Path::new("."))
    }

    fn in_directory(directory: &Path) -> io::Result<Release> {
        let text = fs::read_to_string(directory.join(FILE))?;
        let release = text
            .trim_end()
            .split_once(' ')
            .and_then(|(number, kind)| Some(Release { number: number.parse().ok()?, kind: Kind::of(kind)? }));
        release.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no release")))
    }

    fn text(self) -> String {
        format!("{} {}\n", self.number, self.kind.word())
    }
}

/// Where releases lie.
#[derive(Clone, Debug)]
pub(crate) struct Releases {
    site: PathBuf,
}

impl Releases {
    /// Below the demo's directory.
    pub(crate) fn of(home: &Path) -> Releases {
        Releases { site: home.join("site") }
    }

    /// What leads to the release that is deployed.
    pub(crate) fn current(&self) -> PathBuf {
        self.site.join("current")
    }

    /// Makes a new release, and lets `current` lead to it. Nobody runs it before the supervisor reloads.
    ///
    /// # Errors
    /// As of the file system, or there are too many releases already.
    pub(crate) fn deploy(&self, kind: Kind) -> io::Result<Release> {
        let releases = self.site.join("releases");
        make_directory(&releases, true)?;
        let release = loop {
            let numbers =
                fs::read_dir(&releases)?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            let number = numbers.max().unwrap_or(0) + 1;
            if number > RELEASES_MAX {
                return Err(io::Error::other(format!("there are {RELEASES_MAX} releases; start the demo again")));
            }
            match make_directory(&releases.join(number.to_string()), false) {
                Ok(()) => break Release { number, kind },
                // Another worker has deployed just now.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        let to = Path::new("releases").join(release.number.to_string());
        fs::write(self.site.join(&to).join(FILE), release.text())?;
        // A link cannot be changed, but another can take its name in one step.
        let aside = self.site.join(format!("current.{}", release.number));
        symlink(&to, &aside)?;
        fs::rename(&aside, self.current())?;
        Ok(release)
    }
}

fn make_directory(path: &Path, is_recursive: bool) -> io::Result<()> {
    DirBuilder::new().recursive(is_recursive).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_leads_to_the_last_release_and_the_older_ones_stay() {
        let home = tempfile::tempdir().expect("a directory");
        let releases = Releases::of(home.path());
        for (kind, number) in [(Kind::Good, 1), (Kind::Hollow, 2), (Kind::Dying, 3)] {
            let deployed = releases.deploy(kind).expect("deployed");
            assert_eq!(deployed, Release { number, kind });
            assert_eq!(Release::in_directory(&releases.current()).expect("it is there"), deployed);
        }
        let first = home.path().join("site/releases/1");
        assert_eq!(Release::in_directory(&first).expect("kept"), Release { number: 1, kind: Kind::Good });
    }

    #[test]
    fn what_is_no_release_is_said_to_be_none() {
        let directory = tempfile::tempdir().expect("a directory");
        for text in ["", "1", "x good", "1 perfect"] {
            fs::write(directory.path().join(FILE), text).expect("written");
            Release::in_directory(directory.path()).expect_err(text);
        }
    }
}
