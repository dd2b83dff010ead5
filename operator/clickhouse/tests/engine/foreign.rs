//! What is at a replica's address and is not ClickHouse, or one that is too old to prove itself in the
//! head of an answer.

use crate::harness::{reader, replica_at, run, url};
use aviary_clickhouse::Category;
use aviary_clickhouse::{ClickHouseError, PipeCheck, Replica, ReplicaConfig};
use aviary_plan::{LastPublished, model, testing};
use aviary_sql::Identifier;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What only the operator reaches.
const SECRET: &str = "hunter2-of-a-neighbour";
const STATIC_HEADERS: &str = "X-ClickHouse-Server-Display-Name: clickhouse-0\r\nX-ClickHouse-Format: JSONEachRow\r\nX-ClickHouse-Query-Id: 0198c0de-0000-7000-8000-000000000000\r\n";
const PATIENT: Duration = Duration::from_secs(10);

/// A server that gives this answer to everything; its address and how often it was asked.
async fn always(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = client.read(&mut vec![0; 65536]).await;
                let _ = client.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[test]
fn nothing_of_what_is_not_clickhouse_gets_into_a_message() {
    run(async {
        let (bait, baited) = always(answer("200 OK", STATIC_HEADERS, SECRET)).await;
        let line = format!(
            "{{\"kind\":\"version\",\"name\":\"{SECRET}\",\"first\":\"\",\"second\":\"\",\"third\":\"\",\"fourth\":\"\",\"capability\":\"{SECRET}\",\"explain\":\"{SECRET}\"}}\n"
        );
        let exception = format!("Code: 60. DB::Exception: {SECRET}. (X) (version 26.7)\n");
        let code = format!("{STATIC_HEADERS}X-ClickHouse-Exception-Code: 60\r\n");
        let redirect = format!("Location: {bait}/\r\n");
        for (status, headers, body) in [
            ("200 OK", "", SECRET),
            ("200 OK", STATIC_HEADERS, &line),
            ("200 OK", &code, &exception),
            ("404 Not Found", STATIC_HEADERS, &exception),
            ("500 Internal Server Error", &code, &exception),
            ("502 Bad Gateway", "", SECRET),
            ("307 Temporary Redirect", &redirect, SECRET),
        ] {
            let (address, _) = always(answer(status, headers, body)).await;
            let replica = replica_at(&address, PATIENT);
            let said = [
                replica.probe().await.unwrap_err().to_string(),
                replica
                    .observe(&Identifier::new("x").unwrap())
                    .await
                    .unwrap_err()
                    .to_string(),
                check(&replica, "SELECT 1").await.unwrap_err(),
            ];
            for message in &said {
                assert!(!message.contains(SECRET), "{status} {headers}: {message}");
            }
            let names_it = !body.starts_with("Code");
            assert!(
                !names_it || said[0].contains("is not ClickHouse"),
                "{status} {headers}: {said:?}"
            );
        }
        assert_eq!(baited.load(Ordering::SeqCst), 0, "a redirect was followed");
    });
}

/// Checks a pipe with this SQL as a reader who may not be there.
async fn check(replica: &Replica, sql: &str) -> Result<Vec<String>, String> {
    let manifests = format!(
        "
kind: Pipe
metadata: {{name: asked}}
spec: {{workspace: shop, nodes: [{{name: answer, sql: \"{sql}\"}}], endpoint: {{node: answer}}}}
"
    );
    let model = model(
        &testing::objects("foreign", &manifests),
        &LastPublished::default(),
    );
    let check = PipeCheck {
        database: model.database.clone(),
        reader: reader(&model),
        renderings: model.pipes[0].renderings(),
    };
    let columns = replica.check_pipe(&check).await;
    let names = |column: aviary_clickhouse::ResultColumn| column.name;
    columns
        .map(|columns| columns.into_iter().map(names).collect())
        .map_err(|error| error.to_string())
}

/// The engine as a ClickHouse of before 19.x, which does not give back the id of a query.
async fn old_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = without_query_id(client).await;
            });
        }
    });
    address
}

async fn without_query_id(client: TcpStream) -> std::io::Result<()> {
    let engine = url();
    let engine = TcpStream::connect(engine.trim_start_matches("http://")).await?;
    let (mut from_engine, mut to_engine) = engine.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_engine).await });
    let mut answer = vec![0; 65536];
    loop {
        let length = from_engine.read(&mut answer).await?;
        if length == 0 {
            return Ok(());
        }
        // Of the same length, so that what follows stands where it did.
        let name = b"x-clickhouse-query-id";
        let found = answer[..length]
            .windows(name.len())
            .position(|header| header.eq_ignore_ascii_case(name));
        if let Some(start) = found {
            answer[start..start + name.len()].fill(b'x');
        }
        to_client.write_all(&answer[..length]).await?;
    }
}

#[test]
fn a_server_too_old_for_ids_is_probed_and_given_nothing_to_do() {
    run(async {
        let replica = replica_at(&old_server().await, PATIENT);
        let health = replica.probe().await.unwrap();
        assert!(health.version.starts_with("26."), "{}", health.version);
        let error = replica.observe(&Identifier::new("x").unwrap()).await;
        assert_eq!(error.unwrap_err().category(), Category::Silent);
    });
}

#[test]
fn addresses_of_the_machine_are_not_asked() {
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]:8123",
        "http://[::ffff:169.254.169.254]",
        "http://2852039166",
        "https://169.254.169.254",
    ] {
        let replica = Replica::connect(&ReplicaConfig {
            name: "replica-0".to_owned(),
            url: url.to_owned(),
            user: "default".to_owned(),
            password: String::new().into(),
            connect_deadline: PATIENT,
            statement_deadline: PATIENT,
        });
        let error = replica.unwrap_err();
        assert!(
            matches!(error, ClickHouseError::Misconfigured { .. }),
            "{url}: {error}"
        );
    }
}

#[test]
fn columns_that_are_no_utf8_are_named_all_the_same() {
    run(async {
        let converged = crate::harness::converge("foreign", "").await;
        assert!(converged.model.rejections.is_empty());
        let replica = replica_at(&url(), PATIENT);
        let columns = check(&replica, "SELECT unhex('61FF62') AS text, 'a' AS `b`").await;
        assert_eq!(columns, Ok(vec!["text".to_owned(), "b".to_owned()]));
    });
}
