//! The effective configuration is read to the same, and says where each value came from.

use std::fs;
use std::path::{Path, PathBuf};

use steadfast_config::effective::{Value, text, values};
use steadfast_config::load::{Context, load};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

#[test]
fn it_is_read_to_the_same() {
    let examples = here().join("../../../examples");
    let files = ["c", "perl", "php", "perl-site", "hello"].map(|name| examples.join(name).join("steadfast.toml"));
    for file in files.into_iter().chain([here().join("full.toml"), examples.join("systemd/guard.toml")]) {
        let context = Context { directory: here() };
        let mut loaded = load(&file, &context).expect("good");
        let text = text(&values(&loaded));
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("again.toml"), &text).expect("written");
        let again = load(&directory.path().join("again.toml"), &context);
        let again = again.unwrap_or_else(|report| panic!("{}\n{}\n{text}", file.display(), report.render(false)));
        loaded.config.source.clone_from(&again.config.source);
        assert_eq!(loaded.config, again.config, "{}\n{text}", file.display());
    }
}

#[test]
fn each_value_has_its_origin() {
    let directory = tempfile::tempdir().expect("a directory");
    let site = "include = [\"pool.d/*.toml\"]\n[pool.a]\ncommand = [\"a\"]\nlisten = [\"unix:a\"]\nworkers = 3\n\
                [pool.a.breaker]\nwithin = \"2m\"\n";
    fs::write(directory.path().join("site.toml"), site).expect("written");
    fs::create_dir(directory.path().join("pool.d")).expect("made");
    fs::write(directory.path().join("pool.d/b.toml"), "command = [\"b\"]\nlisten = [\"unix:b\"]\nworkers.max = 9\n")
        .expect("written");
    let context = Context { directory: directory.path().to_owned() };
    let values = values(&load(Path::new("site.toml"), &context).expect("good"));
    let of = |table: &str, key: &str| -> &Value {
        values.iter().find(|value| value.table == table && value.key == key).unwrap_or_else(|| panic!("{table} {key}"))
    };
    assert_eq!(of("pool.a", "command").origin, "site.toml:3");
    assert_eq!(of("pool.a", "breaker.within").origin, "site.toml:7");
    assert_eq!(of("pool.a", "breaker.within").value.as_deref(), Some("\"120s\""));
    assert_eq!(of("pool.a", "workers.min").origin, "site.toml:5", "one number is both bounds");
    assert_eq!(of("pool.a", "workers.step").origin, "default");
    assert_eq!(of("pool.a", "user").value, None);
    assert!(of("pool.b", "workers.max").origin.ends_with("pool.d/b.toml:3"), "{:?}", of("pool.b", "workers.max"));
    assert_eq!(of("pool.b", "workers.min").origin, "default");
}
