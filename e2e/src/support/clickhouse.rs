//! ClickHouse as its administrator meets it: to look at what the operator
//! made, and to break it by hand.

use super::{eventually, reach};
use crate::product;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};

/// A ClickHouse by its address and administrator.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    namespace: String,
    pod: String,
    user: String,
    password: String,
    http: reqwest::Client,
}

impl ClickHouse {
    /// The engine of `config/samples/engine`.
    pub async fn shared(client: &Client) -> Result<Self> {
        Self::of(
            client,
            product::ENGINE_NAMESPACE,
            "engine-0",
            product::ENGINE_ADMIN,
        )
        .await
    }

    /// The engine in this pod, with the administrator in this Secret.
    pub async fn of(client: &Client, namespace: &str, pod: &str, secret: &str) -> Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let mut data = secrets
            .get(secret)
            .await
            .context("read the engine's Secret")?
            .data
            .unwrap_or_default();
        let mut text = |key: &str| {
            let value = data
                .remove(key)
                .with_context(|| format!("the engine's Secret has no `{key}`"))?;
            String::from_utf8(value.0).context("the engine's Secret is not text")
        };
        Ok(Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            user: text("username")?,
            password: text("password")?,
            http: reqwest::Client::new(),
        })
    }

    /// The name and the password of its administrator.
    pub(crate) fn administrator(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }

    /// Waits until it answers.
    pub async fn answers(&self) -> Result<()> {
        eventually(&format!("{} answers", self.pod), async || {
            let answer = self.query("SELECT 1").await;
            Ok(answer.map(drop).map_err(|error| format!("{error:#}")))
        })
        .await
    }

    /// Runs a statement as the administrator; gives its answer as tab separated text without the last line end.
    pub async fn query(&self, sql: &str) -> Result<String> {
        self.query_as(&self.user, &self.password, sql).await
    }

    /// Runs a statement as somebody.
    pub async fn query_as(&self, user: &str, password: &str, sql: &str) -> Result<String> {
        let answer = self.ask(user, password, sql).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Runs a statement as the administrator; gives its answer as it is, for binary formats.
    pub async fn bytes(&self, sql: &str) -> Result<Bytes> {
        self.ask(&self.user, &self.password, sql).await
    }

    /// A number that a statement gives.
    pub async fn number(&self, sql: &str) -> Result<u64> {
        let answer = self.query(sql).await?;
        answer
            .parse()
            .with_context(|| format!("{sql} gives {answer}"))
    }

    /// Runs a statement as somebody who must not; gives ClickHouse's error code.
    pub async fn refused_as(&self, user: &str, password: &str, sql: &str) -> Result<u32> {
        let answer = match self.query_as(user, password, sql).await {
            Ok(answer) => bail!("{sql}: should be refused, but gives {answer}"),
            Err(error) => error.to_string(),
        };
        let code = answer
            .split_once("Code: ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        code.and_then(|digits| digits.parse().ok())
            .with_context(|| format!("not refused by ClickHouse: {answer}"))
    }

    async fn ask(&self, user: &str, password: &str, sql: &str) -> Result<Bytes> {
        // A pod has another address after a restart, so it is asked for each time.
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pod = pods.get(&self.pod).await.context("find the engine's pod")?;
        let address = reach::address(&self.client, &pod, 8123).await?;
        let request = self
            .http
            .post(format!("http://{address}/"))
            .basic_auth(user, Some(password))
            .body(sql.to_owned());
        let response = request.send().await.context("ask the engine")?;
        let ok = response.status().is_success();
        let answer = response.bytes().await.context("read the engine's answer")?;
        if !ok {
            bail!("{sql}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}
