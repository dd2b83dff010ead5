//! Where a `ClickHouseCluster` may not lead: whoever connects to a replica, operator or gateway, keeps
//! to the same rule.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Whether an address is link-local, or another at which cloud providers give a machine its
/// credentials. No ClickHouse is there. A name may lead there as well: see [`allowed`].
pub fn is_of_the_machine(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
}

/// Of the addresses that a name leads to, those that ClickHouse may be at.
///
/// # Errors
/// There is none.
pub fn allowed(found: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let allowed: Vec<SocketAddr> = found
        .filter(|address| !is_of_the_machine(address.ip()))
        .collect();
    if allowed.is_empty() {
        let kind = io::ErrorKind::AddrNotAvailable;
        return Err(io::Error::new(kind, "no address that ClickHouse may be at"));
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_the_machine_are_out_of_reach() {
        for (address, is_refused) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(
                is_of_the_machine(address.parse().unwrap()),
                is_refused,
                "{address}"
            );
        }
    }

    #[test]
    fn a_name_leads_only_where_clickhouse_may_be() {
        let local = "169.254.169.254:80".parse().unwrap();
        let good = "10.0.0.1:8123".parse().unwrap();
        assert_eq!(allowed([local, good].into_iter()).unwrap(), [good]);
        let error = allowed([local].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "no address that ClickHouse may be at");
        assert!(allowed([].into_iter()).is_err());
    }
}
