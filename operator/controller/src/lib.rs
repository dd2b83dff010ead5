//! Watch, reconcile, report: everything that talks to Kubernetes.
