//! From a request to its answer: the route, the token, the rate, and then the
//! handler. Errors become answers here and nowhere else.

use crate::attempts::Attempts;
use crate::auth;
use crate::body::Body;
use crate::browser;
use crate::connections::Peer;
use crate::context::Context;
use crate::endpoint::{self, Format, Question};
use crate::error::{ApiError, ErrorCode};
use crate::index::{Index, ServedPipe};
use crate::ingest;
use crate::metrics::{Measured, Metrics, RouteKind};
use crate::received::Received;
use crate::request_id::RequestId;
use crate::route::{Route, route};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What all connections share.
pub(crate) struct Service {
    pub(crate) index: Arc<Index>,
    pub(crate) attempts: Attempts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: Arc<AtomicBool>,
}

impl Service {
    /// Answers a request, whatever happens. Its head is read here and now, and not when the answer is
    /// first waited for: by then hyper looks for a client that leaves, and makes room for what may come
    /// from it. Where the head is not in use any more, that is the room it came in.
    pub(crate) fn answer(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> {
        let has_chunks = request.version() > Version::HTTP_10;
        let (parts, body) = request.into_parts();
        let request_id = RequestId::new();
        let foreign = browser::is_foreign(&parts.headers);
        let mut measured = None;
        let begun = match browser::preflight(&parts.method, &parts.headers) {
            Some(response) => Ok(Begun::Answered(response)),
            None => self.begin(&request_id, peer, parts, Received::new(body), &mut measured),
        };
        async move {
            let result = match begun {
                Ok(begun) => begun.end(&mut measured).await,
                Err(error) => Err(error),
            };
            let mut response = result.unwrap_or_else(|error| {
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
            if !has_chunks && matches!(response.body(), Body::Streaming(_)) {
                peer.begin_unframed_answer();
            }
            browser::open(foreign, &mut response);
            response
        }
    }

    pub(crate) fn readiness(&self) -> Response<Body> {
        if self.ready.load(Ordering::Relaxed) {
            plain(StatusCode::OK, "ready\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }

    /// Does what can be done before the body is read and ClickHouse is asked.
    fn begin(
        &self,
        request_id: &RequestId,
        peer: &Peer,
        parts: Parts,
        body: Received,
        measured: &mut Option<Measured>,
    ) -> Result<Begun<'_>, ApiError> {
        let route = match route(&parts.method, parts.uri.path()) {
            Ok(Route::Health) => return Ok(Begun::Answered(plain(StatusCode::OK, "ok\n"))),
            Ok(Route::Ready) => return Ok(Begun::Answered(self.readiness())),
            route => route,
        };
        let kind = route
            .as_ref()
            .map_or(RouteKind::Other, |route| route.kind());
        *measured = Some(self.metrics.request(kind));
        let route = route?;
        let context = self.authenticate(request_id, peer, &parts)?;
        if let Some(workspace) = &context.opened.served {
            workspace.rate.admit()?;
        }
        Ok(match route {
            Route::Endpoint { pipe, format } => {
                let pipe = endpoint::find(&context, pipe)?;
                if parts.method == Method::POST {
                    let pipe = Arc::clone(pipe);
                    Begun::Form(Box::new(Form {
                        context,
                        pipe,
                        format,
                        parts,
                        body,
                    }))
                } else {
                    let question = Question::of_query(&context, pipe, format, &parts)?;
                    Begun::Asked(context, question)
                }
            }
            Route::Pipes => Begun::Answered(endpoint::handle_list(&context)?),
            Route::OpenApi => Begun::Answered(endpoint::handle_openapi(&context)?),
            Route::Events => Begun::Ingesting(Box::pin(async move {
                ingest::handle_events(&context, &parts, body).await
            })),
            Route::Append => Begun::Ingesting(Box::pin(async move {
                ingest::handle_append(&context, &parts, body).await
            })),
            Route::Health | Route::Ready => Begun::Answered(self.readiness()),
        })
    }

    fn authenticate(
        &self,
        request_id: &RequestId,
        peer: &Peer,
        parts: &Parts,
    ) -> Result<Context<'_>, ApiError> {
        let token = auth::presented(&parts.headers, parts.uri.query().unwrap_or_default());
        let token = token.ok_or_else(|| {
            ApiError::new(
                ErrorCode::TokenMissing,
                "give a token: `Authorization: Bearer <token>` or `?token=<token>`",
            )
        })?;
        let find = || self.index.authenticate(&token);
        let opened = if peer.trusts(token.start()) {
            find()
        } else {
            let found = self.attempts.look_up(peer.origin, &token, find);
            found.inspect_err(|_| self.metrics.refused("login"))?
        };
        peer.trust(opened.as_ref().map_or(0, |_| token.start()));
        let opened = opened
            .ok_or_else(|| ApiError::new(ErrorCode::TokenInvalid, "the token is not known"))?;
        Ok(Context {
            request_id: request_id.clone(),
            metrics: &self.metrics,
            opened,
        })
    }
}

/// What is left to do once the head of a request is read. What is large stands in a box, or every
/// request would be as large.
enum Begun<'a> {
    /// Nothing.
    Answered(Response<Body>),
    /// To ask ClickHouse.
    Asked(Context<'a>, Question),
    /// To read the parameters in the body, and ask ClickHouse.
    Form(Box<Form<'a>>),
    /// To take in the rows in the body.
    Ingesting(Pin<Box<dyn Future<Output = Result<Response<Body>, ApiError>> + Send + 'a>>),
}

/// A request for an endpoint with parameters in its body.
struct Form<'a> {
    context: Context<'a>,
    pipe: Arc<ServedPipe>,
    format: Format,
    parts: Parts,
    body: Received,
}

impl Begun<'_> {
    async fn end(self, measured: &mut Option<Measured>) -> Result<Response<Body>, ApiError> {
        match self {
            Self::Answered(response) => Ok(response),
            Self::Asked(context, question) => question.answer(&context, measured).await,
            Self::Form(form) => Box::pin(form.answer(measured)).await,
            Self::Ingesting(ingesting) => ingesting.await,
        }
    }
}

impl Form<'_> {
    async fn answer(self, measured: &mut Option<Measured>) -> Result<Response<Body>, ApiError> {
        let (context, pipe, parts) = (self.context, self.pipe, self.parts);
        let question = Question::of_body(&context, &pipe, self.format, &parts, self.body).await?;
        question.answer(&context, measured).await
    }
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response
}
