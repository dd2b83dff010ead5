//! Puts the nodes of a pipe together into one statement.
//!
//! The endpoint's own SQL stays the main query, so that its ORDER BY and LIMIT
//! keep their meaning; every node that it needs, directly or not, becomes a
//! subquery in its WITH clause. Everything happens on template text, before any
//! request: the composed text is one template.

use std::fmt::Write;

use crate::{Identifier, Template, TemplateError, is_plain_name};

mod statement;

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
    /// A pipe that is read reads a table that has the name of a node here.
    #[error("pipe `{pipe}` reads `{name}`, which is also the name of a node here: rename the node")]
    Captured {
        /// The pipe.
        pipe: String,
        /// The name.
        name: String,
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

/// Composes the nodes of one pipe and the other pipes that they read.
pub fn compose_with_pipes(input: ComposeInput<'_>) -> Result<String, ComposeError> {
    let sources = Sources::read(input)?;
    let endpoint = sources
        .nodes
        .iter()
        .position(|source| source.name == input.endpoint)
        .ok_or_else(|| ComposeError::UnknownEndpoint {
            endpoint: input.endpoint.to_owned(),
        })?;
    let mut order = Order::default();
    order.add(&sources, SourceId::Node(endpoint))?;
    order.done.pop();
    sources.check_capture(&order.done)?;
    let composed = sources.write(&order.done, endpoint);
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

/// All that may be needed, read once.
struct Sources<'a> {
    nodes: Vec<Source<'a>>,
    pipes: Vec<Source<'a>>,
}

struct Source<'a> {
    name: &'a str,
    statement: Statement<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceId {
    Node(usize),
    Pipe(usize),
}

impl<'a> Sources<'a> {
    fn read(input: ComposeInput<'a>) -> Result<Self, ComposeError> {
        let misnamed = input.nodes.iter().find(|node| !is_plain_name(node.name));
        if let Some(node) = misnamed {
            return Err(ComposeError::BadName {
                node: node.name.to_owned(),
            });
        }
        Ok(Self {
            nodes: read_all(input.nodes)?,
            pipes: read_all(input.pipes)?,
        })
    }

    fn get(&self, id: SourceId) -> &Source<'a> {
        match id {
            SourceId::Node(index) => &self.nodes[index],
            SourceId::Pipe(index) => &self.pipes[index],
        }
    }

    /// What a name means where it is read: a pipe does not see our nodes.
    fn find(&self, reader: SourceId, name: &str) -> Option<SourceId> {
        let position = |sources: &[Source<'_>]| sources.iter().position(|it| it.name == name);
        let node = match reader {
            SourceId::Node(_) => position(&self.nodes).map(SourceId::Node),
            SourceId::Pipe(_) => None,
        };
        node.or_else(|| position(&self.pipes).map(SourceId::Pipe))
    }

    /// ClickHouse lets every subquery of a WITH clause see all of its names, so a
    /// node could take the place of a table that another pipe means.
    fn check_capture(&self, needed: &[SourceId]) -> Result<(), ComposeError> {
        let node_names: Vec<&str> = needed
            .iter()
            .filter(|id| matches!(id, SourceId::Node(_)))
            .map(|id| self.get(*id).name)
            .collect();
        for id in needed {
            let source = self.get(*id);
            let mut names = source.statement.references.unqualified_names();
            let captured = names.find(|name| node_names.contains(name));
            if let (SourceId::Pipe(_), Some(name)) = (id, captured) {
                return Err(ComposeError::Captured {
                    pipe: source.name.to_owned(),
                    name: name.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn write(&self, needed: &[SourceId], endpoint: usize) -> String {
        let main = &self.nodes[endpoint].statement;
        if needed.is_empty() {
            return main.text.to_owned();
        }
        let list = self.write_list(needed);
        match main.head {
            Head::Select => format!("WITH {list}\n{}", main.text),
            Head::With {
                list_start,
                recursive,
            } if !self.own_names_clash(needed, main) => {
                let recursive = if recursive { "RECURSIVE " } else { "" };
                let own_list = main.text[list_start..].trim_start();
                format!("WITH {recursive}{list},\n{own_list}")
            }
            // Without an ORDER BY of its own the outer query keeps the inner order.
            Head::With { .. } | Head::Other => {
                format!("WITH {list}\nSELECT * FROM (\n{}\n)", main.text)
            }
        }
    }

    /// `a AS (...), b AS (...)`.
    fn write_list(&self, needed: &[SourceId]) -> String {
        let mut list = String::new();
        for id in needed {
            let Source { name, statement } = self.get(*id);
            let separator = if list.is_empty() { "" } else { ",\n" };
            let quoted = quote(name);
            // Writing to a String does not fail.
            let _ = write!(list, "{separator}{quoted} AS (\n{}\n)", statement.text);
        }
        list
    }

    /// Whether a name in the endpoint's own WITH clause would, in one list with the
    /// others, exist twice or take the place of a table that one of them reads.
    fn own_names_clash(&self, needed: &[SourceId], main: &Statement<'_>) -> bool {
        needed.iter().map(|id| self.get(*id)).any(|source| {
            let references = &source.statement.references;
            main.references.own_names.contains(source.name)
                || references
                    .unqualified_names()
                    .any(|name| main.references.own_names.contains(name))
        })
    }
}

fn read_all<'a>(nodes: &[Node<'a>]) -> Result<Vec<Source<'a>>, ComposeError> {
    let mut sources: Vec<Source<'a>> = Vec::with_capacity(nodes.len());
    for node in nodes {
        if sources.iter().any(|source| source.name == node.name) {
            return Err(ComposeError::DuplicateName {
                node: node.name.to_owned(),
            });
        }
        sources.push(Source {
            name: node.name,
            statement: Statement::read(*node)?,
        });
    }
    Ok(sources)
}

/// Names in a WITH clause are quoted: a node may be called `final` or `left`.
fn quote(name: &str) -> String {
    Identifier::new(name).map_or_else(|_| name.to_owned(), |name| name.to_string())
}

/// Finds what is needed, each after all that it reads itself.
#[derive(Default)]
struct Order {
    done: Vec<SourceId>,
    path: Vec<SourceId>,
}

impl Order {
    fn add(&mut self, sources: &Sources<'_>, id: SourceId) -> Result<(), ComposeError> {
        if self.done.contains(&id) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|known| *known == id) {
            let circle = self.path[start..].iter().chain([&id]);
            return Err(ComposeError::Cycle {
                path: circle.map(|id| sources.get(*id).name.to_owned()).collect(),
            });
        }
        self.path.push(id);
        for name in sources.get(id).statement.references.unqualified_names() {
            if let Some(read) = sources.find(id, name) {
                self.add(sources, read)?;
            }
        }
        self.path.pop();
        self.done.push(id);
        Ok(())
    }
}
