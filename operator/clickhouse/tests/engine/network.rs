//! A replica that is gone or hangs costs its deadline and nothing more.

use crate::harness::{replica_at, run};
use aviary_clickhouse::ClickHouseError;
use aviary_sql::Identifier;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

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
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
