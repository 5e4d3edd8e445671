//! Other managers' files, repeated to the longest that is read: what takes more than its share of time or memory by that is over
//! the fuzzer's limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_fuzz::import;
use steadfast_import::files::TEXT_MAX;
use steadfast_import::write;

fuzz_target!(|data: &[u8]| {
    let draft = import::draft(data, |text| text.repeat(TEXT_MAX / text.len().max(1)));
    let _text = write::text(&draft, &[]);
});
