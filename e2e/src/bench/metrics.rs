//! Counters of the operator, as Prometheus would scrape them.

use anyhow::{Context as _, Result};

/// The sum of a counter over all its labels; zero if it has not counted yet.
pub(crate) async fn counter(address: &str, name: &str) -> Result<f64> {
    let text = reqwest::get(format!("http://{address}/metrics"))
        .await
        .and_then(reqwest::Response::error_for_status)
        .context("ask for metrics")?
        .text()
        .await
        .context("read metrics")?;
    Ok(sum(&text, name))
}

fn sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{'))
                .then(|| value.parse::<f64>().ok())
                .flatten()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_summed_and_other_names_left_out() {
        let text =
            "# TYPE a_total counter\na_total{x=\"1 2\"} 3\na_total{x=\"3\"} 4\na_total_b 9\nb 1\n";
        assert!((sum(text, "a_total") - 7.0).abs() < 1e-9);
        assert!(sum(text, "c").abs() < 1e-9);
    }
}
