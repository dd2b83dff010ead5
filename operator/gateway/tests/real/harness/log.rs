//! The access log of a gateway in the process of the tests.

use super::eventually;
use serde_json::Value;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// What a gateway has written to its access log so far. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// Waits until there are so many lines, and gives the last.
    pub(crate) async fn line(&self, number: usize) -> Value {
        let what = format!("line {number} of the access log");
        eventually(&what, async || self.lines().len() >= number).await;
        let mut lines = self.lines();
        assert_eq!(lines.len(), number, "{}", self.text());
        lines.pop().unwrap()
    }
}
