//! The module tree of one crate root: which file is which module, without the modules of tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, Item, Lit, Meta};

use crate::tokens;
use crate::tree;

/// A module's path from the crate root: empty for the root itself.
pub type ModulePath = Vec<String>;

/// One file of the tree.
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// The module that it is.
    pub module: ModulePath,
    /// Its syntax tree.
    pub syntax: syn::File,
}

/// All files that one root reaches by `mod`.
#[derive(Default)]
pub struct Modules {
    /// The files; the root is the first.
    pub files: Vec<File>,
    /// Every module, inline ones too, with the index of the file that holds it.
    pub homes: BTreeMap<ModulePath, usize>,
}

/// Reads the tree that begins at `root` (a `lib.rs`, `main.rs` or a file of `src/bin`).
///
/// # Errors
/// When a file cannot be read or is not Rust, or a declared module has no file.
pub fn read(root: &Path) -> Result<Modules, String> {
    let mut modules = Modules::default();
    let directory = root.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut waiting = vec![(root.to_path_buf(), ModulePath::new(), directory)];
    while let Some((path, module, children_at)) = waiting.pop() {
        let text = tree::read(&path)?;
        let syntax = syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let home = modules.files.len();
        modules.homes.insert(module.clone(), home);
        let mut inner = Vec::new();
        declared(&syntax.items, &module, &children_at, &mut inner);
        for declaration in inner {
            match declaration {
                Declaration::Inline(module) => {
                    modules.homes.insert(module, home);
                }
                Declaration::File { module, candidates } => {
                    let Some(found) = candidates.iter().find(|path| path.is_file()) else {
                        return Err(format!("{}: module {} has no file", path.display(), module.join("::")));
                    };
                    waiting.push((found.clone(), module, children_directory(found)));
                }
            }
        }
        modules.files.push(File { path, module, syntax });
    }
    Ok(modules)
}

/// Whether an item exists in test builds only.
#[must_use]
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else {
            return false;
        };
        list.path.is_ident("cfg") && tokens::means_test(&list.tokens)
    })
}

enum Declaration {
    Inline(ModulePath),
    File { module: ModulePath, candidates: Vec<PathBuf> },
}

fn declared(items: &[Item], parent: &ModulePath, directory: &Path, out: &mut Vec<Declaration>) {
    for item in items {
        let Item::Mod(item) = item else { continue };
        if is_test(&item.attrs) {
            continue;
        }
        let name = item.ident.to_string();
        let mut module = parent.clone();
        module.push(name.clone());
        match (&item.content, explicit_path(&item.attrs)) {
            (Some((_, items)), _) => {
                declared(items, &module, &directory.join(&name), out);
                out.push(Declaration::Inline(module));
            }
            (None, Some(path)) => out.push(Declaration::File { module, candidates: vec![directory.join(path)] }),
            (None, None) => out.push(Declaration::File {
                module,
                candidates: vec![directory.join(format!("{name}.rs")), directory.join(&name).join("mod.rs")],
            }),
        }
    }
}

/// `#[path = "…"]`.
fn explicit_path(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        let Expr::Lit(literal) = &pair.value else {
            return None;
        };
        match &literal.lit {
            Lit::Str(text) if pair.path.is_ident("path") => Some(text.value()),
            _ => None,
        }
    })
}

/// Where the files of a file's own modules are: `a/mod.rs` has them in `a`, `a.rs` too.
fn children_directory(file: &Path) -> PathBuf {
    let directory = file.parent().unwrap_or(Path::new(""));
    match file.file_stem() {
        Some(stem) if stem != "mod" => directory.join(stem),
        _ => directory.to_path_buf(),
    }
}
