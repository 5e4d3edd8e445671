//! Answers the requests of one connection, one after the other.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::Shutdown;
use steadfast_proto::fcgi::record::{role, status};

use crate::builder::{AfterPanic, Handler};
use crate::failure::Failure;
use crate::input::{Begin, Input, Next, Refusal};
use crate::limits::Limits;
use crate::output::Output;
use crate::panics;
use crate::params::Params;
use crate::request::{Request, Role};
use crate::response::{Head, Response};

/// The exit status of a request that failed.
const FAILED: u32 = crate::codes::EX_REQUEST as u32;

/// What has been answered, and what is left to do.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// So many requests; the worker goes on.
    Served(u64),
    /// The worker cannot go on.
    Leave(Failure),
}

/// The memory of a worker, used for one request after the other.
#[derive(Debug)]
pub(crate) struct Desk {
    input: RefCell<Input>,
    output: RefCell<Output>,
    params: Params,
    after_panic: AfterPanic,
    limits: Limits,
}

/// How a request ended.
enum End {
    /// Answered; the exit status of a CGI program.
    Answered(u32),
    /// There is nobody to answer, or only a part of the answer was sent: the connection is closed, so that nobody takes a part
    /// for the whole.
    Broken,
}

/// The handlers, by role.
pub(crate) struct Handlers<'h, 'a> {
    pub(crate) responder: &'h mut Handler<'a>,
    pub(crate) authorizer: Option<&'h mut Handler<'a>>,
}

impl Desk {
    pub(crate) fn new(limits: Limits, after_panic: AfterPanic) -> Desk {
        let (input, output) = (RefCell::new(Input::new(limits)), RefCell::new(Output::new()));
        Desk { input, output, params: Params::default(), after_panic, limits }
    }

    /// Serves a connection until it ends, at most `max` requests.
    pub(crate) fn serve(&mut self, stream: OwnedFd, handlers: &mut Handlers<'_, '_>, max: u64) -> Outcome {
        self.input.get_mut().reset();
        let mut served = 0;
        loop {
            let fd = stream.as_fd();
            let (begin, failure, is_answered) = match self.input.get_mut().next(fd, &mut self.params) {
                Err(_) => return Outcome::Served(served),
                Ok(Next::End) => {
                    if self.input.get_mut().is_unread() {
                        self.part(fd);
                    }
                    return Outcome::Served(served);
                }
                Ok(Next::Refused(begin, refusal)) => (begin, None, self.refuse(fd, begin, refusal)),
                Ok(Next::Request(begin)) => {
                    served += 1;
                    self.output.get_mut().begin(Some(begin.id));
                    match handlers.of(begin.role) {
                        None => (begin, None, self.end(fd, (0, status::UNKNOWN_ROLE))),
                        Some((role, handler)) => {
                            let (end, failure) = self.answer(fd, fd, role, handler);
                            let is_answered = match end {
                                End::Answered(status) => self.end(fd, (status, status::REQUEST_COMPLETE)),
                                End::Broken => false,
                            };
                            (begin, failure, is_answered)
                        }
                    }
                }
            };
            let has_all = self.input.get_mut().end(begin.id);
            let is_kept = is_answered && begin.keep && failure.is_none() && served < max;
            if !is_kept {
                let is_answered = is_answered && self.input.get_mut().tell(fd).is_ok();
                if is_answered && !has_all {
                    self.part(fd);
                }
                drop(stream);
                return failure.map_or(Outcome::Served(served), Outcome::Leave);
            }
        }
    }

    /// We send no more, and hear the rest of what is sent to us.
    fn part(&mut self, fd: BorrowedFd<'_>) {
        if rustix::net::shutdown(fd, Shutdown::Write).is_ok() {
            self.input.get_mut().drain(fd);
        }
    }

    /// Answers the one request of a CGI program. The exit code.
    pub(crate) fn serve_cgi(&mut self, handlers: &mut Handlers<'_, '_>) -> Result<u8, Failure> {
        crate::cgi::read_environment(&mut self.params);
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        self.output.get_mut().begin(None);
        let usable = self.params.complete(usize::MAX);
        let length = self.params.content_length();
        self.input.get_mut().be_plain(length);
        if usable.is_err() {
            return Err(Failure::request("the environment cannot be read"));
        }
        let (end, failure) = self.answer(stdin.as_fd(), stdout.as_fd(), Role::Responder, handlers.responder);
        let code = match end {
            End::Answered(status) if self.end(stdout.as_fd(), (0, 0)) => u8::try_from(status).unwrap_or(u8::MAX),
            End::Answered(_) | End::Broken => crate::codes::EX_REQUEST,
        };
        failure.map_or(Ok(code), Err)
    }

