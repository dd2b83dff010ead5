//! Reads which file of a crate uses which: the files are found along `mod`, their
//! uses in every path of the syntax that leads to another module. What is compiled
//! for tests alone does not count.

use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// The files of a crate and what they use of each other.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    /// The files, the crate's root first.
    pub(crate) files: Vec<PathBuf>,
    /// Every use of one file by another.
    pub(crate) uses: Vec<Use>,
}

/// A place in one file that uses another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The file that uses, as its index in [`Crate::files`].
    pub(crate) from: usize,
    /// The file that is used.
    pub(crate) to: usize,
    /// The line of the place, from 1.
    pub(crate) line: usize,
    /// The path as written, `mod` for the declaration of a child.
    pub(crate) path: String,
}

/// Reads a crate from the file of its root, such as `src/lib.rs`.
pub(crate) fn read(root: &Path) -> anyhow::Result<Crate> {
    let mut reader = Reader::default();
    let folder = root.parent().unwrap_or(root);
    reader.file(root, folder, None)?;
    Ok(Crate {
        uses: reader.uses(),
        files: reader.files,
    })
}

/// A module, in a file of its own or inside of another's.
#[derive(Default)]
struct Module {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, Child>,
    /// What is defined in it.
    items: BTreeSet<String>,
    /// What each imported name stands for.
    imports: BTreeMap<String, Vec<String>>,
    /// Where `*` imports from.
    globs: Vec<Vec<String>>,
    /// Every path in it that may lead to another module.
    paths: Vec<Mention>,
}

struct Child {
    module: usize,
    /// The line of its `mod`.
    line: usize,
}

/// A path and where it stands.
struct Mention {
    segments: Vec<String>,
    line: usize,
}

#[derive(Default)]
struct Reader {
    files: Vec<PathBuf>,
    modules: Vec<Module>,
}

