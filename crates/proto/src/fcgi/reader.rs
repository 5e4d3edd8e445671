//! Where in a record a decoder stands: the part that both decoders share.

use super::error::Error;
use super::record::{HEADER, Header};

/// A place in a stream of records. Keeps 8 bytes: a header, or the body of a discrete record, that came in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    held: [u8; HEADER],
    have: u8,
    /// Bytes of this record's content that are still to come.
    content: u16,
    /// Bytes of this record's padding that are still to come.
    padding: u8,
}

impl Reader {
    /// Between two records: nothing held, nothing to come.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.content == 0 && self.padding == 0
    }

    /// No part of a header or of a discrete body.
    pub(super) fn holds_nothing(&self) -> bool {
        self.have == 0
    }

    /// Bytes of this record's content that are still to come.
    pub(super) fn content(&self) -> u16 {
        self.content
    }

    /// Skips the padding of the record before. False: more is to come.
    pub(super) fn skip_padding(&mut self, input: &mut &[u8]) -> bool {
        if self.padding > 0 {
            let taken = input.len().min(usize::from(self.padding));
            *input = input.get(taken..).unwrap_or_default();
            self.padding -= taken as u8;
        }
        self.padding == 0
    }

    /// Reads the next header, after the content of the record before. `None`: more is to come.
    pub(super) fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Error> {
        if !self.skip_padding(input) {
            return Ok(None);
        }
        let Some(bytes) = self.eight(input) else {
            return Ok(None);
        };
        let header = Header::parse(bytes)?;
        self.content = header.content;
        self.padding = header.padding;
        Ok(Some(header))
    }

    /// Reads a discrete body of 8 bytes; the content has exactly so many. `None`: more is to come.
    pub(super) fn body(&mut self, input: &mut &[u8]) -> Option<[u8; HEADER]> {
        let bytes = self.eight(input)?;
        self.content = 0;
        Some(bytes)
    }

    /// Takes as much of the content as there is.
    pub(super) fn piece<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let taken = input.len().min(usize::from(self.content));
        let (piece, rest) = input.split_at(taken);
        *input = rest;
        self.content -= taken as u16;
        piece
    }

    fn eight(&mut self, input: &mut &[u8]) -> Option<[u8; HEADER]> {
        if self.have == 0
            && let Some((bytes, rest)) = input.split_first_chunk::<HEADER>()
        {
            *input = rest;
            return Some(*bytes);
        }
        let have = usize::from(self.have);
        let room = self.held.get_mut(have..).unwrap_or_default();
        let taken = input.len().min(room.len());
        let (piece, rest) = input.split_at(taken);
        for (to, from) in room.iter_mut().zip(piece) {
            *to = *from;
        }
        *input = rest;
        self.have += taken as u8;
        if usize::from(self.have) < HEADER {
            return None;
        }
        self.have = 0;
        Some(self.held)
    }
}
