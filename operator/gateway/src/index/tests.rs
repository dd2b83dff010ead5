//! The index, fed by hand.
