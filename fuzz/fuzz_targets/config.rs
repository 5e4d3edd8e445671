//! The configuration: any bytes are a configuration or a report that can be drawn.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use steadfast_config::load::{Context, load};
use steadfast_fuzz::memory;

fuzz_target!(|data: &[u8]| {
    let directory = memory::directory().clone();
    fs::write(directory.join("steadfast.toml"), data).expect("a directory of our own");
    if let Err(report) = load(Path::new("steadfast.toml"), &Context { directory }) {
        assert!(!report.is_empty());
        let plain = report.render(false);
        assert!(plain.starts_with("error: ") || plain.starts_with("warning: "));
        assert!(!report.render(true).is_empty());
    }
});
