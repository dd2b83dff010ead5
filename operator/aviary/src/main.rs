//! The aviary binary.

fn main() {}
