//! What an access statement makes of the model. Pure: a new model or an exception.

use super::model::{
    DEFAULT_USER, Grants, HELPER_PREFIX, Model, Profile, Role, RowPolicy, SettingElement, Subjects,
    User, helper,
};
use super::statement::{AccessStatement, Changes, EntityName, IfExists};
use crate::exception::{Exception, code};

type Result<T> = std::result::Result<T, Exception>;

/// Applies a statement as a whole or not at all.
pub(super) fn apply(model: &Model, statement: AccessStatement) -> Result<Model> {
    let mut model = model.clone();
    match statement {
        AccessStatement::Create {
            names,
            exists,
            changes,
        } => {
            for name in names {
                create(&mut model, &name, exists, &changes)?;
            }
        }
        AccessStatement::Alter {
            names,
            if_exists,
            changes,
        } => {
            for name in names {
                if has(&model, &name) || !if_exists {
                    alter(&mut model, &name, &changes)?;
                }
            }
        }
        AccessStatement::Drop { names, if_exists } => {
            for name in names {
                if has(&model, &name) || !if_exists {
                    remove(&mut model, &name)?;
                }
            }
        }
        AccessStatement::Privileges {
            statement,
            grantees,
        } => {
            for grantee in &grantees {
                add_statement(grants_of(&mut model, grantee)?, &statement);
            }
        }
        AccessStatement::GrantRoles { roles, grantees } => {
            check_roles(&model, &roles)?;
            for grantee in &grantees {
                let granted = &mut grants_of(&mut model, grantee)?.granted_roles;
                granted.extend(roles.iter().cloned());
            }
        }
        AccessStatement::RevokeRoles { roles, grantees } => {
            check_roles(&model, &roles)?;
            for grantee in &grantees {
                let granted = &mut grants_of(&mut model, grantee)?.granted_roles;
                granted.retain(|role| !roles.contains(role));
            }
        }
    }
    Ok(model)
}

fn has(model: &Model, name: &EntityName) -> bool {
    is_fixed(name)
        || match name {
            EntityName::User(name) => model.users.contains_key(name),
            EntityName::Role(name) => model.roles.contains_key(name),
            EntityName::Profile(name) => model.profiles.contains_key(name),
            EntityName::Policy { .. } => position(model, name).is_some(),
        }
}

/// The user and the profile that are there without a statement cannot be changed by one.
fn is_fixed(name: &EntityName) -> bool {
    matches!(name, EntityName::User(name) | EntityName::Profile(name) if name == DEFAULT_USER)
}

fn create(
    model: &mut Model,
    entity: &EntityName,
    exists: IfExists,
    changes: &Changes,
) -> Result<()> {
    check_name(entity)?;
    if has(model, entity) {
        match exists {
            IfExists::Keep => return Ok(()),
            IfExists::Replace => check_fixed(entity)?,
            IfExists::Fail => {
                return Err(Exception::new(
                    code::ACCESS_ENTITY_ALREADY_EXISTS,
                    format!(
                        "{entity}: cannot insert because {entity} already exists in users_xml."
                    ),
                ));
            }
        }
    }
    match entity {
        EntityName::User(name) => drop(model.users.insert(name.clone(), User::default())),
        EntityName::Role(name) => drop(model.roles.insert(name.clone(), Role::default())),
        EntityName::Profile(name) => drop(model.profiles.insert(name.clone(), Profile::default())),
        EntityName::Policy {
            name,
            database,
            table,
        } => {
            let policy = RowPolicy {
                name: name.clone(),
                database: database.clone(),
                table: table.clone(),
                filter: "1".to_owned(),
                restrictive: false,
                to: Subjects::default(),
            };
            match position(model, entity) {
                Some(index) => model.policies[index] = policy,
                None => model.policies.push(policy),
            }
        }
    }
    alter(model, entity, changes)
}

fn alter(model: &mut Model, name: &EntityName, changes: &Changes) -> Result<()> {
    check_fixed(name)?;
    check_profiles(model, changes.settings.as_deref().unwrap_or_default())?;
    if let Some(subjects) = &changes.to {
        check_subjects(model, subjects)?;
    }
    let missing = || missing(name);
    match name {
        EntityName::User(name) => {
            let user = model.users.get_mut(name).ok_or_else(missing)?;
            set(&mut user.authentication, changes.authentication.as_ref());
            set(&mut user.settings, changes.settings.as_ref());
            if changes.default_database.is_some() {
                user.default_database.clone_from(&changes.default_database);
            }
        }
        EntityName::Role(name) => drop(model.roles.get(name).ok_or_else(missing)?),
        EntityName::Profile(name) => {
            let profile = model.profiles.get_mut(name).ok_or_else(missing)?;
            set(&mut profile.settings, changes.settings.as_ref());
        }
        EntityName::Policy { .. } => {
            let index = position(model, name).ok_or_else(missing)?;
            let policy = &mut model.policies[index];
            set(&mut policy.filter, changes.filter.as_ref());
            set(&mut policy.restrictive, changes.restrictive.as_ref());
            set(&mut policy.to, changes.to.as_ref());
        }
    }
    Ok(())
}

