//! A request's parameters: from its query string and, for POST, from a form or a
//! JSON object in its body. What the body says counts more.

use crate::budgets::SMALL_ANSWER;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::memory::{Reservation, Share};
use crate::request_body::RequestBody;
use aviary_sql::ParameterValues;
use bytes::{Bytes, BytesMut};
use http::header;
use http::request::Parts;
use http_body_util::BodyExt;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

/// Parameters are short; a body beyond this is a mistake.
const LARGEST_BODY: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// Those in the URL. Names that the pipe does not know do no harm.
pub(super) fn of_query(parts: &Parts) -> ParameterValues<'_> {
    let query = parts.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).collect()
}

/// Those in a body and, for names that it does not have, in the URL.
pub(super) fn of_body<'p>(
    parts: &'p Parts,
    body: &'p [u8],
) -> Result<ParameterValues<'p>, ApiError> {
    let mut values = ParameterValues::new();
    if !body.trim_ascii().is_empty() {
        from_body(parts, body, &mut values)?;
    }
    let in_body: BTreeSet<String> = values.names().map(str::to_owned).collect();
    let query = parts.uri.query().unwrap_or_default();
    let in_query = form_urlencoded::parse(query.as_bytes());
    values.extend(in_query.filter(|(name, _)| !in_body.contains(&**name)));
    Ok(values)
}

/// The body, which is short. What is more than a little is counted for the workspace.
pub(super) async fn collect(mut body: RequestBody, share: &Arc<Share>) -> Result<Bytes, ApiError> {
    let mut collected = BytesMut::new();
    let mut memory: Option<Reservation> = None;
    let collecting = async {
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|_| ApiError::new(ErrorCode::BodyInvalid, "the body broke off"))?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let size = collected.len() + piece.len();
            if size > LARGEST_BODY {
                return Err(ApiError::new(
                    ErrorCode::BodyTooLarge,
                    format!("parameters in a body may take {LARGEST_BODY} bytes"),
                ));
            }
            match &mut memory {
                Some(memory) => memory.grow(size)?,
                None if size <= SMALL_ANSWER => {}
                None => memory = Some(share.try_reserve(size)?),
            }
            collected.extend_from_slice(&piece);
        }
        Ok(())
    };
    match tokio::time::timeout(PATIENCE, collecting).await {
        Ok(collected) => collected?,
        Err(_) => {
            return Err(ApiError::new(
                ErrorCode::BodyTimeout,
                "the body stopped coming",
            ));
        }
    }
    let bytes = collected.freeze();
    Ok(match memory {
        Some(memory) => memory.attach(bytes),
        None => bytes,
    })
}

fn from_body<'b>(
    parts: &Parts,
    body: &'b [u8],
    values: &mut ParameterValues<'b>,
) -> Result<(), ApiError> {
    let media_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => from_json(body, values),
        "application/x-www-form-urlencoded" => {
            values.extend(form_urlencoded::parse(body));
            Ok(())
        }
        _ => Err(ApiError::new(
            ErrorCode::RequestInvalid,
            "the body holds parameters: send it as application/json or application/x-www-form-urlencoded",
        )),
    }
}

fn from_json<'b>(body: &'b [u8], values: &mut ParameterValues<'b>) -> Result<(), ApiError> {
    let not_an_object = |_| {
        ApiError::new(
            ErrorCode::RequestInvalid,
            "the body is not a JSON object of parameters",
        )
    };
    let members: BTreeMap<String, &'b RawValue> =
        serde_json::from_slice(body).map_err(not_an_object)?;
    for (name, raw) in members {
        push_json(&name, raw.get(), values).ok_or_else(|| {
            let message = format!("parameter `{name}`: expected a text, a number, true, false, null, or a list of them");
            ApiError::new(ErrorCode::ParameterInvalid, message).parameters(std::slice::from_ref(&name))
        })?;
    }
    Ok(())
}

/// Adds what a member of the object says: nothing, a value, or the values of a list.
fn push_json<'b>(name: &str, raw: &'b str, values: &mut ParameterValues<'b>) -> Option<()> {
    match raw.as_bytes().first()? {
        b'n' => {}
        b'[' => {
            let elements: Vec<&'b RawValue> = serde_json::from_str(raw).ok()?;
            if elements.is_empty() {
                // The template language's empty list.
                values.push(name.to_owned(), "");
            }
            for element in elements {
                values.push_element(name.to_owned(), json_text(element.get())?);
            }
        }
        _ => values.push(name.to_owned(), json_text(raw)?),
    }
    Some(())
}

/// A single value's text; a number as it is written, so that a wide one keeps its digits.
fn json_text(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'n' | b'[' | b'{' => None,
        b'"' => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
        _ => Some(Cow::Borrowed(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<ParameterValues<'_>, ApiError> {
        let mut values = ParameterValues::new();
        from_json(text.as_bytes(), &mut values).map(|()| values)
    }

    #[test]
    fn json_values_become_text() {
        let values =
            json(r#"{"a":"x\n","b":12345678901234567890123,"c":true,"d":null,"e":["p","q"]}"#)
                .unwrap();
        let mut expected = ParameterValues::from_iter([
            ("a", "x\n"),
            ("b", "12345678901234567890123"),
            ("c", "true"),
        ]);
        expected.push_element("e", "p");
        expected.push_element("e", "q");
        assert_eq!(values, expected);
    }

    #[test]
    fn what_is_no_value_is_refused_by_name() {
        let error = json(r#"{"good":1,"bad":{"x":1}}"#).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ParameterInvalid);
        assert!(error.message().contains("`bad`"));
        assert_eq!(json("[1]").unwrap_err().code(), ErrorCode::RequestInvalid);
    }
}
