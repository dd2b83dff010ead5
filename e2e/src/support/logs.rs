//! What operator and gateway have logged: whether something in it is explained
//! by no test, and whether a secret is in it.
//!
//! Nearly every failure of theirs is a warning and not an error, since they go
//! on and try again. So warnings count as failures unless [`EXPECTED`] has them.

use super::pods::{self, Component, Log};
use crate::product;
use anyhow::{Context as _, Result, ensure};
use aviary_crds::names;
use aviary_crds::published::WorkspaceAccess;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use secrecy::ExposeSecret as _;

/// A warning that tests bring about on purpose.
struct Expected {
    /// What the line holds: its message, or the reason of its event.
    text: &'static str,
    /// One of these is in it as well, mostly the start of a test's namespace. Without any, nothing else has to be.
    beside: &'static [&'static str],
}

/// Tests that make clusters of their own. Their namespaces go with Secret,
/// cluster and workspaces in any order.
const OWN_CLUSTERS: &[&str] = &[
    "away-",
    "credentials-",
    "disk-",
    "force-",
    "foreign-",
    "gone-",
    "guest-",
    "host-",
    "neighbours-",
    "quiet-",
    "replicas-",
    "replication-",
    "revoked-",
    "says-",
    "unreachable-",
    "waits-",
];
/// Tests with replicas that fall behind or lose their ZooKeeper.
const REPLICATED: &[&str] = &["neighbours-", "replicas-", "replication-"];
/// Tests that break something by hand, to see it put back.
const BROKEN: &[&str] = &["drift-", "paused-"];
/// Tests that end Aviary's processes or the engine's.
const DISTURBED: &[&str] = &[
    "kill-engine-",
    "kill-gateway-",
    "kill-operator-",
    "restart-",
];
/// The sample engine, which starts after the operator and is killed under way.
const SHARED: &[&str] = &[r#""name":"shared""#, "engine-0.engine.clickhouse"];

const EXPECTED: &[Expected] = &[
    expected(r#""reason":"DriftRepaired""#, BROKEN),
    expected("rows are not stored", BROKEN),
    expected("their quarantine cannot be counted", BROKEN),
    expected(r#""reason":"ClickHouseUnreachable""#, OWN_CLUSTERS),
    expected(r#""reason":"ReplicaUnreachable""#, OWN_CLUSTERS),
    expected(r#""reason":"ReplicaReadOnly""#, REPLICATED),
    expected(r#""reason":"ReplicaDelayed""#, REPLICATED),
    expected(r#""reason":"CredentialsInvalid""#, OWN_CLUSTERS),
    // What answers there is no ClickHouse, and one address is the machine's own.
    expected(r#""reason":"ClickHouseRefused""#, &["foreign-"]),
    expected(r#""reason":"Invalid""#, &["foreign-"]),
    expected(r#""reason":"DiskLow""#, &["disk-"]),
    expected(r#""reason":"DiskCritical""#, &["disk-"]),
    expected("the database of a deleted workspace yet", OWN_CLUSTERS),
    // An engine that was killed and is back is away until its next probe, and the test may be over by then.
    expected("the database of a deleted workspace yet", DISTURBED),
    expected(r#""reason":"DropPending""#, OWN_CLUSTERS),
    expected("replica is away", OWN_CLUSTERS),
    expected(r#""reason":"ClickHouseUnreachable""#, SHARED),
    expected(r#""reason":"ReplicaUnreachable""#, SHARED),
    expected("replica is away", SHARED),
    expected("rows are not stored", DISTURBED),
    expected("a part of a block is not stored", DISTURBED),
    expected("their quarantine cannot be counted", DISTURBED),
    // Only several operators have a lease, and one of them is made to hang.
    expected("lost the lease", &[]),
    expected("the lease was lost to another replica", &[]),
    // When it goes on, it finds that the apiserver has closed its connections.
    expected(
        "cannot watch yet, trying again",
        &["connection closed before message completed"],
    ),
    // Limits end queries in the middle, and so does a killed engine.
    expected("an answer is cut in the middle", &[]),
    // A namespace on its way out takes nothing new.
    expected("because it is being terminated", &[]),
];

const fn expected(text: &'static str, beside: &'static [&'static str]) -> Expected {
    Expected { text, beside }
}

impl Expected {
    fn explains(&self, line: &str) -> bool {
        let beside = self.beside.is_empty() || self.beside.iter().any(|text| line.contains(text));
        beside && line.contains(self.text)
    }
}

/// Fails if operator or gateway logged an error, a panic or a warning that no test explains.
pub async fn check(client: &Client) -> Result<()> {
    let mut unexpected = Vec::new();
    for log in all(client).await? {
        let lines = log.text.lines().filter(|line| is_trouble(line));
        let lines = lines.filter(|line| !EXPECTED.iter().any(|one| one.explains(line)));
        unexpected.extend(lines.map(|line| format!("{}: {line}", log.source)));
    }
    ensure!(
        unexpected.is_empty(),
        "{} unexpected lines:\n{}",
        unexpected.len(),
        unexpected[..unexpected.len().min(50)].join("\n")
    );
    Ok(())
}

/// Fails if operator or gateway logged what looks like the value of a token.
pub async fn hold_no_token(client: &Client) -> Result<()> {
    for log in all(client).await? {
        let line = log.text.lines().find(|line| has_token(line));
        // The line itself would show the token once more.
        ensure!(line.is_none(), "{}: a token is in it", log.source);
    }
    Ok(())
}

/// Fails if operator or gateway logged a token or password of this namespace,
/// or the password of one of its workspaces' ClickHouse users.
pub(crate) async fn hold_no_secret_of(client: &Client, namespace: &str) -> Result<()> {
    let secrets = secrets_of(client, namespace).await?;
    if secrets.is_empty() {
        return Ok(());
    }
    for log in all(client).await? {
        for (name, value) in &secrets {
            ensure!(!log.text.contains(value), "{}: {name} is in it", log.source);
        }
    }
    Ok(())
}

async fn all(client: &Client) -> Result<Vec<Log>> {
    let mut logs = Vec::new();
    for component in [Component::Operator, Component::Gateway] {
        let found = pods::logs(client, component).await?;
        ensure!(
            found.iter().any(|log| !log.text.is_empty()),
            "{component:?} logs nothing at all"
        );
        logs.extend(found);
    }
    Ok(logs)
}

/// The names and values of secrets long enough not to be in a log by accident.
async fn secrets_of(client: &Client, namespace: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for secret in secrets
        .list(&ListParams::default())
        .await
        .context("list Secrets")?
    {
        let name = secret.name_any();
        for (key, value) in secret.data.unwrap_or_default() {
            if matches!(key.as_str(), "token" | "password") {
                found.push((
                    format!("`{key}` of Secret {name}"),
                    String::from_utf8_lossy(&value.0).into_owned(),
                ));
            }
        }
    }
    let labels = format!("{}={}", names::LABEL_ROLE, names::LABEL_PUBLISHED_WORKSPACE);
    let published: Api<Secret> = Api::namespaced(client.clone(), product::NAMESPACE);
    for secret in published
        .list(&ListParams::default().labels(&labels))
        .await
        .context("list published Secrets")?
    {
        let document = secret
            .data
            .and_then(|mut data| data.remove(names::PUBLISHED_SECRET_KEY));
        let Some(document) = document else { continue };
        let access: WorkspaceAccess =
            serde_json::from_slice(&document.0).context("read a published Secret")?;
        if access.namespace == namespace {
            for user in [&access.reader, &access.writer] {
                let password = user.password.expose_secret().to_owned();
                found.push((format!("the password of {}", user.name), password));
            }
        }
    }
    found.retain(|(_, value)| value.len() >= 16);
    Ok(found)
}

fn is_trouble(line: &str) -> bool {
    ["ERROR", "WARN"].iter().any(|level| {
        line.contains(&format!(" {level} ")) || line.contains(&format!("\"level\":\"{level}\""))
    }) || line.contains("panicked at")
}

/// Whether the line holds `aviary_` with the 43 characters of a token's value
/// behind it; names of things do not.
fn has_token(line: &str) -> bool {
    line.split("aviary_").skip(1).any(|rest| {
        let value = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        value.count() >= 43
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_expected_of_the_tests_that_bring_it_about_and_of_no_other() {
        let line = |namespace: &str| {
            format!(
                r#"{{"level":"WARN","message":"put back","namespace":"{namespace}","reason":"DriftRepaired"}}"#
            )
        };
        let explained = |line: &str| EXPECTED.iter().any(|one| one.explains(line));
        assert!(is_trouble(&line("x")) && !is_trouble(r#"{"level":"INFO","message":"x"}"#));
        assert!(explained(&line("drift-column-0badcafe")));
        assert!(!explained(&line("journey-0badcafe")));
    }

    #[test]
    fn a_token_is_known_by_its_length() {
        let value = "x".repeat(43);
        assert!(has_token(&format!("token aviary_{value} refused")));
        assert!(!has_token("aviary_controller aviary_reconcile_seconds"));
    }
}
