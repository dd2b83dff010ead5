//! The HTTP data plane: endpoints and ingestion over an in-memory index.
