//! Events, seen by their consumers.

use super::access_log::AccessLog;
use super::consumers::Consumers;
use super::recorder::{Recorder, Waiting};
use super::request_event::Ending;
use crate::answer_body::{Body, Cut};
use crate::error_code::ErrorCode;
use crate::event::RecordedBody;
use crate::format::Format;
use crate::metrics::{Metrics, Resource, ResourceKind, ResourceName, RouteKind, RowCounts};
use crate::request_id::RequestId;
use crate::rights::Principal;
use crate::workspace_key::WorkspaceKey;
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Consumers of events, and what they wrote.
struct Fixture {
    consumers: Arc<Consumers>,
    metrics: Arc<Metrics>,
    access_log: Arc<AccessLog>,
    output: Output,
}

impl Fixture {
    fn new() -> Self {
        let (metrics, output) = (Arc::new(Metrics::new()), Output::default());
        let access_log = AccessLog::start(output.clone(), Counter::default());
        let access_log = Arc::new(access_log.unwrap());
        Self {
            consumers: Consumers::new(Arc::clone(&metrics), Some(Arc::clone(&access_log))),
            metrics,
            access_log,
            output,
        }
    }

    fn recorder(&self) -> Recorder {
        let mut recorder = Recorder::begin(&self.consumers, RequestId::new(), None);
        recorder.routed(RouteKind::Endpoint);
        recorder
    }

    fn resource(&self, kind: ResourceKind, name: &str) -> Arc<Resource> {
        self.metrics.resource(ResourceName {
            namespace: "demo".to_owned(),
            workspace: "shop".to_owned(),
            kind,
            name: name.to_owned(),
        })
    }

    /// The lines so far, without what differs from one run to the next.
    fn lines(&self) -> Vec<Value> {
        self.access_log.flush(PATIENCE);
        let text = String::from_utf8(self.output.0.lock().unwrap().clone()).unwrap();
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let fields = line.as_object_mut().unwrap();
            for field in ["time", "request_id", "duration_ms", "gateway_ms"] {
                assert!(fields.remove(field).is_some(), "{field} in {text}");
            }
            line
        };
        text.lines().map(line).collect()
    }

    /// How the only request so far ended.
    fn ending(&self) -> (String, u16) {
        let lines = self.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let in_flight = "aviary_gateway_requests_in_flight{route=\"endpoint\"} 0";
        assert!(self.metrics.encode().contains(in_flight));
        let ending = lines[0]["ending"].as_str().unwrap().to_owned();
        (ending, lines[0]["status"].as_u64().unwrap() as u16)
    }
}

fn streamed(pieces: Vec<Result<&'static str, Cut>>) -> Body {
    let frames = pieces
        .into_iter()
        .map(|piece| piece.map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))));
    Body::Streaming(Box::pin(StreamBody::new(stream::iter(frames))))
}

#[test]
fn a_line_says_whose_request_it_was_and_what_became_of_it() {
    let fixture = Fixture::new();
    let mut recorder = fixture.recorder();
    let shop = fixture.resource(ResourceKind::Workspace, "");
    let workspace = WorkspaceKey::new("demo", "shop");
    let principal = Principal::new("app", workspace, shop, Vec::new());
    recorder.routed(RouteKind::Events);
    recorder.authenticated(&Arc::new(principal));
    recorder.about(&fixture.resource(ResourceKind::DataSource, "sales"));
    recorder.rows(RowCounts {
        stored: 5,
        quarantined: 1,
        failed: 2,
        unconfirmed: 0,
    });
    recorder.failed(ErrorCode::BodyTimeout);
    recorder.answered(408);
    recorder.end(Ending::Answered);
    let expected = json!({
        "route": "events", "namespace": "demo", "workspace": "shop", "datasource": "sales",
        "token": "app", "status": 408, "code": "body_timeout", "ending": "answered", "rows": 5,
        "quarantined_rows": 1, "failed_rows": 2, "bytes_in": 0, "bytes_out": 0, "clickhouse_ms": 0.0,
    });
    assert_eq!(fixture.lines(), [expected]);
}

