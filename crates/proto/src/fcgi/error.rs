//! Why a FastCGI connection cannot go on.

use core::fmt;

use super::kind;

/// What a peer did against the protocol, or what we were asked to write and cannot. After an error from a decoder the
/// connection must be closed: nobody knows where the next record begins, or what the peer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A header does not begin with version 1.
    Version {
        /// What it begins with.
        version: u8,
    },
    /// A record of a request, with the id of the connection (0).
    NoRequest {
        /// The record's kind.
        kind: u8,
    },
    /// A management record, with the id of a request.
    ManagementId {
        /// The record's kind.
        kind: u8,
        /// Its id.
        id: u16,
    },
    /// A kind that does not travel in this direction, does not exist, or was not asked for.
    UnexpectedKind {
        /// The record's kind.
        kind: u8,
    },
    /// A discrete record's content has another length than its kind has.
    BodyLength {
        /// The record's kind.
        kind: u8,
        /// Its content's length.
        content: u16,
    },
    /// BEGIN for a request that lives already.
    AlreadyActive {
        /// The request.
        id: u16,
    },
    /// A stream goes on after its end.
    AfterEnd {
        /// The stream's kind.
        kind: u8,
        /// The request.
        id: u16,
    },
    /// STDIN or DATA before the params are complete, or DATA before the end of STDIN.
    TooEarly {
        /// The stream's kind.
        kind: u8,
        /// The request.
        id: u16,
    },
    /// More records than their bytes justify: see [`super::request::Limits::records`].
    TooManyRecords {
        /// The last record's kind.
        kind: u8,
    },
    /// A management record is longer than [`super::request::Limits::management`].
    ManagementTooLong {
        /// The record's kind.
        kind: u8,
        /// Its content's length.
        content: u16,
    },
    /// A worker answers for another request than it was sent.
    WrongId {
        /// The id it names.
        id: u16,
        /// The id it was sent.
        expected: u16,
    },
    /// A worker sends bytes though no request was sent to it, or after END.
    Unasked,
    /// A name-value pair ends after the bytes that hold it.
    PairCut,
    /// A name, value or pair is too long to be written.
    PairTooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest possible.
        limit: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = kind::name;
        match *self {
            Error::Version { version } => write!(
                f,
                "the peer does not speak FastCGI, or lost count: a record begins with version {version} instead of 1"
            ),
            Error::NoRequest { kind } => {
                write!(f, "a record of kind {kind} ({}) names request 0, which is the connection itself", name(kind))
            }
            Error::ManagementId { kind, id } => {
                write!(f, "a management record of kind {kind} ({}) names request {id} instead of 0", name(kind))
            }
            Error::UnexpectedKind { kind } => {
                write!(f, "a record of kind {kind} ({}) was not expected from this peer", name(kind))
            }
            Error::BodyLength { kind, content } => {
                write!(f, "a record of kind {kind} ({}) has a content of {content} bytes", name(kind))?;
                write!(f, ", which that kind cannot have")
            }
            Error::AlreadyActive { id } => write!(f, "request {id} was begun again before it was answered"),
            Error::AfterEnd { kind, id } => write!(f, "{} of request {id} goes on after its end", name(kind)),
            Error::TooEarly { kind, id } => {
                write!(f, "{} of request {id} came before the stream ahead of it was complete", name(kind))
            }
            Error::TooManyRecords { kind } => {
                write!(f, "too many records with next to nothing in them, the last of kind {kind} ({})", name(kind))
            }
            Error::ManagementTooLong { kind, content } => {
                write!(f, "a management record of kind {kind} ({}) has {content} bytes: too long", name(kind))
            }
            Error::WrongId { id, expected } => {
                write!(f, "the worker answers request {id}, but it was sent request {expected}")
            }
            Error::Unasked => write!(f, "the worker sends bytes that belong to no request (after its END, or unasked)"),
            Error::PairCut => write!(f, "a name-value pair is longer than the bytes that are left for it"),
            Error::PairTooLong { length, limit } => {
                write!(f, "a name-value pair of {length} bytes cannot be sent: at most {limit} are possible")
            }
        }
    }
}

impl std::error::Error for Error {}
