//! The reasons of events that tell of what was done in ClickHouse. Events that tell of a condition have
//! the condition's reason.

use crate::vocabulary::vocabulary;

vocabulary! {
    /// What was done in ClickHouse.
    EventReason:
    /// Something differed from the spec and was put back.
    DriftRepaired,
    /// A ClickHouse object was made.
    Created,
    /// A ClickHouse object was changed.
    Updated,
    /// A ClickHouse object was dropped.
    Dropped,
    /// A ClickHouse object was left in place and is no longer managed.
    Released,
}
