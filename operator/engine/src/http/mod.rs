//! ClickHouse's HTTP interface: what a request says, how its body is read, how an answer is told.

pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod frame;
pub(crate) mod multipart;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod server;
mod upload;
