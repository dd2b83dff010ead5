//! The engine's own health.

use crate::harness::{replica, run};

#[test]
fn version_and_disks_are_told() {
    run(async {
        let health = replica().probe().await.unwrap();
        assert!(health.version.starts_with("26."), "{}", health.version);
        let disk = &health.disks[0];
        assert!(disk.total_bytes >= disk.free_bytes && disk.free_bytes > 0);
        assert_eq!(health.replication, None);
    });
}
