//! The floor under `scale`: the same manifests applied with no operator there, and the bare DDL by one client.

use super::manifests::{apply, file_of};
use super::stage::Stage;
use super::tenants::Tenants;
use crate::cluster::Progress;
use anyhow::{Context as _, Result, ensure};
use std::time::Instant;

/// Seconds of the two parts.
pub(crate) struct Floor {
    pub(crate) apply_seconds: f64,
    pub(crate) statement_seconds: f64,
    /// How many statements.
    pub(crate) statements: usize,
}

impl Floor {
    /// Both parts, one after the other.
    pub(crate) fn seconds(&self) -> f64 {
        self.apply_seconds + self.statement_seconds
    }
}

/// The statements that make what the operator has made, read back from ClickHouse, for databases of other names.
pub(crate) async fn statements(stage: &Stage, tenants: &Tenants) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for database in tenants.databases() {
        statements.extend(statements_of(stage, &database).await?);
    }
    let renamed = renamed(tenants);
    Ok(statements
        .into_iter()
        .map(|statement| statement.replace(tenants.prefix(), &renamed))
        .collect())
}

/// Measures both parts and removes what they made.
pub(crate) async fn measure(
    stage: &Stage,
    progress: &Progress,
    tenants: &Tenants,
    statements: &[String],
) -> Result<Floor> {
    let applying = Box::pin(apply_and_remove(stage, progress, tenants));
    let apply_seconds = stage.without_operator(applying).await?;
    let what = format!("Sending {} statements by one client", statements.len());
    let sent = progress.step(&what, send(stage, statements)).await;
    let dropped = progress
        .step("Dropping what they made", drop_made(stage, tenants))
        .await;
    let statement_seconds = sent?;
    dropped?;
    Ok(Floor {
        apply_seconds,
        statement_seconds,
        statements: statements.len(),
    })
}

async fn apply_and_remove(stage: &Stage, progress: &Progress, tenants: &Tenants) -> Result<f64> {
    tenants.create_namespaces(&stage.client).await?;
    let applied = progress
        .step(
            "Applying them with no operator there",
            time_apply(stage, tenants),
        )
        .await;
    let removed = progress
        .step("Removing them", tenants.remove(&stage.client))
        .await;
    let seconds = applied?;
    removed.map(|()| seconds)
}

async fn time_apply(stage: &Stage, tenants: &Tenants) -> Result<f64> {
    let file = file_of(tenants)?;
    let started = Instant::now();
    apply(stage, &file).await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn send(stage: &Stage, statements: &[String]) -> Result<f64> {
    let (user, password) = stage.clickhouse.administrator();
    let engine = format!("http://{}/", stage.engine);
    // One client with one connection, which is kept.
    let client = reqwest::Client::new();
    let started = Instant::now();
    for statement in statements {
        let request = client.post(&engine).basic_auth(user, Some(password));
        let answer = request.body(statement.clone()).send().await;
        let answer = answer.context("ask the engine")?;
        let accepted = answer.status().is_success();
        let text = answer.text().await.context("read the engine's answer")?;
        ensure!(accepted, "{statement}: {text}");
    }
    Ok(started.elapsed().as_secs_f64())
}

/// In the order that they can be sent in again: database, users, grants, tables, and views, which run as a user.
async fn statements_of(stage: &Stage, database: &str) -> Result<Vec<String>> {
    let ask = async |sql: String| {
        stage
            .clickhouse
            .query(&format!("{sql} FORMAT TSVRaw"))
            .await
    };
    let mut statements = vec![ask(format!("SHOW CREATE DATABASE `{database}`")).await?];
    for role in ["reader", "writer"] {
        let user = format!("`{database}__{role}`");
        let create = ask(format!("SHOW CREATE USER {user}")).await?;
        statements.push(with_password(&create)?);
        let grants = ask(format!("SHOW GRANTS FOR {user}")).await?;
        statements.extend(grants.lines().map(str::to_owned));
    }
    // A definition can span lines; none holds this byte.
    let definitions = ask(format!(
        "SELECT arrayStringConcat(groupArray(create_table_query), '\\x01') FROM \
         (SELECT create_table_query FROM system.tables WHERE database = '{database}' \
         ORDER BY engine = 'MaterializedView', name)"
    ))
    .await?;
    statements.extend(definitions.split('\x01').map(str::to_owned));
    ensure!(
        statements.iter().all(|statement| !statement.is_empty()),
        "ClickHouse tells no definition of something in {database}"
    );
    Ok(statements)
}

/// `SHOW CREATE USER` leaves the password out; a hash of nothing anybody knows takes its place.
fn with_password(create: &str) -> Result<String> {
    let (head, tail) = create
        .split_once(" IDENTIFIED WITH ")
        .with_context(|| format!("not how a user is made: {create}"))?;
    let rest = tail
        .split_once(" SETTINGS ")
        .map(|(_, settings)| format!(" SETTINGS {settings}"))
        .unwrap_or_default();
    let hash = hex::encode(rand::random::<[u8; 32]>());
    Ok(format!(
        "{head} IDENTIFIED WITH sha256_hash BY '{hash}'{rest}"
    ))
}

async fn drop_made(stage: &Stage, tenants: &Tenants) -> Result<()> {
    let renamed = renamed(tenants);
    for database in tenants.databases() {
        let database = database.replace(tenants.prefix(), &renamed);
        for statement in [
            format!("DROP DATABASE IF EXISTS `{database}` SYNC"),
            format!("DROP USER IF EXISTS `{database}__reader`, `{database}__writer`"),
        ] {
            stage.clickhouse.query(&statement).await?;
        }
    }
    Ok(())
}

/// Says `floor` where the tenants' names say `bench`.
fn renamed(tenants: &Tenants) -> String {
    tenants.prefix().replace("bench", "floor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_a_password_and_keeps_its_settings() {
        let create =
            "CREATE USER `a__reader` IDENTIFIED WITH sha256_password SETTINGS readonly = 2";
        let with = with_password(create).unwrap();
        assert!(with.starts_with("CREATE USER `a__reader` IDENTIFIED WITH sha256_hash BY '"));
        assert!(with.ends_with("' SETTINGS readonly = 2"));
        assert!(with_password("CREATE ROLE a").is_err());
    }
}
