//! What ClickHouse says when something is wrong: before an answer, or in the
//! middle of one.

use crate::format::Format;
use bytes::{Bytes, BytesMut};
use memchr::memmem;
use std::sync::LazyLock;

/// No message is longer in ClickHouse itself.
const LONGEST_EXCEPTION: usize = 16 * 1024;
/// What a client gets of a message.
const LONGEST_MESSAGE: usize = 1000;

/// An exception of ClickHouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// Its number; 0 when there is none.
    pub(crate) code: i32,
    /// Its words, without stack trace, version, and what does not concern a client.
    pub(crate) message: String,
    /// Whether it comes before the query itself is looked at.
    pub(crate) is_early: bool,
}

impl Exception {
    /// Reads the text of an exception; `code` from the header counts if it is there.
    pub(crate) fn parse(code: Option<i32>, text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let (found, message) = split_code(&text);
        Self {
            code: code.or(found).unwrap_or(0),
            message: clean(message),
            is_early: false,
        }
    }

    /// What somebody says who did not take the query up: ClickHouse, when it refuses a login, a setting
    /// or a database, or whatever else is at its address. The words may be anybody's.
    pub(super) fn before_the_query(code: i32) -> Self {
        Self {
            code,
            message: "it refuses the request before the query itself, as it does when a parameter is too long"
                .to_owned(),
            is_early: true,
        }
    }

    /// Whether what is missing or refused is of Aviary's making, which a client of
    /// the gateway does not know of: databases, tables and users.
    pub(crate) fn is_ours(&self) -> bool {
        // UNKNOWN_TABLE, UNKNOWN_DATABASE, UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD,
        // ACCESS_DENIED, AUTHENTICATION_FAILED
        matches!(self.code, 60 | 81 | 192..=194 | 497 | 516)
    }
}

/// `Code: 60. DB::Exception: words` (`Code: 60. DB::Exception: Received from ...` included).
fn split_code(text: &str) -> (Option<i32>, &str) {
    let Some((_, rest)) = text.split_once("Code: ") else {
        return (None, text);
    };
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let code = rest[..digits].parse().ok();
    let message = rest[digits..].trim_start_matches(['.', ',', ' ']);
    (
        code,
        message.strip_prefix("DB::Exception: ").unwrap_or(message),
    )
}

/// Words that start what a client must not or need not see: guesses that name
/// other databases' tables, the whole query, and where in the server it happened.
const NOT_FOR_CLIENTS: [&str; 8] = [
    "Stack trace:",
    " (version ",
    ". Maybe you meant",
    ". In scope ",
    " in scope ",
    ": In scope ",
    ": While executing ",
    ": while executing ",
];

fn clean(message: &str) -> String {
    let mut end = message.len();
    for words in NOT_FOR_CLIENTS {
        end = message.find(words).map_or(end, |at| end.min(at));
    }
    let message = message[..end].trim();
    let message = without_name(message).trim_end_matches(['.', ' ']);
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((cut, _)) => format!("{}…", &message[..cut]),
        None => message.to_owned(),
    }
}

/// Drops the name of the error at the end: ` (UNKNOWN_TABLE)`.
fn without_name(message: &str) -> &str {
    let name = message
        .strip_suffix(')')
        .and_then(|rest| rest.rsplit_once(" ("));
    match name {
        Some((words, name))
            if !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') =>
        {
            words
        }
        _ => message,
    }
}

/// Lets the bytes of an answer through until an exception stands among them.
///
/// Servers since 25.11 announce a tag in the head and put it before an exception;
/// nothing a tenant stores can look like it, since it is new for every answer.
/// Older ones just break off or append the words; there the end of the answer is
/// held back until it is known to be the end that the format has.
pub(crate) struct ExceptionWatch {
    /// For servers that announce one.
    tag: Option<Box<str>>,
    held: BytesMut,
    found: bool,
}

/// What stands before the tag.
const MARK: &[u8] = b"__exception__\r\n";

/// Where the mark with this tag is.
fn find(answer: &[u8], tag: &str) -> Option<usize> {
    static MARKS: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(MARK));
    MARKS
        .find_iter(answer)
        .find(|at| answer[at + MARK.len()..].starts_with(tag.as_bytes()))
}

