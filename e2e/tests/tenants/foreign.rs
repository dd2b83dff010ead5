//! A cluster whose address leads to something else than ClickHouse, or to where it never is.

use anyhow::{Context as _, Result, ensure};
use aviary_e2e::cluster::{HOST_ADDRESS, Target};
use aviary_e2e::product;
use aviary_e2e::support::{Cluster, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What only pods of the cluster could read.
const SECRET: &str = "hunter2-of-a-neighbour";

/// A server that answers everything with this.
async fn always(status: &str, body: &str) -> Result<String> {
    let listener = TcpListener::bind((HOST_ADDRESS, 0)).await;
    let listener = listener.context("listen where pods reach this machine")?;
    let url = format!("http://{}", listener.local_addr()?);
    let answer = format!(
        "HTTP/1.1 {status}\r\nX-ClickHouse-Format: JSON\r\nX-ClickHouse-Query-Id: 7\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = client.read(&mut vec![0; 65536]).await;
                let _ = client.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_says_what_is_not_clickhouse_and_nothing_of_it() -> Result<()> {
    run("foreign", |scene| async move {
        scene.engine_credentials().await?;
        let exception = format!("Code: 60. DB::Exception: {SECRET}. (UNKNOWN_TABLE)\n");
        let error = always("500 Internal Server Error", &exception).await?;
        let page = always("200 OK", SECRET).await?;
        for (name, url, words) in [
            ("error", error, "if this is ClickHouse at all"),
            ("page", page, "is not ClickHouse"),
            (
                "machine",
                "http://169.254.169.254".to_owned(),
                "never there",
            ),
        ] {
            scene.apply(&Cluster::at(name, &url).manifest()).await?;
            let namespace = scene.namespace.as_str();
            let seen = scene
                .until("ClickHouseCluster", name, words, |cluster| {
                    cluster.data["status"].to_string().contains(words)
                })
                .await?;
            let describe = ["describe", "clickhouseclusters", name, "-n", namespace];
            let described = product::kubectl(&Target::from_environment(), &describe).await?;
            for shown in [seen.data.to_string(), described] {
                ensure!(!shown.contains(SECRET), "{shown}");
            }
        }
        Ok(())
    })
    .await
}
