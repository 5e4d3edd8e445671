//! Who may depend on whom: one row for each crate, design.md's section 4 as a table.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// What crates from outside a crate may use.
#[derive(Debug, Clone, Copy)]
pub enum External {
    /// These and no other. A new one needs a word here, so that somebody thinks about it.
    Only(&'static [&'static str]),
    /// Any: the crate is a leaf that nobody builds on.
    Any,
}

/// One crate's row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The directory under `crates/`.
    pub name: &'static str,
    /// Crates of this house that it may use.
    pub ours: &'static [&'static str],
    /// Crates from outside that it may use.
    pub external: External,
}

/// The law. Rows of crates that do not exist yet stand here too: they are decided.
pub const TABLE: [Row; 12] = [
    Row { name: "policy", ours: &[], external: External::Only(&[]) },
    Row { name: "simulator", ours: &["policy"], external: External::Only(&[]) },
    Row { name: "proto", ours: &[], external: External::Only(&["serde", "serde_json"]) },
    Row {
        name: "config",
        ours: &[],
        external: External::Only(&["serde", "toml", "annotate-snippets", "strsim", "toml_parser"]),
    },
    // Never the front: a request never enters the supervisor.
    Row {
        name: "supervisor",
        ours: &["policy", "proto", "config"],
        external: External::Only(&["jiff", "libc", "rustix", "serde", "serde_json", "sd-notify"]),
    },
    // Never the policy nor the supervisor: it speaks with them in messages.
    Row {
        name: "front",
        ours: &["proto"],
        external: External::Only(&[
            "tokio",
            "hyper",
            "hyper-util",
            "http",
            "http-body-util",
            "httparse",
            "bytes",
            "memchr",
            "slotmap",
            "rustix",
            "libc",
            "serde",
            "serde_json",
        ]),
    },
    // Applications link it: as little as possible comes with it.
    Row {
        name: "worker",
        ours: &["proto"],
        external: External::Only(&[
            "rustix",
            "libc",
            "serde",
            "serde_json",
            // Behind the features `http` and `tower`.
            "tower-service",
            "http",
            "http-body",
            "hyper",
            "hyper-util",
            "bytes",
            "tokio",
        ]),
    },
    Row {
        name: "guard",
        ours: &["policy"],
        // `lz4_flex` and `ruzstd` are for the big values in journal files.
        external: External::Only(&["regex", "jiff", "rustix", "libc", "serde", "serde_json", "lz4_flex", "ruzstd"]),
    },
    // Text in, text out.
    Row { name: "import", ours: &[], external: External::Only(&[]) },
    Row {
        name: "steadfast",
        ours: &["policy", "proto", "config", "supervisor", "front", "worker", "guard", "import"],
        external: External::Any,
    },
    // For tests only: nobody may depend on it but as they do.
    Row { name: "harness", ours: &["proto"], external: External::Only(&["rustix", "serde_json", "tempfile"]) },
    Row { name: "house", ours: &[], external: External::Only(&["proc-macro2", "syn", "toml"]) },
];

/// Checks one crate's normal and build dependencies against its row. `name` is its directory under `crates/`.
#[must_use]
pub fn check(name: &str, manifest: &Table) -> Vec<String> {
    let Some(row) = TABLE.iter().find(|row| row.name == name) else {
        return vec![format!(
            "crates/{name}: has no row in the law: add one to TABLE in crates/house/src/dependencies.rs"
        )];
    };
    let mut found = Vec::new();
    let package = package_name(manifest);
    let expected = if name == "steadfast" { "steadfast".to_owned() } else { format!("steadfast-{name}") };
    if package != Some(expected.as_str()) {
        found.push(format!("crates/{name}: its package must be named {expected}"));
    }
    for (dependency, value) in normal(manifest) {
        let allowed = match ours(&dependency) {
            Some(ours) => row.ours.contains(&ours),
            None => match row.external {
                External::Only(names) => names.contains(&dependency.as_str()),
                External::Any => true,
            },
        };
        if !allowed {
            found.push(format!("crates/{name}: must not depend on {dependency} (the law: {})", describe(row)));
        }
        if name != "simulator" && asks_for(&value, "mutants") {
            found.push(format!("crates/{name}: asks for {dependency}'s feature mutants, which is for tests"));
        }
    }
    found.extend(features(name, manifest));
    found
}

