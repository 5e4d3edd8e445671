//! One connection without a process around it, for tests and fuzzers. No part of the interface.

use std::os::fd::OwnedFd;

use crate::builder::AfterPanic;
use crate::connection::{self, Handlers, Outcome};
use crate::failure::Failure;
use crate::limits::Limits;
use crate::request::Request;
use crate::response::Response;

/// A handler of either role.
pub type Handler<'a> = dyn FnMut(&mut Request<'_>, &mut Response<'_>) -> Result<(), Failure> + 'a;

/// What a worker serves one connection after the other with.
#[derive(Debug)]
pub struct Desk(connection::Desk);

impl Desk {
    /// As a worker has it.
    #[must_use]
    pub fn new(limits: Limits, after_panic: AfterPanic) -> Desk {
        Desk(connection::Desk::new(limits, after_panic))
    }

    /// Serves a connection until it ends. How many requests it was, or why the worker must leave.
    ///
    /// # Errors
    /// The failure that the worker leaves with.
    pub fn serve<'a>(
        &mut self,
        connection: OwnedFd,
        max: u64,
        responder: &mut Handler<'a>,
        authorizer: Option<&mut Handler<'a>>,
    ) -> Result<u64, Failure> {
        match self.0.serve(connection, &mut Handlers { responder, authorizer }, max) {
            Outcome::Served(served) => Ok(served),
            Outcome::Leave(failure) => Err(failure),
        }
    }
}