    /// Whether the rest of the answer could be sent.
    fn end(&self, fd: BorrowedFd<'_>, status: (u32, u8)) -> bool {
        // A web server without KEEP_CONN listens to nothing more after END.
        if self.input.borrow_mut().tell(fd).is_err() {
            return false;
        }
        self.output.borrow_mut().finish(fd, &self.input, status).is_ok()
    }

    /// Runs the handler, and answers in its place when it fails.
    fn answer(
        &self,
        fd: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        role: Role,
        handler: &mut Handler<'_>,
    ) -> (End, Option<Failure>) {
        let mut request = Request { params: &self.params, input: &self.input, fd, role };
        let is_bodiless = request.method() == "HEAD";
        let mut response = self.response(to, is_bodiless);
        let result = panics::catch(|| {
            handler(&mut request, &mut response)?;
            Ok(response.end_head()?)
        });
        let failure = match result {
            Ok(Ok(())) => return (End::Answered(0), None),
            Ok(Err(failure)) => failure,
            Err(panic) => match self.after_panic {
                AfterPanic::GoOn => Failure::request(panic),
                AfterPanic::Leave => Failure::failed(crate::codes::EX_REQUEST, panic),
            },
        };
        let has_gone = self.output.borrow().is_broken() || self.input.borrow().is_cut();
        let is_aborted = self.input.borrow().is_aborted();
        let line = format!("{} {}", request.method(), request.path());
        let failure = told(failure, &line, has_gone || is_aborted);
        let end = if has_gone || self.output.borrow().has_sent() && !is_aborted {
            End::Broken
        } else {
            self.output.borrow_mut().take_back();
            if is_aborted {
                return (End::Answered(FAILED), failure);
            }
            match self.apologise(to, is_bodiless, 500, "Internal Server Error", "The application has failed.") {
                true => End::Answered(FAILED),
                false => End::Broken,
            }
        };
        (end, failure)
    }

    fn response<'s>(&'s self, fd: BorrowedFd<'s>, is_bodiless: bool) -> Response<'s> {
        Response { output: &self.output, input: &self.input, fd, head: Head::Empty, is_bodiless }
    }

    fn refuse(&self, fd: BorrowedFd<'_>, begin: Begin, refusal: Refusal) -> bool {
        self.output.borrow_mut().begin(Some(begin.id));
        if begin.role != role::RESPONDER {
            return self.end(fd, (0, status::UNKNOWN_ROLE));
        }
        let is_told = match refusal {
            Refusal::TooLarge => {
                let Limits { params, params_count } = self.limits;
                let why = format!("At most {params} bytes of headers, and {params_count} of them, are taken.");
                self.apologise(fd, false, 431, "Request Header Fields Too Large", &why)
            }
            Refusal::Malformed => self.apologise(fd, false, 400, "Bad Request", "The request cannot be read."),
        };
        is_told && self.end(fd, (0, status::REQUEST_COMPLETE))
    }

    /// A page in the handler's place. Whether it could be sent.
    fn apologise(&self, fd: BorrowedFd<'_>, is_bodiless: bool, status: u16, title: &str, text: &str) -> bool {
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
             <body><h1>{title}</h1><p>{text}</p></body></html>\n"
        );
        let mut response = self.response(fd, is_bodiless);
        let mut write = || {
            response.status(status)?.header("Content-Type", "text/html; charset=utf-8")?;
            std::io::Write::write_all(&mut response, page.as_bytes())
        };
        write().is_ok()
    }
}

impl<'a> Handlers<'_, 'a> {
    fn of(&mut self, number: u16) -> Option<(Role, &mut Handler<'a>)> {
        match number {
            role::RESPONDER => Some((Role::Responder, &mut *self.responder)),
            role::AUTHORIZER => self.authorizer.as_deref_mut().map(|handler| (Role::Authorizer, handler)),
            _ => None,
        }
    }
}

/// Writes the failure to the log, with the request. What remains is what the worker must leave for.
fn told(mut failure: Failure, line: &str, has_gone: bool) -> Option<Failure> {
    let line: String = line.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
    failure.message = format!("{line}: {}", failure.message);
    if failure.is_final() {
        // It is told when the worker leaves.
        return Some(failure);
    }
    // That a client has gone is nobody's failure.
    if !has_gone {
        crate::link::complain(&failure.message);
    }
    None
}
