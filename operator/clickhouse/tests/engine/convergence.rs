//! Every golden case, for real: its plan runs, and the next plan is empty.

use crate::harness::{ask, converge, pass, pass_on, replica, run, sql, unhurried};
use aviary_plan::planner::{Retired, retire};
use aviary_plan::{Catalog, Consent, Consents, LastPublished, Plan, WorkspaceModel};
use pretty_assertions::assert_eq;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn every_case_converges_at_once() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plan/cases");
    for entry in fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let name = path
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .replace('_', "-");
        let text = fs::read_to_string(&path).unwrap();
        run(async {
            for manifests in text.split("# then\n") {
                converge(&name, manifests).await;
                assert_eq!(
                    pass(&name, manifests).await.told(),
                    Vec::<String>::new(),
                    "{name}"
                );
            }
        });
    }
}

const EVENTS: &str = "
kind: DataSource
metadata: {name: events}
spec: {workspace: shop, columns: [{name: id, type: UInt64}], sortingKey: [id]}
";

#[test]
fn rows_go_on_coming_in_while_a_column_is_added() {
    run(async {
        converge("grow", EVENTS).await;
        // A block that was stored already would not be stored again.
        let insert = |id: &str, bad: &str| {
            format!("INSERT INTO grow_shop.events__landing (id) VALUES ('{id}'), ('{bad}')")
        };
        sql(&insert("1", "x")).await;
        let grown = EVENTS.replace(
            "UInt64}]",
            "UInt64}, {name: tag, type: String, default: \"'none'\"}]",
        );
        converge("grow", &grown).await;
        sql(&insert("2", "y")).await;
        let rows = ask("SELECT id, tag FROM grow_shop.events ORDER BY id").await;
        assert_eq!(rows, "1\tnone\n2\tnone");
        let rows =
            ask("SELECT id, tag, c__error_column, c__error FROM grow_shop.events_quarantine ORDER BY id")
                .await;
        let row = |id: &str| {
            format!("{id}\t\\N\t['id']\t['value \\'{id}\\' on column \\'id\\' is not UInt64']")
        };
        assert_eq!(rows, format!("{}\n{}", row("x"), row("y")));
    });
}

#[test]
fn a_released_table_is_taken_over_with_its_rows() {
    run(async {
        converge("release", EVENTS).await;
        sql("INSERT INTO release_shop.events__landing (id) VALUES ('7')").await;
        converge("release", "").await;
        assert_eq!(
            ask("SHOW TABLES FROM release_shop").await,
            "events\nevents_quarantine"
        );
        assert_eq!(pass("release", "").await.told(), Vec::<String>::new());
        let another = EVENTS.replace("name: events}", "name: events, uid: another}");
        converge("release", &another).await;
        assert_eq!(pass("release", &another).await.told(), Vec::<String>::new());
        assert_eq!(ask("SELECT id FROM release_shop.events").await, "7");
    });
}

#[test]
fn a_workspace_goes_as_its_last_word_says() {
    run(async {
        let replica = replica();
        let kept = converge("retain", EVENTS).await.model;
        let observed = replica.observe(&kept.database).await.unwrap().catalog;
        let plan = retired(&observed, &kept, "");
        for outcome in replica.execute(&plan, &unhurried()).await {
            assert_eq!(outcome.result, Ok(()), "{}", plan.steps[outcome.step]);
        }
        let left = replica.observe(&kept.database).await.unwrap().catalog;
        assert_eq!(left_users("retain").await, "0");
        assert_eq!(retired(&left, &kept, "").steps, []);
        // The same workspace, made again, finds its data.
        converge("retain", EVENTS).await;

        let dropped = converge("delete", EVENTS).await.model;
        let observed = replica.observe(&dropped.database).await.unwrap().catalog;
        let last_word = "
kind: Workspace
metadata: {name: shop, deletionTimestamp: '2026-01-01T00:00:00Z'}
spec: {clusterRef: {name: shared}, deletionPolicy: Delete}
";
        let plan = retired(&observed, &dropped, last_word);
        for outcome in replica.execute(&plan, &unhurried()).await {
            assert_eq!(outcome.result, Ok(()), "{}", plan.steps[outcome.step]);
        }
        let left = replica.observe(&dropped.database).await.unwrap().catalog;
        assert_eq!(left.database, None);
        assert_eq!(left_users("delete").await, "0");
    });
}

/// The plan when the workspace of the model goes, with these manifests as its last word.
fn retired(observed: &Catalog, model: &WorkspaceModel, last_word: &str) -> Plan {
    let workspace = aviary_plan::testing::objects(&model.namespace, last_word).workspace;
    let consents: Consents = Consent::of_workspace(&workspace).into_iter().collect();
    let workspace = Retired {
        uid: &model.uid,
        kubernetes: &model.kubernetes,
        consents: &consents,
    };
    retire(observed, workspace)
}

/// How many users of the namespace's workspace there are.
async fn left_users(namespace: &str) -> String {
    ask(&format!(
        "SELECT count() FROM system.users WHERE startsWith(name, '{namespace}_')"
    ))
    .await
}

