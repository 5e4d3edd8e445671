//! One record's header, and the numbers of the protocol.

use super::error::Error;

pub use super::kind;

/// The only version there is.
pub const VERSION: u8 = 1;
/// A header's length in bytes.
pub const HEADER: usize = 8;
/// The longest content that a record can have.
pub const CONTENT_MAX: usize = 65_535;
/// The longest content that we send: a multiple of 8, so that a reader's copies stay aligned.
pub const CHUNK_MAX: usize = 65_528;
/// BEGIN's flag: the web server, not the application, closes the connection.
pub const KEEP_CONN: u8 = 1;

/// What the application is for a request.
pub mod role {
    /// It answers.
    pub const RESPONDER: u16 = 1;
    /// It allows or refuses.
    pub const AUTHORIZER: u16 = 2;
    /// It transforms a file.
    pub const FILTER: u16 = 3;
}

/// How a request ended, as END tells. No web server looks at it.
pub mod status {
    /// It was answered.
    pub const REQUEST_COMPLETE: u8 = 0;
    /// Refused: the application takes one request at a time on a connection.
    pub const CANT_MPX_CONN: u8 = 1;
    /// Refused: too much to do.
    pub const OVERLOADED: u8 = 2;
    /// Refused: the application does not play that role.
    pub const UNKNOWN_ROLE: u8 = 3;
}

/// A record's first 8 bytes, without version and reserved byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// See [`mod@kind`].
    pub kind: u8,
    /// The request; 0 is the connection itself.
    pub id: u16,
    /// Bytes of content that follow.
    pub content: u16,
    /// Bytes after the content that mean nothing.
    pub padding: u8,
}

impl Header {
    /// Reads it. The reserved byte may be anything.
    ///
    /// # Errors
    /// Another version than 1.
    pub const fn parse(bytes: [u8; HEADER]) -> Result<Header, Error> {
        let [version, kind, id1, id0, content1, content0, padding, _reserved] = bytes;
        if version != VERSION {
            return Err(Error::Version { version });
        }
        Ok(Header {
            kind,
            id: u16::from_be_bytes([id1, id0]),
            content: u16::from_be_bytes([content1, content0]),
            padding,
        })
    }

    /// Writes it, the reserved byte zero.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER] {
        let [id1, id0] = self.id.to_be_bytes();
        let [content1, content0] = self.content.to_be_bytes();
        [VERSION, self.kind, id1, id0, content1, content0, self.padding, 0]
    }
}
