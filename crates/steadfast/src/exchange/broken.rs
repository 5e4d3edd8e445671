//! Why bytes that came are no answer.

use std::fmt;

use steadfast_proto::fcgi;
use steadfast_proto::fcgi::record::status;

/// The longest head that is taken, in bytes.
pub(super) const HEAD_MAX: usize = 64 * 1024;

/// What is wrong with an answer. After one of these the connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is no FastCGI, or not what a responder may say.
    Fcgi(fcgi::Error),
    /// FastCGI's own refusal, which web servers turn into a 502 or worse.
    Refused { protocol_status: u8 },
    /// The request is over, but there was no head.
    NoHead,
    /// The head is none: this line.
    BadHead(String),
    /// The head is longer than 64 KiB.
    HeadTooLong,
    /// It is no HTTP, or its length cannot be known: what is wrong.
    Http(&'static str),
    /// More bytes than the answer has.
    Extra,
    /// The connection ended before the answer was complete.
    Early {
        /// Some of it had come.
        begun: bool,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Fcgi(error) => write!(f, "the answer is no FastCGI: {error}"),
            Broken::Refused { protocol_status } => {
                let why = match *protocol_status {
                    status::CANT_MPX_CONN => "it takes one request at a time on a connection (CANT_MPX_CONN)",
                    status::OVERLOADED => "it is overloaded (OVERLOADED)",
                    status::UNKNOWN_ROLE => "it is no responder (UNKNOWN_ROLE)",
                    other => return write!(f, "the application refused the request: protocol status {other}"),
                };
                write!(f, "the application refused the request: {why}")
            }
            Broken::NoHead => write!(f, "the application ended the request without a head"),
            Broken::BadHead(line) => write!(f, "the answer's head has a line that is no header: {line:?}"),
            Broken::HeadTooLong => write!(f, "the answer's head is longer than {} KiB", HEAD_MAX / 1024),
            Broken::Http(why) => write!(f, "the answer is no HTTP/1.1: {why}"),
            Broken::Extra => write!(f, "bytes came after the end of the answer"),
            Broken::Early { begun: false } => write!(f, "the connection was closed without an answer"),
            Broken::Early { begun: true } => write!(f, "the connection was closed in the middle of the answer"),
        }
    }
}
