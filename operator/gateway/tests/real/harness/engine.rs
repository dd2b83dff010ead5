//! ClickHouse in a process of its own.

use super::process::{Process, serve_at};
use aviary_engine::{Engine, EngineConfig};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The password of ClickHouse's administrator.
pub(crate) const PASSWORD: &str = "of the administrator";
/// Tells the process that it is the engine.
const DATA: &str = "AVIARY_TEST_ENGINE_DATA";
const PORT: &str = "AVIARY_TEST_ENGINE_PORT";

/// Starts an engine on what is in `data`; port 0 takes a free one.
pub(crate) fn start_engine(data: &Path, port: u16) -> Process {
    let data = data.to_str().unwrap().to_owned();
    let variables = [(DATA, data), (PORT, port.to_string())];
    Process::start("engine::engine_of_the_other_tests", &variables)
}

/// The engine, in the process that is one; in every other, that the harness is not one.
#[test]
fn engine_of_the_other_tests() {
    let Some(data) = std::env::var_os(DATA) else {
        assert!(std::env::var_os(PORT).is_none());
        return;
    };
    aviary_engine::library::install().unwrap();
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let mut config = EngineConfig::new(PathBuf::from(data));
    config.listen = vec![([127, 0, 0, 1], port).into()];
    config.default_password = Some(PASSWORD.into());
    config.drain_deadline = Duration::from_secs(2);
    config.shutdown_deadline = Duration::from_secs(2);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = runtime.block_on(Engine::start(config)).unwrap();
    serve_at(engine.address());
    runtime.block_on(engine.shutdown());
    // Nobody reads the outcome of this test.
    std::process::exit(0);
}
