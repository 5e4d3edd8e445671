//! Exit codes: which step of a worker's life broke.

/// Everything is well.
pub const EX_OK: u8 = 0;
/// A preload step failed: no other worker of this code will do better.
pub const EX_PRELOAD: u8 = 1;
/// There is no socket to accept on, or the first steps of the FastCGI loop failed.
pub const EX_FCGI_CREATE: u8 = 2;
/// accept(2) failed too often in a row.
pub const EX_FCGI_ACCEPT: u8 = 3;
/// A request ended in a way after which the worker must not go on.
pub const EX_REQUEST: u8 = 4;
/// A start step (what each worker does before its first request) failed.
pub const EX_START: u8 = 5;

/// The code's name, as it stands in messages.
#[must_use]
pub const fn name(code: u8) -> Option<&'static str> {
    Some(match code {
        EX_OK => "EX_OK",
        EX_PRELOAD => "EX_PRELOAD",
        EX_FCGI_CREATE => "EX_FCGI_CREATE",
        EX_FCGI_ACCEPT => "EX_FCGI_ACCEPT",
        EX_REQUEST => "EX_REQUEST",
        EX_START => "EX_START",
        _ => return None,
    })
}
