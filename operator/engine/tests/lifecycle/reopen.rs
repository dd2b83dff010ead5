//! Rights that change while queries run, which opens libchdb anew under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::harness::{scratch, unique};
use super::process::EngineProcess;

#[tokio::test]
async fn queries_and_inserts_go_on() {
    let engine = EngineProcess::start(&scratch("load")).await;
    let admin = engine.admin();
    admin
        .ok("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4_u64)
        .map(|writer| {
            let (admin, stop) = (admin.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut rows = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    admin
                        .ok(&format!("INSERT INTO t VALUES ({})", (writer << 32) + rows))
                        .await;
                    rows += 1;
                    assert_ne!(admin.ok("SELECT count() FROM t").await, "0\n");
                }
                rows
            })
        })
        .collect();
    for number in 0..30 {
        admin
            .ok(&format!("CREATE USER u{number} IDENTIFIED BY 'p'"))
            .await;
        admin
            .ok(&format!("GRANT SELECT ON default.* TO u{number}"))
            .await;
        let user = engine.caller(&format!("u{number}"), "p");
        assert_ne!(user.ok("SELECT count() FROM t").await, "0\n");
        admin
            .ok(&format!("REVOKE SELECT ON default.* FROM u{number}"))
            .await;
        assert_eq!(user.fails("SELECT count() FROM t").await, 497);
    }
    stop.store(true, Ordering::SeqCst);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    assert_eq!(
        admin.ok("SELECT count() FROM t").await,
        format!("{written}\n")
    );
}

