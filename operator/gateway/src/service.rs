//! From a request to its answer: the route, the token, the rate, and then the
//! handler. Errors become answers here and nowhere else.

use crate::answer_body::Body;
use crate::append;
use crate::attempts::Attempts;
use crate::browser;
use crate::connections::Peer;
use crate::context::Context;
use crate::endpoint::{self, EndpointQuery};
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::event::{Consumers, RecordedBody, Recorder, Waiting};
use crate::format::Format;
use crate::index::{Index, ServedPipe};
use crate::metrics::{Metrics, RouteKind};
use crate::request_body::RequestBody;
use crate::request_id::RequestId;
use crate::route::{Route, route};
use crate::token_value;
use crate::workers::PerWorker;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What all connections share.
pub(crate) struct Service {
    pub(crate) index: Arc<Index>,
    pub(crate) attempts: Attempts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) consumers: PerWorker<Arc<Consumers>>,
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
    ) -> impl Future<Output = Response<RecordedBody>> {
        let has_chunks = request.version() > Version::HTTP_10;
        let (parts, body) = request.into_parts();
        let body = RequestBody::new(body);
        let has_answer_body = parts.method != Method::HEAD;
        let foreign = browser::is_foreign(&parts.headers);
        let consumers = self.consumers.own();
        let mut recorder = Recorder::begin(consumers, RequestId::new(), body.progress());
        let handler = self.dispatch(peer, parts, body, &mut recorder);
        async move {
            let result = match handler {
                Ok(handler) => handler.answer(&mut recorder).await,
                Err(error) => Err(error),
            };
            let mut response = result.unwrap_or_else(|error| {
                recorder.failed(error.code());
                error.into_response(recorder.request_id())
            });
            recorder.answered(response.status().as_u16());
            browser::open(foreign, &mut response);
            let response = response.map(|body| RecordedBody::new(body, recorder, has_answer_body));
            if !has_chunks && response.body().is_streamed() {
                peer.begin_unframed_answer();
            }
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
    fn dispatch(
        &self,
        peer: &Peer,
        parts: Parts,
        body: RequestBody,
        recorder: &mut Recorder,
    ) -> Result<Handler<'_>, ApiError> {
        if let Some(response) = browser::preflight(&parts.method, &parts.headers) {
            recorder.routed(RouteKind::Preflight);
            return Ok(Handler::Answered(response));
        }
        let route = route(&parts.method, parts.uri.path())?;
        recorder.routed(route.kind());
        match route {
            Route::Health => return Ok(Handler::Answered(plain(StatusCode::OK, "ok\n"))),
            Route::Ready => return Ok(Handler::Answered(self.readiness())),
            _ => {}
        }
        let context = self.authenticate(recorder.request_id(), peer, &parts)?;
        recorder.authenticated(&context.opened.principal);
        if let Some(workspace) = &context.opened.served {
            workspace.rate.admit()?;
        }
        Ok(match route {
            Route::Endpoint { pipe, format } => {
                let pipe = endpoint::find(&context, pipe)?;
                recorder.about(&pipe.resource);
                if parts.method == Method::POST {
                    let pipe = Arc::clone(pipe);
                    Handler::Form(Box::new(Form {
                        context,
                        pipe,
                        format,
                        parts,
                        body,
                    }))
                } else {
                    let query = EndpointQuery::of_query(&context, pipe, format, &parts)?;
                    Handler::Query(context, query)
                }
            }
            Route::Pipes => Handler::Answered(endpoint::handle_list(&context)?),
            Route::OpenApi => Handler::Answered(endpoint::handle_openapi(&context)?),
            Route::Events | Route::Append => Handler::Append(Box::new(Append {
                is_file: route == Route::Append,
                context,
                parts,
                body,
            })),
            Route::Health | Route::Ready => Handler::Answered(self.readiness()),
        })
    }

    fn authenticate(
        &self,
        request_id: &RequestId,
        peer: &Peer,
        parts: &Parts,
    ) -> Result<Context<'_>, ApiError> {
        let token = token_value::presented(&parts.headers, parts.uri.query().unwrap_or_default());
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
enum Handler<'a> {
    /// Nothing.
    Answered(Response<Body>),
    /// To ask ClickHouse.
    Query(Context<'a>, EndpointQuery),
    /// To read the parameters in the body, and ask ClickHouse.
    Form(Box<Form<'a>>),
    /// To take in the rows in the body.
    Append(Box<Append<'a>>),
}

/// A request for an endpoint with parameters in its body.
struct Form<'a> {
    context: Context<'a>,
    pipe: Arc<ServedPipe>,
    format: Format,
    parts: Parts,
    body: RequestBody,
}

/// A request with rows in its body.
struct Append<'a> {
    context: Context<'a>,
    /// Or else events.
    is_file: bool,
    parts: Parts,
    body: RequestBody,
}

impl Handler<'_> {
    async fn answer(self, recorder: &mut Recorder) -> Result<Response<Body>, ApiError> {
        match self {
            Self::Answered(response) => Ok(response),
            Self::Query(context, query) => query.answer(&context, recorder).await,
            Self::Form(form) => Box::pin(form.answer(recorder)).await,
            Self::Append(append) => Box::pin(append.answer(recorder)).await,
        }
    }
}

impl Form<'_> {
    async fn answer(self, recorder: &mut Recorder) -> Result<Response<Body>, ApiError> {
        let (context, pipe, parts) = (self.context, self.pipe, self.parts);
        recorder.waits_for(Waiting::Client);
        let query = EndpointQuery::of_body(&context, &pipe, self.format, &parts, self.body).await?;
        recorder.waits_for(Waiting::Gateway);
        query.answer(&context, recorder).await
    }
}

impl Append<'_> {
    async fn answer(self, recorder: &mut Recorder) -> Result<Response<Body>, ApiError> {
        let (context, parts) = (&self.context, &self.parts);
        if self.is_file {
            append::handle_file(context, parts, self.body, recorder).await
        } else {
            append::handle_events(context, parts, self.body, recorder).await
        }
    }
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response
}
