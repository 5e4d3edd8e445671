//! The search for import circles, on small crates that have them and on some that only look so.

use std::fs;
use std::path::Path;

use steadfast_house::circles::circles;

/// Writes the files of a crate and gives the circles found in it.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    circles(directory.path(), &directory.path().join("lib.rs"))
}

#[test]
fn two_files_that_use_each_other_are_a_circle() {
    let circles = found(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
        ("b.rs", "//! B.\n\nuse super::a::{A};\npub struct B(A);\n"),
    ]);
    assert_eq!(circles, ["import circle: b.rs:3 → a.rs:1 → b.rs"]);
}

#[test]
fn a_circle_of_three_through_every_kind_of_path() {
    let circles = found(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("a.rs", "fn f() { crate::b::g() }\n"),
        ("b/mod.rs", "fn g() { println!(\"{}\", crate::c::h()) }\n"),
        ("c.rs", "use crate::a as other;\nfn h() { other::f() }\n"),
    ]);
    assert_eq!(circles.len(), 1, "{circles:?}");
    for file in ["a.rs", "b/mod.rs", "c.rs"] {
        assert!(circles[0].contains(file), "{circles:?}");
    }
}

#[test]
fn a_child_that_uses_its_parent_is_a_circle_when_the_parent_uses_it() {
    let parent = "mod child;\npub struct P;\nfn f() { child::g() }\n";
    let child = "use super::P;\npub fn g() -> P { P }\n";
    let circles = found(&[("lib.rs", parent), ("child.rs", child)]);
    assert_eq!(circles.len(), 1, "{circles:?}");
    let declared_only = found(&[("lib.rs", "mod child;\npub struct P;\n"), ("child.rs", child)]);
    assert!(declared_only.is_empty(), "{declared_only:?}");
}

#[test]
fn a_module_used_by_its_short_name_leads_to_the_file_at_the_end() {
    let circles = found(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a.rs", "use crate::b;\nfn f() { b::deep::g() }\n"),
        ("b/mod.rs", "pub mod deep;\n"),
        ("b/deep.rs", "use crate::a::f;\npub fn g() { f() }\n"),
    ]);
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert!(circles[0].contains("b/deep.rs"), "{circles:?}");
}

#[test]
fn a_reexport_at_the_root_used_from_below_is_a_circle() {
    let circles = found(&[
        ("lib.rs", "mod a;\nmod b;\npub use a::A;\n"),
        ("a.rs", "use crate::b::g;\npub struct A;\nfn f() { g() }\n"),
        ("b.rs", "use crate::A;\npub fn g() -> A { todo() }\n"),
    ]);
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert!(circles[0].contains("lib.rs"), "{circles:?}");
}

#[test]
fn what_is_no_circle_is_not_one() {
    let circles = found(&[
        ("lib.rs", "mod a;\nmod b;\nmod inner { pub(crate) struct I; }\n"),
        // Tests, visibilities, paths through a file, comments and strings are no imports of it.
        (
            "a.rs",
            "#[cfg(test)]\nmod tests { use crate::b::B; }\n#[cfg(test)]\nuse crate::b::B;\npub(in crate::b) struct A;\n// crate::b::B\nconst T: &str = \"crate::b::B\";\nfn f() { std::mem::drop(1) }\n",
        ),
        ("b/mod.rs", "pub mod c;\nuse crate::a::A;\n"),
        ("b/c.rs", "use crate::a::A;\nfn f() { loop {} }\n"),
    ]);
    assert!(circles.is_empty(), "{circles:?}");
}

#[test]
fn a_test_file_is_not_read() {
    let circles = found(&[("lib.rs", "#[cfg(test)]\nmod tests;\n")]);
    assert!(circles.is_empty(), "{circles:?}");
}

#[test]
fn a_module_without_a_file_is_told() {
    let circles = found(&[("lib.rs", "mod a;\n")]);
    assert!(circles[0].contains("module a has no file"), "{circles:?}");
}
