//! FastCGI, the bytes only: what a web server, a responder and our front say to each other.
//!
//! # Theory of operation
//!
//! **Records.** Both directions are a series of records: 8 bytes of header (version 1, kind, request id, length of the
//! content, length of the padding, one reserved byte), at most 65,535 bytes of content, at most 255 of padding
//! ([`record`]). The lengths are the only framing there is: who loses count reads bodies as headers, which is how
//! requests are smuggled. So lengths are never narrowed, never added in 16 bits, and what we send has no padding at all:
//! php-fpm closes the connection where content + padding pass 65,535, and nginx holds a head back that has padding behind it.
//!
//! **Streams.** PARAMS, STDIN, DATA, STDOUT and STDERR are byte streams cut into records anywhere, ended by an empty
//! record. A cut means nothing: h2o cuts in the middle of a name. The decoders therefore hand out pieces as they
//! arrive, borrowed from the caller's buffer, and whoever wants the pairs joins the pieces first ([`params`]). BEGIN,
//! END, ABORT and the management records are discrete: their bodies mean something only when they are complete, and
//! they alone are gathered inside a decoder.
//!
//! **Ids.** Id 0 is the connection's own (management: GET_VALUES, UNKNOWN_TYPE). Another id lives from BEGIN until the
//! application answers END. Records of an id that does not live are swallowed, for the answer may have overtaken the
//! rest of the upload.
//!
//! **A request's life.** The web server sends BEGIN (role, KEEP_CONN), PARAMS, the empty PARAMS, STDIN, the empty STDIN
//! (a filter gets DATA after that); the responder sends STDOUT and STDERR in any order, an empty STDOUT (php-fpm does
//! not), and END. ABORT asks for an early END. Without KEEP_CONN the application closes after END.
//!
//! **Who reads what.** [`request::RequestDecoder`] reads a web server: many ids at a time, since HAProxy multiplexes.
//! [`response::ResponseDecoder`] reads one worker: one request at a time, since no common worker can do more.
//! [`encode`] writes everything, into the caller's buffer. Nothing here does I/O, waits, or knows the time.
//!
//! **Strict and lenient.** What real servers do is accepted: pairs cut by records, any padding, also on empty records,
//! any reserved bytes and flags, lengths of four bytes for short names, a second empty record, END without the empty
//! STDOUT, late records of ids that are gone. What can only be confusion or attack ends the connection: another
//! version, application records with id 0, management records with another, BEGIN of a living id, a discrete body of
//! another length than its kind has, STDIN before the end of PARAMS, bytes after a stream's end, records that travel in
//! the wrong direction, a pair that ends after its stream. A connection that was refused stays refused.
//!
//! **Limits.** Ids at a time, bytes of PARAMS per request, records that carry nothing or next to nothing, length of
//! management records: see [`request::Limits`]. No length from the wire is ever an allocation: a decoder keeps 8 bytes,
//! one small entry for each living id, and one management record. How long a body may be, and how slow a peer, is the
//! caller's to decide. What a decoder costs is in proportion to the bytes that it is given.

pub mod encode;
mod error;
pub mod kind;
pub mod params;
mod reader;
pub mod record;
pub mod request;
pub mod response;
pub mod values;

pub use error::Error;
