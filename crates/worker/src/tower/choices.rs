//! What an application chooses of how it is served, and what its starter says instead.

use std::env;
use std::num::{NonZeroU32, NonZeroUsize};

/// How many requests at a time, unless the application says.
const CONCURRENCY: NonZeroU32 = NonZeroU32::new(128).expect("128 is not 0");

/// What is spoken on a listening socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    FastCgi,
    Http,
}

/// See above.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) concurrency: Option<NonZeroU32>,
    pub(crate) threads: Option<NonZeroUsize>,
    /// On a socket that was inherited.
    pub(crate) protocol: Protocol,
    /// Where to speak HTTP when started by hand.
    pub(crate) listen_http: Option<String>,
}

impl Choices {
    pub(crate) fn concurrency(&self) -> u32 {
        self.concurrency.unwrap_or(CONCURRENCY).get()
    }

    /// What is spoken on an inherited socket: as `STEADFAST_PROTOCOL` says, or the application.
    ///
    /// # Errors
    /// The variable is neither `fastcgi` nor `http`.
    pub(super) fn inherited(&self) -> Result<Protocol, String> {
        match env::var("STEADFAST_PROTOCOL") {
            Err(_) => Ok(self.protocol),
            Ok(word) if word == "fastcgi" => Ok(Protocol::FastCgi),
            Ok(word) if word == "http" => Ok(Protocol::Http),
            Ok(word) => Err(format!("STEADFAST_PROTOCOL is {word:?}: it can be \"fastcgi\" or \"http\"")),
        }
    }

    /// Where to listen when started by hand, and what to speak there. `LISTEN` is `http://HOST:PORT`, or as
    /// [`crate::Builder::listen`] takes it; `listen` is what the application has said to that.
    pub(super) fn by_hand(&self, listen: Option<&str>) -> Option<(String, Protocol)> {
        let variable = env::var("LISTEN").ok().filter(|text| !text.is_empty());
        match (variable, &self.listen_http, listen) {
            (Some(text), _, _) => Some(match text.strip_prefix("http://") {
                Some(address) => (address.trim_end_matches('/').to_owned(), Protocol::Http),
                None => (text, Protocol::FastCgi),
            }),
            (None, Some(address), _) => Some((address.clone(), Protocol::Http)),
            (None, None, Some(address)) => Some((address.to_owned(), self.protocol)),
            (None, None, None) => None,
        }
    }
}

impl Protocol {
    /// As it stands before an address.
    pub(super) const fn scheme(self) -> &'static str {
        match self {
            Protocol::FastCgi => "",
            Protocol::Http => "http://",
        }
    }
}
