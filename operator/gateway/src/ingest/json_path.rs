//! Where the values of columns stand in a JSON object: `$.user.id`, as a tree
//! that is walked along with the object.

use std::collections::HashMap;

/// Objects with more wanted keys than this are looked up by hash.
const FEW: usize = 12;

/// The wanted keys of an object.
#[derive(Debug, Default)]
pub(crate) struct PathTree {
    children: Vec<(Box<[u8]>, Node)>,
    by_key: HashMap<Box<[u8]>, usize>,
}

/// What is wanted of the value of a key.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The value itself, for these columns.
    pub(crate) columns: Vec<usize>,
    /// Values inside of it.
    pub(crate) inside: PathTree,
}

/// The paths of all columns.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// Columns that take the whole object.
    pub(crate) whole: Vec<usize>,
    pub(crate) tree: PathTree,
}

/// A path that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path such as `$.user.id`, `$.['odd key']` or `$.tags[:]`")]
pub(crate) struct PathError(String);

impl Paths {
    /// Takes the path of each column, in order.
    pub(crate) fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<Self, PathError> {
        let mut all = Self::default();
        for (column, path) in paths.into_iter().enumerate() {
            let mut keys = parse(path)
                .ok_or_else(|| PathError(path.to_owned()))?
                .into_iter();
            let Some(first) = keys.next() else {
                all.whole.push(column);
                continue;
            };
            let mut node = all.tree.child(&first);
            for key in keys {
                node = node.inside.child(&key);
            }
            node.columns.push(column);
        }
        Ok(all)
    }

    /// Takes each column from the key of its name.
    pub(crate) fn by_name<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for (column, name) in names.into_iter().enumerate() {
            all.tree.child(name).columns.push(column);
        }
        all
    }
}

impl PathTree {
    pub(crate) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// What is wanted of each key.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.children.iter().map(|(_, node)| node)
    }

    /// Looks a key up. `turn` is where the key after the last one stands: objects
    /// mostly have their keys in one order.
    pub(crate) fn find(&self, key: &[u8], turn: &mut usize) -> Option<&Node> {
        let index = match self.children.get(*turn) {
            Some((expected, _)) if **expected == *key => *turn,
            _ if self.children.len() > FEW => *self.by_key.get(key)?,
            _ => self
                .children
                .iter()
                .position(|(known, _)| **known == *key)?,
        };
        *turn = index + 1;
        self.children.get(index).map(|(_, node)| node)
    }

    fn child(&mut self, key: &str) -> &mut Node {
        let next = self.children.len();
        let index = *self.by_key.entry(key.as_bytes().into()).or_insert(next);
        if index == next {
            self.children.push((key.as_bytes().into(), Node::default()));
        }
        &mut self.children[index].1
    }
}

/// The keys of a path. `[:]` at the end, for "all elements", is the array itself.
fn parse(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('$')?;
    let mut rest = path.strip_suffix("[:]").unwrap_or(path);
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, after) = match rest.strip_prefix(".[").or_else(|| rest.strip_prefix('[')) {
            Some(bracketed) => quoted(bracketed)?,
            None => plain(rest.strip_prefix('.')?)?,
        };
        keys.push(key);
        rest = after;
    }
    Some(keys)
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (key, after) = text[1..].split_once(quote)?;
    Some((key.to_owned(), after.strip_prefix(']')?))
}

fn plain(text: &str) -> Option<(String, &str)> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        for (path, keys) in [
            ("$", &[][..]),
            ("$.a", &["a"]),
            ("$.a.b_1", &["a", "b_1"]),
            ("$.['a.b']", &["a.b"]),
            ("$['a b'].c", &["a b", "c"]),
            ("$.[\"x\"]", &["x"]),
            ("$.tags[:]", &["tags"]),
            ("$[:]", &[]),
        ] {
            assert_eq!(parse(path).unwrap(), keys, "{path}");
        }
        for bad in [
            "", "a", "$a", "$.", "$.a..b", "$.a[0]", "$.a[:].b", "$.['a", "$.['a'",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_found_in_any_order() {
        let paths: Vec<String> = (0..20).map(|n| format!("$.k{n}")).collect();
        for count in [3, 20] {
            let paths = Paths::new(paths[..count].iter().map(String::as_str)).unwrap();
            let mut turn = 0;
            for n in (0..count).rev().chain(0..count) {
                let node = paths
                    .tree
                    .find(format!("k{n}").as_bytes(), &mut turn)
                    .unwrap();
                assert_eq!(node.columns, [n]);
            }
            assert!(paths.tree.find(b"other", &mut turn).is_none());
        }
    }
}
