//! Compares the map of the code in docs/ARCHITECTURE.md with the code: every crate, and
//! in it every file and folder of `src`.
//!
//! The map is the code block under "Code map". A line at its left edge names a crate's
//! folder and the crate; the lines below it, set in, are the crate's rooms.

use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const PAGE: &str = "docs/ARCHITECTURE.md";
const HEADING: &str = "## Code map";

/// A crate as the map or the code has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name in Cargo.
    pub(crate) name: String,
    /// Files, and folders with a slash behind; a module of both is its folder.
    pub(crate) rooms: BTreeSet<String>,
}

/// Complains about what the map has and the code has not, and the other way round. The
/// packages are given by their folders in the repository.
pub(crate) fn check(
    root: &Path,
    packages: &[(String, &str)],
    complaints: &mut Vec<String>,
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("read {PAGE}"))?;
    let mut code = BTreeMap::new();
    for (folder, name) in packages {
        let entry = Entry {
            name: (*name).to_owned(),
            rooms: rooms(&root.join(folder).join("src"))?,
        };
        code.insert(folder.clone(), entry);
    }
    complaints.extend(compare(&read(&text), &code));
    Ok(())
}

/// The map, by the crates' folders.
fn read(page: &str) -> BTreeMap<String, Entry> {
    let section = page.split_once(HEADING).map_or("", |(_, after)| after);
    let block = section.split("```").nth(1).unwrap_or_default();
    let mut map: BTreeMap<String, Entry> = BTreeMap::new();
    let mut folder = String::new();
    for line in block.lines().skip(1) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else {
            continue;
        };
        if line.starts_with(' ') {
            let entry = map.entry(folder.clone()).or_default();
            entry.rooms.insert(first.to_owned());
        } else {
            first.trim_end_matches('/').clone_into(&mut folder);
            let name = words.next().unwrap_or_default().to_owned();
            map.entry(folder.clone()).or_default().name = name;
        }
    }
    map
}

/// What is in a crate besides its root.
fn rooms(source: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut rooms = BTreeSet::new();
    let entries =
        std::fs::read_dir(source).with_context(|| format!("read {}", source.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            rooms.insert(format!("{name}/"));
        } else if !["lib.rs", "main.rs"].contains(&name.as_str()) {
            rooms.insert(name);
        }
    }
    let is_beside_its_folder = |file: &String| {
        let module = file.strip_suffix(".rs");
        module.is_some_and(|module| rooms.contains(&format!("{module}/")))
    };
    let files = rooms.iter().filter(|file| !is_beside_its_folder(file));
    Ok(files.cloned().collect())
}

fn compare(map: &BTreeMap<String, Entry>, code: &BTreeMap<String, Entry>) -> Vec<String> {
    let mut complaints = Vec::new();
    for folder in map.keys().filter(|folder| !code.contains_key(*folder)) {
        complaints.push(format!("{PAGE}: the map has {folder}, which is no crate"));
    }
    for (folder, Entry { name, rooms }) in code {
        let Some(drawn) = map.get(folder) else {
            complaints.push(format!("{PAGE}: the map lacks {folder} (`{name}`)"));
            continue;
        };
        if drawn.name != *name {
            complaints.push(format!(
                "{PAGE}: the map calls {folder} `{}`, which is `{name}`",
                drawn.name
            ));
        }
        for room in rooms.difference(&drawn.rooms) {
            complaints.push(format!("{PAGE}: the map lacks {folder}/src/{room}"));
        }
        for room in drawn.rooms.difference(rooms) {
            complaints.push(format!(
                "{PAGE}: the map has {folder}/src/{room}, which is not there"
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWN: &str = "# A\n```\nnot this\n```\n## Code map\n```text\ncrds/  aviary-crds  the API\n  pipe.rs  a kind\n  parts/  others\n\noperator/sql/ aviary-sql\n```\n";

    fn entry(name: &str, rooms: &[&str]) -> Entry {
        Entry {
            name: name.to_owned(),
            rooms: rooms.iter().map(|&room| room.to_owned()).collect(),
        }
    }

    fn code(crds: &[&str], other: &str) -> BTreeMap<String, Entry> {
        BTreeMap::from([
            ("crds".to_owned(), entry("aviary-crds", crds)),
            (other.to_owned(), entry("aviary-sql", &[])),
        ])
    }

    #[test]
    fn a_map_is_read_by_its_indentation() {
        let expected = code(&["parts/", "pipe.rs"], "operator/sql");
        assert_eq!(read(DRAWN), expected);
        assert!(compare(&read(DRAWN), &expected).is_empty());
    }

    #[test]
    fn both_ways_of_being_wrong_are_told() {
        let map = read(DRAWN);
        assert_eq!(
            compare(&map, &code(&["pipe.rs", "new.rs"], "operator/new")),
            [
                "docs/ARCHITECTURE.md: the map has operator/sql, which is no crate",
                "docs/ARCHITECTURE.md: the map lacks crds/src/new.rs",
                "docs/ARCHITECTURE.md: the map has crds/src/parts/, which is not there",
                "docs/ARCHITECTURE.md: the map lacks operator/new (`aviary-sql`)",
            ]
        );
    }

    #[test]
    fn a_module_of_a_file_and_a_folder_is_one_room() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lib.rs", "a.rs", "b.rs"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let found: Vec<String> = rooms(folder.path()).unwrap().into_iter().collect();
        assert_eq!(found, ["a/", "b.rs"]);
    }
}
