//! A real single-node Kubernetes, the end-to-end tests and the benchmarks.
