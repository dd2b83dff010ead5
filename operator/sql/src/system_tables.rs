//! Which tables of ClickHouse's own databases a tenant's SQL may read: the one list.
//! `docs/reference/system-tables.md` is made from it.
//!
//! A table that is not in it may not be read, so one that a new version adds stays closed until
//! somebody has looked at it; a test against the real engine names those the list lacks. Readers have
//! no grants on `system`: a server that has `select_from_system_db_requires_grant` refuses them
//! whatever is not in [`OPEN_WITHOUT_GRANT`], some of what is open here included.

/// What a table of the database `system` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemTable {
    /// What the version is made of, or numbers: the same for everybody.
    Harmless,
    /// What ClickHouse itself limits to the user's own session and to tables he has rights on.
    OwnRows,
    /// What the server or other tenants do, in statements, paths, messages or counts.
    Closed,
}

/// Same for everybody.
pub const HARMLESS: &[&str] = &[
    "aggregate_function_combinators",
    "codecs",
    "collations",
    "contributors",
    "data_skipping_index_types",
    "data_type_families",
    "database_engines",
    "dictionary_layouts",
    "disk_types",
    "formats",
    "keywords",
    "licenses",
    "numbers",
    "numbers_mt",
    "one",
    "primes",
    "privileges",
    "table_engines",
    "table_functions",
    "time_zones",
    "tokenizers",
    "unicode",
    "zeros",
    "zeros_mt",
];

/// Limited by ClickHouse to what the user may see.
pub const OWN_ROWS: &[&str] = &[
    "columns",
    "current_roles",
    "data_skipping_indices",
    "databases",
    "enabled_roles",
    "parts",
    "parts_columns",
    "projections",
    "quota_usage",
    "settings",
    "tables",
];

/// What ClickHouse lets every user read on a server that has `select_from_system_db_requires_grant`:
/// `always_accessible_tables` in `addImplicitAccessRights` of its `src/Access/ContextAccess.cpp`, as of
/// 26.7. Versions before 25.x lack `completions`, `dictionary_layouts` and `disk_types`. `user_query_log`
/// comes to it where that is switched on, and tables of users, roles and policies for those with rights
/// to show them, which readers do not have. Of these, `functions` (with what others defined) and
/// `completions` (with names of theirs) are closed here all the same.
pub const OPEN_WITHOUT_GRANT: &[&str] = &[
    "aggregate_function_combinators",
    "collations",
    "columns",
    "completions",
    "contributors",
    "current_roles",
    "data_type_families",
    "database_engines",
    "databases",
    "dictionary_layouts",
    "disk_types",
    "enabled_roles",
    "formats",
    "functions",
    "licenses",
    "one",
    "privileges",
    "quota_usage",
    "settings",
    "table_engines",
    "table_functions",
    "tables",
    "time_zones",
];

/// Known, and not for tenants. All of `information_schema` is closed, too: what it has of use is
/// in `system.tables` and `system.columns`.
pub const CLOSED: &[&str] = &[
    "aggregated_zookeeper_log",
    "asynchronous_insert_log",
    "asynchronous_inserts",
    "asynchronous_loader",
    "asynchronous_metric_log",
    "asynchronous_metrics",
    "azure_queue_log",
    "azure_queue_metadata_cache",
    "azure_queue_settings",
    "background_schedule_pool",
    "background_schedule_pool_log",
    "backup_log",
    "backups",
    "blob_storage_log",
    "build_options",
    "certificates",
    "clusters",
    "completions",
    "constraints",
    "coverage_log",
    "crash_log",
    "dashboards",
    "database_replicas",
    "dead_letter_queue",
    "delta_lake_metadata_log",
    "detached_parts",
    "detached_tables",
    "dictionaries",
    "dictionary_sources",
    "dimensional_metrics",
    "disks",
    "distributed_ddl_queue",
    "distribution_queue",
    "dns_cache",
    "documentation",
    "dropped_tables",
    "dropped_tables_parts",
    "error_log",
    "errors",
    "events",
    "fail_points",
    "filesystem_cache",
    "filesystem_cache_log",
    "filesystem_cache_settings",
    "filesystem_read_prefetches_log",
    "functions",
    "grants",
    "graphite_retentions",
    "histogram_metrics",
    "hypothetical_indexes",
    "iceberg_files",
    "iceberg_history",
    "iceberg_metadata_log",
    "jemalloc_bins",
    "jemalloc_profile_text",
    "jemalloc_stats",
    "kafka_consumers",
    "latency_buckets",
    "latency_log",
    "macros",
    "masking_policies",
    "merge_tree_settings",
    "merges",
    "metric_log",
    "metrics",
    "models",
    "moves",
    "mutations",
    "named_collections",
    "opentelemetry_span_log",
    "part_log",
    "part_moves_between_shards",
    "processes",
    "processors_profile_log",
    "projection_parts",
    "projection_parts_columns",
    "query_cache",
    "query_condition_cache",
    "query_log",
    "query_metric_log",
    "query_thread_log",
    "query_views_log",
    "quota_limits",
    "quotas",
    "quotas_usage",
    "remote_data_paths",
    "replicas",
    "replicated_fetches",
    "replicated_merge_tree_settings",
    "replication_queue",
    "resources",
    "rocksdb",
    "role_grants",
    "roles",
    "row_policies",
    "s3_queue_settings",
    "s3queue_log",
    "s3queue_metadata_cache",
    "scheduler",
    "schema_inference_cache",
    "server_settings",
    "session_log",
    "settings_changes",
    "settings_profile_elements",
    "settings_profiles",
    "stack_trace",
    "storage_policies",
    "symbols",
    "text_log",
    "trace_log",
    "transactions",
    "transactions_info_log",
    "user_defined_functions",
    "user_directories",
    "user_processes",
    "users",
    "view_refreshes",
    "warnings",
    "workloads",
    "zookeeper",
    "zookeeper_connection",
    "zookeeper_connection_log",
    "zookeeper_info",
    "zookeeper_log",
    "zookeeper_watches",
];

/// What the list says of a table of the database `system`; nothing if it is not in the list.
pub fn system_table(name: &str) -> Option<SystemTable> {
    let lists = [
        (HARMLESS, SystemTable::Harmless),
        (OWN_ROWS, SystemTable::OwnRows),
        (CLOSED, SystemTable::Closed),
    ];
    let found = lists.into_iter().find(|(list, _)| list.contains(&name));
    found.map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_in_order_and_no_table_is_in_two() {
        for list in [HARMLESS, OWN_ROWS, CLOSED, OPEN_WITHOUT_GRANT] {
            assert!(list.is_sorted());
        }
        let mut all: Vec<&str> = [HARMLESS, OWN_ROWS, CLOSED].concat();
        all.sort_unstable();
        assert!(all.windows(2).all(|two| two[0] != two[1]));
        for table in OPEN_WITHOUT_GRANT {
            assert!(all.contains(table), "{table}");
        }
    }
}
