//! What of a server the desired catalog depends on.

/// What a server can do, as far as the desired catalog and the way there depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFeatures {
    /// Its version.
    pub version: String,
    /// Whether views can say as whom they run.
    pub sql_security: bool,
    /// Whether it has Keeper and the macros `shard` and `replica`: then tables are replicated.
    pub replication: bool,
    /// Whether a statement can lift the limits on what is dropped.
    pub drop_limits: bool,
}

impl ServerFeatures {
    /// What a server of the current stable version can do that replicates nothing.
    pub fn current() -> Self {
        Self {
            version: "26.7.2.1".to_owned(),
            sql_security: true,
            replication: false,
            drop_limits: true,
        }
    }
}
