//! Who owns a ClickHouse object: one line of JSON in its COMMENT, written by
//! the planner and read back by it. What does not carry it is not Aviary's.

use crate::objects::ObjectKey;
use aviary_crds::DeletionPolicy;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The comment of a database, table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comment {
    /// Aviary made it.
    Owned {
        /// For whom, and as what.
        ownership: Ownership,
        /// What the user says of it.
        description: Option<String>,
    },
    /// Somebody else made it: the comment as it stands.
    Foreign(String),
}

/// For whom Aviary made an object, and from which definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The uid of the Kubernetes object; empty when the ClickHouse object was released.
    pub owner: String,
    /// Its kind.
    pub kind: OwnerKind,
    /// Its `<namespace>/<name>`.
    pub name: String,
    /// What was to become of the data when this was written. For people who read it in
    /// ClickHouse: it is older than the object, and nothing is decided by it.
    pub deletion: DeletionPolicy,
    /// On a database: uid of the Kubernetes that the owner is in; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubernetes: String,
    /// On a data source's table: hash of the definition it was made from, and on a
    /// database of its limits, which tells a changed spec from drift.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub spec: String,
    /// On a database: fingerprint of the passwords its users have.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub credentials: String,
}

/// The kinds that own ClickHouse objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OwnerKind {
    /// Owns a database and its users.
    Workspace,
    /// Owns a table and what feeds it.
    DataSource,
}

/// The JSON in the comment.
#[derive(Serialize, Deserialize)]
struct Document {
    aviary: Ownership,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl Comment {
    /// Reads a comment as ClickHouse has it.
    pub fn parse(text: &str) -> Self {
        match serde_json::from_str::<Document>(text) {
            Ok(Document {
                aviary,
                description,
            }) => Self::Owned {
                ownership: aviary,
                description,
            },
            Err(_) => Self::Foreign(text.to_owned()),
        }
    }

    /// The ownership, if Aviary made the object.
    pub fn ownership(&self) -> Option<&Ownership> {
        match self {
            Self::Owned { ownership, .. } => Some(ownership),
            Self::Foreign(_) => None,
        }
    }

    /// The same comment for an object that nobody owns any more.
    #[must_use]
    pub fn released(&self) -> Self {
        let mut released = self.clone();
        if let Self::Owned { ownership, .. } = &mut released {
            ownership.owner.clear();
        }
        released
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned {
                ownership,
                description,
            } => {
                let document = Document {
                    aviary: ownership.clone(),
                    description: description.clone(),
                };
                let text = serde_json::to_string(&document).map_err(|_| fmt::Error)?;
                formatter.write_str(&text)
            }
            Self::Foreign(text) => formatter.write_str(text),
        }
    }
}

impl Ownership {
    /// Whether this is the same Kubernetes object, or a released one of the
    /// same name that it may take over.
    pub fn admits(&self, claimant: &Self) -> bool {
        let same_object = self.kind == claimant.kind && self.owner == claimant.owner;
        let released_namesake =
            self.owner.is_empty() && self.kind == claimant.kind && self.name == claimant.name;
        same_object || released_namesake
    }

    /// Whether the owner is proven gone: the claimant has its name, and in one
    /// Kubernetes only one object can have it.
    pub fn is_succeeded_by(&self, claimant: &Self) -> bool {
        let same_name = (self.kind, &self.name) == (claimant.kind, &claimant.name);
        let same_kubernetes = !self.kubernetes.is_empty() && self.kubernetes == claimant.kubernetes;
        let other_object = !self.owner.is_empty() && self.owner != claimant.owner;
        same_name && same_kubernetes && other_object
    }

    /// The Kubernetes object to report on.
    pub fn object(&self) -> ObjectKey {
        let name = self.name.rsplit('/').next().unwrap_or(&self.name);
        match self.kind {
            OwnerKind::Workspace => ObjectKey::Workspace,
            OwnerKind::DataSource => ObjectKey::DataSource(name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ownership(owner: &str) -> Ownership {
        Ownership {
            owner: owner.to_owned(),
            kind: OwnerKind::DataSource,
            name: "demo/flights".to_owned(),
            deletion: DeletionPolicy::Retain,
            kubernetes: String::new(),
            spec: "abc".to_owned(),
            credentials: String::new(),
        }
    }

    #[test]
    fn a_comment_reads_back() {
        let comment = Comment::Owned {
            ownership: ownership("u1"),
            description: Some("it's\na \"test\"".to_owned()),
        };
        let text = comment.to_string();
        assert!(!text.contains('\n'));
        assert_eq!(Comment::parse(&text), comment);
    }

    #[test]
    fn other_comments_are_foreign() {
        for text in ["", "hello", "{}", "{\"aviary\":1}", "null"] {
            assert_eq!(Comment::parse(text), Comment::Foreign(text.to_owned()));
        }
    }

    #[test]
    fn only_a_namesake_in_the_same_kubernetes_proves_an_owner_gone() {
        let of = |owner: &str, kubernetes: &str| Ownership {
            kubernetes: kubernetes.to_owned(),
            ..ownership(owner)
        };
        let claimant = of("u2", "k1");
        assert!(of("u1", "k1").is_succeeded_by(&claimant));
        for other in [of("u1", "k2"), of("u1", ""), of("u2", "k1"), of("", "k1")] {
            assert!(!other.is_succeeded_by(&claimant), "{other:?}");
        }
        assert!(!of("u1", "").is_succeeded_by(&of("u2", "")));
        let renamed = Ownership {
            name: "demo/other".to_owned(),
            ..of("u1", "k1")
        };
        assert!(!renamed.is_succeeded_by(&claimant));
    }

    #[test]
    fn a_released_object_is_admitted_by_name_only() {
        let claimant = ownership("u2");
        assert!(!ownership("u1").admits(&claimant));
        assert!(ownership("").admits(&claimant));
        let stranger = Ownership {
            name: "demo/other".to_owned(),
            ..claimant
        };
        assert!(!ownership("").admits(&stranger));
    }
}
