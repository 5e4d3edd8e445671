//! Name-value pairs: the content of PARAMS, GET_VALUES and GET_VALUES_RESULT.
//!
//! Each length is one byte (0 to 127) or four with the top bit set. Names and values are bytes; either may be empty, and
//! a name may come twice.

use super::error::Error;

/// The longest name or value: a length has 31 bits.
pub const LENGTH_MAX: usize = 0x7fff_ffff;

/// Reads a whole stream of pairs, which must end where a pair ends. After an error nothing more comes.
#[must_use]
pub fn pairs(stream: &[u8]) -> Pairs<'_> {
    Pairs { rest: stream }
}

/// See [`pairs`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match split(self.rest) {
            Some((name, value, rest)) => {
                self.rest = rest;
                Some(Ok((name, value)))
            }
            None => {
                self.rest = &[];
                Some(Err(Error::PairCut))
            }
        }
    }
}

impl core::iter::FusedIterator for Pairs<'_> {}

fn split(stream: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // Nearly all pairs have two short lengths.
    let (name_length, value_length, rest) = match stream {
        [name @ 0..=127, value @ 0..=127, rest @ ..] => (usize::from(*name), usize::from(*value), rest),
        _ => long_lengths(stream)?,
    };
    // Each is compared alone with what is there: a sum of the two could overflow on 32 bits (CVE-2025-23016).
    let (name, rest) = rest.split_at_checked(name_length)?;
    let (value, rest) = rest.split_at_checked(value_length)?;
    Some((name, value, rest))
}

#[cold]
fn long_lengths(stream: &[u8]) -> Option<(usize, usize, &[u8])> {
    let (name, rest) = length(stream)?;
    let (value, rest) = length(rest)?;
    Some((usize::try_from(name).ok()?, usize::try_from(value).ok()?, rest))
}

fn length(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match bytes {
        [short @ 0..=127, rest @ ..] => Some((u32::from(*short), rest)),
        [a, b, c, d, rest @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff, rest)),
        _ => None,
    }
}

/// How many bytes [`push_pair`] writes for them.
#[must_use]
pub fn pair_len(name: &[u8], value: &[u8]) -> usize {
    // Both may be the same large piece of memory on a machine with 32 bits.
    (length_len(name.len()) + length_len(value.len())).saturating_add(name.len()).saturating_add(value.len())
}

const fn length_len(length: usize) -> usize {
    if length < 128 { 1 } else { 4 }
}

/// Appends a pair to a stream.
///
/// # Errors
/// The name or the value is longer than [`LENGTH_MAX`]; nothing was written.
pub fn push_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Error> {
    if let Some(too_long) = [name.len(), value.len()].into_iter().find(|length| *length > LENGTH_MAX) {
        return Err(Error::PairTooLong { length: too_long, limit: LENGTH_MAX });
    }
    out.reserve(pair_len(name, value));
    push_length(out, name.len());
    push_length(out, value.len());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    Ok(())
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    if length < 128 {
        out.push(length as u8);
    } else {
        out.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes());
    }
}
