//! Who asks: user and password from headers, Basic auth or the URL, one way at a time, as a server takes them.

use base64::Engine as _;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::SecretString;

use crate::exception::{Exception, code};

/// What a request says about its user.
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: SecretString,
    /// Whether the request said anything at all.
    pub(crate) given: bool,
}

/// Reads the credentials; `parameter` looks into the URL.
pub(crate) fn credentials(
    headers: &HeaderMap,
    parameter: impl Fn(&str) -> Option<String>,
) -> Result<Credentials, Exception> {
    let header = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .filter(|value| !value.is_empty())
    };
    let (user, key) = (header("x-clickhouse-user"), header("x-clickhouse-key"));
    let authorization = header(AUTHORIZATION.as_str());
    let (url_user, url_password) = (parameter("user"), parameter("password"));
    let in_headers = user.is_some() || key.is_some();
    let in_url = url_user.is_some() || url_password.is_some();

    if in_headers && authorization.is_some() {
        return Err(mixed(
            "X-ClickHouse HTTP headers and Authorization HTTP header",
        ));
    }
    if in_headers && in_url {
        return Err(mixed(
            "X-ClickHouse HTTP headers and authentication via parameters",
        ));
    }
    if authorization.is_some() && in_url {
        return Err(mixed(
            "Authorization HTTP header and authentication via parameters",
        ));
    }

    let (user, password) = match authorization {
        Some(value) => basic(&value)?,
        None => (user.or(url_user), key.or(url_password)),
    };
    Ok(Credentials {
        given: user.is_some() || password.is_some(),
        user: user
            .filter(|user| !user.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        password: password.unwrap_or_default().into(),
    })
}

fn basic(value: &str) -> Result<(Option<String>, Option<String>), Exception> {
    let (scheme, encoded) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(Exception::new(
            code::AUTHENTICATION_FAILED,
            format!(
                "Invalid authentication: '{scheme}' HTTP Authorization scheme is not supported."
            ),
        ));
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded.trim())
        .map_err(|_| {
            Exception::new(
                code::AUTHENTICATION_FAILED,
                "Invalid authentication: the Authorization HTTP header is not valid base64.",
            )
        })?;
    let text = String::from_utf8_lossy(&decoded).into_owned();
    let (user, password) = text.split_once(':').unwrap_or((&text, ""));
    Ok((Some(user.to_owned()), Some(password.to_owned())))
}

fn mixed(what: &str) -> Exception {
    Exception::new(
        code::AUTHENTICATION_FAILED,
        format!("Invalid authentication: it is not allowed to use {what} simultaneously."),
    )
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(
        headers: &[(&'static str, &str)],
        url: &[(&str, &str)],
    ) -> Result<(String, String, bool), u32> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        credentials(&map, |name| {
            url.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .map(|found| {
            (
                found.user,
                found.password.expose_secret().to_owned(),
                found.given,
            )
        })
        .map_err(|exception| exception.code)
    }

    #[test]
    fn every_door_is_read() {
        let found =
            |user: &str, password: &str, given| Ok((user.to_owned(), password.to_owned(), given));
        assert_eq!(read(&[], &[]), found("default", "", false));
        assert_eq!(
            read(
                &[("x-clickhouse-user", "a"), ("x-clickhouse-key", "b")],
                &[]
            ),
            found("a", "b", true)
        );
        assert_eq!(
            read(&[("authorization", "Basic YTpiOmM=")], &[]),
            found("a", "b:c", true)
        );
        assert_eq!(
            read(&[], &[("user", "a"), ("password", "b")]),
            found("a", "b", true)
        );
    }

    #[test]
    fn doors_are_not_mixed() {
        let basic = ("authorization", "Basic YTpi");
        assert_eq!(
            read(&[basic, ("x-clickhouse-user", "a")], &[]),
            Err(code::AUTHENTICATION_FAILED)
        );
        assert_eq!(
            read(&[basic], &[("user", "a")]),
            Err(code::AUTHENTICATION_FAILED)
        );
        assert_eq!(
            read(&[("authorization", "Bearer x")], &[]),
            Err(code::AUTHENTICATION_FAILED)
        );
    }
}
