//! What an answer of ClickHouse starts with: how it is read on, what ClickHouse says in headers, and
//! the proof that it is ClickHouse who says it.

use super::error::UpstreamError;
use super::framing::{Chunk, Framing};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use std::mem::MaybeUninit;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

/// More than ClickHouse ever sends.
const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;
/// How long an idle connection is kept when ClickHouse does not say.
pub(super) const DEFAULT_IDLE: Duration = Duration::from_secs(5);

/// What an answer starts with.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) idle: Duration,
    pub(super) exception_code: Option<i32>,
    pub(super) exception_tag: Option<Box<str>>,
    pub(super) written_rows: Option<u64>,
    /// Whether it holds the id of the query. Whatever else is at the address does not know that this
    /// part of the URL belongs into this header.
    pub(super) is_proven: bool,
}

/// Takes the head of an answer to this query out of what was received, if it is all there.
pub(super) fn parse_head(
    received: &mut BytesMut,
    query_id: &str,
) -> Result<Option<Head>, UpstreamError> {
    loop {
        let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            received,
            &mut headers,
        );
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if received.len() > LONGEST_HEAD => {
                return Err(UpstreamError::Malformed("its head does not end"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(UpstreamError::Malformed("its head is not HTTP")),
        };
        let head = read_head(&response, query_id)?;
        received.advance(length);
        if head.status >= 200 {
            return Ok(Some(head));
        }
    }
}

fn read_head(response: &httparse::Response<'_, '_>, query_id: &str) -> Result<Head, UpstreamError> {
    let mut head = Head {
        status: response.code.unwrap_or_default(),
        framing: Framing::UntilClose,
        keep_alive: response.version == Some(1),
        idle: DEFAULT_IDLE,
        exception_code: None,
        exception_tag: None,
        written_rows: None,
        is_proven: false,
    };
    let mut length: Option<u64> = None;
    for header in &*response.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value.trim_ascii();
        if is("content-length") {
            let said = number(value).ok_or(UpstreamError::Malformed("its length is no number"))?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(UpstreamError::Malformed("it has two lengths"));
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(UpstreamError::Malformed("its transfer encoding is unknown"));
            }
            head.framing = Framing::Chunked(Chunk::Size);
        } else if is("connection") {
            head.keep_alive &= !value.eq_ignore_ascii_case(b"close");
        } else if is("keep-alive") {
            head.idle = idle(value).unwrap_or(DEFAULT_IDLE);
        } else if is("x-clickhouse-query-id") {
            head.is_proven = value == query_id.as_bytes();
        } else if is("x-clickhouse-exception-code") {
            head.exception_code = number(value);
        } else if is("x-clickhouse-exception-tag") {
            head.exception_tag = str::from_utf8(value).ok().map(Into::into);
        } else if is("x-clickhouse-summary") {
            head.written_rows = written_rows(value);
        }
    }
    if matches!(head.status, 204 | 304) {
        head.framing = Framing::Finished;
    } else if let (Framing::UntilClose, Some(length)) = (head.framing, length) {
        head.framing = if length == 0 {
            Framing::Finished
        } else {
            Framing::Length(length)
        };
    }
    Ok(head)
}

/// Digits and nothing else: Rust would read a sign, too.
fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// `{"read_rows":"0","written_rows":"3",...}`
fn written_rows(summary: &[u8]) -> Option<u64> {
    static FIELD: LazyLock<memmem::Finder<'static>> =
        LazyLock::new(|| memmem::Finder::new("\"written_rows\":\""));
    let start = FIELD.find(summary)? + FIELD.needle().len();
    number(summary[start..].split(|&byte| byte == b'"').next()?)
}

/// `timeout=10, max=99`, less a second, so that we close before the replica does.
fn idle(value: &[u8]) -> Option<Duration> {
    let timeout = value
        .split(|&byte| byte == b',')
        .find_map(|part| part.trim_ascii().strip_prefix(b"timeout="))?;
    let seconds: u64 = number(timeout.trim_ascii())?;
    Some(Duration::from_secs(seconds.clamp(2, 60) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let mut received = BytesMut::from(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Internal Server Error\r\nConnection: Keep-Alive\r\n\
             Keep-Alive: timeout=10, max=9999\r\nTransfer-Encoding: chunked\r\nX-ClickHouse-Exception-Code: 241\r\n\
             X-ClickHouse-Exception-Tag: abcdefghijklmnop\r\nX-ClickHouse-Query-Id: id-1\r\n\
             X-ClickHouse-Summary: {\"read_rows\":\"7\",\"written_rows\":\"12\",\"elapsed_ns\":\"5\"}\r\n\r\nrest",
        );
        let head = parse_head(&mut received, "id-1").unwrap().unwrap();
        assert_eq!(
            (head.status, head.framing),
            (500, Framing::Chunked(Chunk::Size))
        );
        assert_eq!((head.keep_alive, head.idle), (true, Duration::from_secs(9)));
        assert_eq!(head.exception_code, Some(241));
        assert_eq!(head.exception_tag.as_deref(), Some("abcdefghijklmnop"));
        assert_eq!(head.written_rows, Some(12));
        assert!(head.is_proven);
        assert_eq!(&received[..], b"rest");
    }

    #[test]
    fn a_length_is_digits_and_said_once() {
        for lengths in [
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: ",
            "Content-Length: 0x5",
            "Content-Length: 5\r\nContent-Length: 6",
        ] {
            let mut received = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n")
                .as_str()
                .into();
            assert!(parse_head(&mut received, "").is_err(), "{lengths}");
        }
    }

    #[test]
    fn a_head_may_come_in_pieces() {
        let wire = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n";
        for cut in 0..wire.len() {
            assert!(
                parse_head(&mut BytesMut::from(&wire[..cut]), "id-1")
                    .unwrap()
                    .is_none(),
                "{cut}"
            );
        }
        let head = parse_head(&mut BytesMut::from(wire), "id-1")
            .unwrap()
            .unwrap();
        assert_eq!((head.framing, head.keep_alive), (Framing::Length(3), false));
        assert!(!head.is_proven);
    }

    #[test]
    fn the_id_of_the_query_proves_an_answer_and_nothing_else_does() {
        for (header, is_proven) in [
            ("X-ClickHouse-Query-Id: id-1", true),
            ("x-clickhouse-query-id:id-1 ", true),
            ("X-ClickHouse-Query-Id: id-2", false),
            ("X-ClickHouse-Query-Id: id-1, id-1", false),
            ("X-ClickHouse-Query-Id: ", false),
            ("X-Query-Id: id-1", false),
            ("Location: /?query_id=id-1", false),
            ("X-ClickHouse-Summary: {}", false),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n");
            let head = parse_head(&mut BytesMut::from(head.as_str()), "id-1");
            assert_eq!(head.unwrap().unwrap().is_proven, is_proven, "{header}");
        }
    }
}
