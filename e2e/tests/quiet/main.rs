//! What needs quiet: requests are counted, or a time is the requirement. Each has the
//! box to itself, in a binary that runs before the one whose tests run side by side.

mod idle;
mod neighbours;
mod revocation;
mod webhook;

/// One at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
