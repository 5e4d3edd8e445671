//! HTTP clients; until their adapter is built every connection is closed at once.
#![allow(dead_code, missing_docs)]
use crate::{cgi, place};
use std::{collections::BTreeMap, net::SocketAddr, os::fd::*, rc::Rc, time::Instant};
slotmap::new_key_type! { pub(crate) struct ConnectionKey; pub(crate) struct ExchangeKey; }
#[derive(Debug)]
pub(crate) struct Settings;
impl Settings {
    pub(crate) fn new(_: u32, _: &BTreeMap<String, String>) -> Self {
        Settings
    }
}
#[derive(Debug)]
pub(crate) struct Http;
pub(crate) enum Length {
    None,
    Known(u64),
    Unknown,
}
pub(crate) enum Fact {
    Request { exchange: ExchangeKey, pool: u32, params: Vec<u8>, body: Length, id: Option<Box<str>>, method: Box<str> },
    Body { exchange: ExchangeKey, bytes: bytes::Bytes },
    BodyEnd { exchange: ExchangeKey },
    Gone { exchange: ExchangeKey },
    Taken { exchange: ExchangeKey },
}
impl Http {
    pub(crate) fn new() -> Self {
        Http
    }
    pub(crate) fn accept(&mut self, _: OwnedFd, _: Option<SocketAddr>, _: Rc<Settings>, _: Instant) -> ConnectionKey {
        ConnectionKey::default()
    }
    pub(crate) fn fd(&self, _: ConnectionKey) -> Option<BorrowedFd<'_>> {
        None
    }
    pub(crate) fn ready(&mut self, _: ConnectionKey, _: bool, _: bool, _: Instant) {}
    pub(crate) fn run(&mut self, _: Instant) {}
    pub(crate) fn next_fact(&mut self) -> Option<Fact> {
        None
    }
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        None
    }
    pub(crate) fn meet_deadlines(&mut self, _: Instant) {}
    pub(crate) fn shut(&mut self) {}
    pub(crate) fn len(&self) -> usize {
        0
    }
    pub(crate) fn len_of(&self, _: u32) -> usize {
        0
    }
    pub(crate) fn head(&mut self, _: ExchangeKey, head: cgi::Head, _: &str) {
        drop((head.status, head.headers, head.content_length));
    }
    pub(crate) fn push(&mut self, _: ExchangeKey, _: &[u8]) {}
    pub(crate) fn end(&mut self, _: ExchangeKey) {}
    pub(crate) fn cut(&mut self, _: ExchangeKey) {}
    pub(crate) fn place(&mut self, _: ExchangeKey, _: &place::Answer<'_>) {}
    pub(crate) fn buffered(&self, _: ExchangeKey) -> usize {
        0
    }
    pub(crate) fn set_room(&mut self, _: ExchangeKey, _: usize) {}
}
