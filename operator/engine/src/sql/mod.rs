//! As much of ClickHouse's syntax as is needed to route a statement: its tokens, its kind, its
//! format, and where the data of an INSERT begins. Meaning is left to ClickHouse.

pub(crate) mod current_user;
pub(crate) mod insert;
pub(crate) mod lexer;
pub(crate) mod quote;
pub(crate) mod statement;
pub(crate) mod unquote;
