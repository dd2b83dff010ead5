//! `make bench`: what Aviary costs, as ratios within one run, each beside the figure to reach.
//!
//! Absolute numbers say more of the machine than of the product, so every
//! figure has a counterpart measured in the same minutes: the engine asked
//! directly, nginx in front of it, the same file inserted by hand, the same
//! statements sent by one client. A figure missed is printed as missed and is
//! no error. `docs/guides/benchmarks.md` describes each.

mod abuse;
mod attack;
mod change;
mod engine;
mod events;
mod floor;
mod idle;
mod ingestion;
mod manifests;
mod nginx;
mod processes;
mod report;
mod scale;
mod stage;
mod statistics;
mod tenants;
mod throughput;
mod wrk;

pub use attack::{Attack, run as attack};

use crate::cluster::{Progress, Target, packages};
use crate::product;
use crate::program::Build;
use anyhow::{Context as _, Result, ensure};
use report::Report;
use stage::Stage;
use std::path::PathBuf;
use tenants::Tenants;

/// The programs measured with, and the Debian packages they come from.
const PACKAGES: &[(&str, &str)] = &[
    ("curl", "/usr/bin/curl"),
    ("nginx", "/usr/sbin/nginx"),
    ("wrk", "/usr/bin/wrk"),
];

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Sections to run; all of them if none is named
    #[arg(value_enum)]
    sections: Vec<Section>,

    /// Measure what is installed already, rather than installing this checkout first
    #[arg(long)]
    as_installed: bool,

    /// Write the figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A part of the measurements. Change and idle are measured with the tenants of scale in place.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    /// An endpoint's rate, latency and CPU against ClickHouse asked directly and through nginx
    Throughput,
    /// Rows per second of a CSV file against a direct INSERT
    Ingestion,
    /// Attacks on a gateway's memory and connections, and another tenant's latency meanwhile
    Abuse,
    /// A query over HTTP against the same library in process
    Engine,
    /// Events sent one a request and a hundred, beside the same INSERT sent directly
    Events,
    /// 50 workspaces with 10 objects each, from `kubectl apply` to ready
    Scale,
    /// From a changed pipe to the new answer
    Change,
    /// What 60 seconds cost in which nothing happens
    Idle,
}

impl Options {
    fn wants(&self, section: Section) -> bool {
        self.sections.is_empty() || self.sections.contains(&section)
    }
}

/// Measures, prints, and removes what it made. Sections that cannot be measured are an error, figures missed are not.
pub async fn run(progress: &Progress, options: Options) -> Result<()> {
    let target = Target::from_environment();
    target.ensure_up(progress).await?;
    if !options.as_installed {
        Box::pin(product::install(&target, Build::Release, progress)).await?;
    }
    packages::install_these(target.as_box()?.layout(), progress, PACKAGES).await?;
    let stage = Stage::set(target, progress).await?;

    let mut finished = Finished::default();
    if options.wants(Section::Throughput) {
        finished.add("throughput", throughput::measure(&stage, progress).await);
    }
    if options.wants(Section::Ingestion) {
        finished.add("ingestion", ingestion::measure(&stage, progress).await);
    }
    if options.wants(Section::Abuse) {
        finished.add("abuse", abuse::measure(&stage, progress).await);
    }
    if options.wants(Section::Engine) {
        finished.add("engine", engine::measure(&stage, progress).await);
    }
    if options.wants(Section::Events) {
        finished.add("events", events::measure(&stage, progress).await);
    }
    if [Section::Scale, Section::Change, Section::Idle]
        .into_iter()
        .any(|section| options.wants(section))
    {
        let outcome = with_tenants(&stage, progress, &options, &mut finished).await;
        finished.note("tenants", outcome);
    }
    finished.conclude(options.json)
}

/// The sections that need 500 objects in place: what happens while they come, change, and rest.
async fn with_tenants(
    stage: &Stage,
    progress: &Progress,
    options: &Options,
    finished: &mut Finished,
) -> Result<()> {
    let tenants = Tenants::new();
    let outcome = Box::pin(measure_with(stage, progress, options, finished, &tenants)).await;
    let removed = progress
        .step("Removing the tenants", tenants.remove(&stage.client))
        .await;
    let (arrival, statements) = outcome?;
    removed?;
    if options.wants(Section::Scale) {
        let floor = floor::measure(stage, progress, &tenants, &statements).await;
        finished.add("scale", floor.map(|floor| scale::report(&arrival, &floor)));
    }
    Ok(())
}

async fn measure_with(
    stage: &Stage,
    progress: &Progress,
    options: &Options,
    finished: &mut Finished,
    tenants: &Tenants,
) -> Result<(scale::Arrival, Vec<String>)> {
    tenants.create_namespaces(&stage.client).await?;
    let arrival = scale::measure(stage, progress, tenants).await?;
    let statements = floor::statements(stage, tenants).await?;
    if options.wants(Section::Change) {
        finished.add("change", change::measure(stage, progress, tenants).await);
    }
    if options.wants(Section::Idle) {
        finished.add("idle", idle::measure(stage, progress).await);
    }
    Ok((arrival, statements))
}

/// The reports so far, and what could not be measured.
#[derive(Default)]
struct Finished {
    reports: Vec<Report>,
    failures: Vec<String>,
}

impl Finished {
    fn add(&mut self, section: &str, outcome: Result<Report>) {
        let outcome = outcome.map(|report| {
            report.print();
            self.reports.push(report);
        });
        self.note(section, outcome);
    }

    fn note(&mut self, section: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            eprintln!("{section}: {error:#}");
            self.failures.push(section.to_owned());
        }
    }

    fn conclude(self, json: Option<PathBuf>) -> Result<()> {
        report::print_sum(&self.reports);
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(&self.reports).context("write the figures")?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        ensure!(
            self.failures.is_empty(),
            "could not measure: {}",
            self.failures.join(", ")
        );
        Ok(())
    }
}
