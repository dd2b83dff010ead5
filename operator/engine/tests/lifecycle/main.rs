//! Starts, stops, kills and rights that change under load: each test has engines in processes of
//! their own, which are this test binary run again.

#[path = "../harness/mod.rs"]
mod harness;
mod process;
mod reopen;
mod restart;
