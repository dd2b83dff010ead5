//! What a query costs without HTTP: the floor under the engine's own time, for benchmarks.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::access::model::DEFAULT_USER;
use crate::config::EngineConfig;
use crate::connections::ConnectionKey;
use crate::core::Core;
use crate::error::EngineError;
use crate::exception::Exception;

const QUERY: &[u8] = b"SELECT 1";

/// Runs a query over and over on a connection like those of requests; the median of its times.
pub(crate) async fn median(config: EngineConfig, time: Duration) -> Result<Duration, EngineError> {
    let runtime = Handle::current();
    let broken = |reason: String| EngineError::Broken { reason };
    tokio::task::spawn_blocking(move || {
        let core = Core::open(config, runtime)?;
        run_for(&core, time).map_err(|exception| broken(exception.to_string()))
    })
    .await
    .map_err(|error| broken(error.to_string()))?
}

fn run_for(core: &Core, time: Duration) -> Result<Duration, Exception> {
    let engine = core.enter()?;
    let password = core.config.default_password.clone().unwrap_or_default();
    let key = ConnectionKey {
        session: core.access.authenticate(DEFAULT_USER, Some(&password))?,
        database: "default".to_owned(),
        read_only: false,
        settings: Vec::new(),
    };
    let mut marked = engine.checkout(&key)?;
    let mut times = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let started = Instant::now();
        let output = marked.connection.query(QUERY, "TabSeparated", &[]);
        drop(output.map_err(|text| Exception::parse(&text))?);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}
