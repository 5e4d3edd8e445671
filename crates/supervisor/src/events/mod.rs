//! What the supervisor tells: typed events, kept in a ring, coalesced, and written where people look.

pub mod coalesce;
pub mod event;
pub mod human;
pub mod journald;
pub mod json;
pub mod kind;
pub mod log;
pub mod logfmt;
pub mod ring;
pub mod sink;
