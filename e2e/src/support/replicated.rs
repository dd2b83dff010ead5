//! What really replicates: Debian's ClickHouse 18.16 and ZooKeeper 3.8, as pods of
//! a test's namespace.
//!
//! That ClickHouse is too old for workspaces, but its `ReplicatedMergeTree` is real: rows
//! travel, queues fill, replicas fall behind and lose their ZooKeeper. The embedded engine
//! takes workspaces, and its replicated tables are real as well, except that they never get
//! beyond read-only: it has no port for other replicas.

use super::{ClickHouse, Scene, eventually, reach};
use crate::cluster::image::{ImageSpec, Layer};
use crate::cluster::{Cluster, Progress, Target, packages};
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

/// Where a test's ZooKeeper answers, within its namespace.
pub const ZOOKEEPER: &str = "zookeeper";
/// The StatefulSet of a test's two ClickHouse servers, and the Secret of their administrator.
pub const SERVER: &str = "server";

const SERVER_IMAGE: &str = "aviary.dev/e2e/clickhouse:18.16";
const ZOOKEEPER_IMAGE: &str = "aviary.dev/e2e/zookeeper:3.8";

const PROGRAM: &str = "/usr/sbin/clickhouse-server";
const JAVA: &str = "/usr/lib/jvm/java-17-openjdk-amd64";
const TIME_ZONE: &str = "/usr/share/zoneinfo/UTC";
const JARS: &str = "/usr/share/java";

/// Each package and a file that shows it is there. Only the tests that use them install them.
const PACKAGES: &[(&str, &str)] = &[
    ("clickhouse-server", PROGRAM),
    ("tzdata", TIME_ZONE),
    ("libzookeeper-java", "/usr/share/java/zookeeper.jar"),
    (
        "openjdk-17-jre-headless",
        "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
    ),
];
/// All that a single ZooKeeper without its web interface uses of what Debian puts there.
const NEEDED_JARS: [&str; 6] = [
    "zookeeper.jar",
    "zookeeper-jute.jar",
    "slf4j-api.jar",
    "slf4j-simple.jar",
    "metrics-core.jar",
    "snappy-java.jar",
];

/// Sessions last between 2 and 20 ticks: long enough for a busy machine, and short
/// enough that a replica which ended without a word is not waited for.
const ZOOKEEPER_CONFIG: &str = "\
tickTime=500
dataDir=/data
clientPort=2181
admin.enableServer=false
";

const SERVER_CONFIG: &str = r#"
<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <http_port>8123</http_port>
  <tcp_port>9000</tcp_port>
  <interserver_http_port>9009</interserver_http_port>
  <interserver_http_host from_env="POD_IP"/>
  <listen_host>0.0.0.0</listen_host>
  <path>/data/</path>
  <tmp_path>/data/tmp/</tmp_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size>
  <zookeeper>
    <node><host>zookeeper</host><port>2181</port></node>
    <session_timeout_ms>5000</session_timeout_ms>
  </zookeeper>
  <merge_tree>
    <zookeeper_session_expiration_check_period>1</zookeeper_session_expiration_check_period>
  </merge_tree>
</yandex>
"#;

const SERVER_USERS: &str = r#"
<yandex>
  <profiles><default><background_pool_size>4</background_pool_size></default></profiles>
  <users>
    <default>
      <password from_env="PASSWORD"/>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </default>
  </users>
  <quotas><default/></quotas>
</yandex>
"#;

/// How long ZooKeeper may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);

/// Starts a ZooKeeper in the test's namespace.
pub async fn zookeeper(scene: &Scene) -> Result<()> {
    prepare().await?;
    let container = json!({
        "name": "zookeeper",
        "image": ZOOKEEPER_IMAGE,
        "ports": [{"containerPort": 2181}],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    });
    let config = json!({"zoo.cfg": ZOOKEEPER_CONFIG});
    start(scene, ZOOKEEPER, 1, 2181, container, config).await?;
    eventually("ZooKeeper serves", async || {
        let answer = tokio::time::timeout(ANSWER, ask_zookeeper(scene)).await;
        Ok(match answer {
            Ok(Ok(answer)) if answer.contains("Mode: standalone") => Ok(()),
            Ok(Ok(answer)) => Err(answer),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err("no answer".to_owned()),
        })
    })
    .await
}

