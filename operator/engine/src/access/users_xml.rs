//! The users.xml that libchdb reads: every user as himself, so that the system tables tell of him
//! and his views run as him, and a helper role for each, which his connections use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::model::{
    Authentication, DEFAULT_USER, Grants, HELPER_PREFIX, Model, RowPolicy, Setting, SettingElement,
    Subjects, User, helper, profile_of,
};
use crate::control::MARK_SETTING;
use crate::sql::quote::{Identifier, Literal};
use crate::xml::escape;

/// Writes the whole file.
pub(super) fn render(model: &Model) -> String {
    let mut xml = Xml::default();
    xml.open("clickhouse");
    profiles(&mut xml, model);
    roles(&mut xml, model);
    users(&mut xml, model);
    xml.open("quotas");
    xml.element("default", "");
    xml.close("quotas");
    xml.close("clickhouse");
    xml.0
}

#[derive(Default)]
struct Xml(String);

impl Xml {
    fn open(&mut self, name: &str) {
        // Writing into a string does not fail.
        let _ = writeln!(self.0, "<{name}>");
    }

    fn close(&mut self, name: &str) {
        let _ = writeln!(self.0, "</{name}>");
    }

    fn element(&mut self, name: &str, content: &str) {
        let _ = writeln!(self.0, "<{name}>{}</{name}>", escape(content));
    }
}

fn profiles(xml: &mut Xml, model: &Model) {
    xml.open("profiles");
    xml.open("default");
    // Nobody may pass for another connection in system.processes, nor for
    // another maker of views, nor speak a language that the engine cannot read.
    let fixed = [MARK_SETTING, "default_view_definer", "dialect"].map(|setting| {
        let constant = Limits {
            constant: true,
            ..Limits::default()
        };
        (setting, constant)
    });
    constraints(xml, &BTreeMap::from(fixed));
    xml.close("default");
    for (name, profile) in &model.profiles {
        elements(xml, name, &profile.settings);
    }
    for (name, user) in &model.users {
        if profile_of(name, &user.settings) == Some(helper(name)) {
            elements(xml, &helper(name), &user.settings);
        }
    }
    xml.close("profiles");
}

fn elements(xml: &mut Xml, name: &str, settings: &[SettingElement]) {
    xml.open(name);
    let mut values = BTreeMap::new();
    let mut limits: BTreeMap<&str, Limits<'_>> = BTreeMap::new();
    for element in settings {
        match element {
            SettingElement::Inherit(profile) => xml.element("profile", profile),
            SettingElement::Setting(setting) => {
                if let Some(value) = &setting.value {
                    values.insert(&setting.name, value);
                }
                limits.entry(&setting.name).or_default().merge(setting);
            }
        }
    }
    for (setting, value) in &values {
        xml.element(setting, value);
    }
    limits.retain(|_, limits| *limits != Limits::default());
    constraints(xml, &limits);
    xml.close(name);
}

/// The limits on one setting. libchdb refuses a file that has one twice, so
/// the last one stands.
#[derive(Default, PartialEq)]
struct Limits<'a> {
    min: Option<&'a str>,
    max: Option<&'a str>,
    constant: bool,
}

impl<'a> Limits<'a> {
    fn merge(&mut self, setting: &'a Setting) {
        self.min = setting.min.as_deref().or(self.min);
        self.max = setting.max.as_deref().or(self.max);
        self.constant |= setting.constant;
    }
}

fn constraints(xml: &mut Xml, limits: &BTreeMap<&str, Limits<'_>>) {
    if limits.is_empty() {
        return;
    }
    xml.open("constraints");
    for (setting, limits) in limits {
        xml.open(setting);
        for (kind, value) in [("min", limits.min), ("max", limits.max)] {
            if let Some(value) = value {
                xml.element(kind, value);
            }
        }
        if limits.constant {
            xml.element("const", "");
        }
        xml.close(setting);
    }
    xml.close("constraints");
}

fn roles(xml: &mut Xml, model: &Model) {
    xml.open("roles");
    xml.open(&helper(DEFAULT_USER));
    queries(xml, ["GRANT ALL ON *.* WITH GRANT OPTION".to_owned()]);
    xml.close(&helper(DEFAULT_USER));
    for (name, user) in &model.users {
        xml.open(&helper(name));
        let own = user.grants.statements.iter().cloned();
        // His views are to run in his name.
        let definer = format!("GRANT SET DEFINER ON {}", Identifier(name));
        queries(xml, own.chain([definer]));
        xml.close(&helper(name));
    }
    for (name, role) in &model.roles {
        xml.open(name);
        queries(xml, grants(&role.grants));
        xml.close(name);
    }
    xml.close("roles");
}

fn grants(grants: &Grants) -> impl Iterator<Item = String> {
    let roles = grants.granted_roles.iter();
    let roles = roles.map(|role| format!("GRANT {}", Identifier(role)));
    grants.statements.iter().cloned().chain(roles)
}

