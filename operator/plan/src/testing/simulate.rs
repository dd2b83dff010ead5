//! Does to a catalog what ClickHouse does when it runs the steps of a plan.

use crate::catalog::{Catalog, Database, User};
use crate::planner::{Action, ColumnPart, Plan};

/// The catalog after the plan.
pub(crate) fn apply(catalog: &Catalog, plan: &Plan) -> Catalog {
    let mut catalog = catalog.clone();
    for step in &plan.steps {
        apply_action(&mut catalog, &step.action);
    }
    catalog
}

/// Panics where ClickHouse would refuse: what is altered must be there.
fn apply_action(catalog: &mut Catalog, action: &Action) {
    match action {
        Action::CreateDatabase { database } => {
            assert_eq!(catalog.database.replace(database.clone()), None);
        }
        Action::CommentDatabase { comment } | Action::ReleaseDatabase { comment } => {
            let comment = comment.clone();
            assert!(catalog.database.is_some());
            catalog.database = Some(Database { comment });
        }
        Action::CreateUser { name, user } => {
            let bare = User {
                grants: std::collections::BTreeSet::new(),
                ..seen(user)
            };
            catalog.users.insert(name.clone(), bare);
        }
        Action::AlterUser { name, user } => {
            let found = catalog.users.get_mut(name).unwrap();
            *found = User {
                grants: found.grants.clone(),
                roles: found.roles.clone(),
                ..seen(user)
            };
        }
        Action::Grant { user, grants } => {
            let user = catalog.users.get_mut(user).unwrap();
            user.grants.extend(grants.iter().cloned());
        }
        Action::Revoke { user, grant } => {
            assert!(catalog.users.get_mut(user).unwrap().grants.remove(grant));
        }
        Action::RevokeRole { user, role } => {
            assert!(catalog.users.get_mut(user).unwrap().roles.remove(role));
        }
        Action::CreateTable { name, table } => {
            assert!(catalog.database.is_some());
            let before = catalog.tables.insert(name.clone(), table.clone());
            assert_eq!(before, None);
        }
        Action::ReplaceLanding { name, table } => {
            assert!(catalog.tables.insert(name.clone(), table.clone()).is_some());
        }
        Action::AddColumns { table, columns } => {
            let found = &mut catalog.tables.get_mut(table).unwrap().columns;
            for (column, after) in columns {
                let place = after.as_ref().map_or(0, |after| {
                    1 + found.iter().position(|it| it.name == *after).unwrap()
                });
                found.insert(place, column.clone());
            }
        }
        Action::AlterColumn {
            table,
            column,
            part,
        } => {
            let columns = &mut catalog.tables.get_mut(table).unwrap().columns;
            let found = columns.iter_mut().find(|it| it.name == column.name);
            let (found, column) = (found.unwrap(), column.clone());
            match part {
                ColumnPart::Default => found.default = column.default,
                ColumnPart::Codec => found.codec = column.codec,
                ColumnPart::Comment => found.comment = column.comment,
            }
        }
        Action::ModifyTtl { table, ttl } => {
            catalog.tables.get_mut(table).unwrap().ttl.clone_from(ttl);
        }
        Action::ModifySettings { table, settings } => {
            let found = &mut catalog.tables.get_mut(table).unwrap().settings;
            found.extend(settings.clone());
        }
        Action::CommentTable { name, comment } | Action::ReleaseTable { name, comment } => {
            let table = catalog.tables.get_mut(name).map(|it| &mut it.comment);
            let view = catalog.views.get_mut(name).map(|it| &mut it.comment);
            *table.or(view).unwrap() = comment.clone();
        }
        Action::CreateView { name, view } => {
            assert!(catalog.tables.contains_key(&view.target));
            assert!(
                view.definer
                    .as_ref()
                    .is_none_or(|it| catalog.users.contains_key(it))
            );
            assert_eq!(catalog.views.insert(name.clone(), view.clone()), None);
        }
        Action::ReplaceView { name, view } => {
            assert!(catalog.views.insert(name.clone(), view.clone()).is_some());
        }
        Action::ModifyView { name, view } => {
            let found = catalog.views.get_mut(name).unwrap();
            found.query.clone_from(&view.query);
        }
        Action::DropView { name } => assert!(catalog.views.remove(name).is_some()),
        Action::DropTable { name, .. } | Action::DropLanding { name } => {
            assert!(catalog.tables.remove(name).is_some());
        }
        Action::DropDatabase { .. } => {
            catalog.database = None;
            catalog.tables.clear();
            catalog.views.clear();
        }
        Action::DropUser { name } => assert!(catalog.users.remove(name).is_some()),
    }
}

/// A user as ClickHouse shows it: without the password.
fn seen(user: &User) -> User {
    User {
        password_sha256: None,
        ..user.clone()
    }
}
