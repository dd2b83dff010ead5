//! Puts the nodes of a pipe together into one statement.
//!
//! The endpoint's own SQL stays the main query, so that its ORDER BY and LIMIT
//! keep their meaning; every node that it needs, directly or not, becomes a
//! subquery in its WITH clause. Everything happens on template text, before any
//! request: the composed text is one template.

use crate::{Identifier, Template, is_plain_name};

mod error;
mod mentions;
mod node;
mod statement;

pub use error::ComposeError;
pub use node::Node;

pub use mentions::{Place, given_names, nearest, places, tables_read};
use statement::{Head, Statement};

/// What [`compose_with_pipes`] puts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComposeInput<'a> {
    /// The nodes of the pipe. Their names mean nothing outside of it.
    pub nodes: &'a [Node<'a>],
    /// Other pipes that may be read by name, each composed by [`compose`] from its
    /// own nodes. They may read each other.
    pub pipes: &'a [Node<'a>],
    /// The node that gives the result.
    pub endpoint: &'a str,
}

/// Composes the nodes of one pipe. Tables that are no nodes stay as they are.
pub fn compose(nodes: &[Node<'_>], endpoint: &str) -> Result<String, ComposeError> {
    compose_with_pipes(ComposeInput {
        nodes,
        pipes: &[],
        endpoint,
    })
}

/// Composes the nodes of one pipe and the other pipes that they read. Pipes that
/// are not read are not looked at.
pub fn compose_with_pipes(input: ComposeInput<'_>) -> Result<String, ComposeError> {
    let sources = Sources::read(input)?;
    let mut order = Order::default();
    order.add(&sources, sources.endpoint)?;
    sources.check_capture(&order.done)?;
    let composed = sources.write(&order.done);
    match Template::parse(&composed) {
        Ok(_) => Ok(composed),
        Err(error) => Err(ComposeError::Together { error }),
    }
}

/// The nodes and the pipes that the endpoint needs, by their index.
struct Sources<'a> {
    all: Vec<Source<'a>>,
    endpoint: usize,
}

struct Source<'a> {
    name: &'a str,
    kind: Kind,
    statement: Statement<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A node of this pipe.
    Node,
    /// Another pipe, which does not see our nodes.
    Pipe,
}

impl<'a> Sources<'a> {
    fn read(input: ComposeInput<'a>) -> Result<Self, ComposeError> {
        let mut all: Vec<Source<'a>> = Vec::with_capacity(input.nodes.len());
        for node in input.nodes {
            let name = node.name.to_owned();
            if !is_plain_name(node.name) {
                return Err(ComposeError::BadName { node: name });
            }
            if all.iter().any(|source| source.name == node.name) {
                return Err(ComposeError::DuplicateName { node: name });
            }
            all.push(Source::read(*node, Kind::Node)?);
        }
        let endpoint = all
            .iter()
            .position(|source| source.name == input.endpoint)
            .ok_or_else(|| ComposeError::UnknownEndpoint {
                endpoint: input.endpoint.to_owned(),
            })?;
        let mut sources = Self { all, endpoint };
        sources.read_pipes(input.pipes)?;
        Ok(sources)
    }

