//! The harness for tests with real processes: programs to supervise, the supervisor, clients, a web server, /proc.
//!
//! Everything waits for an event with a deadline, and every deadline fails the test. What a test starts is ended by
//! its own pid when the test ends.

pub mod apps;
pub mod asleep;
pub mod behaviours;
pub mod booted;
pub mod cgi;
pub mod conditions;
pub mod crowd;
pub mod daemon;
pub mod fcgi;
pub mod flood;
pub mod http;
pub mod loopback;
pub mod nginx;
pub mod proc;
pub mod releases;
pub mod scene;
pub mod siege;
pub mod standalone;
pub mod web;
pub mod within;
pub mod zygotes;
