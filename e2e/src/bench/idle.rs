//! What the product costs while nothing happens.

use super::report::{Figure, Report};
use super::stage::Stage;
use crate::cluster::Progress;
use crate::support::pods::Component;
use crate::support::{AuditMark, Request};
use anyhow::Result;
use std::time::{Duration, Instant};

const IDLE: Duration = Duration::from_mins(1);
/// CPU seconds of each process in that time.
const CPU: f64 = 0.1;
/// No request for this long means that earlier work is done.
const QUIET: Duration = Duration::from_secs(3);
/// Work that goes on longer is part of being idle.
const PATIENCE: Duration = Duration::from_secs(30);

const COMPONENTS: [Component; 2] = [Component::Operator, Component::Gateway];

/// Looks at both processes and the audit log, and touches nothing.
pub(crate) async fn measure(stage: &Stage, progress: &Progress) -> Result<Report> {
    progress.step("Waiting for quiet", until_quiet()).await?;
    let mut processes = Vec::new();
    for component in COMPONENTS {
        let process = stage.process(component).await?;
        processes.push((component, process, process.cpu()?.total()));
    }
    let mark = AuditMark::now()?;
    let what = format!("Doing nothing for {} s", IDLE.as_secs());
    progress
        .step(&what, async {
            tokio::time::sleep(IDLE).await;
            Ok(())
        })
        .await?;
    let mut report = Report::new(format!("{} s in which nothing happens", IDLE.as_secs()));
    for (component, process, before) in processes {
        let used = process.cpu()?.total() - before;
        let requests = mark.requests_of(component)?;
        let name = component.name();
        report = report
            .with(
                Figure::new(
                    format!("requests but watches, {name}"),
                    requests.len() as f64,
                    "",
                )
                .at_most(0.0)
                .note(Request::summary(&requests)),
            )
            .with(Figure::new(format!("CPU, {name}"), used, "s").at_most(CPU))
            .with(Figure::new(
                format!("memory, {name}"),
                process.memory()?,
                "MiB",
            ));
    }
    Ok(report)
}

async fn until_quiet() -> Result<()> {
    let started = Instant::now();
    loop {
        let mark = AuditMark::now()?;
        tokio::time::sleep(QUIET).await;
        let mut requests = 0;
        for component in COMPONENTS {
            requests += mark.requests_of(component)?.len();
        }
        if requests == 0 || started.elapsed() > PATIENCE {
            return Ok(());
        }
    }
}
