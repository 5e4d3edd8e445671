//! The plain loop with a handler on the types of the crate `http`, as a process.

mod tower;

use tower::fcgi::Client;
use tower::routes::Ask;
use tower::site::{Site, noise};

#[test]
fn requests_and_answers_are_translated() {
    let site = Site::start_program("http-types", &[]);
    let mut client = Client::connect(&site.path);
    let body = noise(1_000_000);
    client.begin(1, &Ask::post("/length", "text/plain", &body));
    assert_eq!(client.answer(1).text(), "1000000 bytes\n");
    let answer = client.ask(1, "/cookies");
    assert_eq!((answer.status, answer.header("set-cookie"), answer.text()), (204, vec!["a=1", "b=2"], ""));
    assert_eq!(answer.header("content-length"), Vec::<&str>::new());
    let answer = client.ask(1, "/stream");
    assert!(answer.body == [b'x'; 1_000_000], "{} bytes", answer.body.len());
    let answer = client.ask(1, "/variable");
    assert_eq!((answer.text(), answer.header("content-length")), ("HTTP/1.1", vec!["8"]));
    client.begin(1, &Ask { method: "HEAD", ..Ask::get("/nowhere") });
    let answer = client.answer(1);
    assert_eq!((answer.status, answer.header("content-length"), answer.text()), (404, vec!["22"], ""));
    assert_eq!(client.ask(1, "/failure").status, 500);
    site.line("GET /failure: on purpose");
    client.begin(1, &Ask { headers: vec![("a", "b\nc")], ..Ask::get("/") });
    // What was said to the web server's log stands before.
    let (kind, _, content) = client.record().expect("a record");
    assert_eq!((kind, content), (7, b"bad request: the value of a cannot be one\n".to_vec()));
    assert_eq!(client.answer(1).status, 400);
}
