//! What is left after an engine ended, well or badly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::harness::{Caller, scratch};
use super::process::{EngineProcess, command};

#[tokio::test]
async fn data_and_users_stay() {
    let mut engine = EngineProcess::start(&scratch("stay")).await;
    let admin = engine.admin();
    admin.ok("CREATE DATABASE d").await;
    admin
        .ok("CREATE TABLE d.t (a UInt32) ENGINE = MergeTree ORDER BY a")
        .await;
    admin.ok("INSERT INTO d.t VALUES (1), (2), (3)").await;
    admin
        .ok("CREATE SETTINGS PROFILE p SETTINGS max_threads = 1 CONST")
        .await;
    admin.ok("CREATE ROLE r").await;
    admin.ok("GRANT SELECT ON d.* TO r").await;
    admin
        .ok("CREATE USER u IDENTIFIED BY 'top secret' DEFAULT DATABASE d SETTINGS PROFILE 'p'")
        .await;
    admin.ok("GRANT r TO u").await;
    admin
        .ok("CREATE ROW POLICY q ON d.t USING a < 3 TO u")
        .await;

    assert!(engine.stop().await.success());
    let access = std::fs::read_to_string(scratch_path("stay").join("access.json")).unwrap();
    let users = std::fs::read_to_string(scratch_path("stay").join("users.xml")).unwrap();
    assert!(
        access.contains("sha256") || access.contains("Sha256"),
        "{access}"
    );
    assert!(!access.contains("top secret") && !users.contains("top secret"));

    engine.restart().await;
    let user = engine.caller("u", "top secret");
    assert_eq!(
        user.ok("SELECT count(), getSetting('max_threads') FROM t")
            .await,
        "2\t1\n"
    );
    assert_eq!(user.with("max_threads", "2").fails("SELECT 1").await, 452);
    assert_eq!(user.fails("INSERT INTO t VALUES (4)").await, 497);
    assert_eq!(engine.caller("u", "wrong").fails("SELECT 1").await, 516);
    assert_eq!(engine.admin().ok("SELECT count() FROM d.t").await, "3\n");
}

#[tokio::test]
async fn views_are_still_known_by_their_makers() {
    let mut engine = EngineProcess::start(&scratch("makers")).await;
    let admin = engine.admin();
    for statement in [
        "CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a",
        "CREATE USER maker IDENTIFIED BY 'p'",
        "GRANT SELECT ON default.t TO maker",
        "CREATE VIEW v DEFINER = maker SQL SECURITY DEFINER AS SELECT count() FROM t",
    ] {
        admin.ok(statement).await;
    }
    assert!(engine.stop().await.success());

    engine.restart().await;
    let admin = engine.admin();
    assert_eq!(admin.ok("SELECT * FROM v").await, "0\n");
    admin.ok("REVOKE SELECT ON default.t FROM maker").await;
    assert_eq!(admin.fails("SELECT * FROM v").await, 497);
}

/// Replicated tables themselves, with a real ZooKeeper, are the end-to-end tests' concern.
#[tokio::test]
async fn what_replicated_tables_need_is_known_after_every_opening() {
    let engine = EngineProcess::start(&scratch("place")).await;
    let admin = engine.admin();
    let macros = "SELECT macro, substitution FROM system.macros ORDER BY macro";
    let keeper = "SELECT value FROM system.server_settings WHERE name = 'keeper_hosts'";
    for user in ["first", "second"] {
        assert_eq!(admin.ok(macros).await, "replica\ta&b\nshard\t01\n");
        assert_eq!(admin.ok(keeper).await, "127.0.0.1:1\n");
        admin.ok(&format!("CREATE USER {user}")).await;
        assert_eq!(engine.caller(user, "").ok("SELECT 1").await, "1\n");
    }
}

