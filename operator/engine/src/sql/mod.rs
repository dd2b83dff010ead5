//! As much of ClickHouse's syntax as is needed to tell statements apart and to read those about
//! access. What a statement means, and whether it is one, ClickHouse's own parser says.

pub(crate) mod insert;
pub(crate) mod lexer;
pub(crate) mod quote;
pub(crate) mod statement;
