//! Where a `ClickHouseCluster` may not lead: whoever connects to a replica, operator or gateway, keeps
//! to the same rule.

use std::net::{IpAddr, Ipv6Addr};

/// Whether an address is link-local, or another at which cloud providers give a machine its
/// credentials. No ClickHouse is there, and a name may lead there as well: ask with what it leads to.
pub fn is_of_the_machine(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
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
}
