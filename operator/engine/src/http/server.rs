//! The listener: accepts connections, reads requests, hands them to worker threads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request as HttpRequest, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::answer::{self, Answer, AnswerBody};
use super::body::{BodyReader, BodySource};
use super::request::Request;
use super::upload::{self, Upload};
use crate::core::Core;
use crate::exception::{Exception, code};
use crate::execute;
use crate::job::Job;
use crate::output::{Failure, Outcome, OutputReader, OutputWriter, output};
use crate::running::{CancelOnDrop, Entry};

/// How long a kept connection may be idle: more than a client's own patience, usually.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

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
                let connection = graceful.watch(connection(Arc::clone(&core), stream));
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
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn connection(
    core: Arc<Core>,
    stream: TcpStream,
) -> impl GracefulConnection<Error = hyper::Error> + Send {
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
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let has_query = request.uri().query().is_some_and(|query| !query.is_empty());
    match request.uri().path() {
        "/ping" if is_read => answer::text(StatusCode::OK, "Ok.\n"),
        "/" if is_read && !has_query => answer::text(StatusCode::OK, "Ok.\n"),
        "/" if is_read || request.method() == Method::POST => query(core, request).await,
        path => answer::text(
            StatusCode::NOT_FOUND,
            format!("There is no handle {path}\n\nUse / or /ping for health checks.\n"),
        ),
    }
}

async fn query(core: Arc<Core>, request: HttpRequest<Incoming>) -> Response<AnswerBody> {
    let (parts, body) = request.into_parts();
    let request = Request::parse(&parts.method, &parts.uri, &parts.headers);
    let answer = Answer::to(&core.info, request.as_ref().ok());
    let admitted = request.map_err(Failure::Early).and_then(|request| {
        let (reader, writer) = pipe_for(&request)?.unzip();
        Ok((admit(&core, request, writer)?, reader))
    });
    let (admitted, reader) = match admitted {
        Ok(found) => found,
        Err(failure) => {
            // Beside the answer, which would be lost with a connection closed on unread data.
            tokio::spawn(Upload::unwanted(body).drain());
            return answer.refuse(failure);
        }
    };
    let guard = CancelOnDrop::new(Arc::clone(&admitted.entry.query));
    let (source, upload) = match upload::start(body).await {
        Ok(found) => found,
        // The client went away, or fell silent, in the middle of its request.
        Err(exception) => return answer.refuse(exception.into()),
    };
    let (sender, ended) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        // Nobody may be left to tell.
        let _ = sender.send(admitted.run(source));
    });
    let telling = answer.tell(reader, ended, guard);
    match upload {
        Some(upload) => meanwhile(upload, telling).await,
        None => telling.await,
    }
}

/// Waits for the answer's beginning, and passes the request's body on meanwhile.
async fn meanwhile(
    mut upload: Upload,
    telling: impl Future<Output = Response<AnswerBody>>,
) -> Response<AnswerBody> {
    let pumping = async {
        upload.pump().await;
        std::future::pending::<Infallible>().await
    };
    let response = tokio::select! {
        biased;
        response = telling => response,
        never = pumping => match never {},
    };
    // The answer may come before the body's end.
    tokio::spawn(upload.drain());
    response
}

/// A request that may run: its user is known, its slot and its id are taken.
struct Admitted {
    job: Job,
    entry: Entry,
    _slot: OwnedSemaphorePermit,
}

impl Admitted {
    /// Ends the query's output, and gives its id and its slot free, before it returns.
    fn run(self, source: BodySource) -> Result<Outcome, Failure> {
        let mut job = self.job;
        let body = BodyReader::new(source, job.request.framed_body);
        execute::run(&mut job, body)
    }
}

/// The way for output that is to be sent while its query runs.
fn pipe_for(request: &Request) -> Result<Option<(OutputReader, OutputWriter)>, Exception> {
    if request.wait_end_of_query {
        return Ok(None);
    }
    output().map(Some).map_err(|error| {
        let message = format!("Cannot make a pipe for the output: {error}.");
        Exception::new(code::LOGICAL_ERROR, message)
    })
}

fn admit(
    core: &Arc<Core>,
    request: Request,
    output: Option<OutputWriter>,
) -> Result<Admitted, Failure> {
    let credentials = &request.credentials;
    let session = core
        .access
        .authenticate(&credentials.user, credentials.password.as_ref())
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
    let entry = core.registry.enter(&request.query_id)?;
    Ok(Admitted {
        job: Job {
            core: Arc::clone(core),
            running: Arc::clone(&entry.query),
            session,
            request,
            output,
        },
        entry,
        _slot: slot,
    })
}
