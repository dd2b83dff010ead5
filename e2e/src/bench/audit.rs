//! The apiserver's audit log: who asked for what between two moments.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

/// The log of a box.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    path: PathBuf,
}

/// A moment in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

/// What one client asked for, as `patch pipes/status`, and how often. Watches are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests(BTreeMap<String, u64>);

/// The fields of a line that matter here.
#[derive(Deserialize)]
struct Line {
    stage: String,
    verb: String,
    user: User,
    #[serde(rename = "objectRef")]
    object: Option<Object>,
    #[serde(rename = "requestURI")]
    uri: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

impl AuditLog {
    /// The log in this file.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Now. Whatever is logged from here on was answered after the mark.
    pub(crate) fn mark(&self) -> Result<Mark> {
        let file = std::fs::metadata(&self.path)
            .with_context(|| format!("look at {}", self.path.display()))?;
        Ok(Mark(file.len()))
    }

    /// What `user` asked for since the mark.
    pub(crate) fn requests_since(&self, mark: Mark, user: &str) -> Result<Requests> {
        let mut file =
            File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        file.seek(SeekFrom::Start(mark.0))
            .context("go to the mark in the audit log")?;
        let mut requests = Requests::default();
        for line in BufReader::new(file).lines() {
            let line = line.context("read the audit log")?;
            requests.count(&line, user);
        }
        Ok(requests)
    }
}

impl Requests {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn count(&mut self, line: &str, user: &str) {
        if let Some(request) = request_of(line, user) {
            *self.0.entry(request).or_default() += 1;
        }
    }
}

impl std::fmt::Display for Requests {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut most: Vec<_> = self.0.iter().collect();
        most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let texts: Vec<String> = most
            .into_iter()
            .map(|(request, count)| format!("{count} {request}"))
            .collect();
        formatter.write_str(&texts.join(", "))
    }
}

/// What a line says this user asked for, unless it is a watch or somebody else. The
/// last line may be half written; it says nothing yet.
fn request_of(line: &str, user: &str) -> Option<String> {
    // Most lines are of others; this spares parsing them.
    if !line.contains(user) {
        return None;
    }
    let line: Line = serde_json::from_str(line).ok()?;
    if line.user.username != user || line.stage != "ResponseComplete" || line.verb == "watch" {
        return None;
    }
    let object = match line.object {
        Some(object) if object.subresource.is_empty() => object.resource,
        Some(object) => format!("{}/{}", object.resource, object.subresource),
        None => line.uri.split('?').next().unwrap_or_default().to_owned(),
    };
    Some(format!("{} {object}", line.verb))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const OPERATOR: &str = "system:serviceaccount:aviary-system:aviary-operator";

    fn line(user: &str, stage: &str, verb: &str, object: &str) -> String {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"{stage}","requestURI":"/apis/aviary.dev/v1alpha1/pipes?limit=500","verb":"{verb}","user":{{"username":"{user}","uid":"2"}},"sourceIPs":["10.244.0.7"],"userAgent":"x"{object}}}"#
        )
    }

    fn object(resource: &str, subresource: &str) -> String {
        format!(r#","objectRef":{{"resource":"{resource}","subresource":"{subresource}"}}"#)
    }

    #[test]
    fn requests_of_one_user_without_watches() {
        let pipes = object("pipes", "status");
        let counted = |line: &str| request_of(line, OPERATOR);
        assert_eq!(
            counted(&line(OPERATOR, "ResponseComplete", "patch", &pipes)).as_deref(),
            Some("patch pipes/status")
        );
        assert_eq!(
            counted(&line(
                OPERATOR,
                "ResponseComplete",
                "create",
                &object("secrets", "")
            ))
            .as_deref(),
            Some("create secrets")
        );
        assert_eq!(
            counted(&line(OPERATOR, "ResponseComplete", "get", "")).as_deref(),
            Some("get /apis/aviary.dev/v1alpha1/pipes")
        );
        assert_eq!(
            counted(&line(OPERATOR, "ResponseComplete", "watch", &pipes)),
            None
        );
        assert_eq!(
            counted(&line(OPERATOR, "ResponseStarted", "watch", &pipes)),
            None
        );
        let other = "system:serviceaccount:aviary-system:aviary-operator-2";
        assert_eq!(
            counted(&line(other, "ResponseComplete", "patch", &pipes)),
            None
        );
        assert_eq!(counted(&format!(r#"{{"stage":"{OPERATOR}"#)), None);
    }

    #[test]
    fn only_what_came_after_the_mark() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let log = AuditLog::at(file.path().to_owned());
        let request = line(OPERATOR, "ResponseComplete", "list", &object("pipes", ""));
        writeln!(file, "{request}").unwrap();
        let mark = log.mark().unwrap();
        assert_eq!(log.requests_since(mark, OPERATOR).unwrap().total(), 0);
        writeln!(file, "{request}\n{request}").unwrap();
        let update = line(OPERATOR, "ResponseComplete", "update", &object("pods", ""));
        writeln!(file, "{update}").unwrap();
        let requests = log.requests_since(mark, OPERATOR).unwrap();
        assert_eq!(requests.total(), 3);
        assert_eq!(requests.to_string(), "2 list pipes, 1 update pods");
    }
}
