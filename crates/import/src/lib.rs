//! Other process managers' files to pools: text in, a draft out, which [`mod@write`] turns into a configuration.
//!
//! A room for each kind: [`spawn_fcgi`] (with [`multiwatch`] behind it), [`supervisor`], [`php_fpm`], [`mod@unit`]. What they read
//! becomes a [`draft::Draft`]; what a pool cannot say stands there as a note, so that nothing is lost in silence. Only [`files`]
//! is asked for more than what was given.

pub mod draft;
pub mod files;
pub mod multiwatch;
pub mod name;
pub mod php_fpm;
pub mod spawn_fcgi;
pub mod supervisor;
pub mod unit;
pub mod write;

mod address;
mod boot;
mod command;
mod ini;
mod script;
mod settle;
mod unit_text;
mod words;
