//! Who may ask: the demo listens on this machine only, but every web page that is open in a browser here can send
//! requests to it.

use std::net::IpAddr;

use steadfast_worker::Request;

/// What a request says about where it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    /// `Host`.
    pub(crate) host: Option<&'a str>,
    /// `Origin`.
    pub(crate) origin: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub(crate) site: Option<&'a str>,
}

impl<'a> Origin<'a> {
    pub(crate) fn of(request: &Request<'a>) -> Origin<'a> {
        // What is no text is no good answer either.
        let text = |name: &str| request.param(name).map(|value| std::str::from_utf8(value).unwrap_or("?"));
        Origin { host: text("HTTP_HOST"), origin: text("HTTP_ORIGIN"), site: text("HTTP_SEC_FETCH_SITE") }
    }

    /// Whether it may look. A name that somebody else's DNS has given to this machine would let that one's pages read
    /// what is here; a plain address or `localhost` belongs to nobody.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_look(&self) -> Result<(), &'static str> {
        match self.host {
            Some(host) if !is_ours(host) => {
                Err("This demo answers to localhost and to plain addresses such as 127.0.0.1 only.")
            }
            _ => Ok(()),
        }
    }

    /// Whether it may do something: the page itself, a person who types, curl; and no other web page. Browsers say where a
    /// request comes from, and who says nothing is no browser.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_act(&self) -> Result<(), &'static str> {
        self.may_look()?;
        let is_here = match (self.origin, self.host) {
            (None, _) => true,
            (Some(origin), Some(host)) => {
                origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
            }
            (Some(_), None) => false,
        };
        if is_here && matches!(self.site, None | Some("same-origin" | "none")) {
            return Ok(());
        }
        Err("Another web page has sent this request. Press the button on the demo's own page.")
    }
}

/// `localhost`, or an address, with or without a port.
fn is_ours(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_refused() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]"] {
            Origin { host: Some(host), ..Origin::default() }.may_look().expect(host);
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example:1",
            "",
            "?",
            ":8080",
        ] {
            Origin { host: Some(host), ..Origin::default() }.may_look().expect_err(host);
        }
    }

    #[test]
    fn only_the_page_itself_and_people_may_act() {
        let host = Some("127.0.0.1:8080");
        for (origin, site) in [
            (None, None),
            (None, Some("none")),
            (None, Some("same-origin")),
            (Some("http://127.0.0.1:8080"), None),
            (Some("http://127.0.0.1:8080"), Some("same-origin")),
        ] {
            Origin { host, origin, site }.may_act().expect("ours");
        }
        for (origin, site) in [
            (Some("http://evil.example"), None),
            (Some("null"), None),
            (Some("http://127.0.0.1:3000"), Some("same-site")),
            (Some("https://127.0.0.1:8080"), None),
            (None, Some("cross-site")),
            (None, Some("same-site")),
            (Some("http://127.0.0.1:8080"), Some("cross-site")),
        ] {
            Origin { host, origin, site }.may_act().expect_err("a stranger's");
        }
        Origin { host: None, origin: Some("http://"), site: None }.may_act().expect_err("from nowhere");
        Origin { host: Some("evil.example"), origin: Some("http://evil.example"), site: None }
            .may_act()
            .expect_err("rebound");
    }
}