#[tokio::test]
async fn an_answer_ends_its_request_once_when_it_is_out() {
    for (body, bytes) in [
        (Body::full("{\"a\":1}\n"), 8),
        (streamed(vec![Ok("{\"a\":1}\n"), Ok("{}\n")]), 11),
        (Body::full(""), 0),
    ] {
        let fixture = Fixture::new();
        let mut recorder = fixture.recorder();
        recorder.answers_rows(Format::NdJson);
        recorder.answered(200);
        let body = RecordedBody::new(body, recorder, true);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), bytes);
        assert_eq!(fixture.ending(), ("answered".to_owned(), 200));
        assert_eq!(fixture.lines()[0]["bytes_out"], bytes);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_wants_to_its_end_has_lost_its_client() {
    let fixture = Fixture::new();
    let mut recorder = fixture.recorder();
    recorder.answered(200);
    let body = streamed(vec![Ok("one"), Ok("two")]);
    let mut body = RecordedBody::new(body, recorder, true);
    assert!(body.frame().await.is_some());
    assert!(fixture.lines().is_empty());
    drop(body);
    assert_eq!(fixture.ending(), ("client_gone".to_owned(), 200));
    assert_eq!(fixture.lines()[0]["bytes_out"], 3);
}

#[tokio::test]
async fn an_answer_that_is_cut_has_its_reason() {
    let fixture = Fixture::new();
    let mut recorder = fixture.recorder();
    recorder.answered(200);
    let body = streamed(vec![Ok("one"), Err(Cut(ErrorCode::QueryTimeout))]);
    let body = RecordedBody::new(body, recorder, true);
    assert!(body.collect().await.is_err());
    assert_eq!(fixture.ending(), ("cut".to_owned(), 200));
    assert_eq!(fixture.lines()[0]["code"], "query_timeout");
    let cut = "aviary_gateway_answers_cut_total{cause=\"limit\"} 1";
    assert!(fixture.metrics.encode().contains(cut));
}

#[test]
fn an_answer_to_head_is_whole_without_its_body() {
    let fixture = Fixture::new();
    let mut recorder = fixture.recorder();
    recorder.answered(200);
    drop(RecordedBody::new(
        streamed(vec![Ok("one")]),
        recorder,
        false,
    ));
    assert_eq!(fixture.ending(), ("answered".to_owned(), 200));
}

#[test]
fn a_request_that_is_given_up_has_lost_its_client() {
    let fixture = Fixture::new();
    let mut recorder = fixture.recorder();
    recorder.waits_for(Waiting::ClickHouse);
    std::thread::sleep(Duration::from_millis(2));
    drop(recorder);
    assert_eq!(fixture.ending(), ("client_gone".to_owned(), 499));
    // What it waited for last counts as well.
    assert!(fixture.lines()[0]["clickhouse_ms"].as_f64().unwrap() >= 2.0);
}

#[test]
fn a_panic_is_told_from_a_client_that_leaves() {
    let fixture = Fixture::new();
    let recorder = fixture.recorder();
    let panicked = std::thread::spawn(move || {
        let _recorder = recorder;
        panic!("for a test");
    });
    assert!(panicked.join().is_err());
    assert_eq!(fixture.ending(), ("panicked".to_owned(), 500));
}

/// Takes nothing until its sender is gone.
struct Stalled(Receiver<()>);

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_reader_of_the_log_holds_nothing_up() {
    let (go_on, stalled) = channel();
    let (metrics, dropped) = (Arc::new(Metrics::new()), Counter::default());
    let access_log = AccessLog::start(Stalled(stalled), dropped.clone()).unwrap();
    let access_log = Arc::new(access_log);
    let consumers = Consumers::new(metrics, Some(Arc::clone(&access_log)));
    while dropped.get() == 0 {
        drop(Recorder::begin(&consumers, RequestId::new(), None));
    }
    drop(go_on);
    access_log.flush(PATIENCE);
    let before = dropped.get();
    drop(Recorder::begin(&consumers, RequestId::new(), None));
    assert_eq!(dropped.get(), before);
}
