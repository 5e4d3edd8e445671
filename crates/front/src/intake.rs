//! Looks at a request's parameters once, and makes of them what a worker gets.
//!
//! Almost always they go on as they came, with the request's id behind them. They are mended when a web server sends
//! what a worker must not get: a `Proxy` header (httpoxy), an id that is not ours, a header twice (HAProxy, h2o and old
//! nginx pass them on that way; RFC 3875 section 4.1.18 wants one), or a length that is none (Caddy: -1).

use std::collections::HashMap;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::{pair_len, pairs, push_pair};
use steadfast_proto::fcgi::record::{CHUNK_MAX, kind};

use crate::place::Reason;
use crate::request::{Method, Request};

/// So many parameters a request may have.
const PAIRS_MAX: usize = 1024;
/// A name is no longer.
const NAME_MAX: usize = 1024;
/// An id of the client's is no longer.
const ID_MAX: usize = 128;
/// Behind so many parameters it is no longer looked up whether a header really came before: that would take the square
/// of their number.
const LOOKUPS_MAX: usize = 64;

/// Heads and padding of the records around them.
const RECORDS: usize = 96;

const HEADER: &[u8] = b"HTTP_";
const PROXY: &[u8] = b"HTTP_PROXY";
const REQUEST_ID: &[u8] = b"HTTP_X_REQUEST_ID";
const LENGTH: &[u8] = b"CONTENT_LENGTH";

/// Reads what the front must know: method, length, whether something must be mended.
pub(crate) fn scan(request: &mut Request, trust: bool) -> Result<(), Reason> {
    let mut seen = 0u128;
    let mut length: Option<&[u8]> = None;
    let mut count = 0;
    let (mut method, mut mend, mut id) = (None, false, None);
    for pair in pairs(&request.params) {
        let (name, value) = pair.map_err(|_| Reason::BadRequest)?;
        count += 1;
        if count > PAIRS_MAX || name.len() > NAME_MAX || pair_len(name, value) > CHUNK_MAX {
            return Err(Reason::HeadersTooLarge);
        }
        if name.starts_with(HEADER) {
            let bit = 1 << bloom(name);
            // Two names may share a bit. Mending changes nothing then, but costs more than all the rest.
            mend |= seen & bit != 0 && (count > LOOKUPS_MAX || is_among(name, &request.params, count - 1));
            seen |= bit;
            if name == PROXY {
                mend = true;
            } else if name == REQUEST_ID {
                mend = true;
                id = decent(value).filter(|_| trust);
            }
        } else if name == LENGTH {
            if length.is_some_and(|before| before != value) {
                return Err(Reason::BadRequest);
            }
            length = Some(value);
        } else if name == b"REQUEST_METHOD" {
            // Which of two a worker believes nobody knows, and POST must not run twice.
            if method.is_some_and(|before| before != value) {
                return Err(Reason::BadRequest);
            }
            method = Some(value);
        }
    }
    let expected = match length {
        None | Some(b"" | b"-1") => None,
        Some(digits) => Some(number(digits).ok_or(Reason::BadRequest)?),
    };
    request.trusted_id = id.map(Into::into);
    let method = method.map(Method::named).ok_or(Reason::BadRequest)?;
    request.method = method;
    request.body.expected = expected;
    request.needs_mending = mend || length == Some(b"-1");
    Ok(())
}

/// Makes of the parameters, and of the body as far as it has come, what a worker gets. `id` is the request's.
pub(crate) fn seal(request: &mut Request, id: &str, mut wire: Vec<u8>) -> Result<(), Reason> {
    let body = &mut request.body;
    // A small body of unknown length is known by now.
    let unknown = body.expected.is_none() && body.is_complete && body.seen > 0;
    if request.needs_mending || unknown {
        let length = if unknown { Some(body.seen) } else { body.expected };
        request.params = mended(&request.params, length)?;
    }
    let id = request.trusted_id.as_deref().unwrap_or(id);
    push_pair(&mut request.params, REQUEST_ID, id.as_bytes()).map_err(|_| Reason::HeadersTooLarge)?;
    wire.clear();
    wire.reserve(request.params.len() + body.kept.len() + RECORDS);
    encode::begin_request(&mut wire, 1, request.role, true);
    encode::params(&mut wire, 1, &request.params).map_err(|_| Reason::HeadersTooLarge)?;
    if body.is_complete {
        encode::stream(&mut wire, kind::STDIN, 1, &body.kept);
        encode::stream_end(&mut wire, kind::STDIN, 1);
    } else {
        body.is_streamed = true;
        encode::stream(&mut body.tail, kind::STDIN, 1, &body.kept);
    }
    body.kept = Vec::new();
    request.wire = wire;
    request.is_sealed = true;
    Ok(())
}

