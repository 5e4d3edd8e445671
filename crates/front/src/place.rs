//! What the front answers in a worker's place: always a whole answer, with a page for people (interface.md, section 3).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use steadfast_proto::front;

/// What our own pages are.
const HTML: &str = "text/html; charset=utf-8";

/// Why no worker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The queue is full.
    QueueFull,
    /// It waited too long for a worker.
    QueueTimeout,
    /// Nothing serves.
    Down,
    /// A worker had it for too long.
    RequestTimeout,
    /// The worker that had it died.
    WorkerDied,
    /// What the worker answered makes no sense.
    BadAnswer,
    /// It has killed workers before.
    Quarantined,
    /// Its parameters or headers are.
    HeadersTooLarge,
    /// Its URI is.
    UriTooLong,
    /// It makes no sense.
    BadRequest,
    /// Its body stopped coming.
    BodyTimeout,
    /// It wants something that there is not here: CONNECT, a transfer coding.
    NotImplemented,
    /// Its FastCGI role is none that there is.
    UnknownRole,
    /// It asked for steadfast itself.
    Ping,
}

impl Reason {
    /// The HTTP status. That of [`Reason::Down`] is the fallback's, if it has one of its own.
    pub(crate) fn status(self) -> u16 {
        match self {
            Reason::QueueFull | Reason::QueueTimeout | Reason::Down => 503,
            Reason::RequestTimeout => 504,
            Reason::WorkerDied | Reason::BadAnswer => 502,
            Reason::Quarantined => 500,
            Reason::HeadersTooLarge => 431,
            Reason::UriTooLong => 414,
            Reason::BadRequest | Reason::UnknownRole => 400,
            Reason::BodyTimeout => 408,
            Reason::NotImplemented => 501,
            Reason::Ping => 200,
        }
    }

    /// The word in `X-Steadfast`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue-full",
            Reason::QueueTimeout => "queue-timeout",
            Reason::Down => "down",
            Reason::RequestTimeout => "request-timeout",
            Reason::WorkerDied => "worker-died",
            Reason::BadAnswer => "bad-answer",
            Reason::Quarantined => "quarantined",
            Reason::HeadersTooLarge => "headers-too-large",
            Reason::UriTooLong => "uri-too-long",
            Reason::BadRequest => "bad-request",
            Reason::BodyTimeout => "body-timeout",
            Reason::NotImplemented => "not-implemented",
            Reason::UnknownRole => "unknown-role",
            Reason::Ping => "ping",
        }
    }

    /// What people read: the heading, and what they can do.
    fn text(self) -> (&'static str, &'static str) {
        match self {
            Reason::QueueFull | Reason::QueueTimeout => (
                "Too many visitors",
                "There are more requests than can be answered right now. Please try again shortly.",
            ),
            Reason::Down => ("Back soon", "This site cannot answer right now. Please try again in a moment."),
            Reason::RequestTimeout => {
                ("That took too long", "The answer was not ready in time. Please try again later.")
            }
            Reason::WorkerDied | Reason::BadAnswer => {
                ("Something went wrong", "The answer to this request was lost. It may or may not have had an effect.")
            }
            Reason::Quarantined => (
                "Something is wrong with this page",
                "Requests like this one have failed badly, so it was not tried again.",
            ),
            Reason::HeadersTooLarge => ("Headers too large", "Cookies or other headers of this request are too large."),
            Reason::UriTooLong => ("Address too long", "The address of this request is too long."),
            Reason::BadRequest => ("Bad request", "This request makes no sense to the server."),
            Reason::BodyTimeout => ("Nothing more came", "The rest of this request did not arrive in time."),
            Reason::NotImplemented | Reason::UnknownRole => ("Not available", "This server cannot do what was asked."),
            Reason::Ping => ("Here", ""),
        }
    }
}

/// What visitors get when nothing serves.
#[derive(Clone, Debug)]
pub(crate) struct FallbackBody {
    status: u16,
    retry_after: Duration,
    content_type: Box<str>,
    /// `None`: our own page.
    body: Option<Bytes>,
}

