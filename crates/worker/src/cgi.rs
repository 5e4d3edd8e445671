//! The one request of a CGI program (RFC 3875).

use std::env;
use std::os::unix::ffi::OsStrExt;

use crate::params::Params;

/// The parameters of a CGI program are its environment.
pub(crate) fn read_environment(params: &mut Params) {
    params.clear();
    for (name, value) in env::vars_os() {
        params.push(name.as_bytes(), value.as_bytes());
    }
}
