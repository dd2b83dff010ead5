//! Fields of a `multipart/form-data` body, in which the official client sends a query with parameters.

use crate::exception::{Exception, code};

/// The boundary that a Content-Type names; `None` where the body is no form.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let rest = content_type.strip_prefix("multipart/form-data;")?;
    let boundary = rest.trim().strip_prefix("boundary=")?;
    Some(boundary.trim_matches('"').to_owned())
}

/// Takes a form apart into names and values.
pub(crate) fn fields(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, Exception> {
    let malformed = || {
        Exception::new(
            code::BAD_ARGUMENTS,
            "The body is not the multipart/form-data that its Content-Type announces.",
        )
    };
    // What follows the last boundary closes the form.
    let body = format!("\r\n{}", String::from_utf8_lossy(body));
    let separator = format!("\r\n--{boundary}");
    let mut parts = body.split(&separator);
    let before = parts.next();
    if before.is_none_or(|before| !before.is_empty()) {
        return Err(malformed());
    }
    let mut fields = Vec::new();
    for part in parts {
        if part.starts_with("--") {
            return Ok(fields);
        }
        let (head, value) = part.split_once("\r\n\r\n").ok_or_else(malformed)?;
        let name = attribute(head, "name").ok_or_else(malformed)?;
        if attribute(head, "filename").is_some() {
            return Err(Exception::not_implemented(
                "External data for temporary tables is not supported by this engine.",
            ));
        }
        fields.push((name, value.to_owned()));
    }
    Err(malformed())
}

/// `name` of `Content-Disposition: form-data; name="query"`.
fn attribute(head: &str, name: &str) -> Option<String> {
    let start = format!("{name}=");
    let mut attributes = head.split(';').map(str::trim);
    let value = attributes.find_map(|attribute| attribute.strip_prefix(&start))?;
    let value = value.lines().next().unwrap_or_default();
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_taken_apart() {
        let named = boundary("multipart/form-data; boundary=B");
        assert_eq!(named.as_deref(), Some("B"));
        assert_eq!(boundary("text/plain"), None);
        let body = b"--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n\
            --B\r\nContent-Disposition: form-data; name=param_x\r\nX: y\r\n\r\n\r\n--B--\r\n";
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            fields(body, "B").unwrap(),
            [field("query", "SELECT\r\n1"), field("param_x", "")]
        );
        for body in ["", "--B", "--B\r\nno end", "--B\r\nx: y\r\n\r\nv\r\n--B--"] {
            let refused = fields(body.as_bytes(), "B").unwrap_err();
            assert_eq!(refused.code, code::BAD_ARGUMENTS, "{body}");
        }
    }
}
