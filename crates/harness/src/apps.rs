//! The programs of tests/apps, compiled and copied to where every user may run them.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::scene::allow;

/// What to type where a program is missing.
const INSTALL: &str = "apt-get install gcc libfcgi-dev libfcgi-perl php-cgi nginx-light (or see .ci/run)";

const FILES: [&str; 10] = [
    "common.h",
    "worker.c",
    "worker-quiet.c",
    "queue.c",
    "app.pl",
    "app.php",
    "app.sh",
    "link.pl",
    "queue.pl",
    "queue.php",
];

/// The C worker on libfcgi: see its first lines for arguments and paths.
#[must_use]
pub fn worker() -> String {
    path("worker")
}

/// The smallest static worker, for measuring starts.
#[must_use]
pub fn quiet() -> String {
    path("worker-quiet")
}

/// The command of the Perl worker; `bad` is a file that makes its start fail while it exists.
#[must_use]
pub fn perl(bad: Option<&Path>) -> Vec<String> {
    let mut command = vec!["/usr/bin/perl".to_owned(), path("app.pl")];
    command.extend(bad.map(|path| path.display().to_string()));
    command
}

/// The command of the Perl worker that speaks the link, with its arguments.
#[must_use]
pub fn link(arguments: &[&str]) -> Vec<String> {
    let mut command = vec!["/usr/bin/perl".to_owned(), path("link.pl")];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command
}

/// The command of php-cgi, bodies of any size; requests name a script in SCRIPT_FILENAME.
#[must_use]
pub fn php() -> Vec<String> {
    ["/usr/bin/php-cgi", "-d", "cgi.force_redirect=0", "-d", "post_max_size=0"].map(str::to_owned).to_vec()
}

/// The script for php-cgi.
#[must_use]
pub fn php_script() -> String {
    path("app.php")
}

/// One program in three languages: see the first lines of queue.c for its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// On libfcgi.
    C,
    /// On FCGI.pm.
    Perl,
    /// For php-cgi.
    Php,
    /// On our own worker library: the example `rust-echo`.
    Rust,
}

impl Language {
    /// The three that are not ours.
    pub const ALL: [Language; 3] = [Language::C, Language::Perl, Language::Php];

    /// A name for its pool.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Perl => "perl",
            Language::Php => "php",
            Language::Rust => "rust",
        }
    }

    /// What to start.
    #[must_use]
    pub fn command(self) -> Vec<String> {
        match self {
            Language::C => vec![path("queue")],
            Language::Perl => vec!["/usr/bin/perl".to_owned(), path("queue.pl")],
            Language::Php => php(),
            Language::Rust => vec![rust()],
        }
    }

    /// SCRIPT_FILENAME, which only PHP wants; the others are told of a file that is there, too.
    #[must_use]
    pub fn script(self) -> String {
        path(match self {
            Language::C | Language::Rust => "queue.c",
            Language::Perl => "queue.pl",
            Language::Php => "queue.php",
        })
    }
}

/// The program on our own worker library. cargo builds examples beside the tests: target/PROFILE/{deps,examples}.
#[must_use]
pub fn rust() -> String {
    let me = std::env::current_exe().expect("a test knows its program");
    let path = me.parent().and_then(Path::parent).expect("deps").join("examples/rust-echo");
    assert!(path.exists(), "{}: build it first (cargo build -p steadfast --examples)", path.display());
    path.display().to_string()
}

/// The shell script that is no FastCGI program, with its arguments.
#[must_use]
pub fn shell(arguments: &[&str]) -> Vec<String> {
    let mut command = vec![path("app.sh")];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command
}

fn path(name: &str) -> String {
    directory().join(name).display().to_string()
}

/// Made once for all test processes with the same sources: named by their hash, filled aside and renamed.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../steadfast/tests/apps");
        let mut hasher = DefaultHasher::new();
        for name in FILES {
            let text = fs::read(sources.join(name)).expect("the sources of the test programs are there");
            text.hash(&mut hasher);
        }
        let user = rustix::process::getuid().as_raw();
        let made = std::env::temp_dir().join(format!("steadfast-apps-{user}-{:016x}", hasher.finish()));
        if !made.exists() {
            make(&sources, &made);
        }
        // The name can be guessed: nobody else may have put it there.
        let owner = fs::symlink_metadata(&made).expect("it was just made").uid();
        assert_eq!(owner, user, "{} belongs to somebody else: remove it", made.display());
        made
    })
}

fn make(sources: &Path, made: &Path) {
    let aside =
        tempfile::Builder::new().prefix("steadfast-apps-new-").tempdir().expect("a temporary directory can be made");
    for name in FILES {
        let to = aside.path().join(name);
        fs::copy(sources.join(name), &to).expect("a test program can be copied");
        allow(&to, 0o755);
    }
    compile(aside.path(), &["-pthread", "-o", "worker", "worker.c", "-lfcgi"]);
    compile(aside.path(), &["-o", "queue", "queue.c", "-lfcgi"]);
    compile(aside.path(), &["-static", "-o", "worker-quiet", "worker-quiet.c"]);
    allow(aside.path(), 0o755);
    // Another test process may have been faster; its directory is as good.
    if fs::rename(aside.path(), made).is_ok() {
        let _gone = aside.keep();
    }
}

fn compile(directory: &Path, arguments: &[&str]) {
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("cannot run cc: {error}: {INSTALL}"));
    assert!(
        output.status.success(),
        "cc {}: {}\n{INSTALL}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