fn queries(xml: &mut Xml, statements: impl IntoIterator<Item = String>) {
    xml.open("grants");
    let mut any = false;
    for statement in statements {
        xml.element("query", &statement);
        any = true;
    }
    if !any {
        // Without a statement, all rights would be given.
        xml.element("query", "REVOKE ALL ON *.*");
    }
    xml.close("grants");
}

fn users(xml: &mut Xml, model: &Model) {
    xml.open("users");
    xml.open(DEFAULT_USER);
    xml.element("password", "");
    common(xml, "default");
    let helpers = model.users.keys().map(|user| helper(user));
    let all_roles: Vec<String> = std::iter::once(helper(DEFAULT_USER))
        .chain(helpers)
        .chain(model.roles.keys().cloned())
        .map(|role| Identifier(&role).to_string())
        .collect();
    queries(xml, [format!("GRANT {}", all_roles.join(", "))]);
    filters(xml, default_filters(model));
    xml.close(DEFAULT_USER);
    for (name, user) in &model.users {
        xml.open(name);
        match &user.authentication {
            Authentication::NoPassword => xml.element("no_password", ""),
            Authentication::Sha256 { hash } => xml.element("password_sha256_hex", hash),
        }
        let profile = profile_of(name, &user.settings);
        common(xml, profile.as_deref().unwrap_or("default"));
        queries(xml, grants(&user.grants));
        filters(xml, own_filters(model, name, user));
        xml.close(name);
    }
    xml.close("users");
}

fn common(xml: &mut Xml, profile: &str) {
    xml.open("networks");
    xml.element("ip", "::/0");
    xml.close("networks");
    xml.element("profile", profile);
    xml.element("quota", "default");
}

type Filters = BTreeMap<(String, String), String>;

fn filters(xml: &mut Xml, filters: Filters) {
    if filters.is_empty() {
        return;
    }
    xml.open("databases");
    let databases: BTreeSet<&String> = filters.keys().map(|(database, _)| database).collect();
    for database in databases {
        xml.open(database);
        for ((of, table), filter) in &filters {
            if of == database {
                xml.open(table);
                xml.element("filter", filter);
                xml.close(table);
            }
        }
        xml.close(database);
    }
    xml.close("databases");
}

/// The filters of the user all connections run as: they ask for the active
/// roles, since those tell who it really is.
fn default_filters(model: &Model) -> Filters {
    let own_queries = format!(
        "has(enabledRoles(), {}) OR arrayExists(role -> startsWith(Settings['{MARK_SETTING}'], concat(role, ':')), enabledRoles())",
        Literal(&helper(DEFAULT_USER))
    );
    let is_default = format!("has(enabledRoles(), {})", Literal(&helper(DEFAULT_USER)));
    let hiding = system_filters(own_queries, &is_default);
    let of_policies = by_table(model).into_iter().map(|(table, policies)| {
        let conditions = policies
            .into_iter()
            .map(|policy| (policy, applies_to_roles(model, &policy.to)));
        let filter = combine(conditions);
        (table.clone(), also_hiding(&hiding, &table, filter))
    });
    let mut filters = hiding.clone();
    filters.extend(of_policies);
    filters
}

/// A filter on a table of which some rows may be hidden anyway.
fn also_hiding(hiding: &Filters, table: &(String, String), filter: String) -> String {
    match hiding.get(table) {
        Some(visible) => format!("({visible}) AND ({filter})"),
        None => filter,
    }
}

/// Tables that quote what others have asked. libchdb has no `select_from_system_db_requires_grant`,
/// with which a server refuses them.
const OF_OTHERS: [&str; 10] = [
    "asynchronous_inserts",
    "background_schedule_pool",
    "backups",
    "dropped_tables",
    "errors",
    "query_cache",
    "query_condition_cache",
    "schema_inference_cache",
    "view_refreshes",
    "warnings",
];

/// Hides what the engine needs for itself, and all queries but a user's own.
fn system_filters(own_queries: String, is_default: &str) -> Filters {
    let prefix = Literal(HELPER_PREFIX);
    let visible = |column: &str| format!("NOT startsWith(ifNull({column}, ''), {prefix})");
    let of_default = format!("ifNull(user_name, '') = {}", Literal(DEFAULT_USER));
    let of_others = OF_OTHERS.map(|table| (table, is_default.to_owned()));
    [
        ("processes", own_queries),
        ("roles", visible("name")),
        ("current_roles", visible("role_name")),
        ("enabled_roles", visible("role_name")),
        (
            "role_grants",
            format!(
                "{} AND {} AND NOT ({of_default})",
                visible("role_name"),
                visible("granted_role_name")
            ),
        ),
        ("grants", visible("role_name")),
        ("settings_profiles", visible("name")),
        ("row_policies", "database != 'system'".to_owned()),
    ]
    .into_iter()
    .chain(of_others)
    .map(|(table, filter)| (("system".to_owned(), table.to_owned()), filter))
    .collect()
}

