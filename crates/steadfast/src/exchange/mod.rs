//! One request to a FastCGI or HTTP address, and its answer: what `ping` and `bench` share.

pub(crate) mod address;
pub(crate) mod broken;
pub(crate) mod dial;
mod fcgi;
pub(crate) mod head;
mod http;
pub(crate) mod options;
pub(crate) mod piece;
pub(crate) mod question;
pub(crate) mod reader;
