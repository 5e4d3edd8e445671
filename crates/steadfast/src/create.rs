//! Files that we make for people: never over one that is there, and all of them or none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use steadfast_proto::exit::ExitCode;

use crate::failure::{Failure, reason};

/// Writes each of these texts to its path, from `directory` on.
///
/// # Errors
/// One of them is there already, or cannot be written; what was made before is removed then.
pub(crate) fn create(directory: &Path, files: &[(&Path, &str)]) -> Result<(), Failure> {
    let mut made: Vec<PathBuf> = Vec::new();
    for (shown, text) in files {
        let path = directory.join(shown);
        let written = File::options().write(true).create_new(true).open(&path).and_then(|mut file| {
            made.push(path);
            file.write_all(text.as_bytes())
        });
        if let Err(error) = written {
            for path in made {
                let _it_may_have_gone = fs::remove_file(path);
            }
            return Err(refused(shown, &error));
        }
    }
    Ok(())
}

fn refused(shown: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(ExitCode::Failed, format!("cannot write {}: {}", shown.display(), reason(error)));
    if error.kind() == io::ErrorKind::AlreadyExists {
        failure.hint("nothing is overwritten: choose another name, or remove it")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_made_or_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        fs::write(file("b"), "mine").expect("written");
        let refused =
            create(directory.path(), &[(Path::new("a"), "1"), (Path::new("b"), "2")]).expect_err("b is there");
        assert_eq!(refused.message, "cannot write b: File exists");
        assert!(!file("a").exists(), "the first was taken back");
        assert_eq!(fs::read_to_string(file("b")).expect("it is there"), "mine");
        create(directory.path(), &[(Path::new("a"), "1")]).expect("it is not there any more");
        assert_eq!(fs::read_to_string(file("a")).expect("it is there"), "1");
    }
}
