//! Fields of a `multipart/form-data` body, which clients use for long queries and parameters.

use crate::exception::{Exception, code};

/// The boundary that a Content-Type names; `None` where the body is no form.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// Takes a form apart into names and values.
pub(crate) fn fields(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, Exception> {
    let delimiter = format!("--{boundary}");
    let mut rest = after(body, delimiter.as_bytes()).ok_or_else(malformed)?;
    let separator = format!("\r\n{delimiter}");
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n").ok_or_else(malformed)?;
        let end = memchr::memmem::find(rest, separator.as_bytes()).ok_or_else(malformed)?;
        fields.push(field(&rest[..end])?);
        rest = &rest[end + separator.len()..];
    }
    Ok(fields)
}

fn field(part: &[u8]) -> Result<(String, String), Exception> {
    let end = memchr::memmem::find(part, b"\r\n\r\n").ok_or_else(malformed)?;
    let headers = String::from_utf8_lossy(&part[..end]);
    let disposition = headers
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
        .map(|(_, value)| value)
        .ok_or_else(malformed)?;
    if attribute(disposition, "filename").is_some() {
        return Err(Exception::not_implemented(
            "External data for temporary tables is not supported by this engine.",
        ));
    }
    let name = attribute(disposition, "name").ok_or_else(malformed)?;
    let value = String::from_utf8_lossy(&part[end + 4..]).into_owned();
    Ok((name, value))
}

fn attribute(disposition: &str, name: &str) -> Option<String> {
    disposition
        .split(';')
        .filter_map(|attribute| attribute.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    memchr::memmem::find(text, mark).map(|at| &text[at + mark.len()..])
}

fn malformed() -> Exception {
    Exception::new(
        code::BAD_ARGUMENTS,
        "The body is not the multipart/form-data that its Content-Type announces.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_taken_apart() {
        assert_eq!(
            boundary("multipart/form-data; boundary=\"x y\"").as_deref(),
            Some("x y")
        );
        assert_eq!(boundary("text/plain"), None);
        let body = b"--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n\
            --B\r\ncontent-disposition: form-data; name=param_x\r\nX: y\r\n\r\n\r\n--B--\r\n";
        assert_eq!(
            fields(body, "B").unwrap(),
            [
                ("query".to_owned(), "SELECT\r\n1".to_owned()),
                ("param_x".to_owned(), String::new()),
            ]
        );
    }

    #[test]
    fn broken_forms_and_files_are_refused() {
        for body in ["", "--B", "--B\r\nno end", "--B\r\nx: y\r\n\r\nv\r\n--B--"] {
            assert_eq!(
                fields(body.as_bytes(), "B").unwrap_err().code,
                code::BAD_ARGUMENTS,
                "{body}"
            );
        }
        let file =
            b"--B\r\nContent-Disposition: form-data; name=\"t\"; filename=\"f\"\r\n\r\n1\r\n--B--";
        assert_eq!(fields(file, "B").unwrap_err().code, code::NOT_IMPLEMENTED);
    }
}
