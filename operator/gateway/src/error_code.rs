//! Every code of an error, with its status and what it means.

use http::StatusCode;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:ident;)+) => {
        /// What went wrong, for programs; the `code` of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[doc = $doc])+ $name),+ }

        impl ErrorCode {
            /// Every code, in the order of the reference.
            pub const ALL: &[ErrorCode] = &[$(Self::$name),+];

            /// The text in the answer.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The status of the answer.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            /// What it means, for the reference.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

error_codes! {
    /// The request has no token: send `Authorization: Bearer <token>` or `?token=`.
    TokenMissing = "token_missing", UNAUTHORIZED;
    /// No workspace knows the token.
    TokenInvalid = "token_invalid", UNAUTHORIZED;
    /// The token has no scope for this pipe or data source, whether or not it exists.
    ScopeMissing = "scope_missing", FORBIDDEN;
    /// The query reads something that its workspace may not read, or does what endpoints may not do.
    QueryForbidden = "query_forbidden", FORBIDDEN;
    /// There is no such address.
    RouteUnknown = "route_unknown", NOT_FOUND;
    /// The workspace has no published pipe of this name.
    PipeUnknown = "pipe_unknown", NOT_FOUND;
    /// The workspace has no published data source of this name.
    DataSourceUnknown = "datasource_unknown", NOT_FOUND;
    /// The address does not take this method; `Allow` says which it takes.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// Parameters without a default are missing; `parameters` names them.
    ParameterMissing = "parameter_missing", BAD_REQUEST;
    /// A parameter's value is not of its type; `parameters` names it.
    ParameterInvalid = "parameter_invalid", BAD_REQUEST;
    /// The request is malformed.
    RequestInvalid = "request_invalid", BAD_REQUEST;
    /// The body cannot be read: it is not compressed as `Content-Encoding` says, it is not Parquet, or it broke off.
    BodyInvalid = "body_invalid", BAD_REQUEST;
    /// The format is not one the address takes.
    FormatUnknown = "format_unknown", BAD_REQUEST;
    /// `Content-Encoding` is not one the gateway takes.
    EncodingUnknown = "encoding_unknown", UNSUPPORTED_MEDIA_TYPE;
    /// The query ran longer than the workspace's limit.
    QueryTimeout = "query_timeout", REQUEST_TIMEOUT;
    /// The client sent nothing for too long.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT;
    /// The body is larger than the workspace's limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// The query needs more memory, rows or bytes than its limits allow.
    QueryTooLarge = "query_too_large", UNPROCESSABLE_ENTITY;
    /// More requests per second than the workspace's limit; `Retry-After` says when to come back.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS;
    /// As many queries run at once as the workspace's limit allows.
    TooManyQueries = "too_many_queries", TOO_MANY_REQUESTS;
    /// As many uploads run at once as a gateway takes of a workspace.
    TooManyUploads = "too_many_uploads", TOO_MANY_REQUESTS;
    /// Too many unknown tokens came from this address; tokens that have worked from there go on working.
    TooManyAttempts = "too_many_attempts", TOO_MANY_REQUESTS;
    /// ClickHouse could not answer the query.
    QueryFailed = "query_failed", INTERNAL_SERVER_ERROR;
    /// The workspace is not ready: the operator has not published it yet.
    WorkspaceNotReady = "workspace_not_ready", SERVICE_UNAVAILABLE;
    /// ClickHouse cannot be reached or takes no work now; try again.
    ClickHouseUnavailable = "clickhouse_unavailable", SERVICE_UNAVAILABLE;
    /// The gateway has as many connections as it takes, altogether or from this address; it closes this one.
    TooManyConnections = "too_many_connections", SERVICE_UNAVAILABLE;
    /// The workspace's share of the gateway's memory is in use; of a body's rows, `acknowledged_rows` from its start are safe.
    MemoryInUse = "memory_in_use", SERVICE_UNAVAILABLE;
    /// Rows are not stored; `acknowledged_rows` from the start of the body are safe, the rest may be sent again.
    IngestionFailed = "ingestion_failed", SERVICE_UNAVAILABLE;
    /// Whether the rows after `acknowledged_rows` are stored is not known, also after asking again. With an `Idempotency-Key`, sending the same body again stores each row once; without, it may store some twice.
    IngestionUnknown = "ingestion_unknown", SERVICE_UNAVAILABLE;
}
