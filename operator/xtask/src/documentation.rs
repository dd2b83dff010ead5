//! What pages and alerts name exists: paths of the repository in Markdown, and
//! metrics in the alerting rules. Decisions can be cited by their number.

use crate::tracked::tracked;
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::path::Path;

/// Where the code registers every metric it exports, and the prefix of those there.
const METRICS: [(&str, &str); 7] = [
    ("operator/gateway/src/metrics/mod.rs", "aviary_gateway_"),
    (
        "operator/gateway/src/metrics/requests.rs",
        "aviary_gateway_",
    ),
    (
        "operator/gateway/src/metrics/replicas.rs",
        "aviary_gateway_",
    ),
    ("operator/runtime/src/metrics.rs", "aviary_"),
    ("operator/controller/src/run.rs", "aviary_"),
    ("operator/controller/src/index/metrics.rs", "aviary_"),
    ("operator/controller/src/fleet/metrics.rs", "aviary_"),
];

/// What the exporter, or Prometheus's types, put behind a registered name.
const SUFFIXES: [&str; 6] = ["_total", "_seconds", "_bucket", "_count", "_sum", "_info"];

/// Complains about paths in pages that do not exist: those in backticks that
/// begin with a folder of the repository, and links.
pub(crate) fn paths(root: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    for page in tracked(root, "*.md")? {
        let text = read(root, &page)?;
        let folder = root.join(&page);
        let folder = folder.parent().unwrap_or(root);
        for path in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|path| is_path(path))
        {
            let (path, _line) = path.split_once(':').unwrap_or((path, ""));
            if begins_in_repository(root, path) && !root.join(path).exists() {
                complaints.push(format!("{page}: `{path}` does not exist"));
            }
        }
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap_or_default();
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                complaints.push(format!("{page}: the link to {link} leads nowhere"));
            }
        }
    }
    Ok(())
}

/// Complains about metrics in the alerting rules that the code does not export.
pub(crate) fn metrics(root: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let rules = "config/monitoring/rules.yaml";
    let mut sources = Vec::new();
    for (source, prefix) in METRICS {
        sources.push((read(root, source)?, prefix));
    }
    let text = read(root, rules)?;
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for metric in words.filter(|word| word.starts_with("aviary_")) {
        let known = sources.iter().any(|(source, prefix)| {
            let name = metric.strip_prefix(prefix).unwrap_or_default();
            registered_names(name).any(|name| source.contains(&format!("\"{name}\"")))
        });
        if !known {
            complaints.push(format!("{rules}: no metric `{metric}` is exported"));
        }
    }
    Ok(())
}

/// Complains about decisions without a number of their own.
pub(crate) fn decisions(root: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let mut numbers = BTreeSet::new();
    for page in tracked(root, "docs/decisions/*")? {
        let name = page.rsplit('/').next().unwrap_or_default();
        if name == "README.md" {
            continue;
        }
        match decision_number(name) {
            None => complaints.push(format!("{page}: call it `NNNN-what-is-decided.md`")),
            Some(number) if !numbers.insert(number.to_owned()) => {
                complaints.push(format!("{page}: another decision is number {number}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// `0010` of `0010-a-thread-a-core.md`.
fn decision_number(name: &str) -> Option<&str> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let numbered = number.len() == 4 && number.chars().all(|c| c.is_ascii_digit());
    let plain = title
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (numbered && plain).then_some(number)
}

/// The name itself, and what is left of it without each of its suffixes.
fn registered_names(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let name = rest?;
        rest = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        Some(name)
    })
}

/// A path, and neither a pattern nor a command.
fn is_path(text: &str) -> bool {
    text.contains('/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c))
}

fn begins_in_repository(root: &Path, path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    // What is built is not part of the repository.
    !first.is_empty()
        && first != "target"
        && first != "."
        && first != ".."
        && root.join(first).is_dir()
}

fn read(root: &Path, name: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root.join(name)).with_context(|| format!("read {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_name_without_what_the_exporter_adds() {
        let names: Vec<&str> = registered_names("request_duration_seconds_bucket").collect();
        assert_eq!(
            names,
            [
                "request_duration_seconds_bucket",
                "request_duration_seconds",
                "request_duration"
            ]
        );
    }

    #[test]
    fn a_decision_has_a_number_and_a_title() {
        assert_eq!(decision_number("0010-a-thread-a-core.md"), Some("0010"));
        for name in ["10-*.md", "10-a-thread.md", "0010.md", "0010-a thread.md"] {
            assert_eq!(decision_number(name), None, "{name}");
        }
    }

    #[test]
    fn commands_and_patterns_are_no_paths() {
        assert!(is_path("operator/sql/src/ident.rs"));
        for text in [
            "make demo",
            "crds/src/<kind>.rs",
            "e2e/tools/*/go.mod",
            "main.rs",
        ] {
            assert!(!is_path(text), "{text}");
        }
    }
}
