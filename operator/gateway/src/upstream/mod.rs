//! ClickHouse's HTTP interface as the gateway uses it: replicas with their
//! connections, one request and its answer at a time, and what ClickHouse says
//! when something is wrong.
//!
//! This is a client of our own because the path is hot and particular: bytes pass
//! through untouched, dropping an answer must cancel the query, and whether a
//! request may be sent twice differs between reading and writing.

mod address;
mod answer;
mod blame;
mod connection;
mod ejection;
mod error;
mod exception;
mod framing;
mod head;
mod patience;
mod replica;
mod replicas;
mod sending;
mod stream;

pub(crate) use answer::Answer;
pub(crate) use blame::Blame;
pub(crate) use connection::{Authorization, Repeat, Request};
pub(crate) use error::UpstreamError;
pub(crate) use exception::{Completeness, Exception, ExceptionWatch};
pub(crate) use replica::{Replica, ReplicaSettings};
pub(crate) use replicas::{Failed, Registry, Replicas};
