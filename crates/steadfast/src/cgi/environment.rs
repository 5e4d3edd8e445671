//! What a script finds in its environment (RFC 3875 §4.1): the request's parameters, and the little that it needs besides.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::sys::Strings;

/// Where this worker has none itself.
const PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Variables of this worker that every script gets, unless the web server says otherwise.
#[derive(Debug)]
pub(super) struct Inherited(Vec<(Vec<u8>, Vec<u8>)>);

impl Inherited {
    /// PATH, and those that are named and there.
    pub(super) fn new(names: &[OsString]) -> Inherited {
        let path = env::var_os("PATH").map_or(PATH.to_vec(), OsString::into_vec);
        let mut variables = vec![(b"PATH".to_vec(), path)];
        for name in names.iter().filter(|name| name.as_os_str() != "PATH") {
            if let Some(value) = env::var_os(name) {
                variables.push((name.as_bytes().to_vec(), value.into_vec()));
            }
        }
        Inherited(variables)
    }
}

/// A parameter. Of two of one name the first that is not empty counts: `include fastcgi_params` of nginx says many with empty
/// values, before or after the line that means them.
pub(super) fn param<'p>(
    params: impl Iterator<Item = (&'p [u8], &'p [u8])> + Clone,
    name: &[u8],
) -> Option<(usize, &'p [u8])> {
    let mut all = params.enumerate().filter(|(_, (known, _))| *known == name).map(|(at, (_, value))| (at, value));
    let first = all.next()?;
    if !first.1.is_empty() {
        return Some(first);
    }
    Some(all.find(|(_, value)| !value.is_empty()).unwrap_or(first))
}

/// Fills `to`. `own` come first, and stand for a parameter of the same name; an empty one of them is left out.
///
/// # Errors
/// The name of a parameter that no environment can hold.
pub(super) fn fill<'p>(
    to: &mut Strings,
    own: &[(&'static str, &[u8])],
    params: impl Iterator<Item = (&'p [u8], &'p [u8])> + Clone,
    inherited: &Inherited,
) -> Result<(), String> {
    to.clear();
    for (name, value) in own.iter().filter(|(_, value)| !value.is_empty()) {
        to.push(&[name.as_bytes(), b"=", value]);
    }
    let is_own = |name: &[u8]| own.iter().any(|(known, _)| known.as_bytes() == name);
    for (index, (name, value)) in params.clone().enumerate() {
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'=' | 0)) || value.contains(&0) {
            return Err(String::from_utf8_lossy(name).into_owned());
        }
        let counts = || param(params.clone(), name).is_some_and(|(counted, _)| counted == index);
        // HTTP_PROXY: httpoxy, CVE-2016-5385.
        if name != b"HTTP_PROXY" && !is_own(name) && counts() {
            to.push(&[name, b"=", value]);
        }
    }
    let is_said = |name: &[u8]| is_own(name) || params.clone().any(|(known, _)| known == name);
    if !is_said(b"GATEWAY_INTERFACE") {
        to.push(&[b"GATEWAY_INTERFACE=CGI/1.1"]);
    }
    for (name, value) in inherited.0.iter().filter(|(name, _)| !is_said(name)) {
        to.push(&[name, b"=", value]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(own: &[(&'static str, &[u8])], params: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut strings = Strings::default();
        strings.push(&[b"LEFT=over"]);
        let params: Vec<_> = params.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let inherited = Inherited(vec![(b"PATH".to_vec(), b"/bin".to_vec()), (b"SITE".to_vec(), b"live".to_vec())]);
        fill(&mut strings, own, params.iter().copied(), &inherited)?;
        Ok(strings.iter().map(|string| String::from_utf8_lossy(string).into_owned()).collect())
    }

    #[test]
    fn parameters_and_little_else() {
        let all = filled(&[], &[("REQUEST_METHOD", "GET"), ("QUERY_STRING", ""), ("HTTP_PROXY", "http://evil/")]);
        let wanted = ["REQUEST_METHOD=GET", "QUERY_STRING=", "GATEWAY_INTERFACE=CGI/1.1", "PATH=/bin", "SITE=live"];
        assert_eq!(all.expect("good"), wanted);
    }

    #[test]
    fn the_first_word_of_the_web_server_counts_and_ours_comes_before() {
        let params = [
            ("A", "1"),
            ("A", "2"),
            ("B", ""),
            ("B", "3"),
            ("C", ""),
            ("C", ""),
            ("SITE", "test"),
            ("GATEWAY_INTERFACE", "CGI/1.2"),
            ("PATH_INFO", "/x"),
        ];
        let all = filled(&[("SCRIPT_NAME", b"/a.cgi"), ("PATH_INFO", b"")], &params).expect("good");
        assert_eq!(
            all,
            ["SCRIPT_NAME=/a.cgi", "A=1", "B=3", "C=", "SITE=test", "GATEWAY_INTERFACE=CGI/1.2", "PATH=/bin"]
        );
    }

    #[test]
    fn what_no_environment_can_hold_is_refused() {
        for (name, value) in [("A=B", "c"), ("", "c"), ("A\0", "c"), ("A", "b\0c")] {
            assert!(filled(&[], &[(name, value)]).is_err(), "{name:?} {value:?}");
        }
    }
}
