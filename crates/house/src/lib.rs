//! The law of the house: rules about the code itself that a compiler does not hold.
//!
//! Every rule reads files and gives back findings, one line each, with the file and the line. `tests/law.rs` runs
//! all of them on this workspace. A rule that stands in the way is changed here, in its table, with a reason.

pub mod circles;
pub mod dependencies;
pub mod manifest;
pub mod modules;
pub mod policy;
pub mod source;
pub mod tokens;
pub mod tree;
