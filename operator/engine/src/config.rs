//! How an engine is to run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// The settings of an [`Engine`](crate::Engine).
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Holds everything the engine keeps: ClickHouse's data, the access
    /// statements, the configuration written for libchdb. One engine at a time.
    pub data_path: PathBuf,
    /// Where to serve HTTP. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The libchdb to load; `None` looks where
    /// [`library::locate`](crate::library::locate) looks.
    pub library: Option<PathBuf>,
    /// The password of the user `default`, who may do everything. `None` lets
    /// everybody in who reaches the port.
    pub default_password: Option<SecretString>,
    /// How many queries may run at once; more are refused with code 202.
    pub max_concurrent_queries: usize,
    /// How long a change of users waits for the running queries before it
    /// cancels them: new rights take effect by opening libchdb anew.
    pub drain_deadline: Duration,
    /// How long a stop waits for the running queries before it cancels them.
    pub shutdown_deadline: Duration,
}

impl EngineConfig {
    /// The defaults, for data in `data_path`: loopback, ClickHouse's port.
    pub fn new(data_path: impl Into<PathBuf>) -> Self {
        Self {
            data_path: data_path.into(),
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8123)],
            library: None,
            default_password: None,
            max_concurrent_queries: 100,
            drain_deadline: Duration::from_secs(10),
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}
