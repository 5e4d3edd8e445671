//! What the example site answers, whoever asks: the same table for every way in.

use super::site::{download, fnv, noise};

/// What is asked.
#[derive(Clone)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub uri: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: &'a [u8],
}

impl<'a> Ask<'a> {
    pub fn get(uri: &'a str) -> Ask<'a> {
        Ask { method: "GET", uri, headers: Vec::new(), body: b"" }
    }

    pub fn post(uri: &'a str, kind: &'a str, body: &'a [u8]) -> Ask<'a> {
        Ask { method: "POST", uri, headers: vec![("content-type", kind)], body }
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn from_cgi(bytes: &[u8]) -> Answer {
        let (head, body) = split(bytes);
        let mut headers = headers(&head);
        let at = headers.iter().position(|(name, _)| name == "status").expect("a status");
        let (_, status) = headers.remove(at);
        Answer { status: number(&status), headers, body: body.to_vec() }
    }

    pub fn from_http(bytes: &[u8]) -> Answer {
        let (head, body) = split(bytes);
        let (first, head) = head.split_once("\r\n").expect("a first line");
        let headers = headers(head);
        let mut answer = Answer { status: number(&first["HTTP/1.1 ".len()..]), headers, body: body.to_vec() };
        if answer.header("transfer-encoding") == ["chunked"] {
            answer.body = dechunk(&answer.body);
        }
        answer
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

fn split(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
    (String::from_utf8(bytes[..end].to_vec()).expect("text") + "\r\n", &bytes[end + 4..])
}

fn headers(head: &str) -> Vec<(String, String)> {
    let lines = head.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(": ").expect("a field")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect()
}

fn number(status: &str) -> u16 {
    status[..3].parse().expect("a status")
}

/// A body that was cut has no last chunk, and ends where it ends.
fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).expect("hex"), 16).expect("a length");
        body.extend_from_slice(&bytes[end + 2..][..length]);
        bytes = &bytes[end + 2 + length + 2..];
    }
    body
}

/// An answer that is longer than what is kept on the way, and begins before its request is complete. (nginx sends no more of a
/// request when the answer has begun.)
pub fn check_echo(fetch: impl Fn(&Ask<'_>) -> Answer) {
    let long = noise(10 * 1024 * 1024);
    let answer = fetch(&Ask::post("/echo", "application/octet-stream", &long));
    assert!(answer.body == long, "{} bytes came back", answer.body.len());
}

/// Asks for all routes that end by themselves.
pub fn check(fetch: impl Fn(&Ask<'_>) -> Answer) {
    for (uri, status, kind, text) in [
        ("/", 200, "text/html; charset=utf-8", "<h1>A site on axum</h1>"),
        ("/hello/J%C3%BCrgen%20%2F", 200, "text/plain; charset=utf-8", "Hello, Jürgen /.\n"),
        ("/search?a=1&b=%26+2", 200, "application/json", r#"{"a":"1","b":"& 2"}"#),
        ("/nowhere/at%20all?x", 404, "text/plain; charset=utf-8", "There is no /nowhere/at%20all.\n"),
    ] {
        let answer = fetch(&Ask::get(uri));
        assert_eq!((answer.status, answer.text()), (status, text), "{uri}");
        assert_eq!(answer.header("content-type"), [kind], "{uri}");
        assert_eq!(answer.header("content-length"), [text.len().to_string()], "{uri}");
    }
    let answer = fetch(&Ask::get("/old"));
    assert_eq!((answer.status, answer.header("location")), (308, vec!["/hello/you"]));
    let answer = fetch(&Ask { headers: vec![("cookie", "a=1; b=2")], ..Ask::get("/cookies") });
    assert_eq!(answer.header("set-cookie"), ["first=1; Path=/", "second=2; Path=/"]);
    assert_eq!(answer.text(), "a=1; b=2");
    let answer = fetch(&Ask { method: "HEAD", ..Ask::get("/") });
    assert_eq!((answer.status, answer.header("content-length"), answer.text()), (200, vec!["23"], ""));
    let answer = fetch(&Ask { method: "DELETE", ..Ask::get("/") });
    assert_eq!((answer.status, answer.header("allow")), (405, vec!["GET,HEAD"]));

    let answer = fetch(&Ask::post("/form", "application/x-www-form-urlencoded", b"name=J%C3%BCrgen&text=a+b%0A"));
    assert_eq!((answer.status, answer.text()), (200, r#"{"name":"Jürgen","text":"a b\n"}"#));
    let answer = fetch(&Ask::post("/json", "application/json", br#"{"a":[1,2]}"#));
    assert_eq!((answer.status, answer.text()), (200, r#"{"got":{"a":[1,2]}}"#));
    let answer = fetch(&Ask::post("/json", "application/json", b"{"));
    assert_eq!(answer.status, 400);
    let answer = fetch(&Ask::post("/echo", "text/plain", b""));
    assert_eq!((answer.status, answer.text()), (200, ""));

    let file = noise(300_000);
    let mut body = b"--limit\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--limit\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"noise.bin\"\r\n\r\n"
        .to_vec();
    body.extend_from_slice(&file);
    body.extend_from_slice(b"\r\n--limit--\r\n");
    let answer = fetch(&Ask::post("/upload", "multipart/form-data; boundary=limit", &body));
    let parts: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let expected = serde_json::json!([
        { "name": "note", "file": null, "length": 5, "sum": fnv(b"hello") },
        { "name": "file", "file": "noise.bin", "length": 300_000, "sum": fnv(&file) },
    ]);
    assert_eq!(parts, expected);

    let long = noise(10 * 1024 * 1024);
    let answer = fetch(&Ask::post("/sum", "application/octet-stream", &long));
    assert_eq!(answer.text(), format!("{} {}\n", long.len(), fnv(&long)));
    let answer = fetch(&Ask::get("/download/10000001"));
    assert!(answer.body == download(10_000_001), "{} bytes were read", answer.body.len());

    let answer = fetch(&Ask::get("/panic"));
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("The application has failed."), "{answer:?}");
    let answer = fetch(&Ask::get("/"));
    assert_eq!(answer.status, 200);
}
