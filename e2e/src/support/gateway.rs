//! The gateway as a user meets it: HTTP through its Service.

use super::pods::{self, Component};
use super::{reach, wait};
use crate::cluster::Target;
use crate::product;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::Value;
use std::fmt;
use std::future::Future;

/// A gateway by its address.
#[derive(Clone)]
pub struct Gateway {
    base: String,
    http: reqwest::Client,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body, whole.
    pub body: bytes::Bytes,
}

impl Gateway {
    /// The one that the chart installs: through its Service in the box, or else one of its pods.
    pub async fn shared(client: &Client) -> Result<Self> {
        let address = match Target::from_environment() {
            Target::Box(_) => {
                let services: Api<Service> = Api::namespaced(client.clone(), product::NAMESPACE);
                let service = services
                    .get("aviary-gateway")
                    .await
                    .context("find the gateway's Service: is Aviary installed?")?;
                let address = service.spec.and_then(|spec| spec.cluster_ip);
                address.context("the gateway's Service has no address")?
            }
            Target::Own { .. } => {
                let pods = pods::pods(client, Component::Gateway).await?;
                let pod = pods.first().context("no gateway: is Aviary installed?")?;
                reach::address(client, pod, 8080).await?
            }
        };
        Ok(Self::at(format!("http://{address}")))
    }

    /// The one at this address.
    pub fn at(base: String) -> Self {
        Self {
            base,
            http: reqwest::Client::new(),
        }
    }

    /// Its address, such as `http://10.96.0.17`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to `path` with a token.
    pub fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(token)
    }

    /// Gets `path`.
    pub async fn get(&self, path: &str, token: &str) -> Result<Answer> {
        Answer::of(self.request(Method::GET, path, token)).await
    }

    /// Posts `body` to `path`.
    pub async fn post(&self, path: &str, token: &str, body: impl Into<Body>) -> Result<Answer> {
        Answer::of(self.request(Method::POST, path, token).body(body)).await
    }

    /// Waits until the gateway knows the token and serves the pipe to it: it learns of both by watches of its own.
    pub async fn serves(&self, pipe: &str, token: &str) -> Result<()> {
        let path = format!("/v0/pipes/{pipe}.json");
        self.until_known(&format!("pipe {pipe} is served"), async || {
            self.get(&path, token).await
        })
        .await
    }

    /// Waits until the gateway knows the token and takes rows for the data source from it.
    pub async fn takes(&self, data_source: &str, token: &str) -> Result<()> {
        let path = format!("/v0/events?name={data_source}&wait=true");
        self.until_known(&format!("rows for {data_source} are taken"), async || {
            self.post(&path, token, "").await
        })
        .await
    }

    async fn until_known<F, Fut>(&self, what: &str, mut ask: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Answer>>,
    {
        wait::eventually(what, || {
            let answer = ask();
            async move {
                let answer = answer.await?;
                let known = !matches!(answer.status, 401 | 403 | 404 | 429 | 503);
                Ok(known.then_some(()).ok_or_else(|| answer.to_string()))
            }
        })
        .await
    }

    /// The rows of an endpoint; `query` is such as `month=1&origin=JFK`.
    pub async fn rows(&self, pipe: &str, query: &str, token: &str) -> Result<Vec<Value>> {
        let answer = self
            .get(&format!("/v0/pipes/{pipe}.json?{query}"), token)
            .await?;
        ensure!(answer.status == 200, "{pipe}: {answer}");
        let mut body = answer.json()?;
        Ok(body["data"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default())
    }

    /// Sends NDJSON rows and waits for them; gives the rows in and the rows quarantined.
    pub async fn events(
        &self,
        data_source: &str,
        token: &str,
        rows: impl Into<Body>,
    ) -> Result<(u64, u64)> {
        let answer = self
            .post(
                &format!("/v0/events?name={data_source}&wait=true"),
                token,
                rows,
            )
            .await?;
        answer.accounted()
    }

    /// Appends a CSV file; gives the rows in and the rows quarantined.
    pub async fn csv(
        &self,
        data_source: &str,
        token: &str,
        file: impl Into<Body>,
    ) -> Result<(u64, u64)> {
        let path = format!("/v0/datasources?name={data_source}&mode=append&format=csv");
        self.post(&path, token, file).await?.accounted()
    }
}

impl Answer {
    /// Sends a request and reads its answer.
    pub async fn of(request: RequestBuilder) -> Result<Self> {
        let response = request.send().await.context("ask the gateway")?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response
            .bytes()
            .await
            .context("read the gateway's answer")?;
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The stable code of an error, such as `parameter_missing`; empty if this is none.
    pub fn code(&self) -> String {
        let body = self.json().unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header as text; empty without it.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The rows in and the rows quarantined, of an answer to sent rows.
    pub fn accounted(&self) -> Result<(u64, u64)> {
        ensure!(self.status == 200, "{self}");
        let body = self.json()?;
        let count = |key: &str| {
            body[key]
                .as_u64()
                .with_context(|| format!("no {key} in {body}"))
        };
        Ok((count("successful_rows")?, count("quarantined_rows")?))
    }
}

/// For messages: status and text.
impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.status, self.text().trim_end())
    }
}
