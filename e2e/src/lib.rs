//! A real single-node Kubernetes, the end-to-end tests and the benchmarks.
//!
//! It knows the product only from outside: manifests, HTTP, `kubectl`, `helm`.

pub mod bench;
pub mod checkout;
pub mod cluster;
pub mod demo;
pub mod product;
pub mod program;
pub mod support;
