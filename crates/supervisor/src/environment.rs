//! The environment of a worker: small and clean, plus what its pool says.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::users::User;

/// Set by us at each start, or never passed: PHP_FCGI_CHILDREN would make php-cgi a manager of its own.
const OURS: [&str; 9] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "STEADFAST_LINK",
    "STEADFAST_ROLE",
    "PHP_FCGI_CHILDREN",
    "SERVER_STARTER_PORT",
    "SERVER_STARTER_GENERATION",
];

/// Variables in the order in which they were set; a name stands once.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// PATH, LANG (ours, else C.UTF-8) and, when the user is known, HOME, USER, LOGNAME and SHELL.
    pub fn clean(user: Option<&User>, path: &str) -> Environment {
        let mut environment = Environment::default();
        environment.set("PATH", OsStr::new(path));
        environment.set("LANG", OsStr::new("C.UTF-8"));
        environment.pass_on("LANG");
        if let Some(user) = user {
            environment.set("HOME", user.home.as_os_str());
            environment.set("USER", OsStr::new(&user.name));
            environment.set("LOGNAME", OsStr::new(&user.name));
            environment.set("SHELL", user.shell.as_os_str());
        }
        environment
    }

    /// Sets a variable, in the place of an older one of that name.
    pub fn set(&mut self, name: &str, value: &OsStr) {
        let value = value.to_owned();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Passes one of our own variables on, if it is set.
    pub fn pass_on(&mut self, name: &str) {
        if let Some(value) = std::env::var_os(name) {
            self.set(name, &value);
        }
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// The strings for execve(2), without the names that are ours; `None` if one holds a NUL or a name is no name.
    pub(crate) fn strings(&self) -> Option<Vec<CString>> {
        let theirs = self.0.iter().filter(|(name, _)| !OURS.iter().any(|ours| name == ours));
        theirs.map(|(name, value)| variable(name, value)).collect()
    }
}

/// `NAME=value`.
pub(crate) fn variable(name: &OsStr, value: &OsStr) -> Option<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return None;
    }
    let mut text = name.to_owned().into_vec();
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    CString::new(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(environment: &Environment) -> Vec<String> {
        let strings = environment.strings().expect("valid");
        strings.into_iter().map(|text| text.into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn a_clean_environment_names_the_user() {
        let user = User { uid: 7, gid: 8, name: "web".into(), home: "/srv/web".into(), shell: "/bin/sh".into() };
        let texts = texts(&Environment::clean(Some(&user), "/bin"));
        for wanted in ["PATH=/bin", "HOME=/srv/web", "USER=web", "LOGNAME=web", "SHELL=/bin/sh"] {
            assert!(texts.iter().any(|text| text == wanted), "{wanted} in {texts:?}");
        }
        assert_eq!(texts.len(), 6, "and LANG: {texts:?}");
    }

    #[test]
    fn the_last_word_counts_and_ours_never_pass() {
        let mut environment = Environment::default();
        environment.set("A", OsStr::new("1"));
        environment.set("PHP_FCGI_CHILDREN", OsStr::new("4"));
        environment.set("LISTEN_FDS", OsStr::new("1"));
        environment.set("B", OsStr::new("2"));
        environment.set("A", OsStr::new("3"));
        environment.remove("B");
        assert_eq!(texts(&environment), ["A=3"]);
    }

    #[test]
    fn what_execve_cannot_say_is_refused() {
        for (name, value) in [("A", "b\0c"), ("A=B", "c"), ("", "c")] {
            let mut environment = Environment::default();
            environment.set(name, OsStr::new(value));
            assert!(environment.strings().is_none(), "{name:?}={value:?}");
        }
    }
}
