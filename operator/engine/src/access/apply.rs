//! What an access statement makes of the model. Pure: a new model or an exception.

use std::collections::BTreeMap;

use super::model::{
    DEFAULT_USER, Grants, HELPER_PREFIX, Model, Profile, Role, RowPolicy, SettingElement, Subjects,
    User, helper,
};
use super::statement::{
    AccessStatement, DefaultDatabase, EntityKind, IfExists, Options, PolicyName, PolicyOptions,
};
use crate::exception::{Exception, code};
use crate::sql::quote::PlainIdentifier;

type Result<T> = std::result::Result<T, Exception>;

/// Applies a statement as a whole or not at all.
pub(crate) fn apply(model: &Model, statement: AccessStatement) -> Result<Model> {
    let mut model = model.clone();
    match statement {
        AccessStatement::Create {
            kind,
            names,
            exists,
            options,
        } => {
            for name in &names {
                create(&mut model, kind, name, exists, &options)?;
            }
        }
        AccessStatement::Alter {
            kind,
            names,
            if_exists,
            rename,
            options,
        } => {
            for name in &names {
                if !has(&model, kind, name) && if_exists {
                    continue;
                }
                alter(&mut model, kind, name, &options)?;
                if let Some(new_name) = &rename {
                    rename_entity(&mut model, kind, name, new_name)?;
                }
            }
        }
        AccessStatement::Drop {
            kind,
            names,
            if_exists,
        } => {
            for name in &names {
                if has(&model, kind, name) || !if_exists {
                    drop_entity(&mut model, kind, name)?;
                }
            }
        }
        AccessStatement::CreatePolicy {
            policies,
            exists,
            options,
        } => {
            for policy in policies {
                create_policy(&mut model, policy, exists, &options)?;
            }
        }
        AccessStatement::AlterPolicy {
            policies,
            if_exists,
            rename,
            options,
        } => {
            for policy in policies {
                alter_policy(&mut model, &policy, if_exists, rename.as_deref(), &options)?;
            }
        }
        AccessStatement::DropPolicy {
            policies,
            if_exists,
        } => {
            for policy in policies {
                match position(&model, &policy) {
                    Some(index) => drop(model.policies.remove(index)),
                    None if if_exists => {}
                    None => return Err(no_policy(&policy)),
                }
            }
        }
        AccessStatement::Privileges {
            statement,
            grantees,
            replace,
        } => {
            for grantee in &grantees {
                let grants = grants_of(&mut model, grantee)?;
                if replace {
                    grants.statements.clear();
                }
                add_statement(grants, &statement);
            }
        }
        AccessStatement::GrantRoles {
            roles,
            grantees,
            admin,
            replace,
        } => {
            check_roles(&model, &roles)?;
            for grantee in &grantees {
                let grants = grants_of(&mut model, grantee)?;
                if replace {
                    grants.roles.clear();
                }
                for role in &roles {
                    *grants.roles.entry(role.clone()).or_default() |= admin;
                }
            }
        }
        AccessStatement::RevokeRoles {
            roles,
            grantees,
            only_admin,
        } => {
            check_roles(&model, roles.as_deref().unwrap_or_default())?;
            for grantee in &grantees {
                let granted = &mut grants_of(&mut model, grantee)?.roles;
                let chosen =
                    |role: &String| roles.as_ref().is_none_or(|roles| roles.contains(role));
                if only_admin {
                    granted
                        .iter_mut()
                        .filter(|(role, _)| chosen(role))
                        .for_each(|(_, admin)| *admin = false);
                } else {
                    granted.retain(|role, _| !chosen(role));
                }
            }
        }
        AccessStatement::SetDefaultRoles { roles, users } => {
            for name in &users {
                check_subjects(&model, &roles)?;
                user(&mut model, name)?.default_roles = roles.clone();
            }
        }
    }
    Ok(model)
}

