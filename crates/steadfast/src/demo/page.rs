//! The demo's page: what one sees, the buttons, and beside them the live view.

use std::fmt::Write;
use std::path::Path;

use crate::demo::buttons::{Button, GROUPS};
use crate::demo::home::CONTROL;
use crate::demo::html::escape;
use crate::demo::view::{self, Drawn};

/// What marks our own script and style in one answer, so that no other can run.
#[derive(Debug)]
pub(crate) struct Nonce(String);

impl Nonce {
    pub(crate) fn new() -> Nonce {
        let mut bytes = [0_u8; 16];
        // Without random numbers there is no nonce, and then nothing runs.
        let flags = rustix::rand::GetRandomFlags::empty();
        let filled = rustix::rand::getrandom(&mut bytes, flags).unwrap_or_default();
        let mut text = String::new();
        for byte in bytes.iter().take(filled) {
            let _infallible = write!(text, "{byte:02x}");
        }
        Nonce(text)
    }

    /// The page's Content-Security-Policy: nothing but what is in it, and nobody puts it into a frame.
    pub(crate) fn policy(&self) -> String {
        let nonce = &self.0;
        format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
             connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
    }
}

/// The whole document. `done`: the button that was pressed before, without a script.
pub(crate) fn draw(drawn: &Drawn, done: Option<&Button>, configuration: &str, home: &Path, nonce: &Nonce) -> String {
    let done = done.map_or(String::new(), |button| {
        format!("<p class=\"done\">Done: {}. Look at the view.</p>", escape(button.label))
    });
    let control = escape(&home.join(CONTROL).to_string_lossy());
    let (css, script, live) = (include_str!("page.css"), include_str!("page.js"), view::draw(drawn));
    let (nonce, configuration, buttons) = (&nonce.0, escape(configuration), buttons(nonce));
    format!(
        include_str!("page.html"),
        nonce = nonce,
        css = css,
        script = script,
        done = done,
        buttons = buttons,
        live = live,
        control = control,
        configuration = configuration,
    )
}

fn buttons(nonce: &Nonce) -> String {
    let mut text = String::new();
    for group in &GROUPS {
        let _infallible = write!(text, "<h2>{}</h2>\n<ul class=\"acts\">\n", escape(group.title));
        for button in group.buttons {
            // A nonce is new each time, which is just what is wanted of the URL.
            let query = if button.is_fresh { format!("?{}", &nonce.0) } else { String::new() };
            let fresh = if button.is_fresh { " data-fresh" } else { "" };
            let look = match button.look {
                "" => String::new(),
                look => format!(" <span class=\"look\">Look: {}.</span>", escape(look)),
            };
            let _infallible = writeln!(
                text,
                "<li><form method=\"{method}\" action=\"{path}{query}\"{fresh}><button>{label}</button></form><p>{what}{look}</p></li>",
                method = button.method.word(),
                path = escape(button.path),
                label = escape(button.label),
                what = escape(button.what),
            );
        }
        text.push_str("</ul>\n");
    }
    text
}
