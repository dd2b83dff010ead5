//! Views that run in a user's name, and what no view shows.

use super::access::{table, user};
use super::harness::unique;
use super::shared::{admin, database};

#[tokio::test]
async fn a_view_runs_in_its_makers_name() {
    let (own, secret) = (database().await, database().await);
    table(&secret, "t").await;
    let (owner, owning) = user("").await;
    admin()
        .ok(&format!("GRANT ALL ON {own}.* TO {owner}"))
        .await;
    let owning = owning.with("database", &own);
    table(&own, "t").await;
    // He may not make a view on what he cannot read, nor in another's name.
    assert_eq!(
        owning
            .fails(&format!(
                "CREATE VIEW v SQL SECURITY DEFINER AS SELECT * FROM {secret}.t"
            ))
            .await,
        497
    );
    for theft in [
        "DEFINER = default SQL SECURITY DEFINER",
        "DEFINER `default` SQL SECURITY DEFINER",
        "DEFINER = 'def\\x61ult' SQL SECURITY DEFINER",
        "SQL SECURITY DEFINER DEFINER = \"default\"",
        "SQL SECURITY NONE",
    ] {
        let statement =
            format!("CREATE VIEW stolen (a UInt32) {theft} AS SELECT a FROM {secret}.t");
        assert_eq!(owning.fails(&statement).await, 497, "{theft}");
    }
    // A maker names himself; a materialized view does so on its own.
    for (number, security) in ["SQL SECURITY DEFINER", "DEFINER = CURRENT_USER"]
        .into_iter()
        .enumerate()
    {
        let view = format!("CREATE VIEW v{number} (a UInt32) {security} AS SELECT a FROM {own}.t");
        assert_eq!(owning.fails(&view).await, 497, "{security}");
        let named = view.replace(security, &format!("DEFINER = {owner} SQL SECURITY DEFINER"));
        owning.ok(&named).await;
        let definition = owning.ok(&format!("SHOW CREATE TABLE v{number}")).await;
        assert!(
            definition.contains(&format!("DEFINER = {owner} SQL SECURITY DEFINER")),
            "{definition}"
        );
    }
    assert_eq!(
        owning
            .fails("ALTER TABLE v1 MODIFY SQL SECURITY DEFINER")
            .await,
        497
    );
    let (friend, _) = user("").await;
    admin()
        .ok(&format!("GRANT SET DEFINER ON {friend} TO {owner}"))
        .await;
    owning
        .ok(&format!(
            "CREATE VIEW of_friend (a UInt32) DEFINER = {friend} SQL SECURITY DEFINER AS SELECT a FROM {own}.t"
        ))
        .await;
    let definition = owning.ok("SHOW CREATE TABLE of_friend").await;
    assert!(
        definition.contains(&format!("DEFINER = {friend} ")),
        "{definition}"
    );
}

#[tokio::test]
async fn a_maker_who_loses_a_right_takes_it_from_his_views() {
    let (own, other) = (database().await, database().await);
    table(&other, "t").await;
    let (owner, owning) = user("").await;
    let (reader, reading) = user("").await;
    for grant in [
        format!("GRANT ALL ON {own}.* TO {owner}"),
        format!("GRANT SELECT ON {other}.t TO {owner}"),
        format!("GRANT SELECT ON {own}.* TO {reader}"),
    ] {
        admin().ok(&grant).await;
    }
    owning
        .ok(&format!(
            "CREATE VIEW {own}.v DEFINER = {owner} SQL SECURITY DEFINER AS SELECT a FROM {other}.t"
        ))
        .await;
    let query = format!("SELECT count() FROM {own}.v");
    assert_eq!(reading.ok(&query).await, "10\n");
    admin()
        .ok(&format!("REVOKE SELECT ON {other}.t FROM {owner}"))
        .await;
    assert_eq!(reading.fails(&query).await, 497);
}

#[tokio::test]
async fn what_is_hidden_stays_hidden() {
    let own = database().await;
    let (name, tenant) = user("").await;
    let mark = unique("hidden");
    for statement in [
        format!("GRANT ALL ON {own}.* TO {name}"),
        format!("GRANT SELECT ON system.* TO {name}"),
        format!("GRANT SHOW ROLES ON *.* TO {name}"),
        format!("CREATE ROW POLICY {mark} ON system.processes USING 1 TO {name}"),
        format!("CREATE ROW POLICY {mark} ON system.roles USING 1 TO {name}"),
    ] {
        admin().ok(&statement).await;
    }
    tenant
        .ok(&format!(
            "CREATE VIEW {own}.running DEFINER = {name} SQL SECURITY DEFINER AS SELECT query FROM system.processes"
        ))
        .await;
    let query =
        format!("SELECT sleepEachRow(0.1), '{mark}' FROM numbers(600) SETTINGS max_block_size = 1");
    let of_admin = tokio::spawn(async move { admin().post(query).await });
    let seen = |from: &str| format!("SELECT count() FROM {from} WHERE query LIKE '%sleep%{mark}%'");
    let processes = seen("system.processes") + " AND query NOT LIKE '%processes%'";
    admin().eventually(&processes, "1\n").await;
    assert_eq!(tenant.ok(&processes).await, "0\n");
    let through_view = seen(&format!("{own}.running")) + " AND query NOT LIKE '%running%'";
    assert_eq!(tenant.ok(&through_view).await, "0\n");
    of_admin.abort();
    let helpers = "SELECT count() FROM system.roles WHERE name LIKE 'aviary%'";
    assert_eq!(tenant.ok(helpers).await, "0\n");
    for table in ["processes", "roles"] {
        admin()
            .ok(&format!("DROP ROW POLICY {mark} ON system.{table}"))
            .await;
    }
}
