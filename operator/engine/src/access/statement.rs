//! Access statements as data.

use super::model::{Authentication, SettingElement, Subjects};

/// An access statement, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessStatement {
    Create {
        kind: EntityKind,
        names: Vec<String>,
        exists: IfExists,
        options: Options,
    },
    Alter {
        kind: EntityKind,
        names: Vec<String>,
        if_exists: bool,
        rename: Option<String>,
        options: Options,
    },
    Drop {
        kind: EntityKind,
        names: Vec<String>,
        if_exists: bool,
    },
    CreatePolicy {
        policies: Vec<PolicyName>,
        exists: IfExists,
        options: PolicyOptions,
    },
    AlterPolicy {
        policies: Vec<PolicyName>,
        if_exists: bool,
        rename: Option<String>,
        options: PolicyOptions,
    },
    DropPolicy {
        policies: Vec<PolicyName>,
        if_exists: bool,
    },
    /// Grants privileges (as text, without grantees) or takes them.
    Privileges {
        /// `GRANT ...` or `REVOKE ...`.
        statement: String,
        grantees: Vec<String>,
        /// Everything granted before is forgotten.
        replace: bool,
    },
    GrantRoles {
        roles: Vec<String>,
        grantees: Vec<String>,
        admin: bool,
        replace: bool,
    },
    RevokeRoles {
        /// `None` means all.
        roles: Option<Vec<String>>,
        grantees: Vec<String>,
        only_admin: bool,
    },
    SetDefaultRoles {
        roles: Subjects,
        users: Vec<String>,
    },
}

/// What a CREATE, ALTER or DROP is about, policies aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntityKind {
    User,
    Role,
    Profile,
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
pub(crate) struct Options {
    pub(crate) authentication: Option<Authentication>,
    pub(crate) default_roles: Option<Subjects>,
    pub(crate) default_database: Option<DefaultDatabase>,
    pub(crate) settings: Option<Vec<SettingElement>>,
    /// Of a profile: whom it is assigned to.
    pub(crate) to: Option<Subjects>,
}

/// `DEFAULT DATABASE`, which can be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DefaultDatabase {
    None,
    Named(String),
}

/// A row policy's name, which belongs to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyName {
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) table: String,
}

/// What the clauses of a row policy set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PolicyOptions {
    pub(crate) restrictive: Option<bool>,
    pub(crate) filter: Option<String>,
    pub(crate) to: Option<Subjects>,
}
