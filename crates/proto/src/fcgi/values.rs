//! The three variables that a web server may ask an application for.

use super::error::Error;
use super::params::pairs;

/// How many connections the application takes at a time.
pub const MAX_CONNS: &[u8] = b"FCGI_MAX_CONNS";
/// How many requests it takes at a time.
pub const MAX_REQS: &[u8] = b"FCGI_MAX_REQS";
/// Whether it takes several requests at a time on one connection.
pub const MPXS_CONNS: &[u8] = b"FCGI_MPXS_CONNS";

/// Which variables GET_VALUES asks for. However often a name is repeated, it is asked for once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// [`MAX_CONNS`].
    pub max_conns: bool,
    /// [`MAX_REQS`].
    pub max_reqs: bool,
    /// [`MPXS_CONNS`].
    pub mpxs_conns: bool,
}

impl Asked {
    /// All three.
    pub const ALL: Asked = Asked { max_conns: true, max_reqs: true, mpxs_conns: true };

    /// Reads GET_VALUES' content. Unknown names, and values, mean nothing.
    pub(super) fn parse(content: &[u8]) -> Result<Asked, Error> {
        let mut asked = Asked::default();
        for pair in pairs(content) {
            match pair?.0 {
                MAX_CONNS => asked.max_conns = true,
                MAX_REQS => asked.max_reqs = true,
                MPXS_CONNS => asked.mpxs_conns = true,
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// An application's variables. `None`: not told, or told in words that are no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// [`MAX_CONNS`].
    pub max_conns: Option<u32>,
    /// [`MAX_REQS`].
    pub max_reqs: Option<u32>,
    /// [`MPXS_CONNS`].
    pub mpxs_conns: Option<bool>,
}

impl Values {
    /// Of these only what was asked for.
    #[must_use]
    pub fn of(self, asked: Asked) -> Values {
        Values {
            max_conns: self.max_conns.filter(|_| asked.max_conns),
            max_reqs: self.max_reqs.filter(|_| asked.max_reqs),
            mpxs_conns: self.mpxs_conns.filter(|_| asked.mpxs_conns),
        }
    }

    /// Reads GET_VALUES_RESULT's content. Of a repeated name the last counts.
    pub(super) fn parse(content: &[u8]) -> Result<Values, Error> {
        let mut values = Values::default();
        for pair in pairs(content) {
            let (name, value) = pair?;
            match name {
                MAX_CONNS => values.max_conns = number(value),
                MAX_REQS => values.max_reqs = number(value),
                MPXS_CONNS => {
                    values.mpxs_conns = match value {
                        b"0" => Some(false),
                        b"1" => Some(true),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
        Ok(values)
    }
}

/// A decimal number that fits; not `+5`, which `str::parse` would take.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}
