//! Other managers' files, as bytes: what kind they are, the text, and texts of other files.

use std::path::{Path, PathBuf};

use steadfast_import::draft::Draft;
use steadfast_import::files::{Files, Source};
use steadfast_import::{multiwatch, php_fpm, spawn_fcgi, supervisor, unit};

/// Every path is one of the texts, by its length; every directory has three files.
struct Given {
    texts: Vec<String>,
}

impl Files for Given {
    fn read(&self, path: &Path) -> Result<String, String> {
        let at = path.as_os_str().len() % (self.texts.len() + 1);
        self.texts.get(at).cloned().ok_or_else(|| "it is not there".into())
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        ["a.conf", "bb.conf", "ccc.ini"].map(|name| directory.join(name)).to_vec()
    }
}

/// The first byte chooses the kind; behind a NUL stand other files' texts. The text itself is what `grow` makes of it.
pub fn draft(data: &[u8], grow: impl Fn(&str) -> String) -> Draft {
    let Some((&how, data)) = data.split_first() else { return Draft::default() };
    let all = String::from_utf8_lossy(data);
    let mut texts = all.split('\0');
    let text = grow(texts.next().unwrap_or_default());
    let given = Given { texts: texts.map(str::to_owned).collect() };
    let words = || text.split('\n').map(str::to_owned).collect::<Vec<String>>();
    let source = |shown: &str, text: &str| Source {
        shown: shown.into(),
        path: Some(Path::new("/etc").join(shown)),
        text: text.into(),
    };
    match how & 7 {
        0 => spawn_fcgi::from_words(&words()),
        1 => multiwatch::from_words(&words()),
        2 => spawn_fcgi::from_script(&source("site.sh", &text), &given),
        3 => multiwatch::from_script(&source("site.sh", &text), &given),
        4 => supervisor::from_file(&source("supervisord.conf", &text), &given),
        5 => php_fpm::from_file(&source("php/8.2/fpm/pool.d/www.conf", &text), &given),
        6 => unit::from_files(&[source("a-b@c.service", &text)], &given),
        _ => {
            let (service, socket) = text.split_once('\x01').unwrap_or((&text, ""));
            unit::from_files(&[source("site.service", service), source("site.socket", socket)], &given)
        }
    }
}
