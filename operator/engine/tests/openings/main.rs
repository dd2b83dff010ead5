//! How often libchdb is opened while many workspaces come to be at once. A test binary of its own:
//! nobody else may use the engine that counts.
//!
//! All users are there before the first statement that has to know them, whatever the machine's speed.
#![expect(
    clippy::unwrap_used,
    reason = "a test helper that cannot go on ends the test"
)]
#![expect(
    dead_code,
    reason = "the helpers are shared with test binaries that use more of them"
)]

#[path = "../harness/mod.rs"]
mod harness;

use aviary_engine::{Engine, EngineConfig};
use futures::future::join_all;
use harness::{Caller, scratch};
use tokio::sync::Barrier;

const WORKSPACES: usize = 16;
/// A workspace that was there before.
const KNOWN: &str = "known";

/// The query by which the operator observes the workspace `acme`.
const OBSERVE: &str = include_str!("../observe.sql");

fn observation(database: &str) -> String {
    OBSERVE.replace("acme", database) + " FORMAT JSONEachRow"
}

/// What the operator and the gateway do for a new workspace.
async fn create_workspace(
    admin: &Caller,
    reader: &Caller,
    writer: &Caller,
    database: &str,
    users_are_there: &Barrier,
) {
    let observe = observation(database);
    admin.ok(&observe).await;
    for statement in [
        "CREATE DATABASE IF NOT EXISTS acme COMMENT 'acme'",
        "CREATE USER IF NOT EXISTS acme__reader IDENTIFIED WITH sha256_hash BY \
         '148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940' \
         SETTINGS max_execution_time = '10' MIN '0.001' MAX '10', readonly = '2'",
        "CREATE USER IF NOT EXISTS acme__writer IDENTIFIED WITH sha256_hash BY \
         '148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940' SETTINGS NONE",
        "GRANT SELECT ON acme.* TO acme__reader",
        "GRANT INSERT ON acme.* TO acme__writer",
        "GRANT SELECT ON acme.* TO acme__writer",
    ] {
        admin.ok(&statement.replace("acme", database)).await;
        // Meanwhile somebody looks after a workspace that is there.
        admin.ok(&observation(KNOWN)).await;
    }
    users_are_there.wait().await;
    for statement in [
        "CREATE TABLE IF NOT EXISTS acme.events (a UInt32) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE IF NOT EXISTS acme.events_quarantine (raw String) ENGINE = MergeTree ORDER BY raw",
        "CREATE TABLE IF NOT EXISTS acme.events__landing (raw String) ENGINE = Null",
        "CREATE MATERIALIZED VIEW IF NOT EXISTS acme.events__ingest TO acme.events \
         DEFINER = acme__writer SQL SECURITY DEFINER AS \
         SELECT toUInt32OrNull(raw) AS a FROM acme.events__landing WHERE toUInt32OrNull(raw) IS NOT NULL",
        "CREATE MATERIALIZED VIEW IF NOT EXISTS acme.events__reject TO acme.events_quarantine \
         DEFINER = acme__writer SQL SECURITY DEFINER AS \
         SELECT raw FROM acme.events__landing WHERE toUInt32OrNull(raw) IS NULL",
    ] {
        admin.ok(&statement.replace("acme", database)).await;
    }
    // The operator looks again, and again.
    admin.ok(&observe).await;
    let observed = admin.ok(&observe).await;
    for kind in ["grant", "user", "setting", "table"] {
        assert!(
            observed.contains(&format!("\"kind\":\"{kind}\"")),
            "{observed}"
        );
    }
    writer
        .ok(&format!(
            "INSERT INTO {database}.events__landing FORMAT LineAsString\n1\ntwo\n"
        ))
        .await;
    let count = format!(
        "SELECT (SELECT count() FROM {database}.events), (SELECT count() FROM {database}.events_quarantine)"
    );
    assert_eq!(reader.ok(&count).await, "1\t1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_share_openings() {
    aviary_engine::library::install().unwrap();
    let mut config = EngineConfig::new(scratch("openings"));
    config.listen = vec![([127, 0, 0, 1], 0).into()];
    let engine = Engine::start(config).await.unwrap();
    let address = engine.address();
    let admin = Caller::new(address, "default", "");
    let workspace = async |database: &str, users_are_there: &Barrier| {
        let user = |role: &str| Caller::new(address, &format!("{database}__{role}"), "p");
        let (reader, writer) = (user("reader"), user("writer"));
        create_workspace(&admin, &reader, &writer, database, users_are_there).await;
    };
    workspace(KNOWN, &Barrier::new(1)).await;
    let before = engine.openings();
    let users_are_there = Barrier::new(WORKSPACES);
    join_all((0..WORKSPACES).map(|number| {
        let (workspace, users_are_there) = (&workspace, &users_are_there);
        async move { workspace(&format!("ws{number}x"), users_are_there).await }
    }))
    .await;
    let openings = engine.openings() - before;
    // One when the users are there. Questions about others' users, between their statements,
    // need none.
    assert!(
        openings <= 2,
        "{openings} openings for {WORKSPACES} workspaces"
    );
    engine.shutdown().await;
}
