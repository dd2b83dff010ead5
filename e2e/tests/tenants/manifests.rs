//! The two ways to install, Helm and kustomize, make the same objects, and the
//! apiserver takes what the chart makes of the values that people set.

use anyhow::{Context as _, Result, bail, ensure};
use aviary_e2e::checkout::repository;
use aviary_e2e::cluster::{Progress, Target, shell};
use aviary_e2e::product;
use aviary_e2e::support::{eventually, run};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use serde::Deserialize as _;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::process::Command;

/// Values as people set them, each with what it is about; `{namespace}` stands for the test's own.
const VALUES: &[(&str, &str)] = &[
    ("as it comes", ""),
    (
        "several of each, spread and drained one by one",
        "
operator: {replicas: 2}
gateway:
  replicas: 3
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 1
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector: {matchLabels: {app.kubernetes.io/component: gateway}}
",
    ),
    (
        "a registry of one's own, and nodes for it",
        "
image: {repository: registry.example.com/aviary, tag: v1, pullPolicy: Always}
imagePullSecrets: [{name: registry}]
operator:
  nodeSelector: {kubernetes.io/arch: amd64}
  tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
  podAnnotations: {example.com/team: data}
  resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}
  extraArgs: [--resync-interval=1m]
",
    ),
    (
        "one namespace, without definitions, open to the world",
        "
crds: {install: false}
logFormat: text
operator: {watchNamespace: '{namespace}', resyncInterval: 1h30m}
gateway:
  service: {type: LoadBalancer, port: 8080, annotations: {example.com/internal: 'true'}}
  terminationGracePeriodSeconds: 90
  podDisruptionBudget: false
",
    ),
    (
        "requests that go where they must and nowhere else",
        "
networkPolicy:
  egress:
    restricted: true
    apiServer: [{ipBlock: {cidr: 10.96.0.1/32}}]
    clickHousePorts: [8123]
    more: [{ports: [{port: 4317}]}]
",
    ),
    (
        "a network of its own rules",
        "networkPolicy: {enabled: false}",
    ),
];

/// Values that mean nothing or do harm.
const REFUSED: &[&str] = &[
    "operator: {replica: 2}",
    "gateway: {watchNamespace: team}",
    "operator: {resyncInterval: 0s}",
    "operator: {resyncInterval: soon}",
    "gateway: {service: {type: ExternalName}}",
    "logFormat: yaml",
    "networkPolicy: {egress: {restricted: true, clickHouse: []}}",
    "networkPolicy: {egress: {clickHousePorts: [http]}}",
    "unknown: true",
];

