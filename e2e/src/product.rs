//! Aviary in a cluster, from this checkout: binary, images, chart, and the
//! sample engine. Used by the demo, the tests and the benchmarks alike.

use crate::checkout::repository;
use crate::cluster::image::{ImageSpec, Layer};
use crate::cluster::{Progress, Target, shell};
use crate::program::{self, Build};
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::runtime::wait::await_condition;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// Where the chart is installed.
pub const NAMESPACE: &str = "aviary-system";
/// The Helm release.
pub const RELEASE: &str = "aviary";
/// Where the sample engine runs.
pub const ENGINE_NAMESPACE: &str = "clickhouse";
/// The Secret of its administrator.
pub const ENGINE_ADMIN: &str = "engine-admin";

const IMAGE: &str = "aviary.dev/aviary";
const ENGINE_IMAGE: &str = "aviary.dev/aviary-engine";
/// How long pods may take to become ready; the first start of the engine reads 570 MB from disk.
const ROLLOUT: Duration = Duration::from_secs(240);

/// Builds Aviary, in this way if nobody chooses another, loads its images, installs the chart and starts the sample engine. Does again only what changed.
pub async fn install(target: &Target, usual: Build, progress: &Progress) -> Result<()> {
    // They say by themselves what is built and for how long, so not within another step.
    for tool in ["kubectl", "helm"] {
        target.tool(tool, progress).await?;
    }
    let binary = program::build(usual, progress).await?;
    let library = progress
        .step(
            "Fetching libchdb (a download the first time)",
            libchdb(&binary),
        )
        .await?;
    let tag = progress
        .step("Loading the images", load_images(target, &binary, &library))
        .await?;
    progress
        .step("Installing the chart", install_chart(target, &tag))
        .await?;
    progress
        .step("Starting the sample engine", start_engine(target, &tag))
        .await
}

/// The library, fetched by the binary itself when the cache lacks it.
async fn libchdb(binary: &Path) -> Result<PathBuf> {
    let mut command = Command::new(binary);
    command.args(["dev", "install-libchdb"]);
    Ok(PathBuf::from(shell::output(command).await?.trim()))
}

/// Gives the tag, which changes with the content, so that pods restart exactly when their image changed.
async fn load_images(target: &Target, binary: &Path, library: &Path) -> Result<String> {
    let libraries = Layer::base().libraries_of(binary)?;
    let program = Layer::new().file("usr/bin/aviary", 0o755, binary);
    let tag = format!("dev-{}", program::digest(binary)?);
    let plain = ImageSpec::new(&format!("{IMAGE}:{tag}"))
        .layer(libraries.clone())
        .layer(program.clone())
        .entrypoint(["/usr/bin/aviary"]);
    target.load_image(plain).await?;
    let mut engine = ImageSpec::new(&format!("{ENGINE_IMAGE}:{tag}"))
        .layer(libraries.libraries_of(library)?)
        .layer(Layer::new().file("usr/lib/libchdb.so", 0o755, library))
        .layer(program)
        .entrypoint(["/usr/bin/aviary"]);
    engine.env.push((
        "AVIARY_LIBCHDB".to_owned(),
        "/usr/lib/libchdb.so".to_owned(),
    ));
    target.load_image(engine).await?;
    Ok(tag)
}

async fn install_chart(target: &Target, tag: &str) -> Result<()> {
    let image = format!("image.tag={tag}");
    let arguments = ["--install", "--create-namespace", "--set", &image];
    upgrade(target, &arguments).await
}

/// Changes values of the chart as it is installed, and waits until everything runs with them.
pub async fn set_values(target: &Target, values: &str) -> Result<()> {
    upgrade(target, &["--reuse-values", "--set", values]).await
}

/// Takes the last [`set_values`] back.
pub async fn restore_values(target: &Target) -> Result<()> {
    helm(target, &["rollback", RELEASE]).await
}

async fn upgrade(target: &Target, arguments: &[&str]) -> Result<()> {
    let chart = repository().join("charts/aviary");
    let upgrade = ["upgrade", RELEASE, &chart.to_string_lossy()];
    helm(target, &[&upgrade, arguments].concat()).await
}

async fn helm(target: &Target, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(target.tool("helm", &Progress::stderr()).await?);
    command
        .args(arguments)
        .args(["--namespace", NAMESPACE, "--wait", "--timeout", "4m"])
        .env("KUBECONFIG", target.kubeconfig());
    shell::output(command).await.map(drop)
}

async fn start_engine(target: &Target, tag: &str) -> Result<()> {
    let samples = repository().join("config/samples/engine");
    // The samples name a released image; this overlay puts the built one in its place.
    let overlay = tempfile::tempdir().context("make a folder for the overlay")?;
    copy_folder(&samples, &overlay.path().join("base"))?;
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [base]\nimages: [{{name: {ENGINE_IMAGE}, newTag: {tag}}}]\n"
    );
    std::fs::write(overlay.path().join("kustomization.yaml"), kustomization)
        .context("write the overlay")?;
    kubectl(
        target,
        &[
            "apply",
            "-f",
            &samples.join("namespace.yaml").to_string_lossy(),
        ],
    )
    .await?;
    make_engine_secret(target).await?;
    kubectl(target, &["apply", "-k", &overlay.path().to_string_lossy()]).await?;
    let timeout = format!("--timeout={}s", ROLLOUT.as_secs());
    kubectl(
        target,
        &[
            "-n",
            ENGINE_NAMESPACE,
            "rollout",
            "status",
            "statefulset/engine",
            &timeout,
        ],
    )
    .await?;
    kubectl(
        target,
        &[
            "-n",
            ENGINE_NAMESPACE,
            "wait",
            "chc/shared",
            "--for=condition=Ready",
            &timeout,
        ],
    )
    .await?;
    Ok(())
}

/// A password of this cluster's own; kept when it is there already.
async fn make_engine_secret(target: &Target) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(target.client().await?, ENGINE_NAMESPACE);
    if secrets
        .get_opt(ENGINE_ADMIN)
        .await
        .context("look for the engine's Secret")?
        .is_some()
    {
        return Ok(());
    }
    let mut secret = Secret::default();
    secret.metadata.name = Some(ENGINE_ADMIN.to_owned());
    let password = hex::encode(rand::random::<[u8; 24]>());
    secret.string_data = Some(
        [
            ("username".to_owned(), "default".to_owned()),
            ("password".to_owned(), password),
        ]
        .into(),
    );
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .context("make the engine's Secret")?;
    let there = await_condition(secrets, ENGINE_ADMIN, |found: Option<&Secret>| {
        found.is_some()
    });
    tokio::time::timeout(Duration::from_secs(10), there)
        .await
        .context("the engine's Secret does not appear")??;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry.with_context(|| format!("read {}", from.display()))?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))
            .with_context(|| format!("copy {}", entry.path().display()))?;
    }
    Ok(())
}

/// Runs kubectl against the cluster; gives what it printed.
pub async fn kubectl(target: &Target, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(target.tool("kubectl", &Progress::stderr()).await?);
    command
        .args(arguments)
        .env("KUBECONFIG", target.kubeconfig());
    shell::output(command).await
}
