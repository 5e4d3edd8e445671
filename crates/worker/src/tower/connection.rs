//! One FastCGI connection: reads it, begins its requests, and closes it.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::tower::exchange;
use crate::tower::handler::Application;
use crate::tower::office::Office;
use crate::tower::requests::Order;
use crate::tower::socket::Socket;
use crate::tower::wire::Wire;

/// One read takes so much.
const READ: usize = 64 * 1024;
/// So long requests wait for another one's body to be taken.
const STALL_MAX: Duration = Duration::from_secs(30);
/// After the answer an unread body is read for so long …
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// … and so much of it, before the connection is closed.
const DRAINED_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    /// Where to read to: nothing stays in it, for the decoder takes everything.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

struct Connection<S> {
    wire: Arc<Wire>,
    office: Arc<Office>,
    service: S,
    /// The bodies that are full, with what is kept of each, and until when they may be.
    stalled: Option<(Vec<(u16, usize)>, Instant)>,
}

/// Serves it until it ends.
pub(super) async fn serve<S: Application>(fd: OwnedFd, office: Arc<Office>, service: S) {
    let open = office.load.open();
    let Ok(wire) = Wire::new(fd, &office, open) else {
        return;
    };
    let mut connection = Connection { wire: Arc::new(wire), office, service, stalled: None };
    if connection.run().await.is_err() {
        // The other side has gone, or is not to be understood: nobody reads what is in hand.
        connection.wire.break_off();
    }
}

impl<S: Application> Connection<S> {
    async fn run(&mut self) -> io::Result<()> {
        let wire = Arc::clone(&self.wire);
        let mut leaving = self.office.leaving.clone();
        // Most bring a request: it is counted before the next connection is accepted.
        self.read_early().await?;
        loop {
            let (full, is_mixed) = {
                let requests = wire.requests();
                if requests.is_closing() && requests.is_quiet() {
                    break;
                }
                (requests.full(), requests.is_mixed())
            };
            let is_leaving = leaving.is_asked();
            if is_leaving && wire.requests().is_quiet() {
                // A request that has come already is served.
                if !self.read_early().await? {
                    break;
                }
                continue;
            }
            let was_full = self.stalled.is_some();
            let stalled_until = self.watch(full, is_mixed);
            if was_full && stalled_until.is_none() {
                // What came meanwhile was told once, and will not be told again: all of it is read, or as much as there is room for.
                while self.read_early().await? && wire.requests().full().is_empty() {}
                continue;
            }
            let is_full = stalled_until.is_some();
            let deadline = stalled_until.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = wire.changed() => {}
                () = leaving.asked(), if !is_leaving => {}
                () = wire.socket.closed(), if is_full => return Err(io::ErrorKind::ConnectionReset.into()),
                () = sleep_until(deadline), if is_full && is_mixed => self.give_up(),
                replies = wire.socket.recv_with(|_| self.read_now()), if !is_full => wire.send(&replies?).await?,
            }
        }
        if wire.requests().is_unread() && wire.socket.finish().is_ok() {
            let _ = timeout(DRAIN_MAX, drain(&wire.socket)).await;
        }
        Ok(())
    }

    /// Reads without waiting for the runtime to say that something has come. Whether it had.
    async fn read_early(&mut self) -> io::Result<bool> {
        match self.read_now() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            replies => self.wire.send(&replies?).await.map(|()| true),
        }
    }

    /// Reads what has come, and begins what it asks for. What is to be answered at once, by us.
    fn read_now(&mut self) -> io::Result<Vec<u8>> {
        let (mut orders, mut replies) = (Vec::new(), Vec::new());
        BUFFER.with_borrow_mut(|buffer| match self.wire.socket.recv_now(buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                let bytes = buffer.get(..got).unwrap_or_default();
                self.wire.requests().take(bytes, &mut orders, &mut replies)
            }
        })?;
        for order in orders {
            let (wire, office) = (Arc::clone(&self.wire), Arc::clone(&self.office));
            match order {
                Order::Handle(begun, request) => {
                    tokio::spawn(exchange::handle(wire, office, self.service.clone(), begun, request));
                }
                Order::Refuse(begun, status, why) => {
                    tokio::spawn(exchange::refuse(wire, office, begun, status, why));
                }
            }
        }
        Ok(replies)
    }

    /// Until when the bodies that are full now may be: the time begins anew whenever some of one is taken.
    fn watch(&mut self, full: Vec<(u16, usize)>, is_mixed: bool) -> Option<Instant> {
        if full.is_empty() {
            self.stalled = None;
            return None;
        }
        let until = match &self.stalled {
            Some((before, until)) if *before == full && is_mixed => *until,
            _ => Instant::now() + STALL_MAX,
        };
        self.stalled = Some((full, until));
        Some(until)
    }

    fn give_up(&mut self) {
        for (id, _) in self.stalled.iter().flat_map(|(full, _)| full) {
            self.wire.requests().give_up(*id);
        }
    }
}

/// Reads what is still sent and forgets it (RFC 9112 §9.6).
async fn drain(socket: &Socket) {
    let mut drained = 0;
    while drained < DRAINED_MAX {
        match socket.recv_with(|socket| BUFFER.with_borrow_mut(|buffer| socket.recv_now(buffer))).await {
            Ok(0) | Err(_) => return,
            Ok(got) => drained += got,
        }
    }
}