impl FallbackBody {
    /// The pool's fallback, with the body that came beside its configuration.
    pub(crate) fn new(config: &front::Fallback, body: Option<Vec<u8>>) -> FallbackBody {
        let status = if (200..=599).contains(&config.status) { config.status } else { Reason::Down.status() };
        let is_type = !config.content_type.is_empty() && HeaderValue::from_str(&config.content_type).is_ok();
        FallbackBody {
            status,
            retry_after: Duration::from_millis(config.retry_after_ms),
            content_type: if is_type { config.content_type.as_str() } else { HTML }.into(),
            body: body.map(Bytes::from),
        }
    }
}

/// An answer in a worker's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// Why.
    pub(crate) reason: Reason,
    /// The request's id; may be empty.
    pub(crate) id: &'a str,
    /// The pool's.
    pub(crate) fallback: &'a FallbackBody,
}

/// An answer as status, headers and body.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// 200 to 599.
    pub(crate) status: u16,
    /// `Content-Length`, unless somebody else counts, and all others.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Of as many bytes as `Content-Length` says, whether it is sent or not.
    pub(crate) body: Bytes,
}

impl Answer<'_> {
    /// As status, headers and body.
    pub(crate) fn page(&self) -> Page {
        let (fallback, is_down) = (self.fallback, self.reason == Reason::Down);
        let given = fallback.body.clone().filter(|_| is_down);
        let content_type = if given.is_some() { &fallback.content_type } else { HTML };
        let mut page = page(self.reason, self.id, given, content_type);
        if is_down {
            page.status = fallback.status;
        }
        if self.reason.status() == 503 {
            let seconds = fallback.retry_after.as_millis().div_ceil(1000).max(1);
            page.headers.push(("Retry-After", seconds.to_string()));
        }
        page
    }
}

impl Page {
    /// As bytes of STDOUT.
    pub(crate) fn cgi(&self, is_head: bool, out: &mut Vec<u8>) {
        let mut head = String::new();
        // 200 needs no word, and what reads php-fpm's status page takes any for an error.
        if self.status != 200 {
            let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
            head = format!("Status: {} {}\r\n", self.status, reason.unwrap_or("-"));
        }
        for (name, value) in &self.headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if !is_head {
            out.extend_from_slice(&self.body);
        }
    }
}

/// A page that no pool has a say in: for requests that never became one.
pub(crate) fn plain(reason: Reason) -> Page {
    page(reason, "", None, HTML)
}

/// A page that no pool has a say in, with the request's id.
pub(crate) fn with_id(reason: Reason, id: &str) -> Page {
    page(reason, id, None, HTML)
}

fn page(reason: Reason, id: &str, given: Option<Bytes>, content_type: &str) -> Page {
    // It goes into headers: whatever it is, it cannot end one.
    let id: String = id.chars().filter(|letter| letter.is_ascii_graphic()).collect();
    let is_ping = reason == Reason::Ping;
    let body = match given {
        Some(body) => body,
        None if is_ping => Bytes::from_static(b"pong\n"),
        None => Bytes::from(html(reason, &id)),
    };
    let mut headers = vec![
        ("Content-Type", if is_ping { "text/plain" } else { content_type }.to_owned()),
        ("Content-Length", body.len().to_string()),
        ("Cache-Control", "no-store".to_owned()),
        ("X-Steadfast", reason.word().to_owned()),
    ];
    if !id.is_empty() {
        headers.push(("X-Request-ID", id));
    }
    Page { status: reason.status(), headers, body }
}

fn html(reason: Reason, id: &str) -> String {
    let (title, text) = reason.text();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n:root {{ color-scheme: light dark }}\n\
         body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 20vh auto; padding: 0 1.5rem }}\n\
         h1 {{ font-size: 1.5rem }}\nsmall {{ opacity: .6 }}\n</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p>{text}</p>\n"
    );
    let _ = write!(page, "<p><small>{} {}", reason.status(), reason.word());
    if !id.is_empty() {
        page.push_str(" &middot; ");
        escape(id, &mut page);
    }
    page.push_str("</small></p>\n</body>\n</html>\n");
    page
}

