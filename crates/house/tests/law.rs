//! The law of the house, held over this workspace.

use std::path::{Path, PathBuf};

use steadfast_house::tree::{self, Source};
use steadfast_house::{circles, dependencies, manifest, policy, source};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is two directories up")
}

#[track_caller]
fn holds(found: &[String]) {
    assert!(found.is_empty(), "the law is broken {} times:\n{}", found.len(), found.join("\n"));
}

fn rust_files(start: &Path) -> Vec<Source> {
    let files = tree::files(&root(), start, &|name| name.ends_with(".rs")).expect("the sources are there");
    assert!(!files.is_empty(), "no sources under {}", start.display());
    files
}

/// Whether a whole file is tests: a program of `tests/`, or a module under `cfg(test)`, which is named for it.
fn is_test(file: &Source) -> bool {
    let stem = file.path.file_stem().unwrap_or_default().to_string_lossy();
    stem == "tests" || stem.ends_with("_tests") || file.path.components().any(|part| part.as_os_str() == "tests")
}

fn manifests() -> Vec<Source> {
    tree::files(&root(), &root(), &|name| name == "Cargo.toml").expect("the manifests are there")
}

fn crates() -> Vec<PathBuf> {
    let crates = tree::crates(&root()).expect("the crates are there");
    assert!(crates.len() > 5, "{crates:?}");
    crates
}

fn crate_name(path: &Path) -> String {
    let name = path.file_name().expect("a crate has a name");
    name.to_string_lossy().into_owned()
}

#[test]
fn crates_depend_only_on_whom_they_may() {
    let mut found = Vec::new();
    for path in crates() {
        let source =
            Source { text: tree::read(&path.join("Cargo.toml")).expect("a manifest"), path: path.join("Cargo.toml") };
        match manifest::parse(&source) {
            Ok(table) => {
                found.extend(dependencies::check(&crate_name(&path), &table));
                found.extend(manifest::lints(&source, &table));
            }
            Err(error) => found.push(error),
        }
    }
    holds(&found);
}

#[test]
fn each_dependency_has_its_reason_beside_it() {
    let found: Vec<String> = manifests().iter().flat_map(manifest::reasons).collect();
    holds(&found);
}

#[test]
fn no_file_imports_in_a_circle() {
    let mut found = Vec::new();
    for path in crates() {
        let mut roots = vec![path.join("src/lib.rs"), path.join("src/main.rs")];
        let bin = path.join("src/bin");
        if bin.is_dir() {
            let files = tree::files(&root(), &bin, &|name| name.ends_with(".rs")).expect("the sources are there");
            // A program is a file in src/bin, or the main.rs of a directory there.
            let programs = files
                .into_iter()
                .map(|file| root().join(file.path))
                .filter(|file| file.parent() == Some(&bin) || file.ends_with("main.rs"));
            roots.extend(programs);
        }
        for file in roots.iter().filter(|file| file.is_file()) {
            found.extend(circles::circles(&root(), file));
        }
    }
    holds(&found);
}

#[test]
fn the_policy_is_pure() {
    let src = root().join("crates/policy/src");
    let files = rust_files(&src);
    let lib = files.iter().find(|file| file.path.ends_with("src/lib.rs")).expect("the policy has a root");
    let mut found = policy::root(lib);
    found.extend(files.iter().filter(|file| !is_test(file)).flat_map(policy::file));
    holds(&found);
}

#[test]
fn unsafe_code_stands_in_sys_files_only() {
    let found: Vec<String> = rust_files(&root().join("crates")).iter().flat_map(source::unsafe_code).collect();
    holds(&found);
}

#[test]
fn files_are_short() {
    let found: Vec<String> =
        rust_files(&root().join("crates")).iter().filter(|file| !is_test(file)).flat_map(source::length).collect();
    holds(&found);
}

#[test]
fn files_say_what_they_are() {
    let found: Vec<String> = rust_files(&root().join("crates")).iter().flat_map(source::first_line).collect();
    holds(&found);
}

#[test]
fn nothing_says_that_it_is_not_done() {
    let endings = [".rs", ".toml", ".md", ".c", ".h", ".pl", ".pm", ".php", ".py", ".sh", ".conf", "run", "test"];
    let wanted = |name: &str| endings.iter().any(|ending| name.ends_with(ending));
    let files = tree::files(&root(), &root(), &wanted).expect("the files are there");
    let found: Vec<String> = files.iter().flat_map(source::undone).collect();
    holds(&found);
}
