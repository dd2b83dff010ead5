//! Operator and gateway log errors for what is broken, and nothing was: after
//! all other tests, whatever they did, no log holds an error or a panic that is not expected.

use anyhow::{Result, ensure};
use aviary_e2e::cluster::Target;
use aviary_e2e::support::pods::{self, Component};

/// Errors that the tests bring about on purpose, each with why it is right to log it.
const EXPECTED: &[&str] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn no_unexpected_error_was_logged() -> Result<()> {
    let client = Target::from_environment().client().await?;
    let mut unexpected = Vec::new();
    for component in [Component::Operator, Component::Gateway] {
        let logs = pods::logs(&client, component).await?;
        ensure!(
            logs.iter().any(|log| !log.text.is_empty()),
            "{component:?} logs nothing at all"
        );
        for log in logs {
            let lines = log.text.lines().filter(|line| is_error(line));
            let lines = lines.filter(|line| !EXPECTED.iter().any(|text| line.contains(text)));
            unexpected.extend(lines.map(|line| format!("{}: {line}", log.source)));
        }
    }
    ensure!(
        unexpected.is_empty(),
        "{} unexpected lines:\n{}",
        unexpected.len(),
        unexpected[..unexpected.len().min(50)].join("\n")
    );
    Ok(())
}

fn is_error(line: &str) -> bool {
    line.contains(" ERROR ") || line.contains("\"level\":\"ERROR\"") || line.contains("panicked at")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_was_logged() -> Result<()> {
    let client = Target::from_environment().client().await?;
    for component in [Component::Operator, Component::Gateway] {
        for log in pods::logs(&client, component).await? {
            // The values of all tokens begin so; names of things do not.
            let token = log
                .text
                .lines()
                .find(|line| line.contains("aviary_") && has_token(line));
            ensure!(token.is_none(), "{}: a token in {token:?}", log.source);
        }
    }
    Ok(())
}

/// Whether the line holds `aviary_` with the 43 characters of a token's value behind it.
fn has_token(line: &str) -> bool {
    line.split("aviary_").skip(1).any(|rest| {
        let value = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        value.count() >= 43
    })
}
