//! A whole site on axum: the same program over FastCGI, over HTTP, and as a CGI program.
//!
//! `cargo run --example axum-site --features tower` listens on <http://127.0.0.1:3000>; `LISTEN=127.0.0.1:9000` makes that
//! FastCGI, and `steadfast run --listen 127.0.0.1:9000 -- axum-site` needs no word at all.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Form, Json, Multipart, Path, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use steadfast_worker::{AfterPanic, Leaving, Variables, Worker};
use tokio::sync::{Notify, broadcast};

fn main() -> ExitCode {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut builder = Worker::builder().listen_http("127.0.0.1:3000").max_requests(number("SITE_MAX_REQUESTS"));
    if let Ok(concurrency @ 1..) = u32::try_from(number("SITE_CONCURRENCY")) {
        builder = builder.concurrency(concurrency);
    }
    if let Ok(threads @ 1..) = usize::try_from(number("SITE_THREADS")) {
        builder = builder.threads(threads);
    }
    if std::env::var_os("SITE_LEAVE_AFTER_PANIC").is_some() {
        builder = builder.after_panic(AfterPanic::Leave);
    }
    // Where a metrics library would be flushed.
    let goodbye = || drop(std::io::Write::write_all(&mut std::io::stderr(), b"goodbye\n"));
    builder.on_term(goodbye).serve_tower(site())
}

/// What all requests share.
struct Shared {
    told: broadcast::Sender<String>,
    rooms: Mutex<BTreeMap<String, Arc<Notify>>>,
    /// Requests that wait.
    waiting: AtomicUsize,
    /// Those of them whose client has gone.
    dropped: AtomicUsize,
    changed: Notify,
}

fn site() -> Router {
    let shared = Shared {
        told: broadcast::channel(16).0,
        rooms: Mutex::default(),
        waiting: AtomicUsize::new(0),
        dropped: AtomicUsize::new(0),
        changed: Notify::new(),
    };
    Router::new()
        .route("/", get(async || Html("<h1>A site on axum</h1>")))
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("Hello, {name}.\n")))
        .route("/search", get(async |Query(query): Query<BTreeMap<String, String>>| Json(query)))
        .route("/form", post(async |Form(form): Form<BTreeMap<String, String>>| Json(form)))
        .route("/upload", post(upload))
        .route("/json", post(async |Json(value): Json<Value>| Json(json!({ "got": value }))))
        .route("/sum", post(sum))
        .route("/echo", post(async |request: Request| request.into_body()))
        .route("/cookies", get(cookies))
        .route("/old", get(async || Redirect::permanent("/hello/you")))
        .route("/download/{bytes}", get(download))
        .route("/broken", get(broken))
        .route("/panic", get(panics))
        .route("/variables", get(variables))
        .route("/events", get(events))
        .route("/tell/{text}", post(tell))
        .route("/wait/{room}", get(wait).post(wait))
        .route("/late/{room}", post(late))
        .route("/release/{room}", post(release))
        .route("/waiting/{count}", get(waiting))
        .route("/dropped/{count}", get(dropped))
        .fallback(async |uri: Uri| (StatusCode::NOT_FOUND, format!("There is no {}.\n", uri.path())))
        .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
        .with_state(Arc::new(shared))
}

/// Files and fields of `multipart/form-data`: their names, lengths and sums.
async fn upload(mut parts: Multipart) -> Result<Json<Value>, Response> {
    let mut found = Vec::new();
    while let Some(mut part) = parts.next_field().await.map_err(IntoResponse::into_response)? {
        let (mut length, mut sum) = (0, Sum::default());
        while let Some(bytes) = part.chunk().await.map_err(IntoResponse::into_response)? {
            length += bytes.len();
            sum.add(&bytes);
        }
        found.push(json!({ "name": part.name(), "file": part.file_name(), "length": length, "sum": sum.text() }));
    }
    Ok(Json(found.into()))
}

/// FNV-1a: a checksum that fits on three lines.
struct Sum(u64);

