//! Rules about the text of a `Cargo.toml`: a reason beside each dependency, the workspace's lints switched on.

use toml::{Table, Value};

use crate::tree::Source;

/// A manifest, parsed.
///
/// # Errors
/// When it is not TOML.
pub fn parse(source: &Source) -> Result<Table, String> {
    source.text.parse().map_err(|error| format!("{}: {error}", source.path.display()))
}

/// Every dependency that names a version has a comment on its line. Ours (by path) and those that take the
/// workspace's version need none: the reason stands once.
#[must_use]
pub fn reasons(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default();
            in_dependencies = section.ends_with("dependencies");
            // `[dependencies.name]` spreads one dependency over lines, where no comment is beside it.
            if section.contains("dependencies.") {
                found.push(format!(
                    "{}:{}: write the dependency on one line, with its reason beside it",
                    source.path.display(),
                    number + 1
                ));
            }
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if !in_dependencies || line.starts_with('#') || inherits(line) || value.contains("path =") {
            continue;
        }
        if !has_reason(value) {
            found.push(format!(
                "{}:{}: no reason beside the dependency {}",
                source.path.display(),
                number + 1,
                name.trim()
            ));
        }
    }
    found
}

/// A crate takes the workspace's lints.
#[must_use]
pub fn lints(source: &Source, manifest: &Table) -> Vec<String> {
    let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
    if inherited == Some(true) {
        return Vec::new();
    }
    vec![format!("{}: must say [lints] workspace = true", source.path.display())]
}

fn inherits(line: &str) -> bool {
    let text: String = line.split_whitespace().collect();
    text.contains(".workspace=true") || text.contains("workspace=true,") || text.contains("workspace=true}")
}

/// Whether a comment with words stands behind the value; a `#` inside quotes is none.
fn has_reason(value: &str) -> bool {
    let mut quoted = false;
    for (at, character) in value.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' if !quoted => return value[at + 1..].split_whitespace().count() > 0,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "Cargo.toml".into(), text: text.into() }
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let good = "[dependencies]\na = \"1\" # reads a\nb.workspace = true\nc = { workspace = true, features = [\"x\"] }\n[workspace.dependencies]\nd = { path = \"crates/d\" }\n[features]\ne = []\n";
        assert!(reasons(&source(good)).is_empty(), "{:?}", reasons(&source(good)));
        for bad in [
            "[dependencies]\na = \"1\"\n",
            "[dev-dependencies]\na = \"1#x\"\n",
            "[workspace.dependencies]\na = { version = \"1\" } #\n",
            "[target.'cfg(unix)'.dependencies]\na = \"1\"\n",
            "[dependencies.a]\nversion = \"1\"\n",
        ] {
            assert_eq!(reasons(&source(bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let good = source("[lints]\nworkspace = true\n");
        assert!(lints(&good, &parse(&good).expect("TOML")).is_empty());
        let bad = source("[lints]\nworkspace = false\n");
        assert_eq!(lints(&bad, &parse(&bad).expect("TOML")).len(), 1);
    }
}