impl Reader {
    /// Reads a file and its children, which are in the folder, and gives its module.
    fn file(&mut self, path: &Path, folder: &Path, parent: Option<usize>) -> anyhow::Result<usize> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let syntax = syn::parse_file(&text).with_context(|| format!("parse {}", path.display()))?;
        self.files.push(path.to_owned());
        let module = self.add(self.files.len() - 1, parent);
        self.items(module, &syntax.items, folder)?;
        Ok(module)
    }

    fn add(&mut self, file: usize, parent: Option<usize>) -> usize {
        self.modules.push(Module {
            file,
            parent,
            ..Module::default()
        });
        self.modules.len() - 1
    }

    fn items(&mut self, module: usize, items: &[syn::Item], folder: &Path) -> anyhow::Result<()> {
        for item in items.iter().filter(|item| !is_for_tests(item)) {
            match item {
                syn::Item::Mod(child) => self.child(module, child, folder)?,
                syn::Item::Use(import) => {
                    let line = import.span().start().line;
                    self.modules[module].import(&import.tree, &mut Vec::new(), line);
                }
                other => {
                    self.modules[module].items.extend(name(other));
                    self.modules[module].visit_item(other);
                }
            }
        }
        Ok(())
    }

    fn child(&mut self, module: usize, child: &syn::ItemMod, folder: &Path) -> anyhow::Result<()> {
        let name = child.ident.to_string();
        let inside = folder.join(&name);
        let index = if let Some((_, items)) = &child.content {
            let index = self.add(self.modules[module].file, Some(module));
            self.items(index, items, &inside)?;
            index
        } else {
            let beside = folder.join(format!("{name}.rs"));
            let path = if beside.exists() {
                beside
            } else {
                inside.join("mod.rs")
            };
            self.file(&path, &inside, Some(module))?
        };
        let line = child.span().start().line;
        let child = Child {
            module: index,
            line,
        };
        self.modules[module].children.insert(name, child);
        Ok(())
    }

    fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (index, module) in self.modules.iter().enumerate() {
            let from = module.file;
            for (name, child) in &module.children {
                let to = self.modules[child.module].file;
                let (line, path) = (child.line, format!("mod {name}"));
                uses.push(Use {
                    from,
                    to,
                    line,
                    path,
                });
            }
            for mention in &module.paths {
                if let Some(target) = self.resolve(index, &mention.segments, 0) {
                    let to = self.modules[target].file;
                    let (line, path) = (mention.line, mention.segments.join("::"));
                    uses.push(Use {
                        from,
                        to,
                        line,
                        path,
                    });
                }
            }
        }
        uses.retain(|each| each.from != each.to);
        uses
    }

    /// The module that has what a path names: where it is defined, not where it is
    /// exported anew. None for what is not of this crate.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        // Only names that are imported from each other in a circle get so far.
        const DEEPEST: usize = 32;
        let (first, rest) = path.split_first()?;
        if depth > DEEPEST {
            return None;
        }
        match first.as_str() {
            "crate" => self.find(0, rest, depth),
            "self" if rest.first().is_some_and(|next| next == "super") => {
                self.resolve(from, rest, depth + 1)
            }
            "self" => self.find(from, rest, depth),
            "super" => {
                let supers = path.iter().take_while(|name| *name == "super").count();
                let mut module = from;
                for _ in 0..supers {
                    module = self.modules[module].parent?;
                }
                self.find(module, &path[supers..], depth)
            }
            name => {
                let module = &self.modules[from];
                if module.children.contains_key(name) {
                    return self.find(from, path, depth);
                }
                let import = module.imports.get(name)?;
                // `use name::x` where `name` is another crate's.
                (import.first() != Some(first)).then_some(())?;
                self.resolve(from, &[import, rest].concat(), depth + 1)
            }
        }
    }

    /// Follows a path from inside of a module.
    fn find(&self, start: usize, path: &[String], depth: usize) -> Option<usize> {
        let mut module = start;
        for (index, name) in path.iter().enumerate() {
            let here = &self.modules[module];
            if let Some(child) = here.children.get(name) {
                module = child.module;
            } else if here.items.contains(name) {
                return Some(module);
            } else if let Some(import) = here.imports.get(name) {
                let path = [import, &path[index + 1..]].concat();
                return self.resolve(module, &path, depth + 1);
            } else {
                let globs = here.globs.iter();
                let exported = globs
                    .filter_map(|glob| self.resolve(module, glob, depth + 1))
                    .find(|target| *target != module && self.has(*target, name));
                return match exported {
                    Some(target) => self.find(target, &path[index..], depth + 1),
                    None => Some(module),
                };
            }
        }
        Some(module)
    }

    fn has(&self, module: usize, name: &str) -> bool {
        let module = &self.modules[module];
        module.items.contains(name)
            || module.children.contains_key(name)
            || module.imports.contains_key(name)
    }
}

