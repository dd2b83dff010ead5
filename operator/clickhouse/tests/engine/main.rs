//! Against the embedded ClickHouse: what was planned in theory holds in practice.
//! All tests share one engine, since a process can have only one; each has a
//! workspace of its own.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the message")]

mod convergence;
mod conversion;
mod deletion;
mod drift;
mod foreign;
mod harness;
mod network;
mod pipes;
mod probe;
mod quarantine;
mod system_tables;