fn set<T: Clone>(target: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        target.clone_from(value);
    }
}

/// Takes it away, and from all that it was given to.
fn remove(model: &mut Model, name: &EntityName) -> Result<()> {
    check_fixed(name)?;
    if !has(model, name) {
        return Err(missing(name));
    }
    match name {
        EntityName::User(name) => drop(model.users.remove(name)),
        EntityName::Role(name) => {
            model.roles.remove(name);
            let users = model.users.values_mut().map(|user| &mut user.grants);
            let roles = model.roles.values_mut().map(|role| &mut role.grants);
            for grants in users.chain(roles) {
                grants.granted_roles.remove(name);
            }
        }
        EntityName::Profile(name) => {
            model.profiles.remove(name);
            let users = model.users.values_mut().map(|user| &mut user.settings);
            let profiles = model.profiles.values_mut();
            for settings in users.chain(profiles.map(|profile| &mut profile.settings)) {
                settings.retain(|element| *element != SettingElement::Inherit(name.clone()));
            }
        }
        EntityName::Policy { .. } => {
            if let Some(index) = position(model, name) {
                model.policies.remove(index);
            }
        }
    }
    if let EntityName::User(name) | EntityName::Role(name) = name {
        for policy in &mut model.policies {
            policy.to.names.remove(name);
            policy.to.except.remove(name);
        }
    }
    Ok(())
}

fn position(model: &Model, name: &EntityName) -> Option<usize> {
    model.policies.iter().position(|policy| {
        matches!(name, EntityName::Policy { name, database, table }
            if *name == policy.name && *database == policy.database && *table == policy.table)
    })
}

fn grants_of<'a>(model: &'a mut Model, name: &str) -> Result<&'a mut Grants> {
    check_fixed(&EntityName::User(name.to_owned()))?;
    let user = model.users.get_mut(name).map(|user| &mut user.grants);
    user.or(model.roles.get_mut(name).map(|role| &mut role.grants))
        // A server looks for a user first and complains of the role.
        .ok_or_else(|| missing(&EntityName::Role(name.to_owned())))
}

/// Adds a statement to the list, which stays as short as repetition allows: an
/// earlier copy of a statement adds nothing to the later one.
fn add_statement(grants: &mut Grants, statement: &str) {
    grants.statements.retain(|earlier| earlier != statement);
    if statement == "REVOKE ALL ON *.*" {
        grants.statements.clear();
        return;
    }
    grants.statements.push(statement.to_owned());
}

fn check_roles(model: &Model, roles: &[String]) -> Result<()> {
    match roles.iter().find(|role| !model.roles.contains_key(*role)) {
        Some(role) => Err(missing(&EntityName::Role(role.clone()))),
        None => Ok(()),
    }
}

fn check_subjects(model: &Model, subjects: &Subjects) -> Result<()> {
    let known = |name: &String| {
        model.roles.contains_key(name) || has(model, &EntityName::User(name.clone()))
    };
    let mut names = subjects.names.iter().chain(&subjects.except);
    match names.find(|name| !known(name)) {
        Some(name) => Err(missing(&EntityName::Role(name.clone()))),
        None => Ok(()),
    }
}

fn check_profiles(model: &Model, settings: &[SettingElement]) -> Result<()> {
    for element in settings {
        if let SettingElement::Inherit(profile) = element {
            let name = EntityName::Profile(profile.clone());
            if !has(model, &name) {
                return Err(missing(&name));
            }
        }
    }
    Ok(())
}

fn check_fixed(name: &EntityName) -> Result<()> {
    if is_fixed(name) {
        return Err(Exception::new(
            code::ACCESS_STORAGE_READONLY,
            format!("Cannot update {name} in users_xml because this storage is readonly."),
        ));
    }
    Ok(())
}

fn check_name(name: &EntityName) -> Result<()> {
    match name {
        EntityName::User(text) | EntityName::Role(text) | EntityName::Profile(text) => {
            check_element(text)?;
            if text.starts_with(HELPER_PREFIX) || helper(text).len() > 200 {
                return Err(Exception::new(
                    code::BAD_ARGUMENTS,
                    format!("The name {text:?} is reserved or too long."),
                ));
            }
            Ok(())
        }
        EntityName::Policy {
            database, table, ..
        } => check_element(database).and_then(|()| check_element(table)),
    }
}

/// Names become elements of the users.xml.
fn check_element(name: &str) -> Result<()> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if begins && name.bytes().all(is_word) {
        return Ok(());
    }
    Err(Exception::not_implemented(format!(
        "This engine's access control takes names of letters, digits, '_' and '-' only, not {name:?}."
    )))
}

fn missing(name: &EntityName) -> Exception {
    let code = match name {
        EntityName::User(_) => code::UNKNOWN_USER,
        EntityName::Role(_) => code::UNKNOWN_ROLE,
        EntityName::Profile(_) => code::THERE_IS_NO_PROFILE,
        EntityName::Policy { .. } => code::UNKNOWN_ROW_POLICY,
    };
    Exception::new(code, format!("There is no {name} in `user directories`."))
}
