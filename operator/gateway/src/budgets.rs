//! What the gateway may hold, and how its memory is shared out. One place says what the sum
//! is made of:
//!
//! | part | of the memory | holds |
//! |---|---|---|
//! | rows | 1/4 | rows on their way to ClickHouse, decoders of bodies |
//! | files | 1/4 | Parquet files and their pages |
//! | answers | 1/16 | answers and forms that are larger than a connection's own memory |
//! | connections | 1/8 | a head, a small answer and the state of each |
//!
//! The rest is for the program, what it serves, and what the allocator keeps.

use crate::args::GatewayArgs;
use crate::limits::UploadSlots;
use crate::memory::{Budget, STEP, Share};
use crate::metrics::Metrics;
use aviary_crds::ByteSize;
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::Semaphore;

/// The largest head of a request, its URL included.
pub(crate) const LARGEST_HEAD: usize = 16 * 1024;
/// What an answer may take before it is counted.
pub(crate) const SMALL_ANSWER: usize = 16 * 1024;
/// What a connection takes with a head that is not whole, or with a small answer.
const CONNECTION: u64 = 32 * 1024;
/// Files that a connection opens: its own, and one to ClickHouse.
const FILES_OF_CONNECTION: u64 = 2;
/// Files for all else: listeners, the apiserver, idle connections to ClickHouse.
const OTHER_FILES: u64 = 256;
/// Blocks that fit into the memory for rows: of each of two workspaces one that is filled, one
/// that is sent, and two that wait.
const BLOCKS: u64 = 8;

/// Why the limits cannot be kept.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BudgetError {
    /// More is given out than there is.
    #[error(
        "rows, files, answers and {connections} connections may take {sum} bytes, and 7/8 of --memory are {available}: give more memory, or lower --insert-memory, --parquet-memory, --answer-memory or --connections"
    )]
    TooMuch {
        /// The most connections.
        connections: u64,
        /// Bytes of all of it.
        sum: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// Nothing would be served.
    #[error("--{0} has to be at least 1")]
    Nothing(&'static str),
}

/// The parts of the memory, in bytes, and the most connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) answers: u64,
    pub(crate) connections: u64,
    pub(crate) connections_of_origin: u64,
}

/// What is shared by all workspaces.
pub(crate) struct Budgets {
    rows: Arc<Budget>,
    files: Arc<Budget>,
    answers: Arc<Budget>,
    uploads: u32,
}

/// What a workspace may hold of each.
pub(crate) struct Shares {
    pub(crate) rows: Arc<Share>,
    pub(crate) files: Arc<Share>,
    pub(crate) answers: Arc<Share>,
    pub(crate) uploads: UploadSlots,
    /// Whose large pieces are split at once: on half of the cores, so that the others have time for
    /// other workspaces.
    pub(crate) splitting: Arc<Semaphore>,
}

impl Sizes {
    /// What the arguments say, and otherwise a part of the memory there is.
    pub(crate) fn of(args: &GatewayArgs) -> Result<Self, BudgetError> {
        let memory = args.memory.get();
        let or =
            |size: &Option<ByteSize>, part: u64| size.as_ref().map_or(memory / part, ByteSize::get);
        let connections = args.connections.map_or(memory / 8 / CONNECTION, u64::from);
        let sizes = Self {
            rows: or(&args.insert_memory, 4),
            files: or(&args.parquet_memory, 4),
            answers: or(&args.answer_memory, 16),
            connections,
            connections_of_origin: args
                .connections_per_address
                .map_or((connections / 2).max(1), u64::from),
        };
        sizes.check(args)?;
        Ok(sizes)
    }

    /// The same with no more connections than so many open files allow.
    pub(crate) fn within(self, files: u64) -> Self {
        let most = files.saturating_sub(OTHER_FILES) / FILES_OF_CONNECTION;
        let connections = most.max(1);
        if connections >= self.connections {
            return self;
        }
        tracing::warn!(
            files,
            wanted = self.connections,
            connections,
            "fewer connections than wanted: the process may not open more files (RLIMIT_NOFILE)"
        );
        let of_origin = self.connections_of_origin.min(self.connections) * connections;
        Self {
            connections,
            connections_of_origin: (of_origin / self.connections).max(1),
            ..self
        }
    }