impl Default for Sum {
    fn default() -> Sum {
        Sum(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// A body of any length, which is never kept whole.
async fn sum(request: Request) -> Result<String, (StatusCode, String)> {
    let (mut length, mut sum) = (0, Sum::default());
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
        length += piece.len();
        sum.add(&piece);
    }
    Ok(format!("{length} {}\n", sum.text()))
}

async fn cookies(headers: HeaderMap) -> impl IntoResponse {
    let sent = headers.get(COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    (AppendHeaders([(SET_COOKIE, "first=1; Path=/"), (SET_COOKIE, "second=2; Path=/")]), sent)
}

/// Made while it is sent.
async fn download(Path(bytes): Path<usize>) -> impl IntoResponse {
    let pieces = stream::unfold(bytes, |left| async move {
        let piece: Bytes = (0..left.min(10_000)).map(|at| (left.wrapping_sub(at) % 251) as u8).collect();
        (left > 0).then(|| (Ok::<_, Infallible>(piece.clone()), left - piece.len()))
    });
    ([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces))
}

/// An answer that fails after its beginning.
async fn broken() -> Body {
    let begun = stream::iter([Ok(Bytes::from("The beginning."))]);
    Body::from_stream(begun.chain(stream::once(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err("the database has gone")
    })))
}

async fn panics() -> &'static str {
    panic!("on purpose")
}

/// What the web server says; nothing over HTTP.
async fn variables(variables: Option<Extension<Variables>>) -> Json<BTreeMap<String, String>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Json(
        variables
            .iter()
            .flat_map(|variables| variables.iter().map(|(name, value)| (text(name), text(value))))
            .collect(),
    )
}

/// Server-sent events: what is told while somebody listens. They end when the worker is asked to leave.
async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(mut leaving): Extension<Leaving>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let told = stream::unfold(shared.told.subscribe(), |mut told| async move {
        let text = told.recv().await.ok()?;
        Some((Ok(Event::default().data(text)), told))
    });
    let told = told.take_until(Box::pin(async move { leaving.asked().await }));
    Sse::new(told).keep_alive(KeepAlive::default())
}

async fn tell(State(shared): State<Arc<Shared>>, Path(text): Path<String>) -> String {
    format!("{}\n", shared.told.send(text).unwrap_or(0))
}

/// Counts a request that waits, as long as it is there.
struct Waiting {
    shared: Arc<Shared>,
    is_released: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
        if !self.is_released {
            self.shared.dropped.fetch_add(1, Ordering::AcqRel);
        }
        self.shared.changed.notify_waiters();
    }
}

impl Shared {
    fn room(&self, name: String) -> Arc<Notify> {
        Arc::clone(self.rooms.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(name).or_default())
    }

    async fn until(&self, holds: impl Fn(&Shared) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
}

/// Answers when somebody releases the room. Its body is kept, and not read. Whoever waits in the hall is told to the log.
async fn wait(State(shared): State<Arc<Shared>>, Path(room): Path<String>, _request: Request) -> &'static str {
    if room == "hall" {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"somebody waits in the hall\n"));
    }
    let room = shared.room(room);
    let released = room.notified();
    shared.waiting.fetch_add(1, Ordering::AcqRel);
    let mut waiting = Waiting { shared: Arc::clone(&shared), is_released: false };
    shared.changed.notify_waiters();
    released.await;
    waiting.is_released = true;
    "released\n"
}

/// Takes the body only when it is released.
async fn late(
    shared: State<Arc<Shared>>,
    room: Path<String>,
    request: Request,
) -> Result<String, (StatusCode, String)> {
    wait(shared, room, Request::default()).await;
    sum(request).await
}

async fn release(State(shared): State<Arc<Shared>>, Path(room): Path<String>) {
    shared.room(room).notify_waiters();
}

/// Answers when so many requests wait.
async fn waiting(State(shared): State<Arc<Shared>>, Path(count): Path<usize>) -> String {
    shared.until(|shared| shared.waiting.load(Ordering::Acquire) == count).await;
    format!("{count} are waiting\n")
}

/// Answers when so many of them were dropped.
async fn dropped(State(shared): State<Arc<Shared>>, Path(count): Path<usize>) -> String {
    shared.until(|shared| shared.dropped.load(Ordering::Acquire) == count).await;
    format!("{count} were dropped\n")
}
