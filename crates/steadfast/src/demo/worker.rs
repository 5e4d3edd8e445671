//! A worker of the demo's site: loads the release that it runs in, and answers its pages.

use std::cell::OnceCell;
use std::env;
use std::io::Write;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use steadfast_worker::{Failure as Broken, Request, Response, Worker};

use crate::demo::acts::{self, Leak};
use crate::demo::buttons::{self, Button, Method};
use crate::demo::guard::Origin;
use crate::demo::home::{CONFIGURATION, CONTROL, VARIABLE};
use crate::demo::look::{self, Seen};
use crate::demo::page::{self, Nonce};
use crate::demo::release::{Kind, Release};
use crate::demo::view::{self, Drawn};

/// So long a worker of a dying release lives: it has passed its check by then.
const DYING: Duration = Duration::from_millis(1500);

/// What is loaded once, in the zygote.
struct Site {
    home: PathBuf,
    release: Release,
    configuration: String,
}

/// Serves until the supervisor says otherwise. Started by hand it says that it cannot.
pub(crate) fn run() -> ExitCode {
    // A panic of the site is no defect of steadfast, and the worker library tells it with its request.
    panic::set_hook(Box::new(|_| {}));
    let loaded = OnceCell::new();
    let mut leak = Leak::default();
    Worker::builder()
        .preload("load the release", || {
            let _ = loaded.set(load()?);
            Ok(())
        })
        .start("live as long as the release does", || {
            if loaded.get().is_some_and(|site| site.release.kind == Kind::Dying) {
                thread::spawn(|| {
                    thread::sleep(DYING);
                    acts::crash("this release does not live long");
                });
            }
            Ok(())
        })
        .serve(|request, response| match loaded.get() {
            Some(site) => site.answer(request, response, &mut leak),
            None => Err(Broken::request("the release was not loaded")),
        })
}

fn load() -> Result<Site, Broken> {
    let home = env::var_os(VARIABLE).map(PathBuf::from);
    let home = home.ok_or_else(|| Broken::request("it is started by `steadfast demo`, not by hand"))?;
    let release = Release::here()?;
    let configuration = std::fs::read_to_string(home.join(CONFIGURATION))?;
    Ok(Site { home, release, configuration })
}

impl Site {
    fn answer(&self, request: &mut Request<'_>, response: &mut Response<'_>, leak: &mut Leak) -> Result<(), Broken> {
        response.header("Cache-Control", "no-store")?.header("X-Worker", std::process::id().to_string())?;
        response.header("X-Content-Type-Options", "nosniff")?.header("Cross-Origin-Resource-Policy", "same-origin")?;
        let origin = Origin::of(request);
        if let Err(why) = origin.may_look() {
            return plain(response, 403, why);
        }
        match request.path() {
            "/health" => self.health(response),
            "/" => self.page(request, response),
            "/live" => self.live(response),
            "/live.json" => self.document(response),
            path => match buttons::find(path) {
                Some(button) => self.press(button, &origin, request, response, leak),
                None => plain(response, 404, &format!("There is no page {path} here. The demo's page is /")),
            },
        }
    }

    fn health(&self, response: &mut Response<'_>) -> Result<(), Broken> {
        match self.release.kind {
            Kind::Good | Kind::Dying => plain(response, 200, "ok"),
            Kind::Hollow => {
                response.warn(format!("release {} is hollow: its pages are missing", self.release.number));
                response.status(500)?.header("Content-Type", "text/plain; charset=utf-8")?;
                Ok(write!(response, "the pages of this release are missing")?)
            }
        }
    }

    fn drawn(&self) -> Drawn {
        let seen = look::look(&self.home.join(CONTROL)).map_err(|failure| failure.message);
        Drawn { seen, release: self.release, pid: std::process::id(), now: jiff::Timestamp::now() }
    }

    fn page(&self, request: &Request<'_>, response: &mut Response<'_>) -> Result<(), Broken> {
        let nonce = Nonce::new();
        response.header("Content-Type", "text/html; charset=utf-8")?;
        response.header("Content-Security-Policy", nonce.policy())?;
        // Not no-referrer: with that, browsers hide even from the page itself where its own POST comes from.
        response.header("Referrer-Policy", "same-origin")?;
        let done = request.query().strip_prefix("done=").and_then(buttons::find);
        let text = page::draw(&self.drawn(), done, &self.configuration, &self.home, &nonce);
        Ok(response.write_all(text.as_bytes())?)
    }

    fn live(&self, response: &mut Response<'_>) -> Result<(), Broken> {
        response.header("Content-Type", "text/html; charset=utf-8")?;
        response.header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")?;
        Ok(response.write_all(view::draw(&self.drawn()).as_bytes())?)
    }

    fn document(&self, response: &mut Response<'_>) -> Result<(), Broken> {
        #[derive(serde::Serialize)]
        struct Document<'a> {
            release: u32,
            kind: &'static str,
            worker: u32,
            #[serde(flatten)]
            seen: &'a Seen,
        }
        let drawn = self.drawn();
        let seen = match &drawn.seen {
            Ok(seen) => seen,
            Err(why) => return plain(response, 503, why),
        };
        let Release { number, kind } = self.release;
        let document = Document { release: number, kind: kind.word(), worker: drawn.pid, seen };
        response.header("Content-Type", "application/json")?;
        Ok(response.write_all(&serde_json::to_vec(&document)?)?)
    }

    fn press(
        &self,
        button: &Button,
        origin: &Origin<'_>,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
        leak: &mut Leak,
    ) -> Result<(), Broken> {
        if let Err(why) = origin.may_act() {
            return plain(response, 403, why);
        }
        let allowed: &[&str] = match (button.act.is_order(), button.method) {
            (true, _) => &["POST"],
            // By hand (curl) both: what a GET and a POST differ in is worth a look.
            (false, Method::Get | Method::Post) => &["GET", "POST"],
        };
        if !allowed.contains(&request.method()) {
            response.header("Allow", allowed.join(", "))?;
            return plain(response, 405, &format!("{} is asked for by {}.", button.path, allowed.join(" or ")));
        }
        let done = acts::carry_out(button.act, &self.home, leak);
        // The page's own script shows the answer itself; without it a person is sent back to the page.
        let is_script = request.param("HTTP_X_DEMO").is_some();
        match done {
            Ok(_) if button.act.is_order() && !is_script => {
                response.redirect(303, &format!("/?done={}", button.path))?;
                Ok(())
            }
            Ok(text) => plain(response, 200, &text),
            Err(failure) => plain(response, 503, &failure.message),
        }
    }
}

fn plain(response: &mut Response<'_>, status: u16, text: &str) -> Result<(), Broken> {
    response.status(status)?.header("Content-Type", "text/plain; charset=utf-8")?;
    Ok(writeln!(response, "{text}")?)
}
