//! Panics of the application: caught at each step, with their message and place.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

thread_local! {
    /// The last panic of this thread, as the hook has seen it.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From here on the place of a panic is remembered; what was done before at a panic is still done.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            LAST.with(|last| *last.borrow_mut() = Some(describe(info)));
            before(info);
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("a panic without a message");
    match info.location() {
        Some(place) => format!("panicked at {}:{}: {what}", place.file(), place.line()),
        None => format!("panicked: {what}"),
    }
}

/// One that began in another thread, and was passed on by `resume_unwind`: no hook sees that.
fn passed_on(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "panicked".to_owned(), |text| format!("panicked: {text}"))
}

/// Runs a step of the application; a panic comes out as its message and place.
pub(crate) fn catch<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    // One that the application has caught by itself says nothing about this step.
    LAST.with(|last| last.borrow_mut().take());
    // What the application left half done is its own to judge: it has chosen to go on after a panic, or not to.
    panic::catch_unwind(AssertUnwindSafe(step))
        .map_err(|payload| LAST.with(|last| last.borrow_mut().take()).unwrap_or_else(|| passed_on(payload.as_ref())))
}
