//! Aviary's Kubernetes API: kinds, conditions, quantities and names.
