//! What the front answers in a worker's place (interface.md, section 3): a real answer with a small page for people.

use std::time::Duration;

use steadfast_proto::front::Fallback;

/// Why it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The queue has no room.
    QueueFull,
    /// It waited too long.
    QueueTimeout,
    /// Nothing serves.
    Down,
    /// Its worker took too long.
    RequestTimeout,
    /// Its client took too long to send the body.
    BodyTimeout,
    /// Its worker died.
    WorkerDied,
    /// Its worker answered nonsense.
    BadAnswer,
    /// It kills workers.
    Quarantined,
    /// Its head is too large.
    HeadersTooLarge,
    /// It makes no sense.
    BadRequest,
    /// It asks for a role that no web server asks for.
    UnknownRole,
    /// It was for the front itself.
    Ping,
}

impl Reason {
    /// The HTTP status.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Reason::QueueFull | Reason::QueueTimeout | Reason::Down => 503,
            Reason::RequestTimeout => 504,
            Reason::BodyTimeout => 408,
            Reason::WorkerDied | Reason::BadAnswer => 502,
            Reason::Quarantined => 500,
            Reason::HeadersTooLarge => 431,
            Reason::BadRequest | Reason::UnknownRole => 400,
            Reason::Ping => 200,
        }
    }

    /// The word in `X-Steadfast`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue-full",
            Reason::QueueTimeout => "queue-timeout",
            Reason::Down => "down",
            Reason::RequestTimeout => "request-timeout",
            Reason::BodyTimeout => "body-timeout",
            Reason::WorkerDied => "worker-died",
            Reason::BadAnswer => "bad-answer",
            Reason::Quarantined => "quarantined",
            Reason::HeadersTooLarge => "headers-too-large",
            Reason::BadRequest => "bad-request",
            Reason::UnknownRole => "unknown-role",
            Reason::Ping => "ping",
        }
    }

    /// For people: a title, and what to do.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Reason::QueueFull | Reason::QueueTimeout => ("Too many visitors at once", "Please try again in a moment."),
            Reason::Down => ("Not available right now", "We are working on it. Please try again in a moment."),
            Reason::RequestTimeout => ("This took too long", "Please try again in a moment."),
            Reason::BodyTimeout => ("Your upload took too long", "Please try again on a better connection."),
            Reason::WorkerDied | Reason::BadAnswer => ("Something broke while we answered", "Please try again."),
            Reason::Quarantined => ("This page is out of order", "The others work. Please try again in some minutes."),
            Reason::HeadersTooLarge => ("The request is too large", "Deleting this site's cookies may help."),
            Reason::BadRequest | Reason::UnknownRole => ("The request makes no sense", "Please check the address."),
            Reason::Ping => ("The front is there", ""),
        }
    }
}

const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

/// What visitors get when nothing serves.
#[derive(Debug)]
pub(crate) struct FallbackBody {
    status: u16,
    retry_after: Duration,
    /// The pool's own page and its media type.
    page: Option<(Vec<u8>, String)>,
}

impl FallbackBody {
    /// As configured; `body` is the file's content.
    pub(crate) fn new(config: &Fallback, body: Option<Vec<u8>>) -> FallbackBody {
        let retry_after = Duration::from_millis(config.retry_after_ms);
        FallbackBody { status: config.status, retry_after, page: body.map(|body| (body, config.content_type.clone())) }
    }
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// Why.
    pub(crate) reason: Reason,
    /// The request's id; empty when it has none yet.
    pub(crate) id: &'a str,
    /// Only the head is wanted.
    pub(crate) is_head: bool,
    /// The pool's.
    pub(crate) fallback: &'a FallbackBody,
}