/// Whether an answer is whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// It is; these bytes are its end.
    Whole(Bytes),
    /// It is not.
    Broken(Exception),
}

impl Completeness {
    /// Puts what went on before into the whole.
    pub(crate) fn map_whole(self, whole: impl FnOnce(Bytes) -> Bytes) -> Self {
        match self {
            Self::Whole(end) => Self::Whole(whole(end)),
            broken @ Self::Broken(_) => broken,
        }
    }
}

impl ExceptionWatch {
    pub(crate) fn new(tag: Option<Box<str>>) -> Self {
        Self {
            tag,
            held: BytesMut::new(),
            found: false,
        }
    }

    /// Takes a piece of the answer and gives what may go on to the client.
    pub(crate) fn pass(&mut self, piece: Bytes) -> Bytes {
        if self.found {
            self.hold_some(&piece);
            return Bytes::new();
        }
        let joined = self.join(piece);
        let Some(tag) = &self.tag else {
            return self.split_end(joined, LONGEST_EXCEPTION);
        };
        match find(&joined, tag) {
            Some(at) => {
                self.found = true;
                self.hold_some(&joined[at..]);
                let through = &joined[..at];
                let end = through.strip_suffix(b"\r\n").unwrap_or(through).len();
                joined.slice(..end)
            }
            // The line break before the mark belongs to it.
            None => {
                let longest_start = MARK.len() + tag.len() + 1;
                self.split_end(joined, longest_start)
            }
        }
    }

    /// Judges an answer of which all is there.
    pub(crate) fn judge(&mut self, answer: Bytes, format: Format) -> Completeness {
        let exception = match &self.tag {
            Some(tag) => find(&answer, tag),
            None if format.ends_like(&answer) => None,
            None => Some(memmem::rfind(&answer, b"Code: ").unwrap_or(answer.len())),
        };
        match exception {
            Some(at) => Completeness::Broken(Exception::parse(None, &answer[at..])),
            None => Completeness::Whole(answer),
        }
    }

    fn join(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        self.held.split().freeze()
    }

    fn split_end(&mut self, mut joined: Bytes, held_back: usize) -> Bytes {
        let through = joined.len().saturating_sub(held_back);
        self.held.extend_from_slice(&joined[through..]);
        joined.truncate(through);
        joined
    }