fn features(name: &str, manifest: &Table) -> Vec<String> {
    let declared: BTreeSet<&str> = match manifest.get("features").and_then(Value::as_table) {
        Some(table) => table.keys().map(String::as_str).collect(),
        None => BTreeSet::new(),
    };
    declared
        .into_iter()
        .filter(|feature| name == "policy" && *feature != "mutants")
        .map(|feature| format!("crates/{name}: must not have the feature {feature}"))
        .collect()
}

fn package_name(manifest: &Table) -> Option<&str> {
    manifest.get("package")?.get("name")?.as_str()
}

/// `steadfast-policy` is our `policy`.
fn ours(dependency: &str) -> Option<&str> {
    if dependency == "steadfast" {
        return Some(dependency);
    }
    dependency.strip_prefix("steadfast-")
}

/// Normal and build dependencies, those of single targets too, by package name.
fn normal(manifest: &Table) -> Vec<(String, Value)> {
    let mut tables: Vec<&Table> = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        tables.extend(targets.values().filter_map(Value::as_table));
    }
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "build-dependencies"] {
            let Some(dependencies) = table.get(kind).and_then(Value::as_table) else {
                continue;
            };
            for (name, value) in dependencies {
                let package = value.get("package").and_then(Value::as_str).unwrap_or(name);
                found.push((package.to_owned(), value.clone()));
            }
        }
    }
    found
}

fn asks_for(value: &Value, feature: &str) -> bool {
    value
        .get("features")
        .and_then(Value::as_array)
        .is_some_and(|features| features.iter().any(|name| name.as_str() == Some(feature)))
}

fn describe(row: &Row) -> String {
    let mut names: Vec<String> = row.ours.iter().map(|name| format!("steadfast-{name}")).collect();
    match row.external {
        External::Only(external) => names.extend(external.iter().map(|name| (*name).to_owned())),
        External::Any => names.push("any from outside".to_owned()),
    }
    if names.is_empty() {
        return "nothing at all".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(name: &str, text: &str) -> Vec<String> {
        let package = if name == "steadfast" { name.to_owned() } else { format!("steadfast-{name}") };
        let manifest = format!("[package]\nname = \"{package}\"\n{text}");
        check(name, &manifest.parse().expect("TOML"))
    }

    #[test]
    fn what_the_law_allows_passes() {
        for (name, text) in [
            ("policy", "[features]\nmutants = []\n[dev-dependencies]\nproptest = \"1\""),
            ("simulator", "[dependencies]\nsteadfast-policy = { workspace = true, features = [\"mutants\"] }"),
            ("supervisor", "[dependencies]\nsteadfast-config.workspace = true\nrustix.workspace = true"),
            ("steadfast", "[dependencies]\nsteadfast-front.workspace = true\nratatui = \"1\""),
        ] {
            assert!(check_text(name, text).is_empty(), "{:?}", check_text(name, text));
        }
    }

    #[test]
    fn what_the_law_forbids_is_found() {
        for (name, text) in [
            ("policy", "[dependencies]\nserde = \"1\""),
            ("policy", "[build-dependencies]\ncc = \"1\""),
            ("policy", "[target.'cfg(unix)'.dependencies]\nlibc = \"1\""),
            ("policy", "[features]\nstd = []"),
            ("simulator", "[dependencies]\nrand = \"1\""),
            ("proto", "[dependencies]\nsteadfast-policy.workspace = true"),
            ("config", "[dependencies]\nsteadfast-proto.workspace = true"),
            ("supervisor", "[dependencies]\nsteadfast-front.workspace = true"),
            ("supervisor", "[dependencies]\nother = { package = \"hyper\", version = \"1\" }"),
            ("supervisor", "[dependencies]\nsteadfast-policy = { workspace = true, features = [\"mutants\"] }"),
            ("front", "[dependencies]\nsteadfast-policy.workspace = true"),
            ("front", "[dependencies]\nsteadfast-supervisor.workspace = true"),
            ("worker", "[dependencies]\nsteadfast-config.workspace = true"),
            ("guard", "[dependencies]\nsteadfast-supervisor.workspace = true"),
        ] {
            assert_eq!(check_text(name, text).len(), 1, "{name}: {text}");
        }
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert!(check_text("gossip", "")[0].contains("no row"));
    }

    #[test]
    fn a_package_under_another_name_is_found() {
        let manifest = "[package]\nname = \"policy\"".parse().expect("TOML");
        assert_eq!(check("policy", &manifest).len(), 1);
    }
}