fn has(model: &Model, kind: EntityKind, name: &str) -> bool {
    is_fixed(kind, name)
        || match kind {
            EntityKind::User => model.users.contains_key(name),
            EntityKind::Role => model.roles.contains_key(name),
            EntityKind::Profile => model.profiles.contains_key(name),
        }
}

/// The user and the profile that are there without a statement cannot be changed by one.
fn is_fixed(kind: EntityKind, name: &str) -> bool {
    kind != EntityKind::Role && name == DEFAULT_USER
}

fn create(
    model: &mut Model,
    kind: EntityKind,
    name: &str,
    exists: IfExists,
    options: &Options,
) -> Result<()> {
    check_name(kind, name)?;
    if has(model, kind, name) {
        match exists {
            IfExists::Keep => return Ok(()),
            IfExists::Fail => return Err(already(kind, name)),
            IfExists::Replace => check_fixed(kind, name)?,
        }
    }
    match kind {
        EntityKind::User => {
            let user = User {
                default_roles: Subjects::all(),
                ..User::default()
            };
            model.users.insert(name.to_owned(), user);
        }
        EntityKind::Role => drop(model.roles.insert(name.to_owned(), Role::default())),
        EntityKind::Profile => drop(model.profiles.insert(name.to_owned(), Profile::default())),
    }
    alter(model, kind, name, options)
}

fn alter(model: &mut Model, kind: EntityKind, name: &str, options: &Options) -> Result<()> {
    check_fixed(kind, name)?;
    if let Some(settings) = &options.settings {
        check_profiles(model, settings)?;
    }
    for subjects in [&options.default_roles, &options.to].into_iter().flatten() {
        check_subjects(model, subjects)?;
    }
    match kind {
        EntityKind::User => {
            let user = user(model, name)?;
            if let Some(authentication) = &options.authentication {
                user.authentication = authentication.clone();
            }
            if let Some(roles) = &options.default_roles {
                user.default_roles = roles.clone();
            }
            if let Some(database) = &options.default_database {
                user.default_database = match database {
                    DefaultDatabase::None => None,
                    DefaultDatabase::Named(name) => Some(name.clone()),
                };
            }
            if let Some(settings) = &options.settings {
                user.settings.clone_from(settings);
            }
        }
        EntityKind::Role => {
            let role = model
                .roles
                .get_mut(name)
                .ok_or_else(|| missing(kind, name))?;
            if let Some(settings) = &options.settings {
                role.settings.clone_from(settings);
            }
        }
        EntityKind::Profile => {
            let profile = model
                .profiles
                .get_mut(name)
                .ok_or_else(|| missing(kind, name))?;
            if let Some(settings) = &options.settings {
                profile.settings.clone_from(settings);
            }
            if let Some(to) = &options.to {
                profile.to = to.clone();
            }
        }
    }
    Ok(())
}

fn rename_entity(model: &mut Model, kind: EntityKind, from: &str, to: &str) -> Result<()> {
    if from == to {
        return Ok(());
    }
    check_name(kind, to)?;
    if has(model, kind, to) {
        return Err(already(kind, to));
    }
    match kind {
        EntityKind::User => move_key(&mut model.users, from, to),
        EntityKind::Role => {
            move_key(&mut model.roles, from, to);
            for grants in all_grants(model) {
                move_key(&mut grants.roles, from, to);
            }
        }
        EntityKind::Profile => {
            move_key(&mut model.profiles, from, to);
            for element in all_settings(model).flatten() {
                if let SettingElement::Inherit(profile) = element
                    && profile == from
                {
                    to.clone_into(profile);
                }
            }
            return Ok(());
        }
    }
    for subjects in all_subjects(model) {
        subjects.rename(from, to);
    }
    Ok(())
}

