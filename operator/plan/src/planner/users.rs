//! Users, their settings and their rights: nothing less than desired, and
//! nothing more, since a right too many is another tenant's data.

use super::circumstances::Circumstances;
use super::database;
use super::step::{Action, Plan, Scope, Step, Why};
use crate::catalog::{Catalog, Grant};
use crate::objects::ObjectKey;

pub(super) fn plan(
    plan: &mut Plan,
    desired: &Catalog,
    observed: &Catalog,
    circumstances: &Circumstances,
) {
    let set_passwords = database::needs_passwords(desired, observed, circumstances);
    // Users come with the database: where it is there, somebody took them away.
    let why_missing = if observed.database.is_some() && !set_passwords {
        Why::Drifted
    } else {
        database::why_missing(circumstances)
    };
    let why_different = if set_passwords || database::is_redefined(desired, observed) {
        Why::SpecChanged
    } else {
        Why::Drifted
    };
    let mut push = |action, why| {
        // What cannot be taken away keeps nothing from being made.
        let scope = match action {
            Action::Revoke { .. } | Action::RevokeRole { .. } => Scope::Object,
            _ => Scope::Foundation,
        };
        plan.steps.push(Step {
            database: desired.name.clone(),
            object: ObjectKey::Workspace,
            scope,
            action,
            why,
        });
    };
    for (name, wanted) in &desired.users {
        let (name, user) = (name.clone(), wanted.clone());
        match observed.users.get(&name) {
            None => push(Action::CreateUser { name, user }, why_missing),
            Some(found)
                if set_passwords
                    || !found.by_password_hash
                    || found.settings != wanted.settings =>
            {
                push(Action::AlterUser { name, user }, why_different);
            }
            Some(_) => {}
        }
    }
    for (name, wanted) in &desired.users {
        let found = observed.users.get(name);
        let why = if found.is_some() {
            Why::Drifted
        } else {
            why_missing
        };
        let (grants, roles) = found.map_or_else(Default::default, |found| {
            (found.grants.clone(), found.roles.clone())
        });
        let lacking: Vec<Grant> = wanted.grants.difference(&grants).cloned().collect();
        if !lacking.is_empty() {
            let (user, grants) = (name.clone(), lacking);
            push(Action::Grant { user, grants }, why);
        }
        for grant in grants.difference(&wanted.grants) {
            let (user, grant) = (name.clone(), grant.clone());
            push(Action::Revoke { user, grant }, why);
        }
        for role in roles.difference(&wanted.roles) {
            let (user, role) = (name.clone(), role.clone());
            push(Action::RevokeRole { user, role }, why);
        }
    }
}
