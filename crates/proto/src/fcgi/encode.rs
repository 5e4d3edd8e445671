//! Everything that is written. Each function appends to the caller's buffer, so that one write can carry a whole request.
//!
//! There is no padding, although the specification advises it (section 3.3): what is sent is copied anyway, and nginx that
//! has read an answer's head with padding behind it holds the head back until more comes (with `fastcgi_buffering off`, where
//! server-sent events need it; ngx_http_upstream_send_response takes the padding for a piece of the body). Reserved bytes are
//! zero: HAProxy leaked memory in them (CVE-2023-0836).

use super::error::Error;
use super::params::{pairs, push_pair};
use super::record::{CHUNK_MAX, HEADER, Header, KEEP_CONN, kind};
use super::values::{Asked, MAX_CONNS, MAX_REQS, MPXS_CONNS, Values};

/// A record's header, for those who write content themselves (`writev`).
#[must_use]
pub const fn header(kind: u8, id: u16, content: u16) -> [u8; HEADER] {
    Header { kind, id, content, padding: 0 }.encode()
}

/// BEGIN: opens a request.
pub fn begin_request(out: &mut Vec<u8>, id: u16, role: u16, keep: bool) {
    let [role1, role0] = role.to_be_bytes();
    let flags = if keep { KEEP_CONN } else { 0 };
    record(out, kind::BEGIN_REQUEST, id, &[role1, role0, flags, 0, 0, 0, 0, 0]);
}

/// ABORT: the answer is no longer wanted.
pub fn abort(out: &mut Vec<u8>, id: u16) {
    record(out, kind::ABORT_REQUEST, id, &[]);
}

/// END: the answer is complete. `app_status` is what a CGI program's exit code would be.
pub fn end_request(out: &mut Vec<u8>, id: u16, app_status: u32, protocol_status: u8) {
    let [a, b, c, d] = app_status.to_be_bytes();
    record(out, kind::END_REQUEST, id, &[a, b, c, d, protocol_status, 0, 0, 0]);
}

/// A piece of a stream, as many records as it needs. No bytes write nothing, since an empty record would end it.
pub fn stream(out: &mut Vec<u8>, kind: u8, id: u16, bytes: &[u8]) {
    let records = bytes.len().div_ceil(CHUNK_MAX);
    out.reserve(bytes.len().saturating_add(records.saturating_mul(HEADER)));
    for chunk in bytes.chunks(CHUNK_MAX) {
        record(out, kind, id, chunk);
    }
}

/// The empty record that ends a stream.
pub fn stream_end(out: &mut Vec<u8>, kind: u8, id: u16) {
    record(out, kind, id, &[]);
}

/// The whole PARAMS stream and its end. `stream` is pairs, as [`push_pair`] wrote them or [`pairs`] read them without
/// an error: that is looked at only if they need more than one record. Each record holds whole pairs, because some
/// workers read each record alone.
///
/// # Errors
/// A pair is longer than a record can be (nothing is ever cut or left out), or ends after the stream. Nothing was
/// written.
pub fn params(out: &mut Vec<u8>, id: u16, stream: &[u8]) -> Result<(), Error> {
    let before = out.len();
    if let Err(error) = whole_pairs(out, id, stream) {
        out.truncate(before);
        return Err(error);
    }
    stream_end(out, kind::PARAMS, id);
    Ok(())
}

fn whole_pairs(out: &mut Vec<u8>, id: u16, stream: &[u8]) -> Result<(), Error> {
    let mut rest = stream;
    while rest.len() > CHUNK_MAX {
        let mut pairs = pairs(rest);
        let mut fits = 0;
        while let Some(pair) = pairs.next() {
            pair?;
            let end = rest.len() - pairs.rest().len();
            if end > CHUNK_MAX {
                if fits == 0 {
                    return Err(Error::PairTooLong { length: end, limit: CHUNK_MAX });
                }
                break;
            }
            fits = end;
        }
        let (now, later) = rest.split_at(fits);
        record(out, kind::PARAMS, id, now);
        rest = later;
    }
    if !rest.is_empty() {
        record(out, kind::PARAMS, id, rest);
    }
    Ok(())
}

/// GET_VALUES: asks for the application's variables.
pub fn get_values(out: &mut Vec<u8>, asked: Asked) {
    let mut content = Vec::with_capacity(64);
    for (name, wanted) in [(MAX_CONNS, asked.max_conns), (MAX_REQS, asked.max_reqs), (MPXS_CONNS, asked.mpxs_conns)] {
        if wanted {
            pair(&mut content, name, b"");
        }
    }
    record(out, kind::GET_VALUES, 0, &content);
}

/// GET_VALUES_RESULT: the application's variables, those that are `Some`.
pub fn get_values_result(out: &mut Vec<u8>, values: Values) {
    let mut content = Vec::with_capacity(80);
    if let Some(number) = values.max_conns {
        pair(&mut content, MAX_CONNS, number.to_string().as_bytes());
    }
    if let Some(number) = values.max_reqs {
        pair(&mut content, MAX_REQS, number.to_string().as_bytes());
    }
    if let Some(can) = values.mpxs_conns {
        pair(&mut content, MPXS_CONNS, if can { b"1" } else { b"0" });
    }
    record(out, kind::GET_VALUES_RESULT, 0, &content);
}

/// UNKNOWN_TYPE: answers a management record of a kind that we do not know.
pub fn unknown_type(out: &mut Vec<u8>, kind: u8) {
    record(out, kind::UNKNOWN_TYPE, 0, &[kind, 0, 0, 0, 0, 0, 0, 0]);
}

/// Our own names and numbers are far too short for the error that [`push_pair`] knows.
fn pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let written = push_pair(out, name, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

/// One record. Callers pass at most [`CHUNK_MAX`] bytes.
fn record(out: &mut Vec<u8>, kind: u8, id: u16, content: &[u8]) {
    debug_assert!(content.len() <= CHUNK_MAX, "{} bytes are too many for a record", content.len());
    out.extend_from_slice(&header(kind, id, content.len() as u16));
    out.extend_from_slice(content);
}
