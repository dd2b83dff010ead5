//! What holds after all other tests, whatever they did: their namespaces are
//! gone, and no log holds a failure that is not explained, or a secret.

use anyhow::Result;
use aviary_e2e::cluster::Target;
use aviary_e2e::support::{logs, namespaces_gone};
use kube::Client;

/// The cluster once nothing of the tests is under way any more.
async fn calm() -> Result<Client> {
    let client = Target::from_environment().client().await?;
    namespaces_gone(&client).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_goes() -> Result<()> {
    calm().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_unexpected_warning_was_logged() -> Result<()> {
    logs::check(&calm().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_was_logged() -> Result<()> {
    logs::hold_no_token(&calm().await?).await
}
