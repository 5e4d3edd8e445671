//! A client of HTTP/1.1 that asks once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::routes::{Answer, Ask};
use super::site::PATIENCE;

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A request, as it stands on the wire.
pub fn request(ask: &Ask<'_>, keep: bool) -> Vec<u8> {
    let Ask { method, uri, .. } = ask;
    let connection = if keep { "keep-alive" } else { "close" };
    let mut text = format!("{method} {uri} HTTP/1.1\r\nHost: example.org\r\nConnection: {connection}\r\n");
    for (name, value) in &ask.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if ask.method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", ask.body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(ask.body);
    bytes
}

/// One request on a connection of its own.
pub fn fetch(address: SocketAddr, ask: &Ask<'_>) -> Answer {
    let mut stream = connect(address);
    let mut writer = stream.try_clone().expect("a copy");
    let bytes = request(ask, false);
    let writing = std::thread::spawn(move || writer.write_all(&bytes));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let _ = writing.join().expect("no panic");
    Answer::from_http(&bytes)
}

/// Reads until what has come is enough.
pub fn until(stream: &mut TcpStream, text: &mut String, holds: impl Fn(&str) -> bool) {
    let mut bytes = [0; 4096];
    while !holds(text) {
        let got = stream.read(&mut bytes).expect("more comes");
        assert!(got > 0, "the end, after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..got]));
    }
}
