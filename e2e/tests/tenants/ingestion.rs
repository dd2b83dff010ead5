//! Rows on their way in: NDJSON, CSV and Parquet, clean and dirty. Each ends in
//! the table or in the quarantine, and the answer counts both.

use anyhow::{Result, ensure};
use aviary_e2e::support::{Answer, ORDERS, Scene, eventually, run};
use reqwest::Method;
use serde_json::{Value, json};

/// What is in the quarantine, oldest columns first: the raw row, the columns at fault and why.
async fn quarantine(scene: &Scene, data_source: &str) -> Result<Vec<Value>> {
    let table = scene.table("shop", &format!("{data_source}_quarantine"));
    let rows = scene
        .clickhouse
        .query(&format!("SELECT * FROM {table} FORMAT JSONEachRow"))
        .await?;
    Ok(rows
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_does_not_fit_says_which_column_and_why() -> Result<()> {
    run("reasons", |scene| async move {
        let token = scene.orders().await?;
        for (row, column, reason) in [
            (
                r#"{"id": -1, "at": "2024-05-01", "city": "x", "tags": []}"#,
                "id",
                "'-1'",
            ),
            (
                r#"{"id": 4294967296, "at": "2024-05-01", "city": "x", "tags": []}"#,
                "id",
                "UInt32",
            ),
            (
                r#"{"id": 1.5, "at": "2024-05-01", "city": "x", "tags": []}"#,
                "id",
                "UInt32",
            ),
            (
                r#"{"id": 1, "at": "yesterday", "city": "x", "tags": []}"#,
                "at",
                "DateTime",
            ),
            (
                r#"{"at": "2024-05-01", "city": "x", "tags": []}"#,
                "id",
                "no value",
            ),
            (
                r#"{"id": null, "at": "2024-05-01", "city": "x", "tags": []}"#,
                "id",
                "no value",
            ),
            (
                r#"{"id": 1, "at": "2024-05-01", "city": "x", "tags": "x"}"#,
                "tags",
                "Array(String)",
            ),
        ] {
            let before = quarantine(&scene, "orders").await?;
            let taken = scene.gateway.events("orders", &token, row).await?;
            ensure!(taken == (0, 1), "{row}: {taken:?}");
            let after = quarantine(&scene, "orders").await?;
            let found = after.iter().find(|row| !before.contains(row));
            let found = found.cloned().unwrap_or_default();
            ensure!(
                found["c__error_column"] == json!([column]),
                "{row}: {found}"
            );
            let error = found["c__error"].to_string();
            ensure!(
                error.contains(column) && error.contains(reason),
                "{row}: {found}"
            );
        }
        // Two faults are told both; a row that is no row is kept as it came.
        let two = r#"{"id": "x", "at": "y", "city": "x", "tags": []}"#;
        scene
            .gateway
            .events("orders", &token, format!("{two}\nnot json at all\n"))
            .await?;
        let rows = quarantine(&scene, "orders").await?;
        ensure!(
            rows.iter()
                .any(|row| row["c__error_column"] == json!(["id", "at"])),
            "{rows:?}"
        );
        let raw = rows.iter().find(|row| row["c__row"] == "not json at all");
        ensure!(
            raw.is_some_and(|row| row["c__error"] != json!([])),
            "{rows:?}"
        );
        ensure!(scene.count("shop", "orders").await? == 0);
        Ok(())
    })
    .await
}

/// What a CSV file holds and how many of its rows are good and bad.
struct Csv {
    what: &'static str,
    file: &'static [u8],
    good: u64,
    bad: u64,
}

const CSV_FILES: &[Csv] = &[
    Csv {
        what: "a header",
        file: b"id,city\n1,Bonn\n2,Oslo\n",
        good: 2,
        bad: 0,
    },
    Csv {
        what: "no header",
        file: b"1,Bonn\n2,Oslo\n",
        good: 2,
        bad: 0,
    },
    Csv {
        what: "no last line end",
        file: b"id,city\n1,Bonn",
        good: 1,
        bad: 0,
    },
    Csv {
        what: "columns in another order",
        file: b"city,id\nBonn,1\n",
        good: 1,
        bad: 0,
    },
    Csv {
        what: "CRLF",
        file: b"id,city\r\n1,Bonn\r\n2,Oslo\r\n",
        good: 2,
        bad: 0,
    },
    Csv {
        what: "CRLF and LF mixed",
        file: b"id,city\r\n1,Bonn\n2,Oslo\r\n",
        good: 2,
        bad: 0,
    },
    Csv {
        what: "a byte order mark",
        file: b"\xef\xbb\xbfid,city\n1,Bonn\n",
        good: 1,
        bad: 0,
    },
    Csv {
        what: "quoted line breaks",
        file: b"id,city\n1,\"Bonn\nam Rhein\"\n2,\"a\r\nb\"\n",
        good: 2,
        bad: 0,
    },
    Csv {
        what: "quotes and delimiters in quotes",
        file: b"id,city\n1,\"a \"\"b\"\", c\"\n",
        good: 1,
        bad: 0,
    },
    Csv {
        what: "a missing value",
        file: b"id,city\nNA,Bonn\n2,Oslo\n",
        good: 1,
        bad: 1,
    },
    Csv {
        what: "a row too short",
        file: b"id,city\n1\n2,Oslo\n",
        good: 1,
        bad: 1,
    },
    Csv {
        what: "a row too long",
        file: b"id,city\n1,Bonn,extra\n2,Oslo\n",
        good: 1,
        bad: 1,
    },
    Csv {
        what: "numbers out of range",
        file: b"id,city\n2147483648,Bonn\n-2147483649,Bonn\n2147483647,Oslo\n",
        good: 1,
        bad: 2,
    },
    Csv {
        what: "numbers that are none",
        file: b"id,city\n1.5,Bonn\nx,Bonn\n 1,Oslo\n0x1,Oslo\n",
        good: 1,
        bad: 3,
    },
    Csv {
        what: "bytes that are no UTF-8",
        file: b"id,city\n1,\xff\xfe\n",
        good: 1,
        bad: 0,
    },
    Csv {
        what: "nothing",
        file: b"",
        good: 0,
        bad: 0,
    },
    Csv {
        what: "a header only",
        file: b"id,city\n",
        good: 0,
        bad: 0,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_dirty_csv_file_is_taken_row_by_row() -> Result<()> {
    run("csv", |scene| async move {
        let token = scene.shop().await?;
        let null_markers = json!({"spec": {"csv": {"nullMarkers": ["NA", ""]}}});
        scene.patch("DataSource", "sales", null_markers).await?;
        let published = |object: &kube::api::DynamicObject| {
            object.data["status"]["published"]["csv"]["nullMarkers"][0] == "NA"
        };
        scene
            .until("DataSource", "sales", "the dialect published", published)
            .await?;
        let (mut good, mut bad, mut wrong) = (0, 0, Vec::new());
        for csv in CSV_FILES {
            let taken = scene.gateway.csv("sales", &token, csv.file).await?;
            if taken != (csv.good, csv.bad) {
                wrong.push(format!(
                    "{}: expected {:?}, got {taken:?}",
                    csv.what,
                    (csv.good, csv.bad)
                ));
            }
            good += taken.0;
            bad += taken.1;
        }
        ensure!(
            wrong.is_empty(),
            "{}\n{:?}",
            wrong.join("\n"),
            quarantine(&scene, "sales").await?
        );
        let there = (
            scene.count("shop", "sales").await?,
            scene.count("shop", "sales_quarantine").await?,
        );
        ensure!(
            there == (good, bad),
            "{good} and {bad} were acknowledged, {there:?} are there"
        );
        let table = scene.table("shop", "sales");
        let broken =
            format!("SELECT count() FROM {table} WHERE city IN ('Bonn\\nam Rhein', 'a \"b\", c')");
        ensure!(scene.clickhouse.number(&broken).await? == 2);
        Ok(())
    })
    .await
}

/// A quote that is never closed costs its own line, not the rest of the file.
#[tokio::test(flavor = "multi_thread")]
async fn an_unbalanced_quote_does_not_swallow_the_file() -> Result<()> {
    run("quote", |scene| async move {
        let token = scene.shop().await?;
        let rest: String = (3..=2000).map(|id| format!("{id},Oslo\n")).collect();
        let file = format!("id,city\n1,Bonn\n2,\"Bonn\n{rest}");
        let (good, bad) = scene.gateway.csv("sales", &token, file).await?;
        ensure!((good, bad) == (1999, 1), "{good} and {bad}");
        ensure!(scene.count("shop", "sales").await? == good);
        let quarantined = quarantine(&scene, "sales").await?;
        ensure!(quarantined[0]["c__row"] == "2,\"Bonn", "{quarantined:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_dialect_is_followed() -> Result<()> {
    run("dialect", |scene| async move {
        let token = scene.shop().await?;
        scene
            .apply(
                "
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {name: export}
spec:
  workspace: shop
  csv: {delimiter: ';', quote: \"'\", header: Absent, nullMarkers: ['-']}
  columns: [{name: id, type: Int32}, {name: city, type: Nullable(String)}]
",
            )
            .await?;
        scene.ready("DataSource", "export").await?;
        scene.gateway.takes("export", &token).await?;
        let taken = scene
            .gateway
            .csv("export", &token, "1;'a;b'\n2;-\n3;'-'\nid;city\n")
            .await?;
        ensure!(taken == (3, 1), "{taken:?}");
        let table = scene.table("shop", "export");
        let rows =
            format!("SELECT groupArray((id, city)) FROM (SELECT * FROM {table} ORDER BY id)");
        let rows = scene.clickhouse.query(&rows).await?;
        ensure!(rows == "[(1,'a;b'),(2,NULL),(3,'-')]", "{rows}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_only_the_file_has_are_named_in_the_answer() -> Result<()> {
    run("unknown", |scene| async move {
        let token = scene.shop().await?;
        let present = json!({"spec": {"csv": {"header": "Present"}}});
        scene.patch("DataSource", "sales", present).await?;
        let published = |object: &kube::api::DynamicObject| {
            object.data["status"]["published"]["csv"]["header"] == "Present"
        };
        scene
            .until("DataSource", "sales", "the dialect published", published)
            .await?;
        // The gateway learns of it by a watch of its own.
        let path = "/v0/datasources?name=sales&mode=append&format=csv";
        let file = "id,country,city\n1,DE,Bonn\n2,NO,Oslo\n";
        let answer = eventually("the header is read as one", async || {
            let answer = scene.gateway.post(path, &token, file).await?;
            let ignored = answer.json()?["ignored_columns"] == json!(["country"]);
            Ok(ignored
                .then_some(&answer)
                .map(Answer::accounted)
                .ok_or(answer.to_string()))
        })
        .await??;
        ensure!(answer == (2, 0), "{answer:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_is_taken_plain_and_compressed() -> Result<()> {
    run("ndjson", |scene| async move {
        let token = scene.orders().await?;
        let mixed = format!("{ORDERS}\n\n{{\"id\": 4}}\n[1, 2]\n\"text\"\n{{\"broken\": ");
        for (encoding, body) in [
            ("identity", mixed.clone().into_bytes()),
            ("gzip", gzip(mixed.as_bytes())?),
            ("zstd", zstd::encode_all(mixed.as_bytes(), 3)?),
        ] {
            for path in [
                "/v0/events?name=orders&wait=true",
                "/v0/datasources?name=orders&mode=append&format=ndjson",
            ] {
                let request = scene.gateway.request(Method::POST, path, &token);
                let request = request
                    .header("content-encoding", encoding)
                    .body(body.clone());
                let taken = Answer::of(request).await?.accounted()?;
                ensure!(taken == (3, 4), "{encoding} to {path}: {taken:?}");
            }
        }
        ensure!(scene.count("shop", "orders").await? == 18);
        ensure!(scene.count("shop", "orders_quarantine").await? == 24);

        let broken =
            scene
                .gateway
                .request(Method::POST, "/v0/events?name=orders&wait=true", &token);
        let broken = broken
            .header("content-encoding", "gzip")
            .body("this is no gzip");
        let answer = Answer::of(broken).await?;
        ensure!(
            (answer.status, answer.code().as_str()) == (400, "body_invalid"),
            "{answer}"
        );
        let unknown =
            scene
                .gateway
                .request(Method::POST, "/v0/events?name=orders&wait=true", &token);
        let answer = Answer::of(unknown.header("content-encoding", "rot13").body(ORDERS)).await?;
        ensure!(answer.status == 415, "{answer}");
        Ok(())
    })
    .await
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_wait_are_there_all_the_same() -> Result<()> {
    run("events", |scene| async move {
        let token = scene.orders().await?;
        let answer = scene
            .gateway
            .post("/v0/events?name=orders", &token, ORDERS)
            .await?;
        ensure!(answer.status == 202, "{answer}");
        // The other number, and not a weaker promise: the rows are there.
        let rows = scene.count("shop", "orders").await?;
        ensure!(rows == 3, "{rows} rows");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_is_taken_and_its_misfits_quarantined() -> Result<()> {
    run("parquet", |scene| async move {
        let token = scene.orders().await?;
        let path = "/v0/datasources?name=orders&mode=append&format=parquet";
        let good = "SELECT number::UInt32 AS id, toDateTime('2024-05-01 00:00:00', 'UTC') + number AS at, 'Bonn' AS city, number / 2 AS amount, \
                    if(number % 2, 'odd', NULL) AS note, ['a', 'it''s'] AS tags FROM numbers(1000) FORMAT Parquet";
        let file = scene.clickhouse.bytes(good).await?;
        let taken = scene.gateway.post(path, &token, file).await?.accounted()?;
        ensure!(taken == (1000, 0), "{taken:?}");
        let table = scene.table("shop", "orders");
        let sums = format!("SELECT (sum(id), sum(amount), count(note), min(at), any(tags)) FROM {table}");
        let sums = scene.clickhouse.query(&sums).await?;
        ensure!(sums == "(499500,249750,500,'2024-05-01 00:00:00',['a','it\\'s'])", "{sums}");

        let misfits = "SELECT number::Int64 - 5 AS id, '2024-05-01 00:00:00' AS at, 'Bonn' AS city, ['a'] AS tags, 'unknown' AS stranger FROM numbers(10) FORMAT Parquet";
        let file = scene.clickhouse.bytes(misfits).await?;
        let taken = scene.gateway.post(path, &token, file).await?.accounted()?;
        ensure!(taken == (5, 5), "{taken:?}");
        let quarantined = quarantine(&scene, "orders").await?;
        ensure!(quarantined.iter().all(|row| row["c__error_column"] == json!(["id"])), "{quarantined:?}");

        let answer = scene.gateway.post(path, &token, "PAR1 but not really PAR1").await?;
        ensure!((answer.status, answer.code().as_str()) == (400, "body_invalid"), "{answer}");
        Ok(())
    })
    .await
}
