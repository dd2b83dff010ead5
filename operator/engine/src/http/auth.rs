//! Who asks: user and password from ClickHouse's own headers or Basic auth.

use base64::Engine as _;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::SecretString;

use crate::access::model::DEFAULT_USER;
use crate::exception::{Exception, code};

/// What a request says about its user.
pub(crate) struct Credentials {
    pub(crate) user: String,
    /// Nothing where the request says nothing at all.
    pub(crate) password: Option<SecretString>,
}

/// Reads the credentials.
pub(super) fn credentials(headers: &HeaderMap) -> Result<Credentials, Exception> {
    let header = |name: &str| {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|it| !it.is_empty())
    };
    let (user, key) = (header("x-clickhouse-user"), header("x-clickhouse-key"));
    let has_headers = user.is_some() || key.is_some();
    let (user, password) = match header(AUTHORIZATION.as_str()) {
        None => (user, has_headers.then(|| key.unwrap_or_default())),
        Some(_) if has_headers => {
            return Err(invalid(
                "it is not allowed to use X-ClickHouse HTTP headers and Authorization HTTP header simultaneously",
            ));
        }
        Some(value) => {
            let (user, password) = basic(&value).ok_or_else(|| {
                invalid("the Authorization HTTP header is not `Basic` with valid base64")
            })?;
            (Some(user), Some(password))
        }
    };
    let user = user.filter(|user| !user.is_empty());
    Ok(Credentials {
        user: user.unwrap_or_else(|| DEFAULT_USER.to_owned()),
        password: password.map(SecretString::from),
    })
}

fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim());
    let text = String::from_utf8_lossy(&decoded.ok()?).into_owned();
    let (user, password) = text.split_once(':').unwrap_or((&text, ""));
    Some((user.to_owned(), password.to_owned()))
}

fn invalid(what: &str) -> Exception {
    Exception::new(
        code::AUTHENTICATION_FAILED,
        format!("Invalid authentication: {what}."),
    )
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<(String, Option<String>), u32> {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let found = credentials(&headers.collect()).map_err(|exception| exception.code)?;
        let password = found.password.map(|it| it.expose_secret().to_owned());
        Ok((found.user, password))
    }

    #[test]
    fn every_door_is_read() {
        let found = |user: &str, password: &str| Ok((user.to_owned(), Some(password.to_owned())));
        assert_eq!(read(&[]), Ok(("default".to_owned(), None)));
        let own = [("x-clickhouse-user", "a"), ("x-clickhouse-key", "b")];
        assert_eq!(read(&own), found("a", "b"));
        assert_eq!(read(&own[..1]), found("a", ""));
        let basic = ("authorization", "Basic YTpiOmM=");
        assert_eq!(read(&[basic]), found("a", "b:c"));
        for wrong in [&[basic, own[0]][..], &[("authorization", "Bearer x")]] {
            assert_eq!(read(wrong), Err(code::AUTHENTICATION_FAILED));
        }
    }
}
