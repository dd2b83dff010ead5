//! How an engine is to run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use crate::xml::is_unwritable;

/// How many queries run at once unless it is said otherwise.
pub(crate) const QUERIES_AT_ONCE: usize = 256;

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
    /// What `{name}` in statements stands for here, such as this replica's own name.
    pub macros: Vec<Macro>,
    /// The ensemble that replicated tables are coordinated by; empty for none.
    pub zookeeper: Vec<ZooKeeperNode>,
}

/// A macro of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macro {
    /// Letters, digits and `_`: it becomes an XML element.
    pub(crate) name: String,
    /// Anything that XML can hold.
    pub(crate) value: String,
}

impl FromStr for Macro {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
        let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        if !begins || name.contains(|one: char| !one.is_ascii_alphanumeric() && one != '_') {
            return Err(format!(
                "`{name}` is no name for a macro: letters, digits and `_` are"
            ));
        }
        if is_unwritable(value) {
            return Err(format!("the value of `{name}` holds control characters"));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Where a member of a ZooKeeper ensemble answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZooKeeperNode {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for ZooKeeperNode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = text.rsplit_once(':').and_then(|(host, port)| {
            // The brackets of an IPv6 address belong to its notation with a port only.
            let host = host
                .strip_prefix('[')
                .map_or(Some(host), |inner| inner.strip_suffix(']'))?;
            Some((host, port.parse().ok()?))
        });
        match found {
            Some((host, port)) if !host.is_empty() && !is_unwritable(host) => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(format!("`{text}` is not HOST:PORT")),
        }
    }
}

impl EngineConfig {
    /// The defaults, for data in `data_path`: loopback, ClickHouse's port.
    pub fn new(data_path: impl Into<PathBuf>) -> Self {
        Self {
            data_path: data_path.into(),
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8123)],
            library: None,
            default_password: None,
            max_concurrent_queries: QUERIES_AT_ONCE,
            drain_deadline: Duration::from_secs(10),
            shutdown_deadline: Duration::from_secs(10),
            macros: Vec::new(),
            zookeeper: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_names_with_values() {
        let read = |text: &str| text.parse::<Macro>().map(|it| (it.name, it.value));
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(read("shard=01"), pair("shard", "01"));
        assert_eq!(read("note=a=b & c"), pair("note", "a=b & c"));
        for wrong in ["shard", "=x", "1st=x", "a b=x", "a>=x", "name=\u{1}"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn members_of_an_ensemble_are_hosts_with_ports() {
        let read = |text: &str| text.parse::<ZooKeeperNode>().map(|it| (it.host, it.port));
        let pair = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(read("keeper.shop:2181"), pair("keeper.shop", 2181));
        assert_eq!(read("[::1]:2181"), pair("::1", 2181));
        for wrong in ["keeper", ":2181", "keeper:", "keeper:x", "[::1:2181"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