fn drop_entity(model: &mut Model, kind: EntityKind, name: &str) -> Result<()> {
    check_fixed(kind, name)?;
    if !has(model, kind, name) {
        return Err(missing(kind, name));
    }
    match kind {
        EntityKind::User => drop(model.users.remove(name)),
        EntityKind::Role => {
            model.roles.remove(name);
            for grants in all_grants(model) {
                grants.roles.remove(name);
            }
        }
        EntityKind::Profile => {
            model.profiles.remove(name);
            for settings in all_settings(model) {
                settings.retain(|element| *element != SettingElement::Inherit(name.to_owned()));
            }
            return Ok(());
        }
    }
    for subjects in all_subjects(model) {
        subjects.forget(name);
    }
    Ok(())
}

fn move_key<V>(map: &mut BTreeMap<String, V>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

fn all_grants(model: &mut Model) -> impl Iterator<Item = &mut Grants> {
    let users = model.users.values_mut().map(|user| &mut user.grants);
    let roles = model.roles.values_mut().map(|role| &mut role.grants);
    users.chain(roles)
}

fn all_settings(model: &mut Model) -> impl Iterator<Item = &mut Vec<SettingElement>> {
    let users = model.users.values_mut().map(|user| &mut user.settings);
    let roles = model.roles.values_mut().map(|role| &mut role.settings);
    let profiles = model
        .profiles
        .values_mut()
        .map(|profile| &mut profile.settings);
    users.chain(roles).chain(profiles)
}

fn all_subjects(model: &mut Model) -> impl Iterator<Item = &mut Subjects> {
    let users = model.users.values_mut().map(|user| &mut user.default_roles);
    let profiles = model.profiles.values_mut().map(|profile| &mut profile.to);
    let policies = model.policies.iter_mut().map(|policy| &mut policy.to);
    users.chain(profiles).chain(policies)
}

fn create_policy(
    model: &mut Model,
    name: PolicyName,
    exists: IfExists,
    options: &PolicyOptions,
) -> Result<()> {
    check_element("database", &name.database)?;
    check_element("table", &name.table)?;
    let to = options.to.clone().unwrap_or_default();
    check_subjects(model, &to)?;
    let policy = RowPolicy {
        filter: options.filter.clone().unwrap_or_else(|| "1".to_owned()),
        restrictive: options.restrictive.unwrap_or(false),
        to,
        name: name.name.clone(),
        database: name.database.clone(),
        table: name.table.clone(),
    };
    match (position(model, &name), exists) {
        (None, _) => model.policies.push(policy),
        (Some(index), IfExists::Replace) => model.policies[index] = policy,
        (Some(_), IfExists::Keep) => {}
        (Some(_), IfExists::Fail) => {
            return Err(Exception::new(
                code::ACCESS_ENTITY_ALREADY_EXISTS,
                format!(
                    "row policy `{} ON {}.{}`: cannot insert because row policy with the same name already exists in users_xml.",
                    name.name, name.database, name.table
                ),
            ));
        }
    }
    Ok(())
}

fn alter_policy(
    model: &mut Model,
    name: &PolicyName,
    if_exists: bool,
    rename: Option<&str>,
    options: &PolicyOptions,
) -> Result<()> {
    let Some(index) = position(model, name) else {
        return if if_exists {
            Ok(())
        } else {
            Err(no_policy(name))
        };
    };
    if let Some(to) = &options.to {
        check_subjects(model, to)?;
    }
    let policy = &mut model.policies[index];
    if let Some(filter) = &options.filter {
        policy.filter.clone_from(filter);
    }
    if let Some(restrictive) = options.restrictive {
        policy.restrictive = restrictive;
    }
    if let Some(to) = &options.to {
        policy.to = to.clone();
    }
    if let Some(new_name) = rename {
        new_name.clone_into(&mut policy.name);
    }
    Ok(())
}

fn position(model: &Model, name: &PolicyName) -> Option<usize> {
    model.policies.iter().position(|policy| {
        policy.name == name.name && policy.database == name.database && policy.table == name.table
    })
}

fn user<'a>(model: &'a mut Model, name: &str) -> Result<&'a mut User> {
    check_fixed(EntityKind::User, name)?;
    model
        .users
        .get_mut(name)
        .ok_or_else(|| missing(EntityKind::User, name))
}

