//! What an answer consists of, in either language.

/// A piece of an answer. Pieces borrow the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The head is complete (see `Reader::head`); these are the first bytes of the body, maybe none.
    Head { body: &'a [u8] },
    /// More of the body.
    Body(&'a [u8]),
    /// Text for a log (FastCGI only).
    Stderr(&'a [u8]),
    /// The answer is complete.
    Done,
}
