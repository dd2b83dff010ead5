//! Observe a catalog, execute steps, probe health: everything that talks to ClickHouse.
