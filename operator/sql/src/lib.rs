//! What Aviary knows about SQL text: names and literals that cannot break out
//! of their quotes, the template language of pipes, the composition of a pipe's
//! nodes into one statement, the tables a statement reads, and the scanner by which
//! all of these take SQL apart.
//!
//! This crate does not know Kubernetes, the network, the clock or a ClickHouse
//! server. It reads text and writes text. What it finds out about a statement
//! serves ordering, reports and early errors; isolation between tenants rests on
//! ClickHouse's grants, never on anything parsed here.

pub mod dependencies;
pub mod ident;
pub mod pipe;
pub mod reach;
pub mod scanner;
pub mod system_tables;
pub mod template;

pub use dependencies::{References, TableReference, references, table_functions, table_references};
pub use ident::{Identifier, IdentifierError, QualifiedName, StringLiteral, is_plain_name};
pub use pipe::{
    ComposeError, ComposeInput, Node, Place, compose, compose_with_pipes, given_names, nearest,
    places, tables_read,
};
pub use reach::{ReachError, check_reach};
pub use template::{
    Parameter, ParameterType, ParameterValues, RenderError, Rendered, ScalarType, Template,
    TemplateError, Value,
};