    /// Bytes of a block: what the arguments say, if the memory has room for it.
    pub(crate) fn block(&self, args: &GatewayArgs) -> usize {
        args.insert_block.get().min(self.rows / BLOCKS) as usize
    }

    fn check(&self, args: &GatewayArgs) -> Result<(), BudgetError> {
        for (name, count) in [
            ("connections", self.connections),
            ("connections-per-address", self.connections_of_origin),
            ("uploads-per-workspace", args.uploads_per_workspace.into()),
        ] {
            if count == 0 {
                return Err(BudgetError::Nothing(name));
            }
        }
        let sum = self.rows + self.files + self.answers + self.connections * CONNECTION;
        let available = args.memory.get() / 8 * 7;
        if sum > available {
            return Err(BudgetError::TooMuch {
                connections: self.connections,
                sum,
                available,
            });
        }
        Ok(())
    }
}

impl Budgets {
    pub(crate) fn new(sizes: Sizes, uploads: u32, metrics: &Metrics) -> Self {
        let budget = |bytes: u64, r#use| Budget::new(bytes as usize, metrics.memory(r#use));
        Self {
            rows: budget(sizes.rows, "rows"),
            files: budget(sizes.files, "files"),
            answers: budget(sizes.answers, "answers"),
            uploads,
        }
    }

    /// The shares of one more workspace.
    pub(crate) fn share(&self) -> Shares {
        let cores = available_parallelism().map_or(1, usize::from);
        Shares {
            rows: self.rows.share(),
            files: self.files.share(),
            answers: self.answers.share(),
            uploads: UploadSlots::new(self.uploads),
            splitting: Arc::new(Semaphore::new((cores / 2).max(1))),
        }
    }
}

const _: () = assert!(LARGEST_HEAD + SMALL_ANSWER <= CONNECTION as usize && STEP > SMALL_ANSWER);

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(change: impl FnOnce(&mut GatewayArgs)) -> Result<Sizes, BudgetError> {
        let mut args = GatewayArgs::default();
        change(&mut args);
        Sizes::of(&args)
    }

    #[test]
    fn memory_is_shared_out_in_parts() {
        let mebibytes = 1024 * 1024;
        let expected = Sizes {
            rows: 256 * mebibytes,
            files: 256 * mebibytes,
            answers: 64 * mebibytes,
            connections: 4096,
            connections_of_origin: 2048,
        };
        assert_eq!(sizes(|_| {}), Ok(expected));
        let small = sizes(|args| args.memory = "512Mi".parse().unwrap()).unwrap();
        assert_eq!((small.rows, small.connections), (128 * mebibytes, 2048));
        let args = GatewayArgs::default();
        assert_eq!(expected.block(&args), 16 * 1024 * 1024);
        let tight = Sizes {
            rows: mebibytes,
            ..expected
        };
        assert_eq!(tight.block(&args), 128 * 1024);
    }

    #[test]
    fn there_are_no_more_connections_than_files() {
        let counts = |files: u64| {
            let sizes = sizes(|_| {}).unwrap().within(files);
            (sizes.connections, sizes.connections_of_origin)
        };
        assert_eq!(counts(u64::MAX), (4096, 2048));
        assert_eq!(counts(256 + 2 * 4096), (4096, 2048));
        assert_eq!(counts(1024), (384, 192));
        assert_eq!(counts(100), (1, 1));
    }

    #[test]
    fn what_does_not_fit_is_refused_at_the_start() {
        let refused = sizes(|args| args.parquet_memory = Some("700Mi".parse().unwrap()));
        assert!(
            matches!(refused, Err(BudgetError::TooMuch { .. })),
            "{refused:?}"
        );
        let refused = sizes(|args| args.connections = Some(0));
        assert_eq!(refused, Err(BudgetError::Nothing("connections")));
    }
}
