//! The access log: a line of JSON for every request that ends.
//!
//! A thread of its own writes the lines, since whoever reads them may be slow, and a worker has
//! other clients. Lines that it cannot take in time are counted, and dropped: they may not hold up
//! requests, nor take memory without a bound.

use super::request_event::RequestEvent;
use crate::error_code::ErrorCode;
use crate::metrics::{ResourceKind, RowCounts};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines that wait to be written: about four megabytes.
const MOST_WAITING: usize = 8192;

/// Where the lines go.
pub(crate) struct AccessLog {
    lines: SyncSender<Vec<u8>>,
    /// Lines that were taken.
    taken: AtomicU64,
    written: Arc<Written>,
    dropped: Counter,
}

/// How many lines are written, and that there are more.
#[derive(Default)]
struct Written {
    lines: Mutex<u64>,
    grew: Condvar,
}

/// A line. Names are those of the labels of metrics.
#[derive(Serialize)]
struct Line<'a> {
    /// When the request came.
    time: Timestamp,
    request_id: &'a str,
    route: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datasource: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    ending: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unconfirmed_rows: Option<u64>,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    clickhouse_ms: f64,
    gateway_ms: f64,
}

impl AccessLog {
    /// Starts to write to `output`; `dropped` counts the lines that it cannot take.
    pub(crate) fn start(output: impl Write + Send + 'static, dropped: Counter) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(MOST_WAITING);
        let written = Arc::new(Written::default());
        let writer = Arc::clone(&written);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&waiting, BufWriter::new(output), &writer))?;
        Ok(Self {
            lines,
            taken: AtomicU64::new(0),
            written,
            dropped,
        })
    }

    /// Writes a line for a request, now or soon.
    pub(super) fn write(&self, event: &RequestEvent) {
        let line = serde_json::to_vec(&Line::of(event)).map(|mut line| {
            line.push(b'\n');
            line
        });
        if line.is_ok_and(|line| self.lines.try_send(line).is_ok()) {
            self.taken.fetch_add(1, Ordering::Relaxed);
        } else {
            self.dropped.inc();
        }
    }

    /// Waits until all lines so far are written, for a while.
    pub(crate) fn flush(&self, patience: Duration) {
        let taken = self.taken.load(Ordering::Relaxed);
        let written = self.written.lines();
        let _ = self
            .written
            .grew
            .wait_timeout_while(written, patience, |written| *written < taken);
    }
}

impl Written {
    fn lines(&self) -> MutexGuard<'_, u64> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, lines: u64) {
        *self.lines() += lines;
        self.grew.notify_all();
    }
}

/// Writes what waits, and sees to it that it is out before more is waited for.
fn write_lines(waiting: &Receiver<Vec<u8>>, mut output: BufWriter<impl Write>, written: &Written) {
    let mut fails = false;
    while let Ok(first) = waiting.recv() {
        let mut count = 0;
        let mut result = Ok(());
        for line in std::iter::once(first).chain(waiting.try_iter().take(MOST_WAITING)) {
            result = result.and_then(|()| output.write_all(&line));
            count += 1;
        }
        result = result.and_then(|()| output.flush());
        if let Err(error) = &result
            && !fails
        {
            tracing::warn!(%error, "the access log cannot be written");
        }
        fails = result.is_err();
        written.add(count);
    }
}

impl<'a> Line<'a> {
    fn of(event: &'a RequestEvent) -> Self {
        let principal = event.principal.as_deref();
        let about = event.about.as_deref().map(|resource| &resource.name);
        let named = |kind| {
            about
                .filter(|name| name.kind == kind)
                .map(|name| &*name.name)
        };
        let rows = event.rows;
        let some = |count: fn(RowCounts) -> u64| rows.map(count).filter(|count| *count > 0);
        Self {
            time: event.request_id.time(),
            request_id: event.request_id.as_str(),
            route: event.route.label(),
            namespace: principal.map(|principal| &*principal.workspace.namespace),
            workspace: principal.map(|principal| &*principal.workspace.name),
            pipe: named(ResourceKind::Pipe),
            datasource: named(ResourceKind::DataSource),
            token: principal.map(|principal| &*principal.token),
            status: event.status,
            code: event.error.map(ErrorCode::as_str),
            ending: event.ending.label(),
            rows: rows.map(|rows| rows.stored).or(event.answered_rows),
            quarantined_rows: rows.map(|rows| rows.quarantined),
            failed_rows: some(|rows| rows.failed),
            unconfirmed_rows: some(|rows| rows.unconfirmed),
            bytes_in: event.received_bytes,
            bytes_out: event.sent_bytes,
            duration_ms: milliseconds(event.duration),
            clickhouse_ms: milliseconds(event.clickhouse),
            gateway_ms: milliseconds(event.gateway()),
        }
    }
}

/// With a microsecond as the smallest part.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
