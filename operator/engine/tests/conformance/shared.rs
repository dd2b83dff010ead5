//! The engine of this test process.

use std::net::SocketAddr;
use std::sync::LazyLock;

use aviary_engine::{Engine, EngineConfig, RunningEngine};
use tokio::runtime::Runtime;

use super::harness::{Caller, scratch, unique};

/// The administrator's password.
pub(crate) const PASSWORD: &str = "of the default user";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

static ENGINE: LazyLock<RunningEngine> = LazyLock::new(|| {
    aviary_engine::library::install().unwrap();
    let mut config = EngineConfig::new(scratch("shared"));
    config.listen = vec![([127, 0, 0, 1], 0).into()];
    config.default_password = Some(PASSWORD.into());
    std::thread::spawn(|| RUNTIME.block_on(Engine::start(config)))
        .join()
        .unwrap()
        .unwrap()
});

/// Where the shared engine listens.
pub(crate) fn address() -> SocketAddr {
    ENGINE.address()
}

/// A fresh database.
pub(crate) async fn database() -> String {
    let name = unique("test");
    admin().ok(&format!("CREATE DATABASE {name}")).await;
    name
}

/// The user `default` of the shared engine.
pub(crate) fn admin() -> Caller {
    caller("default", PASSWORD)
}

/// A user of the shared engine.
pub(crate) fn caller(user: &str, password: &str) -> Caller {
    Caller::new(address(), user, password)
}
