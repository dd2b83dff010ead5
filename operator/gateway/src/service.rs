//! From a request to its answer: the route, the token, the rate, and then the
//! handler. Errors become answers here and nowhere else.

use crate::auth;
use crate::body::Body;
use crate::browser;
use crate::context::Context;
use crate::endpoint;
use crate::error::{ApiError, ErrorCode};
use crate::index::Index;
use crate::ingest;
use crate::metrics::{Measured, Metrics, RouteKind};
use crate::received::Received;
use crate::request_id::RequestId;
use crate::route::{Route, route};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What all connections share.
pub(crate) struct Service {
    pub(crate) index: Arc<Index>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: Arc<AtomicBool>,
}

impl Service {
    /// Answers a request, whatever happens.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if let Some(response) = browser::preflight(&parts.method, &parts.headers) {
            return response;
        }
        let foreign = browser::is_foreign(&parts.headers);
        let mut response = self.answer_parts(parts, body).await;
        browser::open(foreign, &mut response);
        response
    }

    async fn answer_parts(&self, parts: Parts, body: Incoming) -> Response<Body> {
        let request_id = RequestId::new();
        let mut measured = None;
        let result = self
            .handle(&request_id, parts, Received::new(body), &mut measured)
            .await;
        let response = result.unwrap_or_else(|error| {
            tracing::debug!(
                request_id = request_id.as_str(),
                code = error.code().as_str(),
                "refused"
            );
            error.into_response(&request_id)
        });
        // A streamed answer has taken it along, to count when its last byte is sent.
        if let Some(measured) = &mut measured {
            measured.status(response.status().as_u16());
        }
        response
    }

    pub(crate) fn readiness(&self) -> Response<Body> {
        if self.ready.load(Ordering::Relaxed) {
            plain(StatusCode::OK, "ready\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }

    async fn handle(
        &self,
        request_id: &RequestId,
        parts: Parts,
        body: Received,
        measured: &mut Option<Measured>,
    ) -> Result<Response<Body>, ApiError> {
        let route = match route(&parts.method, parts.uri.path()) {
            Ok(Route::Health) => return Ok(plain(StatusCode::OK, "ok\n")),
            Ok(Route::Ready) => return Ok(self.readiness()),
            route => route,
        };
        let kind = route
            .as_ref()
            .map_or(RouteKind::Other, |route| route.kind());
        *measured = Some(self.metrics.request(kind));
        let route = route?;
        let context = self.authenticate(request_id, &parts)?;
        if let Some(workspace) = &context.opened.served {
            workspace.rate.admit()?;
        }
        match route {
            Route::Endpoint { pipe, format } => {
                let question = endpoint::read(&context, pipe, format, &parts, body).await?;
                // What has been read needs no memory while ClickHouse is asked.
                drop(parts);
                question.answer(&context, measured).await
            }
            Route::Pipes => endpoint::handle_list(&context),
            Route::OpenApi => endpoint::handle_openapi(&context),
            // Boxed, or every request would be as large as an upload is.
            Route::Events => Box::pin(ingest::handle_events(&context, &parts, body)).await,
            Route::Append => Box::pin(ingest::handle_append(&context, &parts, body)).await,
            Route::Health | Route::Ready => Ok(self.readiness()),
        }
    }

    fn authenticate(&self, request_id: &RequestId, parts: &Parts) -> Result<Context<'_>, ApiError> {
        let token = auth::presented(&parts.headers, parts.uri.query().unwrap_or_default());
        let token = token.ok_or_else(|| {
            ApiError::new(
                ErrorCode::TokenMissing,
                "give a token: `Authorization: Bearer <token>` or `?token=<token>`",
            )
        })?;
        let opened = self
            .index
            .authenticate(&token)
            .ok_or_else(|| ApiError::new(ErrorCode::TokenInvalid, "the token is not known"))?;
        Ok(Context {
            request_id: request_id.clone(),
            metrics: &self.metrics,
            opened,
        })
    }
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response
}
