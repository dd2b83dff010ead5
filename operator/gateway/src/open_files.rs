//! How many files the process may open: each connection is one, and what cannot be opened is no cap.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the process may, and says what it is then.
pub(crate) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        Err(error) => {
            tracing::warn!(%error, "raise the limit of open files");
            limit
        }
    };
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const LIMITED: &str = "AVIARY_TEST_OPEN_FILES";

    /// In the process that has the limit; in any other, that it is none.
    #[test]
    fn limited_process() {
        let Ok(most) = std::env::var(LIMITED) else {
            return;
        };
        let most: u64 = most.parse().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(100));
        assert_eq!(raise(), most);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        // The shell has its limits to itself.
        let script = "ulimit -Sn 100 && ulimit -Hn 600 && exec \"$0\" \"$@\"";
        let test = std::thread::current().name().unwrap_or_default().replace(
            "the_soft_limit_is_raised_to_the_hard_one",
            "limited_process",
        );
        let status = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &test])
            .env(LIMITED, "600")
            .status()
            .unwrap();
        assert!(status.success());
    }
}
