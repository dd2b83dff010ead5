//! Users, their settings and their rights: nothing less than wished for, and
//! nothing more, since a right too many is another tenant's data.

use super::{Plan, Step, Why};
use crate::catalog::{Catalog, User};
use crate::model::ObjectKey;
use crate::plan::step::Action;

pub(super) fn plan(plan: &mut Plan, desired: &Catalog, observed: &Catalog, set_passwords: bool) {
    // Users come with the database: where it is there, somebody took them away.
    let why_missing = if observed.database.is_some() && !set_passwords {
        Why::Drifted
    } else {
        Why::Missing
    };
    let mut push = |action, why| {
        plan.steps.push(Step {
            database: desired.name.clone(),
            object: ObjectKey::Workspace,
            action,
            why,
        });
    };
    for (name, wanted) in &desired.users {
        let name = name.clone();
        let Some(found) = observed.users.get(&name) else {
            let user = wanted.clone();
            push(Action::CreateUser { name, user }, why_missing);
            continue;
        };
        if set_passwords || !found.by_password_hash || found.settings != wanted.settings {
            let why = if set_passwords {
                Why::SpecChanged
            } else {
                Why::Drifted
            };
            let user = wanted.clone();
            push(Action::AlterUser { name, user }, why);
        }
    }
    for (name, wanted) in &desired.users {
        let nobody = User {
            grants: std::collections::BTreeSet::new(),
            roles: std::collections::BTreeSet::new(),
            ..wanted.clone()
        };
        let found = observed.users.get(name);
        let why = if found.is_some() {
            Why::Drifted
        } else {
            why_missing
        };
        let found = found.unwrap_or(&nobody);
        for grant in wanted.grants.difference(&found.grants) {
            let (user, grant) = (name.clone(), grant.clone());
            push(Action::Grant { user, grant }, why);
        }
        for grant in found.grants.difference(&wanted.grants) {
            let (user, grant) = (name.clone(), grant.clone());
            push(Action::Revoke { user, grant }, why);
        }
        for role in found.roles.difference(&wanted.roles) {
            let (user, role) = (name.clone(), role.clone());
            push(Action::RevokeRole { user, role }, why);
        }
    }
}
