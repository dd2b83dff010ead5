//! What to tell of a name in a pipe's SQL that nobody knows: where it stands, and what may have
//! been meant.

use super::data_source::ValidDataSource;
use crate::derived_names;
use aviary_crds::Pipe;
use aviary_sql::{Node, Place, given_names, nearest, places, tables_read};
use std::collections::BTreeSet;

/// What ClickHouse does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What it takes the name for.
    pub kind: UnknownKind,
    /// The name, with dots if it was written so.
    pub name: String,
    /// What ClickHouse thinks was meant.
    pub guesses: Vec<String>,
}

/// What a name may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKind {
    /// A column.
    Column,
    /// A table.
    Table,
    /// A function.
    Function,
}

/// The nodes of a pipe as it is written.
pub(super) fn nodes(pipe: &Pipe) -> Vec<Node<'_>> {
    let nodes = pipe.spec.nodes.iter().map(|node| Node {
        name: &node.name,
        sql: &node.sql,
    });
    nodes.collect()
}

/// `; near: `a`, `b``, or nothing.
pub(super) fn near(names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; near: {}", listed(names))
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Says where in the pipe the unknown name stands, if it does.
pub(super) fn explain(
    data_sources: &[ValidDataSource],
    pipe: &Pipe,
    unknown: &Unknown,
) -> Option<String> {
    let nodes = nodes(pipe);
    let Unknown {
        kind,
        name,
        guesses,
    } = unknown;
    let places = places(&nodes, name);
    let view = |place: &Place| View::of(data_sources, &nodes, &place.node);
    let place = match kind {
        // Where the name is known it is not what is complained of.
        UnknownKind::Column => places
            .iter()
            .find(|place| !view(place).columns.contains(name))
            .or(places.first()),
        UnknownKind::Table | UnknownKind::Function => places.first(),
    }?;
    let view = view(place);
    let mut meant: Vec<&str> = guesses.iter().map(String::as_str).collect();
    let found = match kind {
        UnknownKind::Column => {
            meant.extend(nearest(name, view.columns.iter().map(String::as_str)));
            let read: Vec<&str> = view.reads.iter().map(String::as_str).collect();
            match read.as_slice() {
                [] => format!("there is no column `{name}`"),
                read => format!("there is no column `{name}` in {}", listed(read)),
            }
        }
        UnknownKind::Table => {
            let tables = data_sources.iter().map(|source| source.name.as_str());
            meant.extend(nearest(name, tables));
            format!("there is no table `{name}`")
        }
        UnknownKind::Function => format!("there is no function `{name}`"),
    };
    let mut seen = BTreeSet::new();
    meant.retain(|name| seen.insert(*name));
    Some(format!("{place}: {found}{}", near(&meant)))
}

/// What a node can see.
#[derive(Default)]
struct View {
    /// What it reads itself.
    reads: BTreeSet<String>,
    /// Names that may be columns of that, directly or through nodes, and those it gives itself.
    columns: BTreeSet<String>,
}

impl View {
    fn of(data_sources: &[ValidDataSource], nodes: &[Node<'_>], name: &str) -> Self {
        let mut view = Self::default();
        let mut done = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            if !done.insert(name.clone()) {
                continue;
            }
            if let Some(node) = nodes.iter().find(|node| node.name == name) {
                let reads = tables_read(node.sql);
                view.columns.extend(given_names(node.sql));
                open.extend(reads.iter().cloned());
                if done.len() == 1 {
                    view.reads = reads;
                }
                continue;
            }
            let source = derived_names::source_of_quarantine(&name).unwrap_or(&name);
            if let Some(source) = data_sources.iter().find(|it| it.name == source) {
                let columns = source.columns.iter().map(|column| column.name.clone());
                view.columns.extend(columns);
            }
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_published::LastPublished;
    use crate::model::model;
    use crate::testing::objects;

    const MANIFESTS: &str = "
kind: DataSource
metadata: {name: flights}
spec: {workspace: shop, columns: [{name: year, type: Int16}, {name: month, type: Int8}, {name: carrier, type: String}]}
---
kind: DataSource
metadata: {name: airlines}
spec: {workspace: shop, columns: [{name: carrier, type: String}, {name: name, type: String}]}
---
kind: Pipe
metadata: {name: asked}
spec:
  workspace: shop
  nodes:
  - name: names
    sql: SELECT carrier, name FROM airlines
  - name: days
    sql: |
      SELECT
        yeer, count() AS flights_a_day, toYer(month) AS y
      FROM flights AS f
      JOIN names ON f.carier = names.carrier
      GROUP BY yeer
  - name: top
    sql: SELECT nmae, name, flights_a_dya FROM days JOIN airlines USING carrier
";

    fn told(kind: UnknownKind, name: &str, guesses: &[&str]) -> Option<String> {
        let objects = objects("acme", MANIFESTS);
        let unknown = Unknown {
            kind,
            name: name.to_owned(),
            guesses: guesses.iter().map(|&it| it.to_owned()).collect(),
        };
        model(&objects, &LastPublished::default()).explain_unknown(&objects.pipes[0], &unknown)
    }

    #[test]
    fn an_unknown_name_is_shown_in_its_node() {
        use UnknownKind::{Column, Function, Table};
        for (kind, name, guesses, text) in [
            (
                Column,
                "yeer",
                &["year"][..],
                "node `days`, line 2, column 3: there is no column `yeer` in `flights`, `names`; near: `year`",
            ),
            (
                Column,
                "f.carier",
                &["f.carrier"],
                "node `days`, line 4, column 15: there is no column `f.carier` in `flights`, `names`; near: `f.carrier`",
            ),
            (
                Column,
                "flights_a_dya",
                &[],
                "node `top`, line 1, column 20: there is no column `flights_a_dya` in `airlines`, `days`; near: `flights_a_day`",
            ),
            (
                Function,
                "toYer",
                &["toYear", "lower"],
                "node `days`, line 2, column 35: there is no function `toYer`; near: `toYear`, `lower`",
            ),
            (
                Table,
                "flights",
                &[],
                "node `days`, line 3, column 6: there is no table `flights`",
            ),
        ] {
            assert_eq!(told(kind, name, guesses).as_deref(), Some(text));
        }
        assert_eq!(told(Column, "elsewhere", &[]), None);
    }

    /// `name` stands in a node that has it and in one that has not.
    #[test]
    fn the_node_that_knows_the_name_is_not_blamed() {
        let objects = objects(
            "acme",
            &MANIFESTS
                .replace("SELECT nmae, name, ", "SELECT ")
                .replace("toYer(month)", "name")
                .replace("JOIN names ON f.carier = names.carrier", ""),
        );
        let unknown = Unknown {
            kind: UnknownKind::Column,
            name: "name".to_owned(),
            guesses: Vec::new(),
        };
        let told =
            model(&objects, &LastPublished::default()).explain_unknown(&objects.pipes[0], &unknown);
        let place = "node `days`, line 2, column 35: ";
        assert!(
            told.as_ref().is_some_and(|it| it.starts_with(place)),
            "{told:?}"
        );
    }
}
