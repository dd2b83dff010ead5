//! Refuses circles of modules within a crate: files that use each other can only be
//! understood, tested and moved together. A module is a file. A parent declares its
//! children and may use them, so a child that uses its parent makes a circle.

use crate::modules::{self, Crate, Use};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Complains about each circle in a package, of which these are the crates' roots.
pub(crate) fn check(
    repository: &Path,
    package: &str,
    roots: &[PathBuf],
    complaints: &mut Vec<String>,
) -> anyhow::Result<()> {
    for root in roots {
        let read = modules::read(root)?;
        for circle in circles(&read) {
            complaints.push(message(repository, package, &read, &circle));
        }
    }
    Ok(())
}

/// The shortest circle through each file that is on one and on none found before.
fn circles(read: &Crate) -> Vec<Vec<&Use>> {
    let mut found: Vec<Vec<&Use>> = Vec::new();
    for file in 0..read.files.len() {
        let is_known = found.iter().flatten().any(|each| each.from == file);
        if !is_known {
            found.extend(shortest_circle(read, file));
        }
    }
    found
}

/// The shortest way from a file back to it.
fn shortest_circle(read: &Crate, start: usize) -> Option<Vec<&Use>> {
    let mut came_by: BTreeMap<usize, &Use> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(file) = next.pop_front() {
        for step in read.uses.iter().filter(|each| each.from == file) {
            if came_by.contains_key(&step.to) {
                continue;
            }
            came_by.insert(step.to, step);
            next.push_back(step.to);
        }
    }
    let mut circle = vec![*came_by.get(&start)?];
    while let Some(last) = circle.last().filter(|last| last.from != start) {
        circle.push(came_by.get(&last.from)?);
    }
    circle.reverse();
    Some(circle)
}

fn message(repository: &Path, package: &str, read: &Crate, circle: &[&Use]) -> String {
    let mut text = format!(
        "`{package}` has a circle of modules; put what they share into a file that uses neither:"
    );
    for each in circle {
        let name = |file: usize| {
            let path = &read.files[file];
            path.strip_prefix(repository).unwrap_or(path).display()
        };
        let (from, to) = (name(each.from), name(each.to));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n    {from}:{} uses {to} by `{}`",
            each.line, each.path
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of files a, b, c ... with these uses.
    fn of(uses: &[(usize, usize)]) -> Crate {
        let each = uses.iter().map(|&(from, to)| Use {
            from,
            to,
            line: 7,
            path: format!("crate::item_{to}"),
        });
        let files = ["src/a.rs", "src/b.rs", "src/c.rs", "src/d.rs", "src/e.rs"];
        Crate {
            files: files.map(PathBuf::from).to_vec(),
            uses: each.collect(),
        }
    }

    fn ways(read: &Crate) -> Vec<Vec<usize>> {
        let circles = circles(read);
        let way = |circle: &Vec<&Use>| circle.iter().map(|each| each.from).collect();
        circles.iter().map(way).collect()
    }

    #[test]
    fn uses_in_one_direction_are_no_circle() {
        assert!(ways(&of(&[(0, 1), (0, 2), (1, 2), (2, 3), (0, 4), (4, 3)])).is_empty());
    }

    #[test]
    fn each_circle_is_found_by_its_shortest_way() {
        assert_eq!(ways(&of(&[(0, 1), (1, 0)])), [[0, 1]]);
        let long = [(0, 1), (1, 2), (2, 3), (3, 1), (2, 1), (3, 4)];
        assert_eq!(ways(&of(&long)), [vec![1, 2], vec![3, 1, 2]]);
        assert_eq!(
            ways(&of(&[(0, 1), (1, 0), (2, 3), (3, 2)])),
            [[0, 1], [2, 3]]
        );
    }

    #[test]
    fn a_circle_is_told_with_the_uses_that_make_it() {
        let read = of(&[(0, 1), (1, 0)]);
        let text = message(Path::new("src"), "aviary-x", &read, &circles(&read)[0]);
        assert_eq!(
            text,
            "`aviary-x` has a circle of modules; put what they share into a file that uses neither:\n    a.rs:7 uses b.rs by `crate::item_1`\n    b.rs:7 uses a.rs by `crate::item_0`"
        );
    }
}
