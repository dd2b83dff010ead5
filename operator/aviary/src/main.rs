//! The one binary: `aviary operator`, `aviary gateway`, `aviary engine` and `aviary plan`.
//!
//! Only wiring stands here: arguments, logs and the runtime. What each part
//! does is in its own crate.

use anyhow::Context as _;
use aviary_cli::{Exit, PlanArgs};
use aviary_controller::OperatorArgs;
use aviary_engine::EngineArgs;
use aviary_gateway::GatewayArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::{self, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// ClickHouse as a multi-tenant real-time data platform on Kubernetes.
#[derive(Parser)]
#[command(name = "aviary", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct LogArgs {
    /// Format of the logs, which go to standard error.
    #[arg(long, env = "AVIARY_LOG_FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
    /// What to log: a level, or a filter such as `info,aviary_gateway=debug`.
    #[arg(long, env = "AVIARY_LOG", default_value = "info", global = true)]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, made once")]
enum Command {
    #[command(flatten)]
    Service(Service),
    /// Print what manifests ask of a ClickHouse that has nothing yet; needs no Kubernetes and no ClickHouse.
    Plan(PlanArgs),
}

/// What logs, and runs on the runtime.
#[derive(Subcommand)]
enum Service {
    /// Watch the custom resources and make ClickHouse agree with them.
    Operator(OperatorArgs),
    /// Serve published pipes and take rows in over HTTP.
    Gateway(Box<GatewayArgs>),
    /// Run an embedded ClickHouse behind its own HTTP interface, for development and tests.
    Engine(EngineArgs),
    /// Help with development.
    #[command(subcommand)]
    Dev(DevCommand),
}

#[derive(Subcommand)]
enum DevCommand {
    /// Fetch the library of the embedded ClickHouse into the cache, unless it is there, and print its path.
    InstallLibchdb,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let service = match cli.command {
        Command::Service(service) => service,
        Command::Plan(args) => return plan(&args),
    };
    match run(&cli.log, service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan(args: &PlanArgs) -> ExitCode {
    let (mut stdin, mut stdout, mut stderr) = (io::stdin(), io::stdout(), io::stderr());
    match aviary_cli::plan(args, &mut stdin, &mut stdout, &mut stderr) {
        Ok(exit) => exit.into(),
        // Who reads it has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr, "error: the plan cannot be written: {error}");
            Exit::Unreadable.into()
        }
    }
}

fn run(log: &LogArgs, service: Service) -> anyhow::Result<()> {
    start_logs(log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        match service {
            Service::Operator(args) => aviary_controller::run(args).await.context("operator"),
            Service::Gateway(args) => aviary_gateway::run(*args).await.context("gateway"),
            Service::Engine(args) => aviary_engine::run(args).await.context("engine"),
            Service::Dev(DevCommand::InstallLibchdb) => install_libchdb(),
        }
    })
}

#[expect(clippy::print_stdout, reason = "the path is what was asked for")]
fn install_libchdb() -> anyhow::Result<()> {
    let path = aviary_engine::library::install().context("fetch libchdb")?;
    println!("{}", path.display());
    Ok(())
}

/// The Kubernetes client logs answers of 500 and above as errors, and not to what: a tenant's broken
/// webhook would fill the log. Whoever asked tells of it where it belongs.
const WITHOUT_ANSWERS: &str = "kube_client::client::builder=off";

fn start_logs(args: &LogArgs) -> anyhow::Result<()> {
    let filter: EnvFilter = format!("{WITHOUT_ANSWERS},{}", args.log)
        .parse()
        .with_context(|| format!("log filter `{}`", args.log))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}
