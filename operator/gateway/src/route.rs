//! Addresses: what a method and a path ask for.

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::format::Format;
use crate::metrics::RouteKind;
use http::Method;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// A pipe's rows.
    Endpoint { pipe: &'a str, format: Format },
    /// The pipes a token may read.
    Pipes,
    /// The same, as an OpenAPI document.
    OpenApi,
    /// To take NDJSON.
    Events,
    /// To take a file.
    Append,
    /// Whether the process lives.
    Health,
    /// Whether it can serve.
    Ready,
}

impl Route<'_> {
    pub(crate) fn kind(self) -> RouteKind {
        match self {
            Self::Endpoint { .. } => RouteKind::Endpoint,
            Self::Pipes | Self::OpenApi => RouteKind::Documentation,
            Self::Events => RouteKind::Events,
            Self::Append => RouteKind::Append,
            Self::Health | Self::Ready => RouteKind::Probe,
        }
    }
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const READ_OR_POST: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
const POST: &[Method] = &[Method::POST];

/// Finds the route of a request.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, ApiError> {
    let (route, methods) = match path {
        "/v0/events" => (Route::Events, POST),
        "/v0/datasources" => (Route::Append, POST),
        "/v0/pipes" => (Route::Pipes, READ),
        "/v0/pipes/openapi.json" => (Route::OpenApi, READ),
        "/healthz" => (Route::Health, READ),
        "/readyz" => (Route::Ready, READ),
        _ => (endpoint(path)?, READ_OR_POST),
    };
    if methods.contains(method) {
        return Ok(route);
    }
    let allow = match methods {
        [Method::GET, Method::HEAD] => "GET, HEAD",
        [Method::POST] => "POST",
        _ => "GET, HEAD, POST",
    };
    Err(ApiError::new(ErrorCode::MethodNotAllowed, format!("use {allow} here")).allow(allow))
}

fn endpoint(path: &str) -> Result<Route<'_>, ApiError> {
    let unknown = || {
        ApiError::new(
            ErrorCode::RouteUnknown,
            "there is no such address: see /v0/pipes/openapi.json",
        )
    };
    let name = path
        .strip_prefix("/v0/pipes/")
        .filter(|name| !name.is_empty())
        .ok_or_else(unknown)?;
    let (pipe, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    if pipe.contains('/') {
        return Err(unknown());
    }
    let format = Format::from_extension(extension).ok_or_else(|| {
        ApiError::new(
            ErrorCode::RouteUnknown,
            "an endpoint's address ends in .json, .csv, .ndjson or .parquet",
        )
    })?;
    Ok(Route::Endpoint { pipe, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let get = |path| route(&Method::GET, path).map_err(|error| error.code());
        assert_eq!(
            get("/v0/pipes/a_b.csv"),
            Ok(Route::Endpoint {
                pipe: "a_b",
                format: Format::Csv
            })
        );
        assert_eq!(get("/v0/pipes/openapi.json"), Ok(Route::OpenApi));
        assert_eq!(get("/v0/pipes"), Ok(Route::Pipes));
        for unknown in [
            "/",
            "/v0/pipes/",
            "/v0/pipes/a",
            "/v0/pipes/a.xml",
            "/v0/pipes/a/b.json",
            "/v1/x",
        ] {
            assert_eq!(get(unknown), Err(ErrorCode::RouteUnknown), "{unknown}");
        }
        assert_eq!(get("/v0/events"), Err(ErrorCode::MethodNotAllowed));
        assert_eq!(route(&Method::HEAD, "/v0/pipes").unwrap(), Route::Pipes);
        assert_eq!(
            route(&Method::DELETE, "/v0/pipes/a.json").map_err(|e| e.code()),
            Err(ErrorCode::MethodNotAllowed)
        );
        assert_eq!(route(&Method::POST, "/v0/events").unwrap(), Route::Events);
    }
}
