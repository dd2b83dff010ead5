//! What a request asks for: query, parameters, settings and format, from the URL and the headers.

use http::{HeaderMap, Method, Uri};

use super::auth::{self, Credentials};
use super::multipart;
use crate::exception::Exception;

/// A request, its body aside.
pub(crate) struct Request {
    pub(crate) query: String,
    pub(crate) query_id: String,
    pub(crate) credentials: Credentials,
    /// GET and HEAD may only read.
    pub(crate) read_only: bool,
    pub(crate) database: Option<String>,
    pub(crate) default_format: Option<String>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) settings: Vec<(String, String)>,
    /// The body comes in ClickHouse's compressed blocks.
    pub(crate) framed_body: bool,
    /// The answer is wanted in ClickHouse's compressed blocks.
    pub(crate) framed_answer: bool,
    pub(crate) wait_end_of_query: bool,
    /// The body is a form with this boundary.
    pub(crate) form: Option<String>,
}

impl Request {
    pub(super) fn parse(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Exception> {
        let header = |name: &str| {
            let value = headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|it| !it.is_empty())
        };
        if header("content-encoding").is_some() {
            return Err(Exception::not_implemented(
                "Content-Encoding is not supported by this engine: send the body plain, or in ClickHouse's compressed blocks with decompress=1.",
            ));
        }
        let mut request = Request {
            query: String::new(),
            query_id: header("x-clickhouse-query-id").unwrap_or_default(),
            credentials: auth::credentials(headers)?,
            read_only: method != Method::POST,
            database: header("x-clickhouse-database"),
            default_format: header("x-clickhouse-format"),
            parameters: Vec::new(),
            settings: Vec::new(),
            framed_body: false,
            framed_answer: false,
            wait_end_of_query: false,
            form: header("content-type").and_then(|value| multipart::boundary(&value)),
        };
        let pairs = uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(pairs.as_bytes()).into_owned() {
            request.take(name, value)?;
        }
        // It goes back in a header.
        request.query_id.retain(|character| !character.is_control());
        if request.query_id.is_empty() {
            request.query_id = uuid::Uuid::new_v4().to_string();
        }
        Ok(request)
    }

    /// The value that a setting has for this request, if it names it.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().rfind(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Takes a parameter of the URL, or a field of a form.
    pub(crate) fn take(&mut self, name: String, value: String) -> Result<(), Exception> {
        let is_on = matches!(value.as_str(), "1" | "true");
        match name.as_str() {
            "" | "client_protocol_version" => {}
            "query" => self.query.push_str(&value),
            "query_id" => self.query_id = value,
            "database" => drop(self.database.get_or_insert(value)),
            "default_format" => drop(self.default_format.get_or_insert(value)),
            "compress" => self.framed_answer = is_on,
            "decompress" => self.framed_body = is_on,
            "wait_end_of_query" => self.wait_end_of_query = is_on,
            "user" | "password" | "role" | "session_id" | "buffer_size" => {
                return Err(Exception::not_implemented(format!(
                    "The URL parameter {name} is not supported by this engine."
                )));
            }
            _ => match name.strip_prefix("param_") {
                Some(parameter) => self.parameters.push((parameter.to_owned(), value)),
                None => self.settings.push((name, value)),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exception::code;

    fn parse(uri: &str, headers: &[(&'static str, &str)]) -> Result<Request, Exception> {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Request::parse(&Method::POST, &uri.parse().unwrap(), &headers.collect())
    }

    #[test]
    fn names_of_the_url_find_their_place() {
        let request = parse(
            "/?query=SELECT+1&param_x=a%0Ab&max_threads=2&database=d&query_id=q&compress=1&wait_end_of_query=1",
            &[],
        )
        .unwrap();
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!((&*request.query, &*request.query_id), ("SELECT 1", "q"));
        assert_eq!(request.parameters, pair("x", "a\nb"));
        assert_eq!(request.settings, pair("max_threads", "2"));
        assert_eq!(request.database.as_deref(), Some("d"));
        assert!(request.framed_answer && request.wait_end_of_query && !request.read_only);
    }

    #[test]
    fn headers_win_over_the_url_but_for_the_id() {
        let headers = [
            ("x-clickhouse-database", "h"),
            ("x-clickhouse-format", "JSON"),
            ("x-clickhouse-query-id", "h"),
        ];
        let request = parse(
            "/?database=d&default_format=CSV&query_id=a%0D%0Ab",
            &headers,
        )
        .unwrap();
        assert_eq!(request.database.as_deref(), Some("h"));
        assert_eq!(request.default_format.as_deref(), Some("JSON"));
        assert_eq!(request.query_id, "ab");
        assert_eq!(parse("/", &headers).unwrap().query_id, "h");
        assert_eq!(parse("/?query_id=%0A", &[]).unwrap().query_id.len(), 36);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let packed = [("content-encoding", "gzip")];
        for (uri, headers) in [
            ("/?session_id=a", &[][..]),
            ("/?role=r", &[]),
            ("/", &packed),
        ] {
            let refused = parse(uri, headers).err().map(|error| error.code);
            assert_eq!(refused, Some(code::NOT_IMPLEMENTED), "{uri}");
        }
    }
}
