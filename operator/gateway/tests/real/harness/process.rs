//! This test binary once more, in the part of another program: it can be killed and frozen, and its
//! threads do not outlive the tests.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

const READY: &str = "serving at ";

/// A process that plays a part. It ends when this one does.
pub(crate) struct Process {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts the test of this name, which plays its part when it finds these variables, and waits
    /// until it serves.
    pub(super) fn start(test: &str, variables: &[(&str, String)]) -> Self {
        let module = module_path!().split_once("::").unwrap().1;
        let harness = module.rsplit_once("::").unwrap().0;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{harness}::{test}"), "--nocapture"])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let ready = lines.find_map(|line| Some(line.split_once(READY)?.1.to_owned()));
        let address = ready.expect("the process does not serve").parse().unwrap();
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

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// Says, in such a process, that it serves, and waits until the process that reads this ends.
pub(super) fn serve_at(address: SocketAddr) {
    println!("{READY}{address}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
