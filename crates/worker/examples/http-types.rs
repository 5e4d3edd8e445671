//! The plain loop, one request at a time, with a handler in the words of the crate `http`.

use std::io::Read;
use std::process::ExitCode;

use steadfast_worker::{Failure, RequestBody, ResponseBody, Variables, Worker};

fn main() -> ExitCode {
    Worker::builder().listen("127.0.0.1:9000").serve_http(answer)
}

fn answer(request: http::Request<RequestBody<'_>>) -> Result<http::Response<ResponseBody>, Failure> {
    let (parts, mut body) = request.into_parts();
    let answer = http::Response::builder().header("Content-Type", "text/plain; charset=utf-8");
    let body = match (parts.method.as_str(), parts.uri.path()) {
        ("POST", "/length") => {
            let length = std::io::copy(&mut body, &mut std::io::sink())?;
            format!("{length} bytes\n").into()
        }
        ("GET", "/cookies") => {
            let answer = answer.header("Set-Cookie", "a=1").header("Set-Cookie", "b=2");
            return Ok(answer.status(204).body(().into())?);
        }
        ("GET", "/stream") => ResponseBody::reader(std::io::repeat(b'x').take(1_000_000)),
        ("GET", "/variable") => {
            let variables = parts.extensions.get::<Variables>();
            variables.and_then(|variables| variables.text("SERVER_PROTOCOL")).unwrap_or_default().to_owned().into()
        }
        ("GET", "/failure") => return Err(Failure::request("on purpose")),
        _ => return Ok(answer.status(404).body(format!("There is no {}.\n", parts.uri.path()).into())?),
    };
    Ok(answer.body(body)?)
}
