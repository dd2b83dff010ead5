//! The options of `aviary operator`.

use aviary_crds::Duration;
use aviary_runtime::lease::Terms;
use std::net::SocketAddr;

/// Options of the operator. In a Pod the defaults are right.
#[derive(clap::Args, Clone, Debug)]
pub struct OperatorArgs {
    /// Namespace of the operator itself: its lease and the Secrets that gateways read are here.
    #[arg(long, env = "POD_NAMESPACE", default_value = "aviary-system")]
    pub namespace: String,

    /// Name under which this replica holds the lease; the host's name by default.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,

    /// Looks after this namespace only, rather than after all.
    #[arg(long, env = "WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,

    /// Where `/healthz`, `/readyz` and `/metrics` answer.
    #[arg(long, default_value = "0.0.0.0:8081")]
    pub listen: SocketAddr,

    /// How often a workspace is compared with ClickHouse although nothing changed, within 20 %.
    #[arg(long, default_value = "5m", value_parser = positive)]
    pub resync_interval: Duration,

    /// How long changes are gathered before a workspace is worked on.
    #[arg(long, default_value = "100ms")]
    pub debounce: Duration,

    /// How many workspaces of one cluster are worked on at once; of those that take longer than two
    /// seconds, twice as many beside them.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// How long a connection to ClickHouse may take to be made.
    #[arg(long, default_value = "3s", value_parser = positive)]
    pub connect_deadline: Duration,

    /// How long one statement may run on ClickHouse.
    #[arg(long, default_value = "30s", value_parser = positive)]
    pub statement_deadline: Duration,

    /// Whether replicas of the operator elect a leader. A lone replica needs none.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,

    /// Name of the lease.
    #[arg(long, default_value = "aviary-operator")]
    pub lease_name: String,

    /// How long the lease of a leader that vanished lasts, in whole seconds. It is renewed every
    /// third of that, and a leader that cannot renew it stops a tenth before its end.
    #[arg(long, default_value = "60s", value_parser = lease_duration)]
    pub lease_duration: Duration,
}

fn positive(text: &str) -> Result<Duration, String> {
    let duration: Duration = text
        .parse()
        .map_err(|error: aviary_crds::quantity::QuantityError| error.to_string())?;
    if duration.get().is_zero() {
        return Err("must be above zero".to_owned());
    }
    Ok(duration)
}

/// A lease counts in whole seconds, and several attempts to renew it must fit into it.
fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = positive(text)?;
    if duration.get() < Terms::SHORTEST {
        return Err(format!("must be at least {} s", Terms::SHORTEST.as_secs()));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: OperatorArgs,
    }

    #[test]
    fn defaults_parse() {
        let args = Command::try_parse_from(["operator"]).unwrap().args;
        assert!(args.leader_elect);
        assert_eq!(args.resync_interval.get().as_secs(), 300);
        assert_eq!(args.debounce.get().as_millis(), 100);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "--resync-interval=0s",
            "--lease-duration=1s",
            "--concurrency=0",
            "--statement-deadline=soon",
        ] {
            assert!(Command::try_parse_from(["operator", bad]).is_err(), "{bad}");
        }
        let args = Command::try_parse_from(["operator", "--leader-elect=false"]).unwrap();
        assert!(!args.args.leader_elect);
    }
}
