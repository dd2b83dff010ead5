//! Statements to ClickHouse's HTTP interface, and what answers them.
//!
//! A client of our own, because what an answer is worth stands in its head: it is ClickHouse's if it
//! holds the id of the query (`X-ClickHouse-Query-Id`), and what else is at an address must not get
//! into statuses by way of a cluster's URL. The `clickhouse` crate shows no heads, and reads errors
//! without a bound. Redirects are not followed; answers are read whole, since they are small.

use aviary_crds::address::{self, is_of_the_machine};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tower::util::{ServiceFn, service_fn};
use url::{Host, Url};
use uuid::Uuid;

/// ClickHouse closes idle connections after 3 seconds unless told otherwise.
const IDLE_CONNECTION: Duration = Duration::from_secs(2);
/// More than any catalog.
const LONGEST_ANSWER: usize = 64 << 20;
/// Exceptions are shorter, but for their stack traces.
const LONGEST_ERROR: usize = 64 << 10;

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;
type Connector = HttpConnector<ServiceFn<fn(Name) -> Resolving>>;

/// The HTTP interface of a replica, and connections to it. Clones share them.
#[derive(Clone)]
pub(crate) struct Client {
    url: Url,
    pool: Pool,
}

#[derive(Clone)]
enum Pool {
    Plain(HyperClient<Connector, Full<Bytes>>),
    Encrypted(HyperClient<HttpsConnector<Connector>, Full<Bytes>>),
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Login {
    user: HeaderValue,
    password: HeaderValue,
}

/// A statement that is still to be sent.
pub(crate) struct Query {
    login: Login,
    sql: String,
    settings: Vec<(Cow<'static, str>, String)>,
}

/// An answer, all of it.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    /// Whether it is ClickHouse's.
    pub(crate) is_proven: bool,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// ClickHouse says so itself.
    #[error("{text}")]
    Exception { status: StatusCode, text: String },
    /// Somebody refuses, and does not prove to be ClickHouse; so only the number is known.
    #[error("refused with {status}")]
    Refused {
        status: StatusCode,
        code: Option<u32>,
    },
    /// No answer, or not all of it.
    #[error(transparent)]
    Network(Box<dyn std::error::Error + Send + Sync>),
    #[error("an answer of more than {LONGEST_ANSWER} bytes")]
    TooLong,
}

/// Why there can be no client for an address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("its url is not one: {0}")]
    Malformed(#[from] url::ParseError),
    #[error("`{0}` is no http or https url")]
    Scheme(String),
    #[error("its url leads to an address of the machine itself, and ClickHouse is never there")]
    Machine,
    #[error("no certificates to trust: {0}")]
    Certificates(io::Error),
}

impl Client {
    /// Prepares connections. Nothing is sent before the first query.
    pub(crate) fn new(url: &str, connect_deadline: Duration) -> Result<Self, AddressError> {
        let url = Url::parse(url)?;
        // Names are looked at when they are resolved.
        let is_refused = match url.host() {
            Some(Host::Ipv4(address)) => is_of_the_machine(address.into()),
            Some(Host::Ipv6(address)) => is_of_the_machine(address.into()),
            Some(Host::Domain(_)) | None => false,
        };
        if is_refused {
            return Err(AddressError::Machine);
        }
        let resolver: fn(Name) -> Resolving = |name| Box::pin(resolve(name));
        let mut connector = HttpConnector::new_with_resolver(service_fn(resolver));
        connector.set_connect_timeout(Some(connect_deadline));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let mut builder = HyperClient::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE_CONNECTION);
        let pool = match url.scheme() {
            "http" => Pool::Plain(builder.build(connector)),
            "https" => {
                let encrypted = HttpsConnectorBuilder::new()
                    .with_native_roots()
                    .map_err(AddressError::Certificates)?
                    .https_only()
                    .enable_http1()
                    .wrap_connector(connector);
                Pool::Encrypted(builder.build(encrypted))
            }
            other => return Err(AddressError::Scheme(other.to_owned())),
        };
        Ok(Self { url, pool })
    }

    /// Sends a query and reads its answer, for as long as the caller waits.
    pub(crate) async fn ask(&self, query: Query) -> Result<Answer, HttpError> {
        let id = Uuid::new_v4().to_string();
        let request = query.request(self.url.clone(), &id);
        let request = request.map_err(|error| HttpError::Network(error.into()))?;
        let sent = match &self.pool {
            Pool::Plain(client) => client.request(request),
            Pool::Encrypted(client) => client.request(request),
        };
        let answer = sent
            .await
            .map_err(|error| HttpError::Network(error.into()))?;
        let (head, body) = answer.into_parts();
        let said = Said::of(&head.headers);
        let is_proven = said.query_id == Some(id.as_bytes());
        if head.status == StatusCode::OK && said.code.is_none() {
            return match read(body, LONGEST_ANSWER).await? {
                (_, false) => Err(HttpError::TooLong),
                (body, true) => Ok(Answer { body, is_proven }),
            };
        }
        let (text, _) = read(body, LONGEST_ERROR).await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let status = head.status;
        Err(if is_proven {
            HttpError::Exception { status, text }
        } else {
            // Servers before 21.x have no header for it.
            let code = said.code.or_else(|| exception_code(&text));
            HttpError::Refused { status, code }
        })
    }
}

/// What ClickHouse says in a head.
struct Said<'h> {
    query_id: Option<&'h [u8]>,
    code: Option<u32>,
}

impl<'h> Said<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        let code = headers.get("x-clickhouse-exception-code");
        Self {
            query_id: headers
                .get("x-clickhouse-query-id")
                .map(HeaderValue::as_bytes),
            code: code.and_then(|code| code.to_str().ok()?.parse().ok()),
        }
    }
}

/// The number in `Code: 60. DB::Exception: ...`.
pub(crate) fn exception_code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let is_exception = rest[end..].contains("DB::Exception: ");
    rest[..end].parse().ok().filter(|_| is_exception)
}

/// The bytes of a body, no more than `most`, and whether that is all of it.
async fn read(mut body: Incoming, most: usize) -> Result<(Vec<u8>, bool), HttpError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| HttpError::Network(error.into()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let room = most - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

async fn resolve(name: Name) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    Ok(address::allowed(found)?.into_iter())
}

impl Login {
    /// A login in the headers that ClickHouse has for it; nothing if they cannot hold it.
    pub(crate) fn new(user: &str, password: &SecretString) -> Option<Self> {
        let value = |text: &str| {
            let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Some(Self {
            user: value(user)?,
            password: value(password.expose_secret())?,
        })
    }
}

impl Query {
    pub(crate) fn new(login: Login, sql: &str) -> Self {
        Self {
            login,
            sql: sql.to_owned(),
            settings: Vec::new(),
        }
    }

    /// A setting, a parameter of the query (`param_...`), or what else ClickHouse reads in a URL.
    pub(crate) fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    fn request(self, mut url: Url, id: &str) -> Result<Request<Full<Bytes>>, http::Error> {
        url.query_pairs_mut()
            .clear()
            .append_pair("query_id", id)
            // An exception is then told before anything else is.
            .append_pair("wait_end_of_query", "1")
            .extend_pairs(&self.settings);
        Request::post(url.as_str())
            .header(
                header::USER_AGENT,
                concat!("aviary/", env!("CARGO_PKG_VERSION")),
            )
            .header("x-clickhouse-user", self.login.user)
            .header("x-clickhouse-key", self.login.password)
            .body(Full::from(self.sql))
    }
}
