//! The ClickHouse types a column of a data source can have: parsed from a
//! manifest, written as ClickHouse itself writes them, so that a type in a spec
//! compares with a type in `system.columns`.

mod parse;
mod types;

pub use types::{ColumnType, FloatWidth, TypeError};
