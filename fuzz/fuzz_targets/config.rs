//! The configuration: any bytes are a configuration or a report that can be drawn.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use steadfast_config::load::{Context, load};

/// In memory, one for each process.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let directory = base.join(format!("steadfast-fuzz-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory of our own");
        directory
    })
}

fuzz_target!(|data: &[u8]| {
    let directory = directory().clone();
    fs::write(directory.join("steadfast.toml"), data).expect("a directory of our own");
    if let Err(report) = load(Path::new("steadfast.toml"), &Context { directory }) {
        assert!(!report.is_empty());
        let plain = report.render(false);
        assert!(plain.starts_with("error: ") || plain.starts_with("warning: "));
        assert!(!report.render(true).is_empty());
    }
});
