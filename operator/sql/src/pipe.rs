//! Puts the nodes of a pipe together into one statement.
//!
//! The endpoint's own SQL stays the main query, so that its ORDER BY and LIMIT
//! keep their meaning; every node that it needs, directly or not, becomes a
//! subquery in its WITH clause. Everything happens on template text, before any
//! request: the composed text is one template.

use crate::{Identifier, Template, TemplateError, is_plain_name};

mod names;
mod statement;

pub use names::{Place, given_names, nearest, places, tables_read};
use statement::{Head, Statement};

/// A named query: a node of a pipe, or a whole pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// The name by which other nodes read from it.
    pub name: &'a str,
    /// Its SQL, as a template.
    pub sql: &'a str,
}

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

/// Why nodes cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// There is no node of the endpoint's name.
    #[error("there is no node `{endpoint}`")]
    UnknownEndpoint {
        /// The name given.
        endpoint: String,
    },
    /// Two nodes have one name.
    #[error("two nodes are named `{node}`")]
    DuplicateName {
        /// The name.
        node: String,
    },
    /// A node's name would need quotes in SQL.
    #[error(
        "`{node}` cannot name a node: use letters, digits and underscores, beginning with a letter or underscore"
    )]
    BadName {
        /// The name.
        node: String,
    },
    /// A node is no valid template.
    #[error("node `{node}`, {error}")]
    Template {
        /// The node.
        node: String,
        /// What is wrong, with the place in the node's text.
        error: TemplateError,
    },
    /// Nodes do not agree, for example on the type of a parameter.
    #[error("the nodes together: {}{}", error.message, hint(error))]
    Together {
        /// What is wrong; its place is in the composed text.
        error: TemplateError,
    },
    /// A node has no SQL.
    #[error("node `{node}` is empty: write a SELECT")]
    Empty {
        /// The node.
        node: String,
    },
    /// A node is no query.
    #[error(
        "node `{node}`, line {line}, column {column}: expected SELECT or WITH, found `{found}`"
    )]
    NotASelect {
        /// The node.
        node: String,
        /// Where its SQL begins.
        line: usize,
        /// Where its SQL begins.
        column: usize,
        /// Its first word.
        found: String,
    },
    /// A node has more than one statement.
    #[error(
        "node `{node}`, line {line}, column {column}: one statement only: remove what follows the `;`"
    )]
    SeveralStatements {
        /// The node.
        node: String,
        /// Where the first statement ends.
        line: usize,
        /// Where the first statement ends.
        column: usize,
    },
    /// A node says in which form or where to the result goes.
    #[error(
        "node `{node}`: remove {clause}: the format of an answer is the request's choice, as in /v0/pipes/name.json"
    )]
    OutputClause {
        /// The node.
        node: String,
        /// `FORMAT` or `INTO OUTFILE`.
        clause: &'static str,
    },
    /// Nodes or pipes read each other in a circle.
    #[error("these read each other in a circle: {}; to read a table of a node's name, rename the node", path.join(" -> "))]
    Cycle {
        /// The names, the first repeated at the end.
        path: Vec<String>,
    },
    /// ClickHouse resolves the names in a subquery where it is used. So a name that
    /// one node gives, in a WITH of its own or by being a node, would be found in
    /// place of the table that another, read from there, means by it.
    #[error(
        "`{reader}` reads `{name}`, but where `{giver}` reads `{reader}`, `{name}` has another meaning: rename `{name}` in `{giver}`"
    )]
    Captured {
        /// The node or pipe that reads the name.
        reader: String,
        /// The name.
        name: String,
        /// The node or pipe in which it means something else.
        giver: String,
    },
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

fn hint(error: &TemplateError) -> String {
    error
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!(" ({hint})"))
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