impl Answer<'_> {
    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        if self.reason == Reason::Down { self.fallback.status } else { self.reason.status() }
    }

    /// The headers, but for `Content-Length`.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let kind = match &self.fallback.page {
            Some((_, kind)) if self.reason == Reason::Down => kind.clone(),
            _ if self.reason == Reason::Ping => "text/plain".to_owned(),
            _ => "text/html; charset=utf-8".to_owned(),
        };
        let mut headers = vec![
            ("Content-Type", kind),
            ("Cache-Control", "no-store".to_owned()),
            ("X-Steadfast", self.reason.word().to_owned()),
        ];
        if !self.id.is_empty() {
            headers.push(("X-Request-ID", self.id.to_owned()));
        }
        if matches!(self.reason, Reason::QueueFull | Reason::QueueTimeout | Reason::Down) {
            let seconds = self.fallback.retry_after.as_millis().div_ceil(1000).max(1);
            headers.push(("Retry-After", seconds.to_string()));
        }
        headers
    }

    /// The body; also for HEAD, whose answer tells its length.
    pub(crate) fn body(&self) -> Vec<u8> {
        match &self.fallback.page {
            Some((body, _)) if self.reason == Reason::Down => body.clone(),
            _ if self.reason == Reason::Ping => b"pong\n".to_vec(),
            _ => self.page().into_bytes(),
        }
    }

    /// The answer as a worker would have written it.
    pub(crate) fn cgi(&self, out: &mut Vec<u8>) {
        let status = self.status();
        out.extend_from_slice(format!("Status: {status} {}\r\n", phrase(status)).as_bytes());
        for (name, value) in self.headers() {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let body = self.body();
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        if !self.is_head {
            out.extend_from_slice(&body);
        }
    }

    fn page(&self) -> String {
        let (title, advice) = self.reason.words();
        let status = self.status();
        let id = if self.id.is_empty() { String::new() } else { format!(" · {}", escaped(self.id)) };
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
             <style>body{{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:20vh auto;padding:0 1em}}\
             small{{opacity:.6}}</style><h1>{title}</h1><p>{advice}</p><p><small>{status} {}{id}</small></p></html>\n",
            self.reason.word()
        )
    }
}

/// An id may come from a client.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback(body: Option<&str>) -> FallbackBody {
        let config = Fallback {
            status: 500,
            retry_after_ms: 1500,
            has_body: body.is_some(),
            content_type: "text/plain".to_owned(),
        };
        FallbackBody::new(&config, body.map(|body| body.as_bytes().to_vec()))
    }

    fn text(reason: Reason, is_head: bool, fallback: &FallbackBody) -> String {
        let mut out = Vec::new();
        Answer { reason, id: "id-1", is_head, fallback }.cgi(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_answer_tells_reason_and_id_and_when_to_come_back() {
        let full = text(Reason::QueueFull, false, &fallback(None));
        assert!(full.starts_with("Status: 503 Service Unavailable\r\n"), "{full}");
        for part in ["X-Steadfast: queue-full\r\n", "X-Request-ID: id-1\r\n", "Retry-After: 2\r\n", "</html>"] {
            assert!(full.contains(part), "{full}");
        }
        assert!(!text(Reason::WorkerDied, false, &fallback(None)).contains("Retry-After"));
    }

    #[test]
    fn the_fallback_is_the_pools_own() {
        let down = text(Reason::Down, false, &fallback(Some("back soon")));
        assert!(down.starts_with("Status: 500 ") && down.ends_with("\r\n\r\nback soon"), "{down}");
        assert!(down.contains("Content-Type: text/plain\r\n"), "{down}");
        assert!(text(Reason::WorkerDied, false, &fallback(Some("back soon"))).contains("</html>"));
    }

    #[test]
    fn head_has_the_length_of_what_is_not_sent() {
        let full = text(Reason::Down, true, &fallback(Some("back soon")));
        assert!(full.contains("Content-Length: 9\r\n") && full.ends_with("\r\n\r\n"), "{full}");
    }

    #[test]
    fn nothing_of_a_client_is_html() {
        let fallback = fallback(None);
        let answer = Answer { reason: Reason::BadRequest, id: "<b>", is_head: false, fallback: &fallback };
        assert!(!answer.page().contains("<b>"));
    }
}