/// What ZooKeeper says of itself. It listens before it serves, and who asks in
/// between may never get an answer.
async fn ask_zookeeper(scene: &Scene) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let pod = pods.get("zookeeper-0").await.context("find ZooKeeper")?;
    let address = reach::address(&scene.client, &pod, 2181).await?;
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(b"srvr").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Starts two ClickHouse servers beside the test's ZooKeeper, `server-0` and `server-1`.
pub async fn servers(scene: &Scene) -> Result<[ClickHouse; 2]> {
    let password = hex::encode(rand::random::<[u8; 16]>());
    let login = json!({"username": "default", "password": password});
    scene.secret(SERVER, login).await?;
    let container = json!({
        "name": "server",
        "image": SERVER_IMAGE,
        "ports": [{"containerPort": 8123}],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": SERVER, "key": "password"}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/ping", "port": 8123}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    });
    let config = json!({"config.xml": SERVER_CONFIG, "users.xml": SERVER_USERS});
    start(scene, SERVER, 2, 8123, container, config).await?;
    let first = ClickHouse::of(&scene.client, &scene.namespace, "server-0", SERVER).await?;
    let second = ClickHouse::of(&scene.client, &scene.namespace, "server-1", SERVER).await?;
    first.answers().await?;
    second.answers().await?;
    Ok([first, second])
}

/// A StatefulSet with its Service and its configuration in `/config`; what it keeps is in `/data`.
async fn start(
    scene: &Scene,
    name: &str,
    replicas: u32,
    port: u16,
    mut container: Value,
    config: Value,
) -> Result<()> {
    container["imagePullPolicy"] = json!("IfNotPresent");
    container["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    container["volumeMounts"] = json!([
        {"name": "data", "mountPath": "/data"},
        {"name": "config", "mountPath": "/config"},
    ]);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": config,
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": [{"port": port}]},
    });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [{"name": "config", "configMap": {"name": name}}],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
            }],
        },
    });
    for object in [map, service, set] {
        scene.apply(&object.to_string()).await?;
    }
    Ok(())
}

/// Installs the packages and gives the cluster their images, once a run.
async fn prepare() -> Result<()> {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let prepared = PREPARED.get_or_try_init(|| async {
        let progress = Progress::stderr();
        let layout = Cluster::from_environment();
        packages::install_these(layout.layout(), &progress, PACKAGES).await?;
        let target = Target::from_environment();
        let images = async {
            target.load_image(server_image()?).await?;
            target.load_image(zookeeper_image()?).await
        };
        let what = "Loading images of ClickHouse 18.16 and ZooKeeper";
        progress.step(what, images).await
    });
    prepared.await.map(drop)
}

fn server_image() -> Result<ImageSpec> {
    let program = Path::new(PROGRAM);
    let layer = Layer::base()
        .libraries_of(program)?
        .file(program, 0o755, program)
        .file(TIME_ZONE, 0o644, TIME_ZONE);
    let mut image = ImageSpec::new(SERVER_IMAGE)
        .layer(layer)
        .entrypoint([PROGRAM, "--config-file=/config/config.xml"]);
    image.env = vec![("TZ".to_owned(), "UTC".to_owned())];
    Ok(image)
}

fn zookeeper_image() -> Result<ImageSpec> {
    let java = Path::new(JAVA);
    let program = java.join("bin/java");
    let machine = java.join("lib/server/libjvm.so");
    let runtime = Layer::base()
        .libraries_of(&program)?
        .libraries_of(&machine)?
        .file(&program, 0o755, &program)
        .tree(java.join("lib"), &java.join("lib"))?
        .tree(java.join("conf"), &java.join("conf"))
        .context("collect the Java runtime")?;
    let jars = NEEDED_JARS.map(|name| Path::new(JARS).join(name));
    let layer = jars
        .iter()
        .fold(Layer::new(), |layer, jar| layer.file(jar, 0o644, jar));
    let class_path: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
    Ok(ImageSpec::new(ZOOKEEPER_IMAGE)
        .layer(runtime)
        .layer(layer)
        .entrypoint([
            &program.display().to_string(),
            "-Xmx64m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            // Kilobytes that its log grows by; 64 MB unless told otherwise.
            "-Dzookeeper.preAllocSize=64",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            &class_path.join(":"),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            "/config/zoo.cfg",
        ]))
}
