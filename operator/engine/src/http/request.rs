//! What a request asks for: query, parameters, settings, formats and encodings, from the URL and the headers.

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Uri};

use super::auth::{self, Credentials};
use super::body::Coding;
use super::multipart;
use crate::exception::Exception;

/// How much output is held back, so that an early failure still gets its status.
const BUFFER_SIZE: usize = 1 << 20;

/// A request, its body aside.
pub(crate) struct Request {
    pub(crate) query: String,
    pub(crate) query_id: String,
    pub(crate) credentials: Credentials,
    /// GET and HEAD may only read.
    pub(crate) read_only: bool,
    pub(crate) database: Option<String>,
    pub(crate) default_format: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) settings: Vec<(String, String)>,
    /// The body comes in ClickHouse's compressed blocks.
    pub(crate) framed_body: bool,
    /// The answer is wanted in ClickHouse's compressed blocks.
    pub(crate) framed_answer: bool,
    pub(crate) content_coding: Option<Coding>,
    pub(crate) answer_coding: Option<Coding>,
    /// The body is a form with this boundary.
    pub(crate) form: Option<String>,
    pub(crate) wait_end_of_query: bool,
    pub(crate) buffer_size: usize,
}

impl Request {
    pub(crate) fn parse(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Exception> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let parameter = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        let header = |name: &str| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .filter(|value| !value.is_empty())
        };
        let mut request = Request {
            query: String::new(),
            query_id: parameter("query_id")
                .or_else(|| header("x-clickhouse-query-id"))
                // It goes back in a header.
                .map(|id| id.replace(char::is_control, ""))
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            credentials: auth::credentials(headers, parameter)?,
            read_only: method != Method::POST && method != Method::PUT,
            database: header("x-clickhouse-database"),
            default_format: header("x-clickhouse-format"),
            roles: Vec::new(),
            parameters: Vec::new(),
            settings: Vec::new(),
            framed_body: false,
            framed_answer: false,
            content_coding: Coding::of_content(
                &header(CONTENT_ENCODING.as_str()).unwrap_or_default(),
            )?,
            answer_coding: None,
            form: header(CONTENT_TYPE.as_str()).and_then(|value| multipart::boundary(&value)),
            wait_end_of_query: false,
            buffer_size: BUFFER_SIZE,
        };
        for (name, value) in pairs {
            request.take(name, value)?;
        }
        if request.setting("enable_http_compression").is_none_or(flag) {
            request.answer_coding =
                header(ACCEPT_ENCODING.as_str()).and_then(|value| Coding::accepted(&value));
        }
        Ok(request)
    }

    /// The value that a setting has for this request, if it names it.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .rfind(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Takes a parameter of the URL, or a field of a form.
    pub(crate) fn take(&mut self, name: String, value: String) -> Result<(), Exception> {
        match name.as_str() {
            ""
            | "user"
            | "password"
            | "quota_key"
            | "query_id"
            | "client_protocol_version"
            | "stacktrace"
            | "close_session" => {}
            "query" => self.query.push_str(&value),
            "database" => {
                self.database.get_or_insert(value);
            }
            "default_format" => {
                self.default_format.get_or_insert(value);
            }
            "role" => self.roles.push(value),
            "compress" => self.framed_answer = flag(&value),
            "decompress" => self.framed_body = flag(&value),
            "wait_end_of_query" => self.wait_end_of_query = flag(&value),
            "buffer_size" => {
                let size = value.parse().map_err(|_| {
                    Exception::new(
                        crate::exception::code::BAD_ARGUMENTS,
                        format!("buffer_size must be a number of bytes, not {value:?}."),
                    )
                })?;
                self.buffer_size = BUFFER_SIZE.max(size);
            }
            "session_id" | "session_timeout" | "session_check" => {
                return Err(Exception::not_implemented(
                    "Sessions (session_id) are not supported by this engine: give settings with each request.",
                ));
            }
            _ => {
                if let Some(parameter) = name.strip_prefix("param_") {
                    self.parameters.push((parameter.to_owned(), value));
                } else {
                    if name == "http_wait_end_of_query" {
                        self.wait_end_of_query = flag(&value);
                    }
                    self.settings.push((name, value));
                }
            }
        }
        Ok(())
    }
}

fn flag(value: &str) -> bool {
    matches!(value, "1" | "true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exception::code;

    fn parse(
        method: Method,
        uri: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Request, Exception> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Request::parse(&method, &uri.parse().unwrap(), &map)
    }

    #[test]
    fn names_of_the_url_find_their_place() {
        let request = parse(
            Method::POST,
            "/?query=SELECT+1&param_x=a%0Ab&max_threads=2&database=d&query_id=q&compress=1&role=r&wait_end_of_query=1",
            &[("accept-encoding", "gzip")],
        )
        .unwrap();
        assert_eq!(request.query, "SELECT 1");
        assert_eq!(request.query_id, "q");
        assert_eq!(request.parameters, [("x".to_owned(), "a\nb".to_owned())]);
        assert_eq!(
            request.settings,
            [("max_threads".to_owned(), "2".to_owned())]
        );
        assert_eq!(request.database.as_deref(), Some("d"));
        assert_eq!(request.roles, ["r"]);
        assert!(request.framed_answer && request.wait_end_of_query && !request.read_only);
        assert_eq!(request.answer_coding, Some(Coding::Gzip));
    }

    #[test]
    fn headers_win_over_the_url() {
        let request = parse(
            Method::GET,
            "/?database=d&default_format=CSV&enable_http_compression=0",
            &[
                ("x-clickhouse-database", "h"),
                ("x-clickhouse-format", "JSON"),
                ("accept-encoding", "gzip"),
            ],
        )
        .unwrap();
        assert_eq!(request.database.as_deref(), Some("h"));
        assert_eq!(request.default_format.as_deref(), Some("JSON"));
        assert_eq!(request.answer_coding, None);
        assert!(request.read_only);
    }

    #[test]
    fn the_id_of_the_url_wins_over_the_header() {
        let id = |uri: &str| {
            let headers = [("x-clickhouse-query-id", "h")];
            parse(Method::GET, uri, &headers).unwrap().query_id
        };
        assert_eq!(id("/?query_id=u"), "u");
        assert_eq!(id("/"), "h");
        assert_eq!(id("/?query_id=a%0D%0Ab%00c%7F"), "abc");
        assert_eq!(id("/?query_id=%0A").len(), 36);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for (uri, headers) in [
            ("/?session_id=a", vec![]),
            ("/", vec![("content-encoding", "br")]),
        ] {
            let refused = parse(Method::POST, uri, &headers)
                .err()
                .map(|error| error.code);
            assert_eq!(refused, Some(code::NOT_IMPLEMENTED), "{uri}");
        }
    }
}
