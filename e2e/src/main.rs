//! `aviary-e2e`: a real Kubernetes on this machine, from one command.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use aviary_e2e::cluster::{Cluster, Data, Layout, Progress, Target, provisioner};
use aviary_e2e::program::{self, Build};
use aviary_e2e::{bench, demo, product};
use clap::{Parser, Subcommand};

mod build_image;

/// A real single-node Kubernetes on this machine, for tests and the demo.
///
/// Needs Debian 12, root, and Go to build Kubernetes the first time. Data is in
/// /var/lib/aviary-box (AVIARY_BOX_DIR), sockets in /run/aviary-box
/// (AVIARY_BOX_RUN_DIR), built tools in ~/.cache/aviary (AVIARY_CACHE).
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Bring the cluster up; what runs already is left alone
    Up,
    /// Take the cluster down and check that nothing of it is left
    Down {
        /// Keep etcd, volumes, images and logs for the next `up`
        #[arg(long)]
        keep_data: bool,
    },
    /// Say how the cluster is; fails unless it is up
    Status,
    /// List what `down` should have removed; fails if there is anything
    VerifyDown,
    /// Run kubectl on the cluster
    Kubectl {
        /// kubectl's arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the path of kubectl, helm, ... built when missing
    Tool {
        /// The program's name
        name: String,
    },
    /// Load an image archive (OCI, or from `docker save`) into the cluster
    LoadImage {
        /// The archive
        archive: PathBuf,
    },
    /// Build `aviary` as users get it, and print its path
    Program,
    /// Build an image from programs of this machine, without Docker, and load it
    BuildImage(build_image::Arguments),
    /// Bring the cluster up, and install Aviary from this checkout with the sample engine
    Prepare,
    /// Everything from `kubectl apply` to `curl`: prepare, load the flights of 2013, ask three endpoints
    Demo,
    /// Measure, and print each figure as a ratio beside the figure to reach
    Bench(bench::Options),
    /// Attack a gateway; `bench` runs this
    #[command(hide = true)]
    Attack(bench::Attack),
    /// Print the path of the kubeconfig in use
    Kubeconfig,
    /// Print what a shell needs: eval "$(aviary-e2e env)" puts kubectl and helm on PATH and sets KUBECONFIG
    Env,
    /// Provide volumes for claims; `up` runs this
    #[command(hide = true)]
    Provisioner {
        #[arg(long)]
        kubeconfig: PathBuf,
        #[arg(long)]
        volumes: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Subcommands) -> Result<ExitCode> {
    let cluster = Cluster::from_environment();
    let progress = Progress::stderr();
    match command {
        Subcommands::Up => {
            cluster.up(&progress).await?;
            println!("export KUBECONFIG={}", cluster.kubeconfig_path().display());
        }
        Subcommands::Down { keep_data } => {
            let data = if keep_data { Data::Keep } else { Data::Remove };
            cluster.down(data, &progress).await?;
        }
        Subcommands::Status => {
            let status = cluster.status().await?;
            print!("{status}");
            return Ok(exit_code(status.is_up()));
        }
        Subcommands::VerifyDown => {
            let left = cluster.leftovers().await?;
            for item in &left {
                println!("{item}");
            }
            return Ok(exit_code(left.is_empty()));
        }
        Subcommands::Kubectl { arguments } => {
            let kubectl = cluster.tool("kubectl", &progress).await?;
            let error = Command::new(kubectl)
                .args(arguments)
                .env("KUBECONFIG", cluster.kubeconfig_path())
                .exec();
            return Err(error).context("start kubectl");
        }
        Subcommands::Tool { name } => {
            println!("{}", cluster.tool(&name, &progress).await?.display());
        }
        Subcommands::LoadImage { archive } => {
            print!("{}", cluster.load_archive(&archive).await?);
        }
        Subcommands::Prepare => {
            let target = Target::from_environment();
            target.ensure_up(&progress).await?;
            product::install(&target, Build::Dev, &progress).await?;
        }
        Subcommands::Program => println!(
            "{}",
            program::build(Build::Release, &progress).await?.display()
        ),
        Subcommands::Demo => demo::run(&progress).await?,
        Subcommands::Bench(options) => Box::pin(bench::run(&progress, options)).await?,
        Subcommands::Attack(attack) => bench::attack(attack).await?,
        Subcommands::Kubeconfig => {
            println!("{}", Target::from_environment().kubeconfig().display());
        }
        Subcommands::Env => print!("{}", environment(&progress).await?),
        Subcommands::BuildImage(arguments) => build_image::run(&cluster, arguments).await?,
        Subcommands::Provisioner {
            kubeconfig,
            volumes,
        } => {
            tracing_subscriber::fmt().with_ansi(false).init();
            provisioner::run(&kubeconfig, volumes).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Exports for a shell: the cluster in use, the tools for it, and where the demo puts its CSV files.
async fn environment(progress: &Progress) -> Result<String> {
    let target = Target::from_environment();
    let mut folders = Vec::new();
    for name in ["kubectl", "helm"] {
        let tool = target.tool(name, progress).await?;
        folders.extend(tool.parent().map(Path::to_owned));
    }
    // One that is there already, from an earlier `eval`, is not put there again.
    let present: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    folders.retain(|folder| !present.contains(folder));
    folders.extend(present);
    let path = std::env::join_paths(folders).context("a folder of PATH has a colon in its name")?;
    let flights = demo::dataset::place(Layout::from_environment().cache());
    let variables = [
        ("KUBECONFIG", target.kubeconfig().into_os_string()),
        ("PATH", path),
        ("FLIGHTS", flights.into_os_string()),
    ];
    let exports = variables.map(|(name, value)| {
        let value = value.to_string_lossy().replace('\'', r"'\''");
        format!("export {name}='{value}'\n")
    });
    Ok(exports.concat())
}

fn exit_code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
