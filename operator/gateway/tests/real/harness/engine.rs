//! ClickHouse in a process of its own, which is this test binary once more: it
//! can be killed, and its threads do not outlive the tests.

use aviary_engine::{Engine, EngineConfig};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The password of ClickHouse's administrator.
pub(crate) const PASSWORD: &str = "of the administrator";
/// Tells the process that it is the engine.
const DATA: &str = "AVIARY_TEST_ENGINE_DATA";
const PORT: &str = "AVIARY_TEST_ENGINE_PORT";
const READY: &str = "engine at ";

/// A running engine. It ends when this process does.
pub(crate) struct EngineProcess {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
}

impl EngineProcess {
    /// Starts one on what is in `data`; port 0 takes a free one.
    pub(crate) fn start(data: &Path, port: u16) -> Self {
        let test = module_path!().split_once("::").unwrap().1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("{test}::engine_of_the_other_tests"),
                "--nocapture",
            ])
            .env(DATA, data)
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let ready = lines.find_map(|line| Some(line.split_once(READY)?.1.to_owned()));
        let address = ready.expect("the engine does not start").parse().unwrap();
        // What else it prints must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child: Some(child),
            address,
        }
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Freezes it: its sockets stay open and its machine takes what is sent, and it does nothing.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
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
    println!("{READY}{}", engine.address());
    // Ends with the process that reads what is printed here.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    runtime.block_on(engine.shutdown());
    // Nobody reads the outcome of this test.
    std::process::exit(0);
}
