//! What the adapter tells the core, and the keys by which they speak of the same thing.

use bytes::Bytes;
use slotmap::new_key_type;

use crate::keys::PoolId;

new_key_type! {
    /// An HTTP connection.
    pub(crate) struct ConnectionKey;
    /// A request on an HTTP connection, and its answer.
    pub(crate) struct ExchangeKey;
}

/// What of a body is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none.
    None,
    /// It has so many bytes.
    Known(u64),
    /// It comes in chunks.
    Unknown,
}

/// What has happened on an HTTP connection.
#[derive(Debug)]
pub(crate) enum Fact {
    /// A request's head is complete.
    Request {
        /// Its name from now on.
        exchange: ExchangeKey,
        /// Whose it is.
        pool: PoolId,
        /// CGI variables as a stream of name-value pairs; without `HTTP_X_REQUEST_ID`.
        params: Vec<u8>,
        /// What follows. Nothing of it is read before `Http::set_room`.
        body: Length,
        /// The client's `X-Request-ID`, if it is a decent one.
        id: Option<Box<str>>,
    },
    /// A piece of its body.
    Body {
        /// Whose.
        exchange: ExchangeKey,
        /// Not empty.
        bytes: Bytes,
    },
    /// Its body is complete.
    BodyEnd {
        /// Whose.
        exchange: ExchangeKey,
    },
    /// Its visitor has gone, or what it sent broke off or made no sense, before the answer was complete. Nothing more
    /// is said of it, and nothing more need be said to it.
    Gone {
        /// Whose.
        exchange: ExchangeKey,
    },
    /// Of what its visitor had not taken, so much has gone that there is room for more.
    Taken {
        /// Whose.
        exchange: ExchangeKey,
    },
    /// Something in here panicked; it cost the connection at which it happened.
    Bug {
        /// The panic's message.
        message: String,
    },
}
