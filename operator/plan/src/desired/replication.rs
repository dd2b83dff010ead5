//! What makes a table a replicated one, or lets one that is not know a repeated INSERT.

use super::server::ServerFeatures;
use crate::model::{ValidDataSource, WorkspaceModel};
use std::collections::BTreeMap;

/// How many of its last blocks a table knows again, so that an INSERT whose outcome nobody learned
/// can be repeated: as many as a replicated table does, which has its own way to know them.
const KNOWN_BLOCKS: &str = "10000";

/// What lets a table store a repeated INSERT once.
pub(super) fn deduplication(replication_path: Option<&str>) -> BTreeMap<String, String> {
    let window = ("non_replicated_deduplication_window", KNOWN_BLOCKS);
    let needed = replication_path.is_none().then_some(window);
    needed
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The uid in the path keeps a table that is made anew apart from one of the same
/// name whose state Keeper still has.
pub(super) fn replication_path(
    model: &WorkspaceModel,
    source: &ValidDataSource,
    server: &ServerFeatures,
    suffix: &str,
) -> Option<String> {
    server.replication.then(|| {
        format!(
            "/clickhouse/aviary/{}/{}{suffix}/{{shard}}",
            model.uid, source.uid
        )
    })
}