    /// Reads those of the pipes that the endpoint needs.
    fn read_pipes(&mut self, pipes: &[Node<'a>]) -> Result<(), ComposeError> {
        let mut reached = vec![self.endpoint];
        let mut next = 0;
        while let Some(reader) = reached.get(next).copied() {
            let needed: Vec<Node<'a>> = self
                .names_read_by(reader)
                .filter(|name| self.find(reader, name).is_none())
                .filter_map(|name| pipes.iter().find(|pipe| pipe.name == name).copied())
                .collect();
            for pipe in needed {
                if self.find(reader, pipe.name).is_none() {
                    self.all.push(Source::read(pipe, Kind::Pipe)?);
                }
            }
            for read in self.read_by(reader) {
                if !reached.contains(&read) {
                    reached.push(read);
                }
            }
            next += 1;
        }
        Ok(())
    }

    fn names_read_by(&self, reader: usize) -> impl Iterator<Item = &str> {
        self.all[reader].statement.references.unqualified_names()
    }

    /// What a name means where it is read, unless it is a table.
    fn find(&self, reader: usize, name: &str) -> Option<usize> {
        let position = |kind| {
            let mut all = self.all.iter();
            all.position(|source| source.kind == kind && source.name == name)
        };
        let node = match self.all[reader].kind {
            Kind::Node => position(Kind::Node),
            Kind::Pipe => None,
        };
        node.or_else(|| position(Kind::Pipe))
    }

    /// The nodes and pipes that a source reads itself.
    fn read_by(&self, reader: usize) -> impl Iterator<Item = usize> {
        self.names_read_by(reader)
            .filter_map(move |name| self.find(reader, name))
    }

    /// Refuses names that would be found in place of what their reader means.
    fn check_capture(&self, needed: &[usize]) -> Result<(), ComposeError> {
        for giver in needed {
            let given = &self.all[*giver].statement.references.own_names;
            if !given.is_empty() {
                self.check_readers(*giver, |_, name| given.contains(name))?;
            }
        }
        let is_node = |name: &str| {
            let mut needed = needed.iter().map(|index| &self.all[*index]);
            needed.any(|source| source.kind == Kind::Node && source.name == name)
        };
        self.check_readers(self.endpoint, |reader, name| {
            reader.kind == Kind::Pipe && is_node(name)
        })
    }

    /// Looks at all that a source reads, directly or not.
    fn check_readers(
        &self,
        giver: usize,
        has_another_meaning: impl Fn(&Source<'_>, &str) -> bool,
    ) -> Result<(), ComposeError> {
        let mut readers: Vec<usize> = self.read_by(giver).collect();
        let mut next = 0;
        while let Some(index) = readers.get(next).copied() {
            let reader = &self.all[index];
            let mut names = self.names_read_by(index);
            if let Some(name) = names.find(|name| has_another_meaning(reader, name)) {
                return Err(ComposeError::Captured {
                    reader: reader.name.to_owned(),
                    name: name.to_owned(),
                    giver: self.all[giver].name.to_owned(),
                });
            }
            for read in self.read_by(index) {
                if !readers.contains(&read) {
                    readers.push(read);
                }
            }
            next += 1;
        }
        Ok(())
    }

    /// Writes the composed text; the endpoint is the last of what is needed.
    fn write(&self, needed: &[usize]) -> String {
        let main = &self.all[self.endpoint].statement;
        let (_, needed) = needed.split_last().unwrap_or((&self.endpoint, &[]));
        if needed.is_empty() {
            return main.text.to_owned();
        }
        let list = self.write_list(needed);
        match main.head {
            Head::Select => format!("WITH {list}\n{}", main.text),
            Head::With {
                list_start,
                recursive,
            } => {
                let recursive = if recursive { "RECURSIVE " } else { "" };
                let own_list = main.text[list_start..].trim_start();
                format!("WITH {recursive}{list},\n{own_list}")
            }
            // Without an ORDER BY of its own the outer query keeps the inner order.
            Head::Other => format!("WITH {list}\nSELECT * FROM (\n{}\n)", main.text),
        }
    }

    /// `a AS (...), b AS (...)`.
    fn write_list(&self, needed: &[usize]) -> String {
        let items: Vec<String> = needed
            .iter()
            .map(|index| {
                let Source {
                    name, statement, ..
                } = &self.all[*index];
                format!("{} AS (\n{}\n)", quote(name), statement.text)
            })
            .collect();
        items.join(",\n")
    }
}

impl<'a> Source<'a> {
    fn read(node: Node<'a>, kind: Kind) -> Result<Self, ComposeError> {
        Ok(Self {
            name: node.name,
            kind,
            statement: Statement::read(node)?,
        })
    }
}

/// Names in a WITH clause are quoted: a node may be called `final` or `left`.
fn quote(name: &str) -> String {
    Identifier::new(name).map_or_else(|_| name.to_owned(), |name| name.to_string())
}

/// Finds what is needed, each after all that it reads itself.
#[derive(Default)]
struct Order {
    done: Vec<usize>,
    path: Vec<usize>,
}

impl Order {
    fn add(&mut self, sources: &Sources<'_>, index: usize) -> Result<(), ComposeError> {
        if self.done.contains(&index) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|known| *known == index) {
            let circle = self.path[start..].iter().chain([&index]);
            return Err(ComposeError::Cycle {
                path: circle
                    .map(|index| sources.all[*index].name.to_owned())
                    .collect(),
            });
        }
        self.path.push(index);
        for read in sources.read_by(index) {
            self.add(sources, read)?;
        }
        self.path.pop();
        self.done.push(index);
        Ok(())
    }
}
