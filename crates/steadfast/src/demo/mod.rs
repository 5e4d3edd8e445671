//! The demo: a small site to look at and to break.
//!
//! `steadfast demo` (in `verbs`) makes a directory of its own (`home`) and runs a supervisor there. What runs in the pool is
//! `worker`: it shows a page (`page`) with buttons (`buttons`), carries them out (`acts`) if who asks may do so (`guard`), and
//! draws what the supervisor says (`look`) as a live view (`view`). `release` is what a deploy puts in place.

mod acts;
mod buttons;
mod guard;
pub(crate) mod home;
mod html;
mod look;
mod page;
mod release;
mod view;
pub(crate) mod worker;