    fn hold_some(&mut self, bytes: &[u8]) {
        let room = LONGEST_EXCEPTION.saturating_sub(self.held.len());
        self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The exception at the end of an answer that broke off, if there is one.
    pub(crate) fn broken_off(&mut self) -> Option<Exception> {
        let end = self.held.split().freeze();
        let words = match (&self.tag, self.found) {
            (_, true) => 0,
            (Some(_), false) => return None,
            (None, false) => memmem::rfind(&end, b"Code: ")?,
        };
        Some(Exception::parse(None, &end[words..]))
    }

    /// Judges the answer at its end.
    pub(crate) fn finish(&mut self, format: Format) -> Completeness {
        let end = self.held.split().freeze();
        if self.found {
            return Completeness::Broken(Exception::parse(None, &end));
        }
        if self.tag.is_none() && !format.ends_like(&end) {
            let words = memmem::rfind(&end, b"Code: ").map_or(&end[..0], |at| &end[at..]);
            return Completeness::Broken(Exception::parse(None, words));
        }
        Completeness::Whole(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "abcdefghijklmnop";

    /// Judges an answer piece by piece; at once must come to the same.
    fn run(
        watch: &mut ExceptionWatch,
        pieces: &[&[u8]],
        format: Format,
    ) -> (Vec<u8>, Completeness) {
        let at_once = ExceptionWatch::new(watch.tag.clone()).judge(pieces.concat().into(), format);
        let mut through = Vec::new();
        for piece in pieces {
            through.extend_from_slice(&watch.pass(Bytes::copy_from_slice(piece)));
        }
        let end = watch.finish(format);
        match (&end, at_once) {
            (Completeness::Whole(rest), Completeness::Whole(answer)) => {
                through.extend_from_slice(rest);
                assert_eq!(through, answer);
            }
            (end, at_once) => assert_eq!(*end, at_once),
        }
        (through, end)
    }

    #[test]
    fn words_for_clients() {
        let exception = Exception::parse(
            None,
            b"Code: 60. DB::Exception: Unknown table expression identifier 'b.x' in scope SELECT * FROM b.x. \
              Maybe you meant: ['other_tenant.secrets']. (UNKNOWN_TABLE) (version 26.7.2.1 (official build))\n",
        );
        assert_eq!(
            exception,
            Exception {
                code: 60,
                message: "Unknown table expression identifier 'b.x'".to_owned(),
                is_early: false,
            }
        );
        let exception = Exception::parse(Some(395), b"Code: 395. DB::Exception: Value passed to 'throwIf' function is non-zero: while executing 'FUNCTION throwIf(number :: 0)'. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)\nStack trace: 0x1");
        assert_eq!(
            exception.message,
            "Value passed to 'throwIf' function is non-zero"
        );
        assert_eq!(Exception::parse(None, b"no words").code, 0);
        assert!(Exception::parse(None, &vec![b'a'; 20_000]).message.len() < 1100);
    }

    #[test]
    fn a_tagged_exception_is_found_wherever_it_is_cut() {
        let body = format!(
            "{{\"a\":1}}\n{{\"a\":2}}\n\r\n__exception__\r\n{TAG}\r\nCode: 395. DB::Exception: boom. (X)\n53 {TAG}\r\n__exception__\r\n"
        );
        for cut in 0..body.len() {
            let (first, second) = body.as_bytes().split_at(cut);
            let (through, end) = run(
                &mut ExceptionWatch::new(Some(TAG.into())),
                &[first, second],
                Format::NdJson,
            );
            assert!(
                b"{\"a\":1}\n{\"a\":2}\n".starts_with(&through),
                "{cut}: {}",
                String::from_utf8_lossy(&through)
            );
            assert!(
                matches!(end, Completeness::Broken(Exception { code: 395, .. })),
                "{cut}: {end:?}"
            );
        }
    }

    /// Servers do not end an answer properly that has an exception in it.
    #[test]
    fn an_answer_that_breaks_off_may_say_why() {
        let tagged =
            format!("{{\"a\":1}}\n\r\n__exception__\r\n{TAG}\r\nCode: 159. DB::Exception: Timeout");
        let plain = "{\"a\":1}\nCode: 159. DB::Exception: Timeout";
        for (tag, body, code) in [
            (Some(TAG), tagged.as_str(), Some(159)),
            (None, plain, Some(159)),
            (Some(TAG), plain, None),
            (None, "{\"a\":1}\n", None),
        ] {
            let mut watch = ExceptionWatch::new(tag.map(Into::into));
            watch.pass(Bytes::copy_from_slice(body.as_bytes()));
            let found = watch.broken_off().map(|exception| exception.code);
            assert_eq!(found, code, "{body}");
        }
    }

    #[test]
    fn whole_answers_pass_unchanged() {
        let body: Vec<u8> = (0..100_000_u32)
            .map(|n| if n % 61 == 60 { b'\n' } else { b'x' })
            .chain(*b"\n")
            .collect();
        for tag in [Some(TAG), None] {
            let pieces: Vec<&[u8]> = body.chunks(777).collect();
            let mut watch = ExceptionWatch::new(tag.map(Into::into));
            let (through, end) = run(&mut watch, &pieces, Format::Csv);
            assert_eq!(through, body);
            assert!(matches!(end, Completeness::Whole(_)));
        }
    }

    #[test]
    fn old_servers_append_the_words() {
        let body = b"{\"a\":1}\n{\"a\":2}\nCode: 395. DB::Exception: boom. (X) (version 21.8)\n";
        let (_, end) = run(&mut ExceptionWatch::new(None), &[body], Format::NdJson);
        assert_eq!(
            end,
            Completeness::Broken(Exception {
                code: 395,
                message: "boom".to_owned(),
                is_early: false,
            })
        );
        let (_, end) = run(
            &mut ExceptionWatch::new(None),
            &[b"{\"meta\":[], \"data\":[ 1,"],
            Format::Json,
        );
        assert!(matches!(end, Completeness::Broken(_)));
    }
}
