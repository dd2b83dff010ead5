//! The listener: accepts connections, reads requests, hands them to worker threads.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request as HttpRequest, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::body::{BodyReader, BodySource};
use super::request::Request;
use super::response::{Answer, AnswerBody, AnswerContext, Gone, Responder};
use super::upload::{self, Upload};
use crate::core::Core;
use crate::exception::{Exception, code};
use crate::execute::{Failure, Job};
use crate::pipe::{LateReader, Watcher};
use crate::running::{CancelOnDrop, Entry};

/// ClickHouse's own default for keep-alive connections.
const HEADER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Serves one listener until `stop` says so, then lets its connections end.
pub(crate) async fn serve(core: Arc<Core>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(Arc::clone(&core), stream);
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    // Clients that leave are no news.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, %peer, "connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn connection(
    core: Arc<Core>,
    stream: TcpStream,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let core = Arc::clone(&core);
        async move { Ok::<_, Infallible>(respond(core, request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
}

async fn respond(core: Arc<Core>, request: HttpRequest<Incoming>) -> Response<AnswerBody> {
    let has_query = request.uri().query().is_some_and(|query| !query.is_empty());
    let plain = |status, text: &'static str| Answer::text(status, text).into_response(None);
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/ping") => plain(StatusCode::OK, "Ok.\n"),
        // There is no replication, so no replica lags.
        (&Method::GET | &Method::HEAD, "/replicas_status") => plain(StatusCode::OK, "Ok.\n"),
        (&Method::GET | &Method::HEAD, "/") if !has_query => plain(StatusCode::OK, "Ok.\n"),
        (&Method::GET | &Method::HEAD | &Method::POST | &Method::PUT, "/" | "/query") => {
            query(core, request).await
        }
        (&Method::OPTIONS, _) => plain(StatusCode::NO_CONTENT, ""),
        _ => not_found(&request),
    }
}

fn not_found(request: &HttpRequest<Incoming>) -> Response<AnswerBody> {
    let text = format!(
        "There is no handle {}\n\n\
         Use / or /ping for health checks.\nOr /replicas_status for more sophisticated health checks.\n\n\
         Send queries from your program with POST method or GET /?query=...\n\n\
         Use clickhouse-client:\n\nFor interactive data analysis:\n    clickhouse-client\n\n\
         For batch query processing:\n    clickhouse-client --query='SELECT 1' > result\n    clickhouse-client < query > result\n",
        request.uri().path(),
    );
    Answer::text(StatusCode::NOT_FOUND, text).into_response(None)
}

async fn query(core: Arc<Core>, request: HttpRequest<Incoming>) -> Response<AnswerBody> {
    let (parts, body) = request.into_parts();
    let parsed = Request::parse(&parts.method, &parts.uri, &parts.headers);
    let context = context(&core, parsed.as_ref().ok());
    let (head_sender, head) = oneshot::channel();
    let late_reader = Arc::new(LateReader::default());
    let responder = Responder::new(context, head_sender);

    let admitted = parsed
        .map_err(Failure::Early)
        .and_then(|request| admit(&core, request, &late_reader));
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(failure) => {
            // The head is sent within the call.
            let _ = end(responder, Err(failure));
            return finish(head, Some(Upload::unwanted(body)), None, &late_reader).await;
        }
    };

    let guard = CancelOnDrop::new(Arc::clone(&admitted.entry.query));
    let (source, rest) = match upload::start(body).await {
        Ok(found) => found,
        // The client went away, or fell silent, in the middle of its request.
        Err(exception) => {
            let _ = responder.fail(&exception);
            return finish(head, None, None, &late_reader).await;
        }
    };
    tokio::task::spawn_blocking(move || admitted.run(source, responder));
    finish(head, rest, Some(guard), &late_reader).await
}

/// A request that may run: its user is known, its slot and its id are taken.
struct Admitted {
    job: Job,
    entry: Entry,
    slot: OwnedSemaphorePermit,
}

impl Admitted {
    fn run(self, source: BodySource, mut responder: Responder) {
        let Self {
            mut job,
            entry,
            slot,
        } = self;
        responder.belongs_to(Arc::clone(&entry.query));
        let request = &job.request;
        let body = BodyReader::new(source, request.content_coding, request.framed_body);
        let result = job.run(body, &mut responder);
        // Whoever has the whole answer may use the id and the slot again.
        drop((entry, slot));
        // Nobody is left to tell when this fails too.
        let _ = end(responder, result);
    }
}

fn end(responder: Responder, result: Result<(), Failure>) -> Result<(), Gone> {
    match result {
        Ok(()) => responder.finish(),
        Err(Failure::Exception(exception)) => responder.fail(&exception),
        Err(Failure::Early(exception)) => responder.refuse(&exception),
        Err(Failure::Gone) => Ok(()),
    }
}

fn admit(
    core: &Arc<Core>,
    request: Request,
    late_reader: &Arc<LateReader>,
) -> Result<Admitted, Failure> {
    let session = core
        .access
        .authenticate(&request.credentials, &request.roles)
        .map_err(Failure::Early)?;
    let Ok(slot) = Arc::clone(&core.slots).try_acquire_owned() else {
        return Err(Exception::new(
            code::TOO_MANY_SIMULTANEOUS_QUERIES,
            format!(
                "Too many simultaneous queries. Maximum: {}.",
                core.config.max_concurrent_queries
            ),
        )
        .into());
    };
    let entry = core.registry.enter(&request.query_id, &session.user)?;
    Ok(Admitted {
        job: Job {
            core: Arc::clone(core),
            running: Arc::clone(&entry.query),
            late_reader: Arc::clone(late_reader),
            session,
            request,
        },
        entry,
        slot,
    })
}

fn context(core: &Core, request: Option<&Request>) -> AnswerContext {
    let facts = &core.facts;
    AnswerContext {
        query_id: request.map_or_else(String::new, |request| request.query_id.clone()),
        version: facts.version.clone(),
        display_name: facts.display_name.clone(),
        timezone: facts.timezone.clone(),
        coding: request.and_then(|request| request.answer_coding),
        framed: request.is_some_and(|request| request.framed_answer),
        buffer_size: request.map_or(0, |request| request.buffer_size),
        wait_end_of_query: request.is_some_and(|request| request.wait_end_of_query),
    }
}

/// Waits for the answer's head. Meanwhile pumps the request's body, and has the
/// output read if that takes long.
async fn finish(
    mut head: oneshot::Receiver<Answer>,
    mut upload: Option<Upload<Incoming>>,
    guard: Option<CancelOnDrop>,
    late_reader: &Arc<LateReader>,
) -> Response<AnswerBody> {
    let watcher = Watcher(Arc::clone(late_reader));
    let pumping = async {
        if let Some(upload) = &mut upload {
            upload.pump().await;
        }
        std::future::pending::<Infallible>().await
    };
    let answer = tokio::select! {
        biased;
        answer = &mut head => answer,
        never = pumping => match never {},
        never = watcher.0.watch() => match never {},
    };
    if let Some(upload) = upload {
        // Beside the answer, which may come before the body's end.
        tokio::spawn(upload.drain());
    }
    match answer {
        Ok(answer) => answer.into_response(guard),
        // Only a panic of the worker leaves its end without a word.
        Err(_) => Answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Code: 49. DB::Exception: The engine failed. (LOGICAL_ERROR)\n",
        )
        .into_response(guard),
    }
}
