//! Where a replica answers, taken apart once.

use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

/// The parts of a replica's URL.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// What to connect to: a name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The `Host` header.
    pub(super) authority: String,
    /// What every path starts with; never ends in a slash.
    pub(super) path: String,
    /// The name in the server's certificate, for `https`.
    pub(super) server_name: Option<ServerName<'static>>,
}

/// A URL that is no replica's address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an http:// or https:// address")]
pub(crate) struct AddressError(String);

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let refuse = || AddressError(text.to_owned());
        let url = Url::parse(text).map_err(|_| refuse())?;
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(refuse()),
        };
        let host = match url.host().ok_or_else(refuse)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let server_name = if secure {
            Some(ServerName::try_from(host.clone()).map_err(|_| refuse())?)
        } else {
            None
        };
        let port = url.port_or_known_default().ok_or_else(refuse)?;
        let shown_host = url.host_str().ok_or_else(refuse)?;
        Ok(Self {
            authority: format!("{shown_host}:{port}"),
            host,
            port,
            path: url.path().trim_end_matches('/').to_owned(),
            server_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let address = Address::parse("http://clickhouse-0.clickhouse:8123").unwrap();
        assert_eq!(address.authority, "clickhouse-0.clickhouse:8123");
        assert_eq!((address.path.as_str(), address.server_name), ("", None));
        let address = Address::parse("https://[::1]/proxy/").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 443));
        assert_eq!(
            (address.authority.as_str(), address.path.as_str()),
            ("[::1]:443", "/proxy")
        );
        assert!(address.server_name.is_some());
        for bad in ["", "clickhouse:8123", "ftp://x", "http://"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