impl Module {
    /// Takes in the names of a `use`, of which `path` stands before the tree.
    fn import(&mut self, tree: &syn::UseTree, path: &mut Vec<String>, line: usize) {
        let mut mention = |segments: Vec<String>| self.paths.push(Mention { segments, line });
        match tree {
            syn::UseTree::Path(next) => {
                path.push(next.ident.to_string());
                self.import(&next.tree, path, line);
                path.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, path, line);
                }
            }
            syn::UseTree::Glob(_) => {
                mention(path.clone());
                self.globs.push(path.clone());
            }
            syn::UseTree::Name(name) => {
                let name = name.ident.to_string();
                let mut full = path.clone();
                if name != "self" {
                    full.push(name);
                }
                mention(full.clone());
                self.imports
                    .extend(full.last().cloned().map(|name| (name, full)));
            }
            syn::UseTree::Rename(rename) => {
                let mut full = path.clone();
                let name = rename.ident.to_string();
                if name != "self" {
                    full.push(name);
                }
                mention(full.clone());
                self.imports.insert(rename.rename.to_string(), full);
            }
        }
    }

    /// Paths in the words of a macro, which has no syntax that could be known.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree;
        let mut segments: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Ident(word) if colons == 2 && !segments.is_empty() => {
                    segments.push(word.to_string());
                    colons = 0;
                }
                other => {
                    self.mention(std::mem::take(&mut segments), line);
                    colons = 0;
                    match other {
                        TokenTree::Ident(word) => {
                            line = word.span().start().line;
                            segments.push(word.to_string());
                        }
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.mention(segments, line);
    }

    /// Notes a path outside of `use`, which leads elsewhere by one of these words;
    /// by any other it goes through an import.
    fn mention(&mut self, segments: Vec<String>, line: usize) {
        if segments.len() > 1 && ["crate", "self", "super"].contains(&segments[0].as_str()) {
            self.paths.push(Mention { segments, line });
        }
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        self.import(&import.tree, &mut Vec::new(), import.span().start().line);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let segments = segments.map(|segment| segment.ident.to_string()).collect();
        self.mention(segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    /// `pub(crate)` names nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

/// The name that an item defines.
fn name(item: &syn::Item) -> Option<String> {
    let ident = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::TraitAlias(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Whether an item is there for tests alone.
fn is_for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Path>()
                    .is_ok_and(|path| path.is_ident("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The uses of a crate of these files, as `from:line path -> to`.
    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let read = read(&folder.path().join("lib.rs")).unwrap();
        let name = |file: usize| {
            let path = read.files[file].strip_prefix(folder.path()).unwrap();
            path.display().to_string()
        };
        let uses = read
            .uses
            .iter()
            .filter(|each| !each.path.starts_with("mod "));
        uses.map(|each| {
            let (from, to) = (name(each.from), name(each.to));
            format!("{from}:{} {} -> {to}", each.line, each.path)
        })
        .collect()
    }

    #[test]
    fn a_path_leads_to_where_the_thing_is_defined() {
        let lib = "mod a;\nmod b;\npub use b::Thing;\npub use serde::Serialize;\npub struct Own;";
        let a = "use crate::{Own, Serialize, Thing};\nuse crate::b::inner::{self, Deep as D};";
        let b = "pub mod inner;\npub struct Thing;";
        let files = [
            ("lib.rs", lib),
            ("a.rs", a),
            ("b/mod.rs", b),
            ("b/inner.rs", "pub struct Deep;"),
        ];
        assert_eq!(
            uses(&files),
            [
                "lib.rs:3 b::Thing -> b/mod.rs",
                "a.rs:1 crate::Own -> lib.rs",
                "a.rs:1 crate::Thing -> b/mod.rs",
                "a.rs:2 crate::b::inner -> b/inner.rs",
                "a.rs:2 crate::b::inner::Deep -> b/inner.rs",
            ]
        );
    }

    #[test]
    fn a_path_counts_wherever_it_stands() {
        let a = "mod inline {\n pub fn f() { self::super::super::own(); }\n}\nfn g() -> crate::Own {\n println!(\"{}\", crate::own());\n use crate::*;\n}";
        let files = [
            ("lib.rs", "mod a;\npub struct Own;\npub fn own() {}"),
            ("a.rs", a),
        ];
        let mut found = uses(&files);
        found.sort();
        assert_eq!(
            found,
            [
                "a.rs:2 self::super::super::own -> lib.rs",
                "a.rs:4 crate::Own -> lib.rs",
                "a.rs:5 crate::own -> lib.rs",
                "a.rs:6 crate -> lib.rs",
            ]
        );
    }

    #[test]
    fn names_exported_by_a_star_are_found_and_tests_do_not_count() {
        let a = "use crate::Thing;\n#[cfg(test)]\nmod tests { use crate::Own; }\n#[cfg(test)]\nuse crate::Own;";
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use b::*;\npub struct Own;"),
            ("a.rs", a),
            ("b.rs", "pub struct Thing;"),
        ];
        assert_eq!(
            uses(&files),
            ["lib.rs:3 b -> b.rs", "a.rs:1 crate::Thing -> b.rs"]
        );
    }
}
