//! An engine in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use aviary_engine::EngineArgs;

use super::harness::{Caller, PATIENCE};

const DATA: &str = "ENGINE_PROCESS_DATA";
pub(crate) const EXITING: &str = "ENGINE_PROCESS_EXITING";
const LISTEN: &str = "ENGINE_PROCESS_LISTEN";
const QUERIES: &str = "ENGINE_PROCESS_QUERIES";

/// Not a test of its own: what a child process runs.
#[test]
fn engine_process() {
    let Some(data_path) = std::env::var_os(DATA) else {
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap();
    let args = EngineArgs {
        data_path: data_path.into(),
        listen: vec![variable(LISTEN).parse().unwrap()],
        library: None,
        password_file: None,
        max_concurrent_queries: variable(QUERIES).parse().unwrap(),
        drain_seconds: 1,
        macros: vec!["shard=01".parse().unwrap(), "replica=a&b".parse().unwrap()],
        // Nobody is there, which matters to replicated tables only.
        zookeeper: vec!["127.0.0.1:1".parse().unwrap()],
        time_in_process: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Err(error) = runtime.block_on(aviary_engine::run(args)) {
        eprintln!("{error}");
        std::process::exit(3);
    }
}

/// Not a test of its own either: a process that exits while its engine works.
#[test]
fn exiting_process() {
    let Some(data_path) = std::env::var_os(EXITING) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut config = aviary_engine::EngineConfig::new(data_path);
        config.listen = vec![([127, 0, 0, 1], 0).into()];
        let engine = aviary_engine::Engine::start(config).await.unwrap();
        let admin = Caller::new(engine.address(), "default", "");
        for query in [
            "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
            "SELECT number FROM numbers(1000000000000)",
        ] {
            let admin = admin.clone();
            tokio::spawn(async move { admin.post(query).await });
        }
        admin
            .eventually("SELECT count() >= 2 FROM system.processes", "1\n")
            .await;
        std::process::exit(7);
    });
}

/// A running child. Dropped, it is killed.
pub(crate) struct EngineProcess {
    child: Child,
    address: SocketAddr,
    data_path: PathBuf,
    queries: usize,
}

impl EngineProcess {
    /// Starts an engine and waits until it answers.
    pub(crate) async fn start(data_path: &Path) -> Self {
        Self::start_with(data_path, 100).await
    }

    pub(crate) async fn start_with(data_path: &Path, queries: usize) -> Self {
        aviary_engine::library::install().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut process = Self {
            child: command(data_path, address, queries).spawn().unwrap(),
            address,
            data_path: data_path.to_owned(),
            queries,
        };
        process.wait_until_ready().await;
        process
    }

    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://{}/ping", self.address);
        while reqwest::get(&url).await.is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the engine ended with {status}");
            }
            assert!(Instant::now() < deadline, "the engine does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn admin(&self) -> Caller {
        self.caller("default", "")
    }

    pub(crate) fn caller(&self, user: &str, password: &str) -> Caller {
        Caller::new(self.address, user, password)
    }

    /// Asks the engine to stop and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.exited().await
    }

    pub(crate) fn ask_to_stop(&self) {
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the engine does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the engine as a power cut would end its process.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub(crate) async fn restart(&mut self) {
        self.child = command(&self.data_path, self.address, self.queries)
            .spawn()
            .unwrap();
        self.wait_until_ready().await;
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that runs an engine.
pub(crate) fn command(data_path: &Path, address: SocketAddr, queries: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["process::engine_process", "--exact", "--nocapture"])
        .env(DATA, data_path)
        .env(LISTEN, address.to_string())
        .env(QUERIES, queries.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}
