//! What was asked of the apiserver, from its audit log: the proof that a pass
//! with nothing to do does nothing.

use crate::cluster::Target;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// The service account of the operator that the chart installs.
const OPERATOR: &str = "system:serviceaccount:aviary-system:aviary-operator";

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
        let log = Target::from_environment().as_box()?.audit_log();
        let length = std::fs::metadata(&log)
            .with_context(|| format!("read {}", log.display()))?
            .len();
        Ok(Self {
            log,
            offset: length,
        })
    }

    /// What the operator asked since, except for watches, which report by themselves, and its lease.
    pub fn requests_of_operator(&self) -> Result<Vec<Request>> {
        let entries = self.entries()?.into_iter();
        Ok(entries
            .filter(|entry| entry.user.username == OPERATOR)
            .filter(|entry| entry.stage == "ResponseComplete" && entry.verb != "watch")
            .map(Request::from)
            .filter(|request| request.resource != "leases")
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
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list")
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
