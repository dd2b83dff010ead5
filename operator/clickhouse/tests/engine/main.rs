//! Against the embedded ClickHouse: what was planned in theory holds in practice.
//! All tests share one engine, since a process can have only one; each has a
//! workspace of its own.

mod convergence;
mod conversion;
mod drift;
mod harness;
mod network;
mod pipes;
mod probe;