/// Text as it stands in HTML and XML.
pub(crate) fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgi;

    const ALL: [Reason; 14] = [
        Reason::QueueFull,
        Reason::QueueTimeout,
        Reason::Down,
        Reason::RequestTimeout,
        Reason::WorkerDied,
        Reason::BadAnswer,
        Reason::Quarantined,
        Reason::HeadersTooLarge,
        Reason::UriTooLong,
        Reason::BadRequest,
        Reason::BodyTimeout,
        Reason::NotImplemented,
        Reason::UnknownRole,
        Reason::Ping,
    ];

    fn fallback(body: Option<&str>, content_type: &str) -> FallbackBody {
        let config = front::Fallback {
            status: 599,
            retry_after_ms: 1500,
            has_body: body.is_some(),
            content_type: content_type.to_owned(),
        };
        FallbackBody::new(&config, body.map(|body| body.as_bytes().to_vec()))
    }

    fn text(reason: Reason, id: &str, is_head: bool, fallback: &FallbackBody) -> String {
        let mut out = Vec::new();
        Answer { reason, id, fallback }.page().cgi(is_head, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_answer_passes_our_own_reading_and_is_as_long_as_it_says() {
        for reason in ALL {
            let text = text(reason, "r-1", false, &fallback(None, ""));
            let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
            let head = cgi::parse(format!("{head}\r\n\r\n").as_bytes()).expect("it makes sense");
            let status = if reason == Reason::Down { 599 } else { reason.status() };
            assert_eq!((head.status, head.content_length), (status, Some(body.len() as u64)), "{reason:?}");
            assert!(text.contains(&format!("X-Steadfast: {}\r\n", reason.word())), "{reason:?}");
            assert!(
                text.contains("X-Request-ID: r-1\r\n") && (body.contains("r-1") || reason == Reason::Ping),
                "{reason:?}"
            );
            assert_eq!(head.headers["cache-control"], "no-store");
        }
    }

    #[test]
    fn statuses_are_those_of_the_interface() {
        let of = |reason: Reason| (reason.status(), reason.word());
        assert_eq!(of(Reason::QueueFull), (503, "queue-full"));
        assert_eq!(of(Reason::QueueTimeout), (503, "queue-timeout"));
        assert_eq!(of(Reason::Down), (503, "down"));
        assert_eq!(of(Reason::RequestTimeout), (504, "request-timeout"));
        assert_eq!(of(Reason::WorkerDied), (502, "worker-died"));
        assert_eq!(of(Reason::BadAnswer), (502, "bad-answer"));
        assert_eq!(of(Reason::Quarantined), (500, "quarantined"));
    }

    #[test]
    fn who_may_come_back_is_told_when() {
        let fallback = fallback(None, "");
        assert!(text(Reason::Down, "", false, &fallback).contains("Retry-After: 2\r\n"), "rounded up");
        assert!(text(Reason::QueueFull, "", false, &fallback).contains("Retry-After: 2\r\n"));
        assert!(!text(Reason::WorkerDied, "", false, &fallback).contains("Retry-After"));
    }

    #[test]
    fn a_fallback_is_shown_as_it_is_and_only_when_nothing_serves() {
        let fallback = fallback(Some("{\"down\":true}"), "application/json");
        let down = text(Reason::Down, "", false, &fallback);
        assert!(down.starts_with("Status: 599 ") && down.ends_with("\r\n\r\n{\"down\":true}"));
        assert!(down.contains("Content-Type: application/json\r\n"));
        assert!(text(Reason::QueueFull, "", false, &fallback).contains("<!DOCTYPE html>"));
    }

    #[test]
    fn head_has_the_headers_only() {
        let fallback = fallback(None, "");
        let (whole, head) =
            (text(Reason::QueueFull, "a", false, &fallback), text(Reason::QueueFull, "a", true, &fallback));
        assert_eq!(whole.split_once("\r\n\r\n").map(|(head, _)| head), head.strip_suffix("\r\n\r\n"));
    }

    #[test]
    fn neither_an_id_nor_a_type_ends_a_header_or_a_page() {
        let fallback = fallback(Some("x"), "text/html\r\nSet-Cookie: evil");
        let down = text(Reason::Down, "a\r\nX-Evil: 1", false, &fallback);
        assert!(!down.contains("Set-Cookie") && !down.contains("\r\nX-Evil"));
        let page = text(Reason::BadRequest, "<script>", false, &fallback);
        assert!(
            page.contains("&lt;script&gt;") && !page.split_once("\r\n\r\n").expect("a body").1.contains("<script>")
        );
    }
}
