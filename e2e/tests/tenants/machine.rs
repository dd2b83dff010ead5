//! The box does what a cluster does: volumes that grow, names, services, logs.
//!
//! With `KUBECONFIG` set these ask the same of that cluster, which needs the
//! image `aviary.dev/box/busybox:1` and a default StorageClass that can grow volumes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aviary_e2e::cluster::system_images::{BUSYBOX_IMAGE, busybox};
use aviary_e2e::cluster::{Progress, Target, shell};
use serde_json::{Value, json};
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_mins(1);
const WAIT: &str = "--timeout=60s";

#[tokio::test]
async fn a_volume_grows_while_in_use_and_goes_with_its_claim() -> Result<()> {
    let place = Place::new("volume").await?;
    place.apply(&stateful_set()).await?;
    place
        .kubectl(&["rollout", "status", "statefulset/disk", WAIT])
        .await?;
    let write = "dd if=/dev/urandom of=/data/kept bs=1M count=8 && sync";
    place.shell("disk-0", write).await?;
    let before = place.shell("disk-0", "md5sum /data/kept").await?;
    let small = place.kilobytes("disk-0", "/data").await?;
    ensure!((48_000..=65_536).contains(&small), "64Mi gave {small} kB");

    let bigger = json!({"spec": {"resources": {"requests": {"storage": "192Mi"}}}}).to_string();
    place
        .kubectl(&["patch", "pvc", "data-disk-0", "-p", &bigger])
        .await?;
    let grown = "--for=jsonpath={.status.capacity.storage}=192Mi";
    place
        .kubectl(&["wait", "pvc/data-disk-0", grown, WAIT])
        .await?;
    let big = place.kilobytes("disk-0", "/data").await?;
    ensure!((160_000..=196_608).contains(&big), "192Mi gave {big} kB");
    let after = place.shell("disk-0", "md5sum /data/kept").await?;
    ensure!(before == after, "the file changed: {before} {after}");

    let name = "jsonpath={.spec.volumeName}";
    let volume = place
        .kubectl(&["get", "pvc", "data-disk-0", "-o", name])
        .await?;
    place
        .kubectl(&["delete", "statefulset/disk", "pvc/data-disk-0", WAIT])
        .await?;
    place
        .kubectl(&["wait", &format!("pv/{volume}"), "--for=delete", WAIT])
        .await?;
    if let Target::Box(_) = place.target {
        let listed = Command::new("losetup")
            .args(["-l", "-O", "BACK-FILE"])
            .output()
            .await?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        ensure!(!listed.contains(&volume), "still a loop device:\n{listed}");
    }
    place.remove().await
}

#[tokio::test]
async fn services_answer_by_name_in_pods_and_by_address_on_the_machine() -> Result<()> {
    let place = Place::new("service").await?;
    place
        .apply(&pod(
            "web",
            "echo -n hello from web > /www/index.html; echo serving; httpd -f -h /www",
        ))
        .await?;
    place.apply(&pod("visitor", "sleep 3600")).await?;
    place.apply(&service("web")).await?;
    let ready = "--for=condition=Ready";
    place
        .kubectl(&["wait", "pod/web", "pod/visitor", ready, WAIT])
        .await?;
    let logs = place.kubectl(&["logs", "web"]).await?;
    ensure!(logs.trim() == "serving", "logs: {logs:?}");

    let url = format!("http://web.{}.svc.cluster.local/", place.namespace);
    let answer = place
        .once_there("visitor", &format!("wget -qO- {url}"))
        .await?;
    ensure!(answer == "hello from web", "a pod got {answer:?}");
    let lookup = place
        .shell("visitor", "nslookup no-such-name.example")
        .await;
    ensure!(lookup.is_err(), "a name outside the cluster was resolved");

    if let Target::Box(_) = place.target {
        let address = "jsonpath={.spec.clusterIP}";
        let address = place
            .kubectl(&["get", "service", "web", "-o", address])
            .await?;
        let answer = reqwest::get(format!("http://{address}/"))
            .await?
            .text()
            .await?;
        ensure!(answer == "hello from web", "the machine got {answer:?}");
    }
    place.remove().await
}

/// A namespace of the cluster under test.
struct Place {
    target: Target,
    kubectl: PathBuf,
    namespace: String,
}

impl Place {
    async fn new(what: &str) -> Result<Self> {
        let progress = Progress::stderr();
        let target = Target::from_environment();
        target.ensure_up(&progress).await?;
        target.load_image(busybox()?).await?;
        let kubectl = target.tool("kubectl", &progress).await?;
        let namespace = format!("box-{what}-{:08x}", rand::random::<u32>());
        let place = Self {
            target,
            kubectl,
            namespace,
        };
        place
            .kubectl(&["create", "namespace", &place.namespace])
            .await?;
        Ok(place)
    }

    async fn apply(&self, manifest: &Value) -> Result<()> {
        self.run(&["apply", "-f", "-"], &manifest.to_string())
            .await?;
        Ok(())
    }

    async fn shell(&self, pod: &str, script: &str) -> Result<String> {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script]).await
    }

    /// A Service reaches the node's rules a moment after its pod is Ready.
    async fn once_there(&self, pod: &str, script: &str) -> Result<String> {
        let started = Instant::now();
        loop {
            match self.shell(pod, script).await {
                Err(_) if started.elapsed() < DEADLINE => {}
                outcome => return outcome,
            }
        }
    }

    async fn kilobytes(&self, pod: &str, path: &str) -> Result<u64> {
        let table = self.shell(pod, &format!("df -k {path}")).await?;
        let size = table
            .lines()
            .last()
            .and_then(|line| line.split_whitespace().nth(1));
        let size = size.with_context(|| format!("no size in {table}"))?;
        Ok(size.parse()?)
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments, "").await
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(&self.kubectl);
        command
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .env("KUBECONFIG", self.target.kubeconfig());
        shell::fed(command, input).await
    }

    /// A test that fails leaves its namespace for a look at it.
    async fn remove(self) -> Result<()> {
        self.kubectl(&["delete", "namespace", &self.namespace, WAIT])
            .await?;
        Ok(())
    }
}

fn stateful_set() -> Value {
    let mut template = pod_template("disk", "sleep 3600");
    template["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "disk"},
        "spec": {
            "serviceName": "disk",
            "selector": {"matchLabels": {"app": "disk"}},
            "template": template,
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "64Mi"}},
                },
            }],
        },
    })
}

fn pod(name: &str, script: &str) -> Value {
    let mut pod = pod_template(name, script);
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(name);
    pod
}

fn pod_template(name: &str, script: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": BUSYBOX_IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", format!("mkdir -p /www; {script}")],
            }],
        },
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}
