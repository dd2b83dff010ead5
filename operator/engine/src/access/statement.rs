//! Access statements as data.

use std::fmt;

use super::model::{Authentication, SettingElement, Subjects};

/// An access statement, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessStatement {
    Create {
        names: Vec<EntityName>,
        exists: IfExists,
        changes: Changes,
    },
    Alter {
        names: Vec<EntityName>,
        if_exists: bool,
        changes: Changes,
    },
    Drop {
        names: Vec<EntityName>,
        if_exists: bool,
    },
    /// Grants privileges or takes them.
    Privileges {
        /// `GRANT ...` or `REVOKE ...`, without its grantees.
        statement: String,
        grantees: Vec<String>,
    },
    GrantRoles {
        roles: Vec<String>,
        grantees: Vec<String>,
    },
    RevokeRoles {
        roles: Vec<String>,
        grantees: Vec<String>,
    },
}

/// What a CREATE, ALTER or DROP is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntityName {
    User(String),
    Role(String),
    Profile(String),
    /// A row policy, which belongs to a table.
    Policy {
        name: String,
        database: String,
        table: String,
    },
}

impl fmt::Display for EntityName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntityName::User(name) => write!(formatter, "user `{name}`"),
            EntityName::Role(name) => write!(formatter, "role `{name}`"),
            EntityName::Profile(name) => write!(formatter, "settings profile `{name}`"),
            EntityName::Policy {
                name,
                database,
                table,
            } => write!(formatter, "row policy `{name} ON {database}.{table}`"),
        }
    }
}

/// What a CREATE does where the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfExists {
    Fail,
    Keep,
    Replace,
}

/// What the clauses of a CREATE or ALTER set; `None` leaves it alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Of a user.
    pub(crate) authentication: Option<Authentication>,
    /// Of a user.
    pub(crate) default_database: Option<String>,
    /// Of a user or a profile.
    pub(crate) settings: Option<Vec<SettingElement>>,
    /// Of a policy: its condition, as SQL.
    pub(crate) filter: Option<String>,
    /// Of a policy.
    pub(crate) restrictive: Option<bool>,
    /// Of a policy: to whom it applies.
    pub(crate) to: Option<Subjects>,
}
