//! Why the nodes of a pipe do not make one statement.

use crate::TemplateError;

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

fn hint(error: &TemplateError) -> String {
    error
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!(" ({hint})"))
}
