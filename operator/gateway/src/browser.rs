//! What browsers ask before a page of another site may read an answer. Every site
//! may: what a request can do hangs on its token, and there are no cookies.

use crate::answer_body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

/// How long a browser may remember, in seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("86400");
const ALL: HeaderValue = HeaderValue::from_static("*");

/// The answer to a browser that asks whether it may send a request.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if *method != Method::OPTIONS || asked.is_none() {
        return None;
    }
    let allowed: [(HeaderName, HeaderValue); 3] = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD, POST"),
        ),
        // `*` does not stand for this one.
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "authorization, content-type, content-encoding, idempotency-key",
            ),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED),
    ];
    let mut response = Response::new(Body::full(&b""[..]));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().extend(allowed);
    Some(response)
}

/// Whether the page of another site sent a request.
pub(crate) fn is_foreign(request: &HeaderMap) -> bool {
    request.contains_key(header::ORIGIN)
}

/// Lets the page that sent a request read the answer, if a page of another site did.
pub(crate) fn open(foreign: bool, response: &mut Response<Body>) {
    if foreign {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ALL);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ALL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn pages_of_other_sites_may_ask_and_read() {
        let origin = (header::ORIGIN, "https://example.com");
        let asked = (header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let request = headers(&[origin.clone(), asked]);
        let mut answer = preflight(&Method::OPTIONS, &request).unwrap();
        open(is_foreign(&request), &mut answer);
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(preflight(&Method::GET, &request).is_none());
        assert!(preflight(&Method::OPTIONS, &headers(&[origin])).is_none());

        let mut plain = Response::new(Body::full(&b""[..]));
        open(is_foreign(&HeaderMap::new()), &mut plain);
        assert!(plain.headers().is_empty());
    }
}
