//! What a real apiserver lets in: bad manifests are refused with a message one
//! can act on, the samples are accepted, and every field explains itself.

use anyhow::{Context as _, Result, ensure};
use aviary_e2e::checkout::repository;
use aviary_e2e::cluster::Target;
use aviary_e2e::support::{Scene, run};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::api::{Api, ListParams};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A manifest that is refused, and with what.
struct Bad {
    message: String,
    /// What has to be there before, and is accepted.
    before: Option<String>,
    manifest: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_manifests_are_refused_with_their_message() -> Result<()> {
    run("admission", |scene| async move {
        let mut wrong = Vec::new();
        for bad in bad_manifests()? {
            if let Err(error) = check(&scene, &bad).await {
                wrong.push(format!("{error:#}\n{}", bad.manifest));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await
}

async fn check(scene: &Scene, bad: &Bad) -> Result<()> {
    if let Some(before) = &bad.before {
        scene.apply(before).await.context("the object before it")?;
    }
    let message = scene.refused(&bad.manifest).await?;
    ensure!(
        message.contains(&bad.message),
        "expected: {}\n  actual: {message}",
        bad.message
    );
    Ok(())
}

/// A rule that no manifest here breaks is a rule that nobody knows to work.
#[tokio::test(flavor = "multi_thread")]
async fn every_rule_is_broken_by_one_of_the_bad_manifests() -> Result<()> {
    let bad = bad_manifests()?;
    let mut untested = Vec::new();
    for definition in definitions().await? {
        walk(&definition, &mut |path, schema| {
            for rule in schema.x_kubernetes_validations.iter().flatten() {
                let message = rule.message.as_deref().unwrap_or_default();
                let tested = bad.iter().any(|bad| bad.message == message);
                if message.is_empty() || !tested {
                    untested.push(format!("{path}: {message}"));
                }
            }
        });
    }
    ensure!(
        untested.is_empty(),
        "no bad manifest for:\n{}",
        untested.join("\n")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_is_accepted() -> Result<()> {
    run("samples", |scene| async move {
        let samples = manifests(&repository().join("config/samples"))?;
        ensure!(samples.len() > 5, "only {samples:?}");
        for sample in samples {
            // Kustomizations are for kustomize, not for the apiserver.
            if sample.ends_with("kustomization.yaml") {
                continue;
            }
            let manifest = std::fs::read_to_string(&sample)?;
            let accepted = scene.accepted(&manifest).await;
            accepted.with_context(|| format!("{}", sample.display()))?;
        }
        Ok(())
    })
    .await
}

/// `kubectl explain` shows these descriptions.
#[tokio::test(flavor = "multi_thread")]
async fn every_field_has_a_description() -> Result<()> {
    let mut silent = Vec::new();
    for definition in definitions().await? {
        walk(&definition, &mut |path, schema| {
            let described = schema.description.as_ref().is_some_and(|d| !d.is_empty());
            // An item of a list or a map is explained by the list or the map.
            if !described && !path.ends_with("[]") {
                silent.push(path.to_owned());
            }
        });
    }
    ensure!(silent.is_empty(), "no description:\n{}", silent.join("\n"));
    Ok(())
}

/// What `kubectl get` shows: every kind by its short name and in the category `aviary`, with columns.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_easy_to_list() -> Result<()> {
    let mut short_names = Vec::new();
    for definition in definitions().await? {
        let (names, version) = (definition.spec.names, &definition.spec.versions[0]);
        ensure!(names.categories == Some(vec!["aviary".to_owned()]));
        let columns = version.additional_printer_columns.iter().flatten();
        let columns: Vec<_> = columns.map(|column| column.name.as_str()).collect();
        ensure!(columns.contains(&"Ready") && columns.contains(&"Age"));
        short_names.extend(names.short_names.unwrap_or_default());
    }
    let kubernetes = short_names_of_kubernetes().await?;
    short_names.sort();
    for name in &short_names {
        ensure!(!kubernetes.contains(name), "{name} is Kubernetes' own");
    }
    ensure!(short_names == ["atok", "chc", "dsrc", "pipe", "ws"]);
    Ok(())
}

/// The short names that Kubernetes' own kinds have; kubectl prefers those.
async fn short_names_of_kubernetes() -> Result<BTreeSet<String>> {
    let client = Target::from_environment().client().await?;
    let core = client.list_core_api_resources("v1").await?;
    let apps = client.list_api_group_resources("apps/v1").await?;
    let batch = client.list_api_group_resources("batch/v1").await?;
    let resources = [core, apps, batch]
        .into_iter()
        .flat_map(|list| list.resources);
    Ok(resources
        .flat_map(|kind| kind.short_names.unwrap_or_default())
        .collect())
}

async fn definitions() -> Result<Vec<CustomResourceDefinition>> {
    let client = Target::from_environment().client().await?;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut definitions = api.list(&ListParams::default()).await?.items;
    definitions.retain(|definition| definition.spec.group == "aviary.dev");
    ensure!(definitions.len() == 5, "{} kinds", definitions.len());
    Ok(definitions)
}

/// Shows every property of a kind's spec and status, with its path.
fn walk(definition: &CustomResourceDefinition, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    for version in &definition.spec.versions {
        let schema = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref());
        if let Some(schema) = schema {
            walk_schema(&definition.spec.names.kind, schema, visit);
        }
    }
}

fn walk_schema(
    path: &str,
    schema: &JSONSchemaProps,
    visit: &mut impl FnMut(&str, &JSONSchemaProps),
) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        // The apiserver explains these itself.
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            walk_schema(&format!("{path}.{name}"), property, visit);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        walk_schema(&format!("{path}[]"), item, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        walk_schema(&format!("{path}[]"), value, visit);
    }
}

/// The cases of `bad/*.yaml`.
fn bad_manifests() -> Result<Vec<Bad>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut bad = Vec::new();
    for path in manifests(&folder)? {
        let text = std::fs::read_to_string(&path)?;
        for document in text.split("---\n").skip(1) {
            let (message, objects) = document
                .strip_prefix("# refused: ")
                .and_then(|rest| rest.split_once('\n'))
                .with_context(|| format!("no `# refused:` above\n{document}"))?;
            let (before, manifest) = match objects.split_once("# then:\n") {
                Some((before, then)) => (Some(before.to_owned()), then),
                None => (None, objects),
            };
            bad.push(Bad {
                message: message.to_owned(),
                before,
                manifest: manifest.to_owned(),
            });
        }
    }
    ensure!(!bad.is_empty(), "no cases in {}", folder.display());
    Ok(bad)
}

/// Every YAML file in a folder and the folders in it.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(manifests(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