/// Whether a header is one of the first so many.
fn is_among(header: &[u8], params: &[u8], first: usize) -> bool {
    pairs(params).take(first).any(|pair| pair.is_ok_and(|(name, _)| name == header))
}

/// Where a name stands among 128 (FNV-1a).
fn bloom(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)) >> 25
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A client's id that may be told on: short, and of letters that hurt no log.
fn decent(id: &[u8]) -> Option<&str> {
    let fits = (1..=ID_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte));
    std::str::from_utf8(id).ok().filter(|_| fits)
}

/// The parameters without what must not be passed on; headers that came twice are joined in the place of the first.
fn mended(params: &[u8], length: Option<u64>) -> Result<Vec<u8>, Reason> {
    let mut kept: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let mut headers: HashMap<&[u8], usize> = HashMap::new();
    for pair in pairs(params) {
        let (name, value) = pair.map_err(|_| Reason::BadRequest)?;
        if name == PROXY || name == REQUEST_ID || name == LENGTH {
            continue;
        }
        match headers.get(name).copied() {
            Some(at) => {
                let joined = &mut kept[at].1;
                joined.extend_from_slice(if name == b"HTTP_COOKIE" { b"; " } else { b", " });
                joined.extend_from_slice(value);
            }
            None => {
                if name.starts_with(HEADER) {
                    headers.insert(name, kept.len());
                }
                kept.push((name, value.to_vec()));
            }
        }
    }
    let length = length.map(|length| length.to_string());
    if let Some(length) = &length {
        kept.push((LENGTH, length.as_bytes().to_vec()));
    }
    let mut out = Vec::with_capacity(params.len() + 32);
    for (name, value) in &kept {
        push_pair(&mut out, name, value).map_err(|_| Reason::HeadersTooLarge)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::request::Origin;

    fn request(pairs: &[(&str, &str)]) -> Request {
        let mut request = Request::new(1, Origin::Gone, 1, Instant::now());
        for (name, value) in pairs {
            push_pair(&mut request.params, name.as_bytes(), value.as_bytes()).expect("short");
        }
        request.body.is_complete = true;
        request
    }

    fn sealed(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut request = request(pairs);
        scan(&mut request, false).expect("a request that makes sense");
        seal(&mut request, "id-1", Vec::new()).expect("it fits");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        super::pairs(&request.params).map(|pair| pair.expect("whole")).map(|(n, v)| (text(n), text(v))).collect()
    }

    #[test]
    fn what_is_in_order_goes_on_as_it_came_with_an_id_behind_it() {
        let kept = sealed(&[("REQUEST_METHOD", "GET"), ("HTTP_HOST", "a"), ("X", ""), ("CONTENT_LENGTH", "")]);
        let expected = [
            ("REQUEST_METHOD", "GET"),
            ("HTTP_HOST", "a"),
            ("X", ""),
            ("CONTENT_LENGTH", ""),
            ("HTTP_X_REQUEST_ID", "id-1"),
        ];
        assert_eq!(kept, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn httpoxy_is_dropped_and_twice_is_joined() {
        let kept = sealed(&[
            ("HTTP_PROXY", "http://evil"),
            ("REQUEST_METHOD", "GET"),
            ("HTTP_COOKIE", "a=1"),
            ("HTTP_ACCEPT", "x"),
            ("HTTP_COOKIE", "b=2"),
            ("HTTP_ACCEPT", "y"),
            ("HTTP_X_REQUEST_ID", "forged"),
            ("SCRIPT_FILENAME", "/first"),
            ("SCRIPT_FILENAME", "/second"),
        ]);
        let expected = [
            ("REQUEST_METHOD", "GET"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("HTTP_ACCEPT", "x, y"),
            ("SCRIPT_FILENAME", "/first"),
            ("SCRIPT_FILENAME", "/second"),
            ("HTTP_X_REQUEST_ID", "id-1"),
        ];
        assert_eq!(kept, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_a_browser_sends_needs_no_mending() {
        let names = "HOST USER_AGENT ACCEPT ACCEPT_LANGUAGE ACCEPT_ENCODING REFERER COOKIE CONNECTION PRIORITY \
                     UPGRADE_INSECURE_REQUESTS SEC_FETCH_DEST SEC_FETCH_MODE SEC_FETCH_SITE SEC_FETCH_USER CACHE_CONTROL \
                     IF_MODIFIED_SINCE IF_NONE_MATCH X_FORWARDED_FOR X_FORWARDED_PROTO X_FORWARDED_HOST X_REAL_IP";
        let names: Vec<String> = names.split_whitespace().map(|name| format!("HTTP_{name}")).collect();
        let mut all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        all.push(("REQUEST_METHOD", "GET"));
        let mut once = request(&all);
        scan(&mut once, false).expect("a request that makes sense");
        assert!(!once.needs_mending);
        for name in &names {
            let mut twice = request(&all);
            push_pair(&mut twice.params, name.as_bytes(), b"y").expect("short");
            scan(&mut twice, false).expect("a request that makes sense");
            assert!(twice.needs_mending, "{name} came twice");
        }
    }

    #[test]
    fn two_headers_that_share_a_bit_are_not_one_that_came_twice() {
        assert_eq!(bloom(b"HTTP_X_1"), bloom(b"HTTP_X_2"), "choose others");
        let mut both = request(&[("REQUEST_METHOD", "GET"), ("HTTP_X_1", "x"), ("HTTP_X_2", "x")]);
        scan(&mut both, false).expect("a request that makes sense");
        assert!(!both.needs_mending);
    }

    #[test]
    fn a_header_that_comes_twice_behind_many_others_is_joined() {
        let many: Vec<String> = (0..500).map(|number| format!("HTTP_X_{number}")).collect();
        let mut all: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
        all.extend([("REQUEST_METHOD", "GET"), ("HTTP_X_7", "y")]);
        assert!(sealed(&all).contains(&("HTTP_X_7".to_owned(), "x, y".to_owned())));
    }

    #[test]
    fn a_length_that_is_none_is_mended_or_refused() {
        let mut caddy = request(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "-1")]);
        scan(&mut caddy, false).expect("Caddy means: unknown");
        (caddy.body.kept, caddy.body.seen) = (b"abc".to_vec(), 3);
        seal(&mut caddy, "i", Vec::new()).expect("it fits");
        assert_eq!(caddy.param(b"CONTENT_LENGTH"), Some(&b"3"[..]));
        for bad in ["1x", "+1", "-2", " 1", "99999999999999999999", "1, 1"] {
            let mut request = request(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", bad)]);
            assert_eq!(scan(&mut request, false), Err(Reason::BadRequest), "{bad}");
        }
        let twice = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "1"), ("CONTENT_LENGTH", "2")];
        assert_eq!(scan(&mut request(&twice), false), Err(Reason::BadRequest));
    }

    #[test]
    fn an_id_is_trusted_only_where_it_is_configured_and_decent() {
        let given = |id: &str, trust| {
            let mut request = request(&[("REQUEST_METHOD", "GET"), ("HTTP_X_REQUEST_ID", id)]);
            scan(&mut request, trust).expect("a request that makes sense");
            seal(&mut request, "ours", Vec::new()).expect("it fits");
            request.id()
        };
        assert_eq!(given("theirs-1", true), "theirs-1");
        assert_eq!(given("theirs-1", false), "ours");
        assert_eq!(given("a\nb", true), "ours");
        assert_eq!(given(&"x".repeat(200), true), "ours");
        assert_eq!(given("", true), "ours");
    }

    #[test]
    fn limits_are_answered_with_431() {
        let many: Vec<(String, String)> = (0..2000).map(|n| (format!("N{n}"), String::new())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(scan(&mut request(&many), false), Err(Reason::HeadersTooLarge));
        let long = "x".repeat(CHUNK_MAX);
        assert_eq!(scan(&mut request(&[("HTTP_A", &long)]), false), Err(Reason::HeadersTooLarge));
        let name = "N".repeat(NAME_MAX + 1);
        assert_eq!(scan(&mut request(&[(&name, "")]), false), Err(Reason::HeadersTooLarge));
        assert_eq!(scan(&mut request(&[("HTTP_A", "1")]), false), Err(Reason::BadRequest), "no method");
    }
}