#[tokio::test]
async fn a_long_query_holds_changes_up_only_so_long() {
    let engine = EngineProcess::start(&scratch("long")).await;
    let admin = engine.admin();
    let long = {
        let admin = admin.clone();
        tokio::spawn(async move {
            admin.post("SELECT sleepEachRow(0.1), 'long' FROM numbers(600) SETTINGS max_block_size = 1 FORMAT Null").await
        })
    };
    // A client who stopped reading must not hold them up either.
    let stuck = admin
        .request(reqwest::Method::POST)
        .body("SELECT number, 'stuck' FROM numbers(100000000000)")
        .send()
        .await
        .unwrap();
    admin
        .eventually("SELECT count() FROM system.processes WHERE query LIKE '%numbers%' AND query NOT LIKE '%processes%'", "2\n")
        .await;
    // Its buffers are full, and the query waits.
    let read = "SELECT read_rows FROM system.processes WHERE query LIKE '%stuck%' AND query NOT LIKE '%processes%'";
    let mut last = String::new();
    loop {
        let now = admin.ok(read).await;
        if now == last {
            break;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(last.trim().parse::<u64>().unwrap() < 100_000_000, "{last}");
    let started = Instant::now();
    admin.ok("CREATE USER u IDENTIFIED BY 'p'").await;
    assert_eq!(engine.caller("u", "p").ok("SELECT 1").await, "1\n");
    let waited = started.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(10)).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(long.await.unwrap().exception(), Some(394));
    assert!(
        stuck.bytes().await.is_err(),
        "a cut answer must not look whole"
    );
}

#[tokio::test]
async fn many_changes_are_one_opening() {
    let engine = EngineProcess::start(&scratch("batch")).await;
    let admin = engine.admin();
    // A table in memory tells of an opening: it comes back empty.
    admin
        .ok("CREATE TABLE witness (a UInt8) ENGINE = Memory")
        .await;
    admin.ok("INSERT INTO witness VALUES (1)").await;
    for number in 0..10 {
        admin
            .ok(&format!("CREATE USER u{number} IDENTIFIED BY 'p'"))
            .await;
        admin
            .ok(&format!("GRANT SELECT ON default.* TO u{number}"))
            .await;
    }
    assert_eq!(
        admin.ok("SELECT count() FROM witness").await,
        "1\n",
        "new users concern nobody else"
    );
    let first = engine.caller("u3", "p");
    assert_eq!(first.ok("SELECT count() FROM witness").await, "0\n");
    admin.ok("INSERT INTO witness VALUES (1)").await;
    let second = engine.caller("u7", "p");
    assert_eq!(second.ok("SELECT count() FROM witness").await, "1\n");
    for statement in [
        "CREATE USER IF NOT EXISTS u1 IDENTIFIED BY 'q'",
        "GRANT SELECT ON default.* TO u1",
        "DROP USER IF EXISTS nobody",
    ] {
        admin.ok(statement).await;
    }
    assert_eq!(
        admin.ok("SELECT count() FROM witness").await,
        "1\n",
        "nothing had changed"
    );
}

#[tokio::test]
async fn queries_of_others_are_neither_seen_nor_killed() {
    let engine = EngineProcess::start(&scratch("others")).await;
    let admin = engine.admin();
    admin.ok("CREATE USER tenant IDENTIFIED BY 'p'").await;
    let tenant = engine.caller("tenant", "p");
    assert_eq!(
        tenant.ok("SELECT count() FROM system.processes").await,
        "1\n"
    );
    let slow = |caller: &super::harness::Caller, id: &str| {
        let caller = caller.with("query_id", id);
        tokio::spawn(async move {
            caller
                .post("SELECT sleepEachRow(0.1), 'secret text' FROM numbers(600) SETTINGS max_block_size = 1 FORMAT Null")
                .await
        })
    };
    let (theirs, own) = (unique("query"), unique("query"));
    let (their_query, own_query) = (slow(&admin, &theirs), slow(&tenant, &own));
    let seen = "SELECT count() FROM system.processes WHERE query LIKE '%secret text%' AND query NOT LIKE '%processes%'";
    admin.eventually(seen, "2\n").await;
    assert_eq!(tenant.ok(seen).await, "1\n");
    for kill in [
        format!("KILL QUERY WHERE query_id = '{theirs}'"),
        "KILL QUERY WHERE 1".to_owned(),
        format!("KILL QUERY WHERE query_id = '{own}' SYNC"),
    ] {
        assert_eq!(tenant.fails(&kill).await, 497, "{kill}");
    }
    let kill = "KILL QUERY WHERE query LIKE '%secret text%' AND query NOT LIKE 'KILL%' SYNC";
    admin.ok(kill).await;
    for query in [own_query, their_query] {
        assert_eq!(query.await.unwrap().exception(), Some(394));
    }
}

#[tokio::test]
async fn one_statement_does_not_undo_those_of_others() {
    let engine = EngineProcess::start(&scratch("undo")).await;
    let admin = engine.admin();
    admin
        .ok("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s")
        .await;
    admin.ok("CREATE ROLE r").await;
    for (number, statement) in [
        "CREATE USER x1 SETTINGS max_threads = 2 MIN 1 MAX 4, max_threads MAX 3",
        "CREATE USER x2 SETTINGS max_threads MIN 1 MIN 2, max_threads CONST, max_threads CONST",
        "CREATE SETTINGS PROFILE x3 SETTINGS max_threads MAX 3, max_threads MAX 4",
        "CREATE USER x4 IDENTIFIED BY 'p' SETTINGS max_threads = 3 MAX 3",
        "GRANT r TO x4",
        "CREATE USER x5 SETTINGS log_comment = '\u{1}'",
        "CREATE USER x6 SETTINGS log_comment = '\\x01\\0'",
        "CREATE ROW POLICY x7 ON t USING s = '\u{8}' TO x4",
        "GRANT SELECT ON `a\u{1b}`.* TO x4",
        "CREATE USER x8 SETTINGS log_comment = '<&>\t\n'",
        "CREATE USER x9 SETTINGS max_threads = 'many'",
        "CREATE USER x10 SETTINGS log_comment = '\u{fffe}'",
        "CREATE USER x11 SETTINGS max_threads = 1 MIN 3 MAX 2",
    ]
    .into_iter()
    .enumerate()
    {
        let user = format!("u{number}");
        admin
            .ok(&format!("CREATE USER {user} IDENTIFIED BY 'p'"))
            .await;
        admin
            .ok(&format!("GRANT SELECT ON default.t TO {user}"))
            .await;
        let answer = admin.post(statement).await;
        if let Some(code) = answer.exception() {
            assert!([27, 36].contains(&code), "{statement}: {}", answer.text());
        }
        assert_eq!(
            engine.caller(&user, "p").ok("SELECT count() FROM t").await,
            "0\n",
            "{statement}"
        );
    }
    // The last limit that was named holds.
    let limited = engine.caller("x4", "p");
    assert_eq!(
        limited.with("max_threads", "4").fails("SELECT 1").await,
        452
    );
    assert_eq!(
        admin
            .ok("SELECT count() FROM system.users WHERE name LIKE 'x%'")
            .await,
        "5\n"
    );
}