/// The filters of a user as himself, for views that run in his name.
fn own_filters(model: &Model, name: &str, user: &User) -> Filters {
    let names = model.names_of(name, user);
    // Where there are policies for others only, he sees nothing anyway.
    let own_queries = format!(
        "startsWith(Settings['{MARK_SETTING}'], {})",
        Literal(&format!("{}:", helper(name)))
    );
    let hiding = system_filters(own_queries, "0");
    by_table(model)
        .into_iter()
        .map(|(table, policies)| {
            let conditions = policies.into_iter().map(|policy| {
                let applies = if policy.to.include(&names) { "1" } else { "0" };
                (policy, applies.to_owned())
            });
            let filter = combine(conditions);
            (table.clone(), also_hiding(&hiding, &table, filter))
        })
        .collect()
}

fn by_table(model: &Model) -> BTreeMap<(String, String), Vec<&RowPolicy>> {
    let mut tables: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for policy in &model.policies {
        tables
            .entry((policy.database.clone(), policy.table.clone()))
            .or_default()
            .push(policy);
    }
    tables
}

/// A condition on the active roles that tells whether a policy applies.
fn applies_to_roles(model: &Model, subjects: &Subjects) -> String {
    let roles = |names: &BTreeSet<String>| {
        let roles: Vec<String> = names
            .iter()
            .map(|name| {
                if model.roles.contains_key(name) && !model.users.contains_key(name) {
                    name.clone()
                } else {
                    helper(name)
                }
            })
            .map(|role| Literal(&role).to_string())
            .collect();
        format!("hasAny(enabledRoles(), [{}])", roles.join(", "))
    };
    match (subjects.all, subjects.except.is_empty()) {
        (true, true) => "1".to_owned(),
        (true, false) => format!("NOT {}", roles(&subjects.except)),
        (false, _) if subjects.names.is_empty() => "0".to_owned(),
        (false, _) => roles(&subjects.names),
    }
}

/// Policies as one filter. A row is seen where some permissive policy that
/// applies allows it, or none applies, and no restrictive one that applies
/// forbids it.
fn combine<'a>(policies: impl Iterator<Item = (&'a RowPolicy, String)>) -> String {
    let (mut applying, mut allowing, mut restricting) = (Vec::new(), Vec::new(), Vec::new());
    for (policy, applies) in policies {
        let filter = &policy.filter;
        if policy.restrictive {
            restricting.push(format!("(NOT ({applies}) OR ({filter}))"));
        } else {
            applying.push(format!("({applies})"));
            allowing.push(format!("(({applies}) AND ({filter}))"));
        }
    }
    let mut parts = restricting;
    if !applying.is_empty() {
        parts.push(format!(
            "(NOT ({}) OR {})",
            applying.join(" OR "),
            allowing.join(" OR ")
        ));
    }
    parts.join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(filter: &str, restrictive: bool, to: &[&str]) -> RowPolicy {
        RowPolicy {
            name: "p".to_owned(),
            database: "d".to_owned(),
            table: "t".to_owned(),
            filter: filter.to_owned(),
            restrictive,
            to: Subjects {
                names: to.iter().map(|name| (*name).to_owned()).collect(),
                ..Subjects::default()
            },
        }
    }

    #[test]
    fn content_is_escaped() {
        let mut model = Model::default();
        let mut user = User::default();
        user.grants
            .statements
            .push("GRANT SELECT ON `<&>`.*".to_owned());
        model.users.insert("u".to_owned(), user);
        assert!(render(&model).contains("GRANT SELECT ON `&lt;&amp;&gt;`.*"));
    }

    #[test]
    fn policies_become_one_filter_over_the_active_roles() {
        let mut model = Model::default();
        model
            .roles
            .insert("r".to_owned(), super::super::model::Role::default());
        model.users.insert("u".to_owned(), User::default());
        model.policies = vec![
            policy("a = 1", false, &["u"]),
            policy("owner = 'r'", false, &["r"]),
            policy("b", true, &["u"]),
        ];
        let filters = default_filters(&model);
        let u = "hasAny(enabledRoles(), ['aviary-user-u'])";
        let r = "hasAny(enabledRoles(), ['r'])";
        assert_eq!(
            filters[&("d".to_owned(), "t".to_owned())],
            format!(
                "(NOT ({u}) OR (b)) AND (NOT (({u}) OR ({r})) OR (({u}) AND (a = 1)) OR (({r}) AND (owner = 'r')))"
            )
        );
        let own = own_filters(&model, "u", &model.users["u"]);
        assert_eq!(
            own[&("d".to_owned(), "t".to_owned())],
            "(NOT (1) OR (b)) AND (NOT ((1) OR (0)) OR ((1) AND (a = 1)) OR ((0) AND (owner = 'r')))"
        );
    }
}
