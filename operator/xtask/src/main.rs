//! Repository tasks: generate, tidy, image.

fn main() {}
