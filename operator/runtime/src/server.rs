//! `/healthz`, `/readyz` and `/metrics`.

use crate::metrics::Metrics;
use crate::supervision::Supervisor;
use crate::watch::Progress;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the server answers from.
#[derive(Clone)]
pub struct Answers {
    /// What there is to measure.
    pub metrics: Arc<Metrics>,
    /// Whether everything was listed.
    pub progress: Progress,
    /// Whether tasks are well.
    pub supervisor: Supervisor,
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    answers: Answers,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(answers))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn router(answers: Answers) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(answers)
}

/// Healthy unless a task of the operator keeps panicking: then a restart may help.
async fn healthy(State(answers): State<Answers>) -> Response {
    let ill = answers.supervisor.ill();
    if ill.is_empty() {
        return "ok\n".into_response();
    }
    let text = format!("panicked and started again: {}\n", ill.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Ready once every kind has been listed. A standby lists nothing and is ready to take over.
async fn ready(State(answers): State<Answers>) -> Response {
    let pending = answers.progress.pending();
    if pending.is_empty() {
        return "ok\n".into_response();
    }
    let lines: Vec<String> = pending
        .iter()
        .map(|(what, why)| format!("waiting for {what}: {why}\n"))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines.concat()).into_response()
}

async fn metrics(State(answers): State<Answers>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match answers.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "could not encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
