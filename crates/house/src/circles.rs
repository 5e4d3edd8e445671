//! No import circles: which file names which, and every circle in that graph.
//!
//! A file imports another when it names something in it, by `use`, by a path in the code or in a macro's arguments.
//! `mod x;` is no import: it says where a file is, not that it is needed. What stands under `cfg(test)` is not seen.
//! A path counts for the file where it ends, not for those that it passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ImplItem, Item, ItemMod, ItemUse, Macro, TraitItem, UseTree, VisRestricted};

use crate::modules::{self, ModulePath, Modules};

/// Who imports whom, by index into [`Modules::files`], with the line where it is first said.
type Graph = BTreeMap<usize, BTreeMap<usize, usize>>;

/// Every circle among the files that `root` reaches, one finding each, with paths relative to `base`.
#[must_use]
pub fn circles(base: &Path, root: &Path) -> Vec<String> {
    let modules = match modules::read(root) {
        Ok(modules) => modules,
        Err(error) => return vec![error],
    };
    let graph = graph(&modules);
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for start in graph.keys() {
        let Some(circle) = shortest_circle(&graph, *start) else {
            continue;
        };
        // The same circle is found from each of its files.
        if told.insert(circle.iter().copied().collect::<BTreeSet<usize>>()) {
            found.push(describe(base, &modules, &graph, &circle));
        }
    }
    found
}

fn describe(base: &Path, modules: &Modules, graph: &Graph, circle: &[usize]) -> String {
    let name = |file: usize| {
        let path = &modules.files[file].path;
        path.strip_prefix(base).unwrap_or(path).display().to_string()
    };
    let mut text = String::from("import circle: ");
    for (at, file) in circle.iter().enumerate() {
        let next = circle[(at + 1) % circle.len()];
        text.push_str(&format!("{}:{} → ", name(*file), graph[file][&next]));
    }
    text.push_str(&name(circle[0]));
    text
}

/// The shortest way from `start` back to itself.
fn shortest_circle(graph: &Graph, start: usize) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(file) = waiting.pop_front() {
        for next in graph.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if *next == start {
                let mut circle = vec![file];
                let mut at = file;
                while at != start {
                    at = came_from[&at];
                    circle.push(at);
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(*next, file);
                waiting.push_back(*next);
            }
        }
    }
    None
}

fn graph(modules: &Modules) -> Graph {
    let mut graph = Graph::new();
    for (index, file) in modules.files.iter().enumerate() {
        let mut reader = Reader {
            modules,
            file: index,
            module: file.module.clone(),
            aliases: BTreeMap::new(),
            imports: BTreeMap::new(),
        };
        // Twice: a path may be written above the `use` that explains its first word.
        reader.visit_file(&file.syntax);
        reader.visit_file(&file.syntax);
        graph.insert(index, reader.imports);
    }
    graph
}

/// Reads one file's imports.
struct Reader<'a> {
    modules: &'a Modules,
    file: usize,
    /// The module whose items are being read; inline modules make it longer than the file's own.
    module: ModulePath,
    /// Names that a `use` of a whole module gave.
    aliases: BTreeMap<String, ModulePath>,
    imports: BTreeMap<usize, usize>,
}

impl Reader<'_> {
    /// Notes what a path names, and gives the module back when the path is exactly one.
    fn name(&mut self, segments: &[(String, usize)]) -> Option<ModulePath> {
        let (first, line) = segments.first()?;
        let mut rest = &segments[1..];
        let mut at = match first.as_str() {
            "crate" => ModulePath::new(),
            "self" => self.module.clone(),
            "super" => self.parent(&self.module.clone())?,
            name => {
                let mut child = self.module.clone();
                child.push(name.to_owned());
                if self.modules.homes.contains_key(&child) { child } else { self.aliases.get(name)?.clone() }
            }
        };
        while let Some((_, after)) = rest.split_first().filter(|(next, _)| next.0 == "super") {
            at = self.parent(&at)?;
            rest = after;
        }
        while let Some(((name, _), after)) = rest.split_first() {
            let mut child = at.clone();
            child.push(name.clone());
            if !self.modules.homes.contains_key(&child) {
                break;
            }
            at = child;
            rest = after;
        }
        let home = *self.modules.homes.get(&at)?;
        if home != self.file {
            self.imports.entry(home).or_insert(*line);
        }
        rest.is_empty().then_some(at)
    }

    fn parent(&self, module: &ModulePath) -> Option<ModulePath> {
        let (_, parent) = module.split_last()?;
        Some(parent.to_vec())
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &mut Vec<(String, usize)>) {
        let word = |ident: &syn::Ident| (ident.to_string(), ident.span().start().line);
        match tree {
            UseTree::Path(path) => {
                prefix.push(word(&path.ident));
                self.use_tree(&path.tree, prefix);
                prefix.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix);
                }
            }
            UseTree::Glob(_) => {
                self.name(prefix);
            }
            UseTree::Name(name) => self.use_name(word(&name.ident), None, prefix),
            UseTree::Rename(name) => {
                self.use_name(word(&name.ident), Some(name.rename.to_string()), prefix);
            }
        }
    }

    fn use_name(&mut self, last: (String, usize), rename: Option<String>, prefix: &[(String, usize)]) {
        let mut path = prefix.to_vec();
        // `use a::{self}` is `use a`.
        if last.0 != "self" || path.is_empty() {
            path.push(last);
        }
        let alias = rename.or_else(|| path.last().map(|(name, _)| name.clone()));
        if let (Some(module), Some(alias)) = (self.name(&path), alias) {
            self.aliases.insert(alias, module);
        }
    }

    /// Paths in a macro's arguments, which have no syntax tree.
    fn read_tokens(&mut self, stream: &TokenStream) {
        let trees: Vec<TokenTree> = stream.clone().into_iter().collect();
        let mut at = 0;
        while at < trees.len() {
            match &trees[at] {
                TokenTree::Group(group) => self.read_tokens(&group.stream()),
                TokenTree::Ident(_) => {
                    let path = path_at(&trees[at..]);
                    if path.len() > 1 {
                        self.name(&path);
                    }
                    // Each further segment took `::` and a name.
                    at += (path.len() - 1) * 3;
                }
                _ => {}
            }
            at += 1;
        }
    }
}

/// The path `a::b::c` at the start of some tokens, which begin with an identifier.
fn path_at(trees: &[TokenTree]) -> Vec<(String, usize)> {
    let mut path = Vec::new();
    let mut at = 0;
    while let Some(TokenTree::Ident(ident)) = trees.get(at) {
        path.push((ident.to_string(), ident.span().start().line));
        let colons = matches!(
            (trees.get(at + 1), trees.get(at + 2)),
            (Some(TokenTree::Punct(a)), Some(TokenTree::Punct(b))) if a.as_char() == ':' && b.as_char() == ':'
        );
        if !colons {
            break;
        }
        at += 3;
    }
    path
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !modules::is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let test = matches!(item, ImplItem::Fn(function) if modules::is_test(&function.attrs));
        if !test {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let test = matches!(item, TraitItem::Fn(function) if modules::is_test(&function.attrs));
        if !test {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
    }

    /// `pub(crate)` and `pub(super)` say who may see, not what is used.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<(String, usize)> = path
            .segments
            .iter()
            .map(|segment| {
                let ident = &segment.ident;
                (ident.to_string(), ident.span().start().line)
            })
            .collect();
        if segments.len() > 1 && path.leading_colon.is_none() {
            self.name(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast Macro) {
        self.read_tokens(&mac.tokens);
        visit::visit_macro(self, mac);
    }
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
