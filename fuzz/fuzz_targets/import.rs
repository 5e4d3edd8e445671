//! Other managers' files: whatever they say, what is made of them is a configuration, and says the same.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use steadfast_config::load::{Context, load};
use steadfast_fuzz::{import, memory};
use steadfast_import::write;

fuzz_target!(|data: &[u8]| {
    let draft = import::draft(data, str::to_owned);
    if draft.pools.is_empty() {
        return;
    }
    let text = write::text(&draft, &["head".into()]);
    let directory = memory::directory().clone();
    fs::write(directory.join("steadfast.toml"), &text).expect("a directory of our own");
    let loaded = match load(Path::new("steadfast.toml"), &Context { directory }) {
        Ok(loaded) => loaded,
        Err(report) => {
            // Whose address it is, only people know: check tells them.
            let report = report.render(false);
            let is_other = |line: &&str| line.starts_with("error: ") && !line.contains(" is listened on by ");
            assert_eq!(report.lines().find(is_other), None, "{report}\n{text}");
            return;
        }
    };
    assert_eq!(loaded.config.pools.len(), draft.pools.len(), "{text}");
    for pool in &draft.pools {
        let read = loaded.config.pools.get(&pool.name).expect("it was written");
        assert_eq!(read.command, pool.command, "{text}");
        assert_eq!((&read.user, &read.group), (&pool.user, &pool.group), "{text}");
        assert!(read.environment.iter().eq(&pool.environment), "{text}");
    }
});
