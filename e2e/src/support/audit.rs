//! What was asked of the apiserver, from its audit log: the proof that a pass
//! with nothing to do does nothing.

use super::pods::Component;
use crate::cluster::Target;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// A place in the audit log. Only the box has one.
pub struct AuditMark {
    log: PathBuf,
    offset: u64,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `create`, `update`, `patch`, `delete`, ...
    pub verb: String,
    /// Such as `pipes/status`.
    pub resource: String,
    /// Of the object; empty for requests about none or several.
    pub namespace: String,
    /// Of the object; empty for requests about none or several.
    pub name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: Option<String>,
    namespace: String,
    name: String,
}

impl AuditMark {
    /// The end of the log.
    pub fn now() -> Result<Self> {
        Self::of(Target::from_environment().as_box()?.audit_log())
    }

    fn of(log: PathBuf) -> Result<Self> {
        let length = std::fs::metadata(&log)
            .with_context(|| format!("read {}", log.display()))?
            .len();
        Ok(Self {
            log,
            offset: length,
        })
    }

    /// What a component asked since, except for watches.
    pub fn requests_of(&self, component: Component) -> Result<Vec<Request>> {
        let user = component.user();
        let entries = self.entries()?.into_iter();
        Ok(entries
            .filter(|entry| entry.user.username == user)
            .filter(|entry| entry.stage == "ResponseComplete" && entry.verb != "watch")
            .map(Request::from)
            .collect())
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut file =
            File::open(&self.log).with_context(|| format!("open {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.offset))
            .context("seek in the audit log")?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .context("read the audit log")?;
        // The apiserver may be writing the last line right now.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).context("read a line of the audit log"))
            .collect()
    }
}

impl Request {
    /// Requests of the same sort counted, the most frequent first: `50 create secrets, 9 list pipes`.
    pub fn summary(requests: &[Self]) -> String {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for request in requests {
            let sort = format!("{} {}", request.verb, request.resource);
            *counts.entry(sort).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let texts: Vec<String> = counts
            .iter()
            .map(|(sort, count)| format!("{count} {sort}"))
            .collect();
        texts.join(", ")
    }
}

impl From<Entry> for Request {
    fn from(entry: Entry) -> Self {
        let object = entry.object_ref.unwrap_or_default();
        let resource = match object.subresource {
            Some(subresource) => format!("{}/{subresource}", object.resource),
            None => object.resource,
        };
        Self {
            verb: entry.verb,
            resource,
            namespace: object.namespace,
            name: object.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const OPERATOR: &str = "system:serviceaccount:aviary-system:aviary-operator";

    fn line(user: &str, stage: &str, verb: &str, object: &str) -> String {
        format!(
            r#"{{"kind":"Event","level":"Metadata","stage":"{stage}","requestURI":"/x","verb":"{verb}","user":{{"username":"{user}"}}{object}}}"#
        )
    }

    #[test]
    fn requests_of_one_component_after_the_mark_without_watches() {
        let pipes = r#","objectRef":{"resource":"pipes","namespace":"a","name":"b","subresource":"status"}"#;
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let patch = line(OPERATOR, "ResponseComplete", "patch", pipes);
        writeln!(log, "{patch}").unwrap();
        let mark = AuditMark::of(log.path().to_owned()).unwrap();
        assert_eq!(mark.requests_of(Component::Operator).unwrap(), []);

        let other = format!("{OPERATOR}-2");
        for (user, stage, verb, object) in [
            (OPERATOR, "ResponseComplete", "patch", pipes),
            (OPERATOR, "ResponseComplete", "get", ""),
            (OPERATOR, "ResponseStarted", "watch", pipes),
            (OPERATOR, "ResponseComplete", "watch", pipes),
            (&other, "ResponseComplete", "patch", pipes),
            (OPERATOR, "ResponseComplete", "patch", pipes),
        ] {
            writeln!(log, "{}", line(user, stage, verb, object)).unwrap();
        }
        write!(log, "{}", &patch[..40]).unwrap();
        let requests = mark.requests_of(Component::Operator).unwrap();
        assert_eq!(Request::summary(&requests), "2 patch pipes/status, 1 get ");
        assert_eq!(
            (requests[0].namespace.as_str(), requests[0].name.as_str()),
            ("a", "b")
        );
    }
}
