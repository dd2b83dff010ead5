//! Starts, stops, kills and rights that change under load: each test has engines in processes of
//! their own, which are this test binary run again.
#![expect(
    clippy::unwrap_used,
    reason = "a test helper that cannot go on ends the test"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod process;
mod reopen;
mod restart;
