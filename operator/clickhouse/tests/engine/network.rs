//! A replica that is gone or hangs costs its deadline and nothing more.

use crate::harness::{Pass, pass_on, replica, replica_at, run, unhurried, url};
use aviary_clickhouse::{Bounds, ClickHouseError, Failure};
use aviary_plan::ObjectKey;
use aviary_sql::Identifier;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_millis(300);

#[test]
fn nobody_there() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let replica = replica_at(&format!("http://{address}"), DEADLINE);
        let error = replica.probe().await.unwrap_err();
        assert!(
            matches!(error, ClickHouseError::Unreachable { .. }),
            "{error}"
        );
        assert!(error.is_transient());
    });
}

#[test]
fn somebody_who_does_not_answer() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replica = replica_at(&format!("http://{address}"), DEADLINE);
        let started = Instant::now();
        let database = Identifier::new("x").unwrap();
        let error = replica.observe(&database).await.unwrap_err();
        assert!(matches!(error, ClickHouseError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < DEADLINE * 10);
        drop(listener);
    });
}

#[test]
fn somebody_else() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let answer = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\nsorry";
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let replica = replica_at(&format!("http://{address}"), Duration::from_secs(10));
        let (error, ()) = tokio::join!(replica.probe(), proxy);
        let error = error.unwrap_err();
        assert!(
            matches!(error, ClickHouseError::Unreachable { .. }),
            "{error}"
        );
    });
}

/// Two data sources, of which the one that comes first is the slow one.
const SOURCES: &str = "
kind: DataSource
metadata: {name: a_slow}
spec: {workspace: shop, columns: [{name: id, type: UInt64}], sortingKey: [id]}
---
kind: DataSource
metadata: {name: b_quick}
spec: {workspace: shop, columns: [{name: id, type: UInt64}], sortingKey: [id]}
";

/// What creates the slow one's table.
const SLOW: &[u8] = b"`a_slow` (";

/// The engine behind somebody who passes on everything but the slow statement, and after that
/// nothing at all if `freezes`. Gives the address.
async fn in_front_of_the_engine(freezes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let frozen = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on_bytes(client, frozen.clone(), freezes));
        }
    });
    format!("http://{address}")
}

async fn pass_on_bytes(client: TcpStream, frozen: Arc<AtomicBool>, freezes: bool) {
    let engine = url();
    let engine = TcpStream::connect(engine.trim_start_matches("http://"));
    let (mut from_engine, mut to_engine) = engine.await.unwrap().into_split();
    let (mut from_client, mut to_client) = client.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_engine, &mut to_client).await });
    let (mut said, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        said.extend_from_slice(&buffer[..count]);
        let is_slow = said.windows(SLOW.len()).any(|part| part == SLOW);
        if is_slow && freezes {
            frozen.store(true, Ordering::SeqCst);
        }
        if is_slow || frozen.load(Ordering::SeqCst) {
            // Silence, for as long as the client cares to wait.
            while let Ok(1..) = from_client.read(&mut buffer).await {}
            return;
        }
        to_engine.write_all(&buffer[..count]).await.unwrap();
    }
}

/// What became of the first step of a data source, and of the others.
fn failures(pass: &Pass, name: &str) -> Vec<Option<Failure>> {
    let of = ObjectKey::DataSource(name.to_owned());
    let outcomes = pass.outcomes.iter();
    outcomes
        .filter(|outcome| pass.plan.steps[outcome.step].object == of)
        .map(|outcome| outcome.result.clone().err())
        .collect()
}

/// Long enough for the engine, whatever else the machine does.
const PATIENT: Duration = Duration::from_secs(5);

#[test]
fn a_slow_statement_is_its_own_objects_trouble() {
    run(async {
        let address = in_front_of_the_engine(false).await;
        let replica = replica_at(&address, PATIENT);
        let pass = pass_on(&replica, "slow", SOURCES).await;
        let slow = ClickHouseError::Slow { deadline: PATIENT };
        assert_eq!(slow.category(), aviary_clickhouse::Category::Busy);
        let failed = failures(&pass, "a_slow");
        assert_eq!(failed[0], Some(Failure::ClickHouse(slow.clone())));
        let skipped = Failure::Skipped { cause: slow };
        assert!(failed[1..].iter().all(|one| *one == Some(skipped.clone())));
        let quick = failures(&pass, "b_quick");
        assert!(
            !quick.is_empty() && quick.iter().all(Option::is_none),
            "{quick:?}"
        );
    });
}

#[test]
fn a_replica_that_freezes_is_not_asked_the_rest() {
    run(async {
        let address = in_front_of_the_engine(true).await;
        let replica = replica_at(&address, PATIENT);
        let pass = pass_on(&replica, "frozen", SOURCES).await;
        let gone = ClickHouseError::TimedOut {
            replica: "replica-0".to_owned(),
            deadline: PATIENT,
        };
        assert_eq!(
            failures(&pass, "a_slow")[0],
            Some(Failure::ClickHouse(gone.clone()))
        );
        let skipped = Failure::Skipped { cause: gone };
        let quick = failures(&pass, "b_quick");
        assert!(
            quick.iter().all(|one| *one == Some(skipped.clone())),
            "{quick:?}"
        );
    });
}

#[test]
fn what_may_not_be_done_any_more_is_not_done() {
    run(async {
        let plan = pass_on(&replica(), "rights", SOURCES).await.plan;
        let over = Bounds {
            end: Instant::now(),
            ..unhurried()
        };
        let outcomes = replica().execute(&plan, &over).await;
        assert!(
            outcomes
                .iter()
                .all(|one| one.result == Err(Failure::NotBegun))
        );
        let without_mandate = Bounds {
            may_change: &|| false,
            ..unhurried()
        };
        let outcomes = replica().execute(&plan, &without_mandate).await;
        let stopped = outcomes
            .iter()
            .all(|one| one.result == Err(Failure::Stopped));
        assert!(stopped && !outcomes.is_empty(), "{outcomes:?}");
    });
}