#[tokio::test(flavor = "multi_thread")]
async fn kustomize_installs_what_the_chart_installs() -> Result<()> {
    let charted = objects(&chart("").await?)?;
    let mut kustomized = objects(&kustomize("config/operator").await?)?;
    // Helm makes the namespace by an option, and not by a manifest.
    kustomized.retain(|name, _| !name.starts_with("Namespace "));
    alike(&charted, &kustomized)?;

    let mut monitored = objects(&chart("serviceMonitor: {enabled: true}").await?)?;
    let mut monitors = objects(&kustomize("config/monitoring").await?)?;
    for found in [&mut monitored, &mut monitors] {
        found.retain(|name, _| name.starts_with("ServiceMonitor "));
        ensure!(found.len() == 2, "{:?}", found.keys());
    }
    alike(&monitored, &monitors)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apiserver_takes_what_the_chart_makes() -> Result<()> {
    run("charts", |scene| async move {
        for (what, values) in VALUES {
            // Another release in another place, since applying over what is installed would merge with it.
            let values = values.replace("{namespace}", &scene.namespace);
            let manifest = rendered("another", &scene.namespace, &values).await;
            let mut command = program("kubectl").await?;
            command
                .args(["apply", "--server-side", "--force-conflicts"])
                .args(["--dry-run=server", "--filename=-"])
                .env("KUBECONFIG", Target::from_environment().kubeconfig());
            let applied = shell::fed(command, manifest.context(*what)?).await;
            applied.context(*what)?;
        }
        Ok(())
    })
    .await
}

/// Requests go to the addresses in a cluster, so whoever has a namespace must not make one.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_namespace_makes_no_clusters() -> Result<()> {
    run("people", |scene| async move {
        let roles: Api<ClusterRole> = Api::all(scene.client.clone());
        let may = |role: &ClusterRole, verb: &str, resource: &str| {
            role.rules.iter().flatten().any(|rule| {
                let is = |texts: &Option<Vec<String>>, one: &str| {
                    let texts = texts.as_deref().unwrap_or_default();
                    texts.iter().any(|text| text == one || text == "*")
                };
                is(&rule.api_groups, "aviary.dev")
                    && is(&rule.resources, resource)
                    && is(&Some(rule.verbs.clone()), verb)
            })
        };
        for name in ["edit", "admin"] {
            // The API server adds up such roles in its own time.
            let role = eventually(&format!("{name} has rights on workspaces"), async || {
                let role = roles.get(name).await?;
                let has =
                    may(&role, "create", "workspaces") && may(&role, "get", "clickhouseclusters");
                Ok(if has {
                    Ok(role)
                } else {
                    Err("not yet".to_owned())
                })
            })
            .await?;
            for verb in ["create", "update", "patch", "delete", "deletecollection"] {
                ensure!(
                    !may(&role, verb, "clickhouseclusters"),
                    "{name} may {verb} clusters"
                );
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_make_no_sense_are_refused() -> Result<()> {
    for values in REFUSED {
        match chart(values).await {
            Ok(_) => bail!("accepted: {values}"),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(error.contains("values don't meet"), "{values}: {error}");
            }
        }
    }
    Ok(())
}

async fn program(name: &str) -> Result<Command> {
    let target = Target::from_environment();
    let path = target.tool(name, &Progress::stderr()).await?;
    Ok(Command::new(path))
}

/// What the chart makes as the release and in the namespace that `config/` is written for.
async fn chart(values: &str) -> Result<String> {
    rendered(product::RELEASE, product::NAMESPACE, values).await
}

async fn rendered(release: &str, namespace: &str, values: &str) -> Result<String> {
    let mut command = program("helm").await?;
    command
        .args(["template", release, "charts/aviary"])
        .args(["--namespace", namespace])
        // The oldest that the chart admits to.
        .args(["--kube-version", "1.33.0", "--values", "-"])
        .current_dir(repository());
    shell::fed(command, values).await
}

async fn kustomize(folder: &str) -> Result<String> {
    let mut command = program("kubectl").await?;
    command
        .args(["kustomize", folder])
        .current_dir(repository());
    shell::output(command).await
}

/// Every object by its kind, namespace and name, without what only Helm puts there.
fn objects(manifest: &str) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for document in serde_yaml::Deserializer::from_str(manifest) {
        let mut object = Value::deserialize(document).context("read a manifest")?;
        if object.is_null() {
            continue;
        }
        without_helm(&mut object);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &object["metadata"];
        let (kind, namespace) = (text(&object["kind"]), text(&meta["namespace"]));
        let name = format!("{kind} {namespace}/{}", text(&meta["name"]));
        ensure!(
            found.insert(name.clone(), object).is_none(),
            "{name} is there twice"
        );
    }
    Ok(found)
}

fn without_helm(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| {
                !key.starts_with("helm.sh/") && key != "app.kubernetes.io/managed-by"
            });
            // A null takes away what was applied before; kustomize writes none.
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_helm);
            map.retain(|key, value| {
                key != "annotations" || value.as_object().is_none_or(|map| !map.is_empty())
            });
        }
        Value::Array(items) => items.iter_mut().for_each(without_helm),
        // Helm writes whole numbers as it read them, kustomize without a fraction.
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|number| number.fract() == 0.0) {
                *value = Value::from(whole as i64);
            }
        }
        _ => {}
    }
}

fn alike(chart: &BTreeMap<String, Value>, kustomized: &BTreeMap<String, Value>) -> Result<()> {
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(chart) == names(kustomized),
        "the chart makes {:?}, kustomize {:?}",
        names(chart),
        names(kustomized)
    );
    for (name, object) in chart {
        ensure!(
            *object == kustomized[name],
            "{name}\n  chart:     {object}\n  kustomize: {}",
            kustomized[name]
        );
    }
    Ok(())
}
