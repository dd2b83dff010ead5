//! Embedded ClickHouse (libchdb) behind ClickHouse's HTTP interface, for development and tests.