/// Users that nobody knows of may be anything; with their database gone nobody looks at them.
#[test]
fn users_that_outlived_their_database_keep_no_right() {
    run(async {
        converge("outlive", EVENTS).await;
        sql("GRANT SELECT ON system.* TO `outlive_shop__reader`").await;
        sql("DROP DATABASE outlive_shop SYNC").await;
        converge("outlive", EVENTS).await;
        let rights = ask(
            "SELECT DISTINCT database FROM system.grants WHERE user_name = 'outlive_shop__reader'",
        )
        .await;
        assert_eq!(rights, "outlive_shop");
        assert_eq!(pass("outlive", EVENTS).await.told(), Vec::<String>::new());
    });
}

#[test]
fn a_database_that_somebody_else_made_meanwhile_is_not_filled() {
    let objects = aviary_plan::testing::objects("race", EVENTS);
    let model = aviary_plan::model(&objects, &LastPublished::default());
    let desired = aviary_plan::desired(
        &model,
        &aviary_plan::testing::credentials(),
        &aviary_plan::ServerFeatures::current(),
    );
    let nothing = aviary_plan::Catalog::empty(model.database.clone());
    let plan = aviary_plan::plan(&desired, &nothing, &model.circumstances());
    run(async {
        sql("CREATE DATABASE race_shop COMMENT 'the winner'").await;
        let outcomes = replica().execute(&plan, &unhurried()).await;
        assert!(outcomes.iter().all(|outcome| outcome.result.is_err()));
        assert_eq!(ask("SHOW TABLES FROM race_shop").await, "");
        assert_eq!(left_users("race").await, "0");
    });
}

#[test]
fn a_statement_that_is_refused_stops_its_data_source_only() {
    let manifests = "
kind: DataSource
metadata: {name: bad}
spec: {workspace: shop, columns: [{name: id, type: UInt64, default: 'noSuchFunction(1)'}], sortingKey: [id]}
---
kind: DataSource
metadata: {name: good}
spec: {workspace: shop, columns: [{name: id, type: UInt64}], sortingKey: [id]}
";
    run(async {
        let pass = pass("partly", manifests).await;
        let failed: Vec<String> = pass
            .outcomes
            .iter()
            .filter_map(|outcome| Some(outcome.result.clone().err()?.to_string()))
            .collect();
        assert_eq!(failed.len(), 5);
        assert!(failed[0].contains("noSuchFunction"), "{}", failed[0]);
        assert!(
            failed[1].starts_with("waits for an earlier step"),
            "{}",
            failed[1]
        );
        let tables = ask("SHOW TABLES FROM partly_shop").await;
        assert!(tables.starts_with("good\ngood__ingest"), "{tables}");
    });
}

#[test]
fn few_statements_do() {
    let sources: Vec<String> = (0..10)
        .map(|number| EVENTS.replace("name: events}", &format!("name: events{number}}}")))
        .collect();
    let manifests = sources.join("---");
    let sent = Arc::new(AtomicU64::new(0));
    let replica = replica().counted_by(Arc::clone(&sent));
    run(async {
        let first = pass_on(&replica, "economy", &manifests).await;
        let steps = first.plan.steps.len() as u64;
        assert_eq!(steps, 1 + 2 + 2 + 10 * 5, "{:#?}", first.told());
        // To observe.
        assert_eq!(sent.swap(0, Ordering::Relaxed), 1 + steps);
        // To observe, and to learn ClickHouse's spelling.
        pass_on(&replica, "economy", &manifests).await;
        assert_eq!(sent.swap(0, Ordering::Relaxed), 2);
        pass_on(&replica, "economy", &manifests).await;
        assert_eq!(sent.swap(0, Ordering::Relaxed), 1);
    });
}

#[test]
fn a_landing_that_is_made_anew_still_feeds_the_table() {
    run(async {
        converge("anew", EVENTS).await;
        sql("ALTER TABLE anew_shop.events__landing MODIFY COLUMN id String").await;
        converge("anew", EVENTS).await;
        sql("DROP VIEW anew_shop.events__reject").await;
        sql("CREATE MATERIALIZED VIEW anew_shop.events__reject TO anew_shop.events COMMENT '' AS SELECT 1 AS id FROM anew_shop.events__landing").await;
        let foreign = pass("anew", EVENTS).await;
        assert_eq!(foreign.plan.refusals.len(), 1);
        let comment = ask("SELECT comment FROM system.tables WHERE database = 'anew_shop' AND name = 'events__ingest'").await;
        sql(&format!(
            "ALTER TABLE anew_shop.events__reject MODIFY COMMENT '{comment}'"
        ))
        .await;
        let told = converge("anew", EVENTS).await.told();
        assert_eq!(told, ["make the view events__reject anew (Drifted)"]);
        sql("INSERT INTO anew_shop.events__landing (id) VALUES ('1'), ('x')").await;
        let counts = ask("SELECT (SELECT count() FROM anew_shop.events), (SELECT count() FROM anew_shop.events_quarantine)").await;
        assert_eq!(counts, "1\t1");
        assert_eq!(pass("anew", EVENTS).await.told(), Vec::<String>::new());
    });
}