fn scratch_path(purpose: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("engine")
        .join(purpose)
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_row() {
    let mut engine = EngineProcess::start(&scratch("kill")).await;
    let admin = engine.admin();
    admin
        .ok("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    admin.ok("CREATE USER u IDENTIFIED BY 'p'").await;
    admin.ok("GRANT SELECT ON default.* TO u").await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4_u64)
        .map(|writer| {
            let (admin, acknowledged) = (admin.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for batch in 0.. {
                    let rows: String = (0..100)
                        .map(|row| format!("{}\n", (writer << 32) + batch * 100 + row))
                        .collect();
                    let insert = admin
                        .with("query", "INSERT INTO t FORMAT TSV")
                        .request(reqwest::Method::POST)
                        .body(rows)
                        .send()
                        .await;
                    match insert {
                        Ok(response) if response.status() == 200 => {
                            acknowledged.fetch_add(100, Ordering::SeqCst);
                        }
                        _ => return,
                    }
                }
            })
        })
        .collect();
    while acknowledged.load(Ordering::SeqCst) < 20_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine.kill();
    for writer in writers {
        writer.await.unwrap();
    }
    engine.restart().await;
    let counted = engine
        .admin()
        .ok("SELECT count(), uniqExact(a) FROM t")
        .await;
    let (count, distinct) = counted.trim().split_once('\t').unwrap();
    assert_eq!(count, distinct);
    let count: u64 = count.parse().unwrap();
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    // Each writer may have had one batch that was stored and not acknowledged.
    assert!(
        (acknowledged..=acknowledged + 400).contains(&count),
        "{count} of {acknowledged}"
    );
    assert_eq!(
        engine
            .caller("u", "p")
            .ok("SELECT count() > 0 FROM t")
            .await,
        "1\n"
    );
}

/// What a kill leaves between two system calls: the name of a block, and not its part.
#[tokio::test]
async fn a_block_that_was_noted_and_not_stored_is_taken_when_it_comes_again() {
    let mut engine = EngineProcess::start(&scratch("noted")).await;
    let admin = engine.admin();
    admin
        .ok("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
        .await;
    let insert = async |admin: &Caller, value: u64| {
        admin
            .with("insert_deduplication_token", &value.to_string())
            .ok(&format!("INSERT INTO t VALUES ({value})"))
            .await;
    };
    for value in [1, 2, 2] {
        insert(&admin, value).await;
    }
    let part =
        "SELECT path FROM system.parts WHERE table = 't' AND active ORDER BY name DESC LIMIT 1";
    let part = admin.ok(part).await;
    engine.kill();
    std::fs::remove_dir_all(part.trim()).unwrap();
    engine.restart().await;
    let admin = engine.admin();
    assert_eq!(admin.ok("SELECT * FROM t").await, "1\n");
    for value in [1, 2, 2] {
        insert(&admin, value).await;
    }
    assert_eq!(admin.ok("SELECT * FROM t ORDER BY a").await, "1\n2\n");
}

#[tokio::test]
async fn a_stop_lets_queries_end() {
    let mut engine = EngineProcess::start(&scratch("stop")).await;
    let admin = engine.admin();
    let short = {
        let admin = admin.clone();
        tokio::spawn(async move { admin.ok("SELECT sleep(0.6), 'short'").await })
    };
    let long = {
        let admin = admin.clone();
        tokio::spawn(async move {
            admin.post("SELECT sleepEachRow(0.1), 'long' FROM numbers(600) SETTINGS max_block_size = 1 FORMAT Null").await
        })
    };
    admin
        .eventually("SELECT count() FROM system.processes WHERE query LIKE '%sleep%' AND query NOT LIKE '%processes%'", "2\n")
        .await;
    engine.ask_to_stop();
    assert_eq!(short.await.unwrap(), "0\tshort\n");
    assert_eq!(long.await.unwrap().exception(), Some(394));
    assert!(engine.exited().await.success());
}

#[tokio::test]
async fn one_engine_holds_a_data_path() {
    let path = scratch("one");
    let _engine = EngineProcess::start(&path).await;
    let second = command(&path, ([127, 0, 0, 1], 0).into(), 1)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(3));
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(
        message.contains("one engine serves one data path"),
        "{message}"
    );
}

#[tokio::test]
async fn more_queries_than_allowed_are_refused() {
    let engine = EngineProcess::start_with(&scratch("many"), 2).await;
    let admin = engine.admin();
    let three = futures::future::join_all([1, 2, 3].map(|_| admin.post("SELECT sleep(1)"))).await;
    let refused: Vec<_> = three
        .iter()
        .filter_map(super::harness::Answer::exception)
        .collect();
    assert_eq!(refused, [202]);
    assert_eq!(admin.get("SELECT 1").await.text(), "1\n");
}

#[tokio::test]
async fn a_process_may_exit_while_queries_run() {
    aviary_engine::library::install().unwrap();
    for _ in 0..3 {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["process::exiting_process", "--exact", "--nocapture"])
            .env(super::process::EXITING, scratch("exiting"))
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(7), "{status}");
    }
}