fn grants_of<'a>(model: &'a mut Model, name: &str) -> Result<&'a mut Grants> {
    check_fixed(EntityKind::User, name)?;
    let user = model.users.get_mut(name).map(|user| &mut user.grants);
    user.or(model.roles.get_mut(name).map(|role| &mut role.grants))
        // A server looks for a user first and complains of the role.
        .ok_or_else(|| missing(EntityKind::Role, name))
}

/// Adds a statement to the list, which stays as short as repetition allows: an
/// earlier copy of a statement adds nothing to the later one.
fn add_statement(grants: &mut Grants, statement: &str) {
    grants.statements.retain(|earlier| earlier != statement);
    if statement.starts_with("REVOKE ALL ON *.*") || statement == "REVOKE ALL PRIVILEGES ON *.*" {
        grants.statements.clear();
        return;
    }
    grants.statements.push(statement.to_owned());
}

fn check_roles(model: &Model, roles: &[String]) -> Result<()> {
    match roles.iter().find(|role| !model.roles.contains_key(*role)) {
        Some(role) => Err(missing(EntityKind::Role, role)),
        None => Ok(()),
    }
}

fn check_subjects(model: &Model, subjects: &Subjects) -> Result<()> {
    let unknown = subjects
        .names
        .iter()
        .chain(&subjects.except)
        .find(|name| !model.roles.contains_key(*name) && !has(model, EntityKind::User, name));
    match unknown {
        Some(name) => Err(missing(EntityKind::Role, name)),
        None => Ok(()),
    }
}

fn check_profiles(model: &Model, settings: &[SettingElement]) -> Result<()> {
    for element in settings {
        if let SettingElement::Inherit(profile) = element
            && !has(model, EntityKind::Profile, profile)
        {
            return Err(missing(EntityKind::Profile, profile));
        }
    }
    Ok(())
}

fn check_fixed(kind: EntityKind, name: &str) -> Result<()> {
    if is_fixed(kind, name) {
        return Err(Exception::new(
            code::ACCESS_STORAGE_READONLY,
            format!(
                "Cannot update {} {} in users_xml because this storage is readonly.",
                word(kind),
                PlainIdentifier(name)
            ),
        ));
    }
    Ok(())
}

fn check_name(kind: EntityKind, name: &str) -> Result<()> {
    check_element(word(kind), name)?;
    if name.starts_with(HELPER_PREFIX) || helper(name).len() > 200 {
        return Err(Exception::new(
            code::BAD_ARGUMENTS,
            format!("The name {name:?} is reserved or too long."),
        ));
    }
    Ok(())
}

/// Names become elements of the users.xml.
fn check_element(what: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let good = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if good {
        return Ok(());
    }
    Err(Exception::not_implemented(format!(
        "This engine's access control takes names of letters, digits, '_' and '-' only, not the {what} {name:?}."
    )))
}

fn word(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::User => "user",
        EntityKind::Role => "role",
        EntityKind::Profile => "settings profile",
    }
}

fn missing(kind: EntityKind, name: &str) -> Exception {
    let code = match kind {
        EntityKind::User => code::UNKNOWN_USER,
        EntityKind::Role => code::UNKNOWN_ROLE,
        EntityKind::Profile => code::THERE_IS_NO_PROFILE,
    };
    Exception::new(
        code,
        format!("There is no {} `{name}` in `user directories`.", word(kind)),
    )
}

fn already(kind: EntityKind, name: &str) -> Exception {
    let kind = word(kind);
    Exception::new(
        code::ACCESS_ENTITY_ALREADY_EXISTS,
        format!(
            "{kind} `{name}`: cannot insert because {kind} `{name}` already exists in users_xml."
        ),
    )
}

fn no_policy(name: &PolicyName) -> Exception {
    Exception::new(
        code::UNKNOWN_ROW_POLICY,
        format!(
            "There is no row policy `{} ON {}.{}` in `user directories`.",
            name.name, name.database, name.table
        ),
    )
}
