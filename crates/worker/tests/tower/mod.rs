//! What the tests of the example site share: its process, a client that writes FastCGI by hand, and one of HTTP.

#![allow(dead_code, unreachable_pub)] // each test file uses its own part

pub mod fcgi;
pub mod http;
pub mod routes;
pub mod site;
