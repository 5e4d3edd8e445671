//! What `bench/worker` measures: a greeting, larger answers, and a body that is read to its end.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use steadfast_worker::Worker;

const GREETING: &[u8] = b"Hello from steadfast, one and all\n";

fn main() -> ExitCode {
    let large = vec![b'x'; 10 << 20];
    let mut buffer = vec![0; 64 << 10];
    Worker::serve(|request, response| {
        let body = match request.path() {
            "/64k" => large.get(..64 << 10).unwrap_or_default(),
            "/10m" => &large,
            "/upload" => {
                let text = format!("{}\n", length(request, &mut buffer)?);
                response.header("Content-Type", "text/plain")?;
                response.header("Content-Length", text.len().to_string())?;
                response.write_all(text.as_bytes())?;
                return Ok(());
            }
            _ => GREETING,
        };
        response.header("Content-Type", "text/plain")?;
        response.header("Content-Length", body.len().to_string())?;
        response.write_all(body)?;
        Ok(())
    })
}

fn length(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        match from.read(buffer)? {
            0 => return Ok(length),
            got => length += got,
        }
    }
}
