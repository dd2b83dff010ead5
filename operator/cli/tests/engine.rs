//! The SQL that is printed for the samples, sent to a real ClickHouse statement by
//! statement: it runs, and leaves an operator nothing to do.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use aviary_cli::{Inventory, Output, PlanArgs, no_passwords, plan};
use aviary_clickhouse::{Replica, ReplicaConfig};
use aviary_engine::{Engine, EngineConfig};
use aviary_plan::LastPublished;
use clickhouse::Client;
use std::io::empty;
use std::path::Path;
use std::time::Duration;

#[test]
fn printed_sql_runs_and_leaves_nothing_to_plan() {
    let args = PlanArgs {
        files: vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples/flights")],
        namespace: "default".to_owned(),
        output: Output::Sql,
        replicated: false,
    };
    let (mut printed, mut notes) = (Vec::new(), Vec::new());
    plan(&args, &mut empty(), &mut printed, &mut notes).unwrap();
    let printed = String::from_utf8(printed).unwrap();

    aviary_engine::library::install().unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(data.path());
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let engine = Engine::start(config).await.unwrap();
        let url = format!("http://{}", engine.address());
        let client = Client::default().with_url(&url).with_user("default");
        let statements: Vec<&str> = printed.split_terminator(";\n\n").collect();
        for statement in &statements {
            let result = client.query_raw(statement).execute().await;
            result.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }

        let inventory = Inventory::read(&args, &mut empty()).unwrap();
        let model = aviary_plan::model(&inventory.tenants[0].objects, &LastPublished::default());
        let replica = replica(&url);
        let observed = replica.observe(&model.database).await.unwrap();
        assert_eq!(statements.len(), 30);
        assert_eq!(observed.catalog.tables.len(), 5 * 3);
        let desired = aviary_plan::desired(&model, &no_passwords(), &observed.server);
        let desired = replica
            .canonicalise(desired, &observed.catalog)
            .await
            .unwrap();
        let again = aviary_plan::plan(&desired, &observed.catalog, &model.circumstances());
        assert_eq!(again, aviary_plan::Plan::default());
        // It serves for as long as the process lives.
        std::mem::forget(engine);
    });
}

fn replica(url: &str) -> Replica {
    Replica::connect(&ReplicaConfig {
        name: "replica-0".to_owned(),
        url: url.to_owned(),
        user: "default".to_owned(),
        password: String::new().into(),
        connect_deadline: Duration::from_secs(60),
        statement_deadline: Duration::from_secs(60),
    })
    .unwrap()
}
