//! Any bytes at all give a configuration or a report, never a panic.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use steadfast_config::command_line::{CommandLine, from_command};
use steadfast_config::load::{Context, Loaded, load};
use steadfast_config::report::Report;

const FULL: &str = include_str!("full.toml");
const INTERFACE: &str = include_str!("interface.toml");

fn load_bytes(bytes: &[u8]) -> Result<Loaded, Report> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("steadfast.toml"), bytes).expect("a directory of our own");
    load(Path::new("steadfast.toml"), &Context { directory: directory.path().to_owned() })
}

/// Loads, draws with and without colour, and looks that a refusal says something.
fn survives(bytes: &[u8]) {
    if let Err(report) = load_bytes(bytes) {
        assert!(!report.is_empty());
        assert!(report.render(false).starts_with("error: ") || report.render(false).starts_with("warning: "));
        assert!(!report.render(true).is_empty());
        for problem in report.problems() {
            assert!(!problem.message.is_empty());
            assert_eq!(problem.line.is_some(), problem.column.is_some());
        }
    }
}

fn valid() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(FULL), Just(INTERFACE)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        survives(&bytes);
    }

    #[test]
    fn arbitrary_text_of_toml_signs(text in "[\\[\\]{}=.,\"'#\\\\\r\n\tab01 \\-_é\u{0}\u{feff}]{0,200}") {
        survives(text.as_bytes());
    }

    #[test]
    fn a_good_file_cut_anywhere(text in valid(), at in 0.0..1.0f64) {
        let end = (text.len() as f64 * at) as usize;
        survives(&text.as_bytes()[..end]);
    }

    #[test]
    fn a_good_file_with_bytes_changed(text in valid(), changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        survives(&bytes);
    }

    #[test]
    fn a_good_file_with_signs_inserted(text in valid(), changes in proptest::collection::vec((any::<usize>(), "[\\[\\]{}=.,\"'#\\\\\r\n\té0-]{1,3}"), 1..5)) {
        let mut text = text.to_owned();
        for (at, signs) in changes {
            let at = text.floor_char_boundary(at % text.len());
            text.insert_str(at, &signs);
        }
        survives(text.as_bytes());
    }

    #[test]
    fn a_good_file_with_values_exchanged(text in valid(), changes in proptest::collection::vec((any::<usize>(), value()), 1..6)) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, value) in changes {
            let at = at % lines.len();
            if let Some((key, _)) = lines[at].split_once('=') {
                lines[at] = format!("{key}= {value}");
            }
        }
        survives(lines.join("\n").as_bytes());
    }

    #[test]
    fn arbitrary_arguments(
        command in proptest::collection::vec(any::<String>(), 0..3),
        listen in proptest::collection::vec(any::<String>(), 0..3),
        words in proptest::collection::vec(proptest::option::of(any::<String>()), 6),
    ) {
        let mut words = words.into_iter();
        let mut next = || words.next().flatten();
        let command_line = CommandLine {
            command, listen, workers: next(), mode: next(), user: next(), name: next(), launch: next(), verify: next(),
            ..CommandLine::default()
        };
        if let Err(report) = from_command(&command_line, &Context { directory: "/".into() }) {
            prop_assert!(!report.render(true).is_empty());
        }
    }
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i128>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<String>().prop_map(|text| format!("{text:?}")),
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(|list| format!("{list:?}")),
        "\"[0-9]{1,25}(ms|s|m|h|MiB|GiB)?\"",
        "\"(unix|fd|systemd|http|http:/|https)?:?[0-9a-z@/.:\\[\\]]{0,12}\"",
        "\"(GET|get|HEAD) ?/?[a-z0-9 %#é?]{0,12}\"",
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("{ a = { b = [ { c = 1 } ] } }".to_owned()),
        Just("[[[[]]]]".to_owned()),
        Just("\"\\u0000\"".to_owned()),
    ]
}

/// As deep as the parser lets it be: the tree must not be too deep to be dropped on a thread's 2 MiB of stack.
#[test]
fn nesting_of_every_kind_ends() {
    const MIB: usize = 1 << 20;
    let nested = |parts: usize| {
        let key = vec!["a"; parts].join(".");
        format!("[{key}]\n{key} = {}1{}", format!("{{{key} = ").repeat(78), "}".repeat(78))
    };
    for text in [
        format!("a = {}", "[".repeat(10 * MIB)),
        format!("a = {}", "[".repeat(MIB - 10)),
        format!("a = {}", "{a=".repeat(MIB / 3 - 10)),
        "[".repeat(MIB),
        "[a.".repeat(MIB / 3),
        format!("{} = 1", vec!["a"; MIB / 2 - 10].join(".")),
        format!("[{}]", vec!["a"; MIB / 2 - 10].join(".")),
        "[[a]]\n".repeat(MIB / 6),
        nested(79),
        nested(8),
    ] {
        survives(text.as_bytes());
    }
}

#[test]
fn a_file_full_of_errors_is_told_in_bounded_space_and_time() {
    const MIB: usize = 1 << 20;
    for sign in ["=\n", "= ", "\"", "'", "\\", "\0", "\u{feff}", "a\n", "é = 1\n", "\t", "\r", "[x]\n", "x = 1\n"] {
        let report = load_bytes(sign.repeat(MIB / sign.len()).as_bytes()).unwrap_err();
        assert!(report.problems().len() <= 100, "{sign:?}");
        assert!(report.render(false).len() < MIB, "{sign:?}");
    }
    let pools: String = (0..10_000).map(|index| format!("[pool.a{index}]\nx=1\n")).collect();
    let report = load_bytes(pools.as_bytes()).unwrap_err();
    assert_eq!(report.problems().len(), 100);
    assert!(report.render(false).contains("… and 29900 more"));
    let addresses: Vec<String> = (0..10_000).map(|index| format!("\"fd:{index}\"")).collect();
    survives(format!("[pool.a]\nmode = \"direct\"\ncommand = [\"x\"]\nlisten = [{}]", addresses.join(",")).as_bytes());
}
