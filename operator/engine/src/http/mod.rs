//! ClickHouse's HTTP interface: what a request says, how its body is read, how an answer is told.

mod answer;
mod auth;
pub(crate) mod body;
mod frame;
pub(crate) mod multipart;
pub(crate) mod request;
pub(crate) mod server;
mod upload;
