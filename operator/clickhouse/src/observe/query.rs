//! The parts of the query that reads what a workspace has. Each gives rows of the
//! same shape: what it is about, and its fields as texts. The first field is the
//! name, and the second a position or nothing.

use aviary_plan::derived_names;
use aviary_sql::{Identifier, StringLiteral};

/// What the server can do.
pub(super) fn server() -> String {
    let has_setting = |name: &str| {
        format!(
            "toString(toUInt8((SELECT count() FROM system.settings WHERE name = '{name}') > 0))"
        )
    };
    // Servers have `system.zookeeper` where Keeper is configured; the embedded engine never has it.
    let replication = "toString(toUInt8(\
        (SELECT uniqExact(macro) FROM system.macros WHERE macro IN ('shard', 'replica')) = 2 AND (\
        (SELECT count() FROM system.tables WHERE database = 'system' AND name = 'zookeeper') > 0 OR \
        (SELECT count() FROM system.server_settings WHERE name = 'keeper_hosts' AND value != '') > 0)))";
    part(
        "server",
        &[
            "version()",
            "''",
            &has_setting("default_materialized_view_sql_security"),
            replication,
            &has_setting("max_partition_size_to_drop"),
        ],
        "",
    )
}

/// The database and what is in it.
pub(super) fn catalog(database: &Identifier) -> Vec<String> {
    let literal = StringLiteral(database.as_str()).to_string();
    vec![
        part(
            "database",
            &["name", "''", "comment"],
            &format!("FROM system.databases WHERE name = {literal}"),
        ),
        part(
            "table",
            &[
                "name",
                "''",
                "engine",
                "partition_key",
                "sorting_key",
                "as_select",
                "create_table_query",
                "comment",
                "engine_full",
                "toString(total_rows)",
            ],
            &format!("FROM system.tables WHERE database = {literal}"),
        ),
        part(
            "column",
            &[
                "table",
                "toString(position)",
                "name",
                "type",
                "default_kind",
                "default_expression",
                "compression_codec",
                "comment",
            ],
            &format!("FROM system.columns WHERE database = {literal}"),
        ),
    ]
}

/// The workspace's users and what they may do.
pub(super) fn rights(database: &Identifier) -> Vec<String> {
    let (reader, writer) = (
        derived_names::reader(database.as_str()),
        derived_names::writer(database.as_str()),
    );
    let users = format!("({}, {})", StringLiteral(&reader), StringLiteral(&writer));
    vec![
        part(
            "user",
            &["name", "''", "toString(auth_type)"],
            &format!("FROM system.users WHERE name IN {users}"),
        ),
        part(
            "setting",
            &[
                "user_name",
                "''",
                "setting_name",
                "value",
                "min",
                "max",
                "toString(writability)",
            ],
            &format!(
                "FROM system.settings_profile_elements WHERE user_name IN {users} AND setting_name IS NOT NULL"
            ),
        ),
        // Profiles that somebody gave to the user count as its own settings.
        part(
            "setting",
            &[
                "given.user_name",
                "''",
                "element.setting_name",
                "element.value",
                "element.min",
                "element.max",
                "toString(element.writability)",
            ],
            &format!(
                "FROM system.settings_profile_elements AS given \
                 INNER JOIN system.settings_profile_elements AS element \
                 ON given.inherit_profile = element.profile_name \
                 WHERE given.user_name IN {users} AND given.inherit_profile != 'default' \
                 AND element.setting_name IS NOT NULL"
            ),
        ),
        part(
            "grant",
            &[
                "user_name",
                "''",
                "toString(access_type)",
                "database",
                "table",
                "column",
                "toString(grant_option)",
                "toString(is_partial_revoke)",
            ],
            &format!("FROM system.grants WHERE user_name IN {users}"),
        ),
        part(
            "role",
            &["user_name", "''", "granted_role_name"],
            &format!("FROM system.role_grants WHERE user_name IN {users}"),
        ),
    ]
}

fn part(kind: &str, fields: &[&str], from: &str) -> String {
    format!(
        "SELECT '{kind}' AS kind, CAST([{}], 'Array(Nullable(String))') AS fields {from}",
        fields.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine is tested with what it is asked most.
    #[test]
    fn the_engine_is_tested_with_this_query() {
        let database = Identifier::new("acme").unwrap();
        let mut parts = vec![server()];
        parts.extend(catalog(&database));
        parts.extend(rights(&database));
        let tested: Vec<&str> = include_str!("../../../engine/tests/observe.sql")
            .lines()
            .map(|line| line.trim().trim_start_matches("UNION ALL "))
            .collect();
        let asked: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
        assert_eq!(asked, tested);
    }
}
