//! A worker's life with many requests at a time: accept while there is room, hear the link and SIGTERM, leave.

use std::fs::File;
use std::future::{Future, pending};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use steadfast_proto::link::{FromWorker, ToWorker};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{self, Runtime};
use tokio::time::{Instant, sleep_until};

use crate::builder::Builder;
use crate::codes::{EX_FCGI_ACCEPT, EX_FCGI_CREATE, EX_OK, EX_START};
use crate::door::{self, Door, Listener};
use crate::failure::Failure;
use crate::life::{ACCEPT_FAILURES_MAX, SHORTAGE, create, say_goodbye, take};
use crate::link::Link;
use crate::sys;
use crate::tower::choices::{Choices, Protocol};
use crate::tower::handler::Application;
use crate::tower::leaving::{self, Order};
use crate::tower::load::Load;
use crate::tower::office::Office;
use crate::tower::{cgi, connection, http1};

/// So long a worker that cannot go on waits for what is in hand beside.
const FAILED_MAX: Duration = Duration::from_secs(10);

/// Takes the start steps and serves. The exit code.
pub(super) fn serve<M, F, S>(builder: &mut Builder<'_>, link: &mut Link, make: M) -> Result<u8, Failure>
where
    M: FnOnce() -> F,
    F: Future<Output = Result<S, Failure>>,
    S: Application,
{
    let runtime = start(&builder.choices).map_err(|error| create("start the runtime", &error))?;
    let entered = runtime.enter();
    let result = serve_inside(&runtime, builder, link, make);
    drop(entered);
    // What the application has begun on its own is not waited for.
    runtime.shutdown_background();
    result
}

fn start(choices: &Choices) -> io::Result<Runtime> {
    match choices.threads {
        Some(threads) if threads.get() > 1 => {
            runtime::Builder::new_multi_thread().worker_threads(threads.get()).enable_all().build()
        }
        _ => runtime::Builder::new_current_thread().enable_all().build(),
    }
}

fn serve_inside<M, F, S>(runtime: &Runtime, builder: &mut Builder<'_>, link: &mut Link, make: M) -> Result<u8, Failure>
where
    M: FnOnce() -> F,
    F: Future<Output = Result<S, Failure>>,
    S: Application,
{
    let failed = |message| Failure::failed(EX_START, message);
    take(&mut builder.start, "start", failed)?;
    let mut make = Some(make);
    let mut service = None;
    let step = || {
        if let Some(make) = make.take() {
            service = Some(runtime.block_on(make())?);
        }
        Ok(())
    };
    take(&mut [("application".to_owned(), Box::new(step))], "start", failed)?;
    let service = service.expect("the step has succeeded, so it has made one");

    let create_failed = |why| Failure::failed(EX_FCGI_CREATE, why);
    let inherited = builder.choices.inherited().map_err(create_failed)?;
    let by_hand = builder.choices.by_hand(builder.listen.as_deref());
    let (address, protocol) =
        by_hand.map_or((None, Protocol::default()), |(address, protocol)| (Some(address), protocol));
    let door = door::find(address.as_deref(), protocol.scheme()).map_err(create_failed)?;
    let (order, leaving) = leaving::channel();
    let max_requests = builder.max_requests.map_or(u64::MAX, u64::from);
    let load = Load::new(builder.choices.concurrency(), max_requests);
    let office = Arc::new(Office { load, limits: builder.limits, after_panic: builder.after_panic, leaving });
    let listener = match door {
        Door::Cgi => return runtime.block_on(cgi::serve(office, service)),
        Door::FastCgi(listener) => listener,
    };
    let protocol = if listener.is_by_hand { protocol } else { inherited };

    let nothing = File::open("/dev/null").map_err(|error| create("open /dev/null", &error))?;
    sys::handle_term().map_err(|error| create("handle SIGTERM", &error))?;
    let ears = Ears::new(link).map_err(|error| create("hear SIGTERM and the link", &error))?;
    let gate = Gate::new(listener).map_err(|error| create("wait for connections", &error))?;
    link.say(&FromWorker::Ready);
    let life = Life { office, order, link, ears };
    let was_asked = runtime.block_on(life.live(gate, nothing.as_fd(), protocol, service))?;
    if was_asked {
        say_goodbye(builder);
    }
    Ok(EX_OK)
}

/// The listening socket. It does not block any more, for anybody who has it.
struct Gate {
    listener: Listener,
    ready: AsyncFd<OwnedFd>,
}

impl Gate {
    fn new(listener: Listener) -> io::Result<Gate> {
        let copy = listener.with(|fd| fd.try_clone_to_owned())?;
        rustix::io::ioctl_fionbio(&copy, true)?;
        Ok(Gate { listener, ready: sys::watch(copy)? })
    }

    async fn accept(&self) -> Result<Option<OwnedFd>, Errno> {
        loop {
            let mut guard = self.ready.readable().await.map_err(|error| errno(&error))?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let is_shut_down = guard.ready().is_read_closed();
            if let Ok(result) = guard.try_io(|_| Ok(self.listener.accept_with(flags)?)) {
                return result.map_err(|error| errno(&error));
            }
            if is_shut_down {
                // Of a unix socket that does not block the kernel says only that there is nobody, for ever.
                return Err(Errno::INVAL);
            }
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What tells a worker to leave.
struct Ears {
    link: Option<AsyncFd<OwnedFd>>,
    /// At SIGTERM it has an end.
    term: AsyncFd<OwnedFd>,
    _other_end: UnixStream,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Take no more, finish what is in hand.
    Leave,
    /// At once.
    Quit,
}

impl Ears {
    fn new(link: &Link) -> io::Result<Ears> {
        let (term, other_end) = UnixStream::pair()?;
        term.set_nonblocking(true)?;
        sys::watch_waker(term.as_fd());
        let link = link.copy().map(sys::watch).transpose()?;
        Ok(Ears { link, term: sys::watch(OwnedFd::from(term))?, _other_end: other_end })
    }

    async fn term(&self) -> Word {
        if !sys::is_terminated() && self.term.readable().await.is_err() {
            return pending().await;
        }
        Word::Leave
    }

    async fn hear(&self, link: &mut Link) -> Word {
        let Some(socket) = self.link.as_ref().filter(|_| link.is_open()) else {
            return pending().await;
        };
        loop {
            let Ok(mut guard) = socket.readable().await else {
                return pending().await;
            };
            let words = link.hear(Some(std::time::Instant::now()));
            if words.contains(&ToWorker::Quit) {
                return Word::Quit;
            }
            if words.contains(&ToWorker::Drain) || !link.is_open() {
                return Word::Leave;
            }
            if !has_more(socket.get_ref()) {
                guard.clear_ready();
            }
        }
    }
}

fn has_more(fd: &OwnedFd) -> bool {
    matches!(poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec::default())), Ok(1..))
}

struct Life<'l> {
    office: Arc<Office>,
    order: Order,
    link: &'l mut Link,
    ears: Ears,
}

impl Life<'_> {
    /// Whether it was asked to leave.
    async fn live<S: Application>(
        mut self,
        gate: Gate,
        nothing: BorrowedFd<'_>,
        protocol: Protocol,
        service: S,
    ) -> Result<bool, Failure> {
        let word = self.accept(&gate, protocol, &service).await?;
        self.order.leave();
        let Gate { listener, ready } = gate;
        drop(ready);
        listener.close(nothing);
        if word != Some(Word::Quit) {
            self.finish().await;
        }
        self.office.load.failure().map_or(Ok(word == Some(Word::Leave) || sys::is_terminated()), Err)
    }

    /// Accepts until it is told to leave, has had enough, or cannot go on.
    async fn accept<S: Application>(
        &mut self,
        gate: &Gate,
        protocol: Protocol,
        service: &S,
    ) -> Result<Option<Word>, Failure> {
        let mut failures = 0;
        let mut pause = None;
        let load = Arc::clone(&self.office.load);
        while !load.has_failed() {
            if load.is_used_up() {
                self.link.say(&FromWorker::Recycle);
                break;
            }
            tokio::select! {
                biased;
                word = self.ears.term() => return Ok(Some(word)),
                word = self.ears.hear(self.link) => return Ok(Some(word)),
                () = load.changed() => {}
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => pause = None,
                accepted = gate.accept(), if pause.is_none() && load.has_room() => match accepted {
                    Ok(None) => {}
                    Ok(Some(fd)) => {
                        failures = 0;
                        self.serve(fd, protocol, service.clone());
                        // It has brought a request, mostly: that is counted before the next is accepted.
                        tokio::task::yield_now().await;
                    }
                    // The one who wanted to connect has gone.
                    Err(Errno::CONNABORTED | Errno::PROTO | Errno::INTR) => {}
                    Err(errno) => {
                        failures += 1;
                        if failures >= ACCEPT_FAILURES_MAX {
                            let message = format!("accept failed {failures} times in a row: {errno}");
                            load.fail(Failure::failed(EX_FCGI_ACCEPT, message));
                        } else if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) {
                            pause = Some(Instant::now() + SHORTAGE);
                        }
                    }
                },
            }
        }
        Ok(None)
    }

    fn serve<S: Application>(&self, fd: OwnedFd, protocol: Protocol, service: S) {
        let office = Arc::clone(&self.office);
        match protocol {
            Protocol::FastCgi => tokio::spawn(connection::serve(fd, office, service)),
            Protocol::Http => tokio::spawn(http1::serve(fd, office, service)),
        };
    }

    /// Waits for what is in hand.
    async fn finish(&mut self) {
        let load = Arc::clone(&self.office.load);
        let deadline = load.has_failed().then(|| Instant::now() + FAILED_MAX);
        while !load.is_empty() {
            tokio::select! {
                biased;
                Word::Quit = self.ears.hear(self.link) => return,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return,
                () = load.changed() => {}
            }
        }
    }
}
