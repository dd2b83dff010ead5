//! The parts that a pipe is made of.

/// A named query: a node of a pipe, or a whole pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// The name by which other nodes read from it.
    pub name: &'a str,
    /// Its SQL, as a template.
    pub sql: &'a str,
}
