//! Counts the entries of journal files whose MESSAGE has a text, or prints them: what the reader itself costs.
//!
//! `count [--unit UNIT] [--since µs] [--until µs] [--print] [--alone] TEXT PATH…`; without `--alone` `journalctl` helps out.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufWriter, Write, stdout};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use steadfast_guard::journal::{Query, Test, read};

fn main() -> ExitCode {
    let mut query = Query { fields: vec!["MESSAGE".to_owned()], ..Query::default() };
    let mut is_printing = false;
    let mut journalctl = Some(Path::new("journalctl"));
    let mut rest = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--unit" => query.alternatives.push(vec![("_SYSTEMD_UNIT".to_owned(), value().into_bytes())]),
            "--since" => query.since = value().parse().ok(),
            "--until" => query.until = value().parse().ok(),
            "--print" => is_printing = true,
            "--alone" => journalctl = None,
            _ => rest.push(argument),
        }
    }
    let Some((text, paths)) = rest.split_first().filter(|(_, paths)| !paths.is_empty()) else {
        eprintln!("usage: count [--unit UNIT] [--since US] [--until US] [--print] [--alone] TEXT PATH...");
        return ExitCode::from(2);
    };
    let text = text.clone().into_bytes();
    if !text.is_empty() {
        let accepts = Box::new(move |value: &[u8]| value.windows(text.len()).any(|part| part == text));
        query.tests.push(Test { field: "MESSAGE".to_owned(), accepts });
    }
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let mut output = BufWriter::new(stdout().lock());
    let summary = read(&paths, query, journalctl, &mut |entry| {
        if is_printing {
            let message = String::from_utf8_lossy(entry.field("MESSAGE").unwrap_or_default());
            if writeln!(output, "{}\t{message}", entry.realtime).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    for trouble in &summary.troubles {
        eprintln!("{trouble}");
    }
    if !is_printing {
        println!("{}", summary.entries);
    }
    ExitCode::SUCCESS
}
