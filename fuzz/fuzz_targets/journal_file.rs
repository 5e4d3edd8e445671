//! A journal file: any bytes, read in five ways. What is given is in the file once, and was asked for.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use steadfast_guard::journal::{Query, Test, read};

fuzz_target!(|data: &[u8]| {
    let mut file = File::from(memfd_create("journal", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all(data).expect("written");
    let paths = [PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))];
    for which in 0..5 {
        let mut query = Query { needs_cursor: which == 0, ..Query::default() };
        if matches!(which, 1 | 2) {
            query.alternatives = vec![
                vec![("_SYSTEMD_UNIT".to_owned(), b"a".to_vec())],
                vec![("N".to_owned(), b"1".to_vec()), ("MESSAGE".to_owned(), b"worker gone".to_vec())],
            ];
        }
        if matches!(which, 2 | 3) {
            let accepts = |value: &[u8]| value.contains(&b'o');
            query.tests = vec![Test { field: "MESSAGE".to_owned(), accepts: Box::new(accepts) }];
            query.fields = vec!["MESSAGE".to_owned()];
        }
        if which == 4 {
            (query.since, query.until) = (Some(1_000_001), Some(1_000_003));
        }
        let mut entries = 0;
        let summary = read(&paths, query, None, &mut |entry| {
            entries += 1;
            match which {
                1 => assert!(entry.field("_SYSTEMD_UNIT").is_some() || entry.field("N").is_some()),
                2 | 3 => assert!(entry.fields.iter().any(|(_, value)| value.contains(&b'o'))),
                4 => assert!((1_000_001..=1_000_003).contains(&entry.realtime)),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        // An entry takes 64 bytes, and is given once.
        assert!(entries <= data.len() / 64, "{entries}");
        assert!(summary.troubles.len() <= 1);
    }
});
