//! What `bench/worker` measures, on tokio-fastcgi as its documentation has it: one thread, a task for each connection.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio_fastcgi::{RequestResult, Requests};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let large = Arc::new(vec![b'x'; 10 << 20]);
    let listener = net::UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let large = large.clone();
        tokio::spawn(async move {
            let (input, output) = stream.split();
            let mut requests = Requests::new(tokio::io::BufReader::new(input), output, 10, 10);
            while let Ok(Some(request)) = requests.next().await {
                let large = large.clone();
                let served = request.process(|request| async move {
                    let path = request.get_str_param("request_uri").unwrap_or("/").to_owned();
                    let text;
                    let body = match path.as_str() {
                        "/64k" => &large[..64 << 10],
                        "/10m" => &large[..],
                        "/upload" => {
                            text = format!("{}\n", length(&mut *request.get_stdin()));
                            text.as_bytes()
                        }
                        _ => b"Hello from steadfast, one and all\n",
                    };
                    let head = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
                    let mut stdout = request.get_stdout();
                    let written = async { stdout.write(head.as_bytes()).await?; stdout.write(body).await }.await;
                    RequestResult::Complete(u32::from(written.is_err()))
                });
                if served.await.is_err() {
                    return;
                }
            }
        });
    }
}

fn length(from: &mut impl Read) -> usize {
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0;
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        length += got;
    }
    length
}
