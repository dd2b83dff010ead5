//! A workspace from manifests, planned and executed by the operator's own crates,
//! and published to an index as the operator would.

use super::{Admin, PASSWORD};
use aviary_clickhouse::{Bounds, PipeCheck, ReaderCredentials, Replica, ReplicaConfig};
use aviary_crds::published::{
    ClickHouseUser, PublishedPipe, PublishedToken, PublishedWorkspace, ResultColumn,
    WorkspaceAccess,
};
use aviary_crds::{DataSource, Pipe, Scope, Workspace as WorkspaceObject};
use aviary_gateway::{Index, Kind, Object, ObjectKey, Published};
use aviary_plan::{
    CredentialHashes, LastPublished, WorkspaceModel, WorkspaceObjects, desired, model, plan,
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// Rights to everything in a workspace.
pub(crate) const ALL: &[(&str, &str)] = &[("PIPES:READ", "*"), ("DATASOURCES:APPEND", "*")];

/// A workspace that ClickHouse has.
pub(crate) struct Workspace {
    pub(crate) model: WorkspaceModel,
    pub(crate) published: PublishedWorkspace,
    reader: ClickHouseUser,
    writer: ClickHouseUser,
    columns: Vec<(String, Vec<ResultColumn>)>,
}

impl Workspace {
    /// Makes what these manifests ask for: a workspace first, then data sources and pipes.
    pub(crate) async fn make(admin: &Admin, manifests: &str) -> Self {
        let mut workspace = Self::of(manifests, &admin.url());
        let model = &workspace.model;
        let credentials = CredentialHashes {
            reader_sha256: sha256(&format!("password of {}", model.reader)),
            writer_sha256: sha256(&format!("password of {}", model.writer)),
        };
        let replica = Replica::connect(&ReplicaConfig {
            name: "engine".to_owned(),
            url: admin.url(),
            user: "default".to_owned(),
            password: PASSWORD.into(),
            connect_deadline: Duration::from_secs(10),
            statement_deadline: Duration::from_secs(60),
        })
        .unwrap();
        let observed = replica.observe(&model.database).await.unwrap();
        let desired = desired(model, &credentials, &observed.server);
        let desired = replica
            .canonicalise(desired, &observed.catalog)
            .await
            .unwrap();
        let plan = plan(&desired, &observed.catalog, &model.circumstances());
        for outcome in replica
            .execute(&plan, &Bounds::within(Duration::from_mins(5)))
            .await
        {
            assert_eq!(outcome.result, Ok(()), "{:?}", plan.steps[outcome.step]);
        }
        workspace.describe_pipes(&replica).await;
        workspace
    }

    /// What these manifests ask for, as it is published once ClickHouse has it at this URL; but for
    /// the columns of pipes, which only ClickHouse knows.
    pub(crate) fn of(manifests: &str, replica: &str) -> Self {
        let objects = read(manifests);
        let model = model(&objects, &LastPublished::default());
        assert!(model.rejections.is_empty(), "{:?}", model.rejections);
        let user = |name: &str| ClickHouseUser {
            name: name.to_owned(),
            password: format!("password of {name}").into(),
        };
        let limits = &objects.workspace.spec.limits;
        let published = PublishedWorkspace {
            database: model.database.as_str().to_owned(),
            replica_urls: vec![replica.to_owned()],
            concurrent_queries: limits.concurrent_queries,
            query_timeout_milliseconds: limits.query_timeout.get().as_millis() as u64,
            query_memory_bytes: limits.query_memory.get(),
            requests_per_second: limits.requests_per_second,
            body_size_bytes: limits.body_size.get(),
        };
        Self {
            reader: user(&model.reader),
            writer: user(&model.writer),
            model,
            published,
            columns: Vec::new(),
        }
    }

    /// Asks ClickHouse for the columns of each pipe. What it refuses is published
    /// here all the same, to see what the gateway makes of it.
    async fn describe_pipes(&mut self, replica: &Replica) {
        let credentials = ReaderCredentials {
            user: self.reader.name.clone(),
            password: self.reader.password.clone(),
        };
        for pipe in &self.model.pipes {
            let columns = replica
                .check_pipe(&PipeCheck {
                    database: self.model.database.clone(),
                    reader: credentials.clone(),
                    renderings: pipe.renderings(),
                })
                .await;
            let columns = columns
                .unwrap_or_else(|error| {
                    eprintln!("{}: {error}", pipe.name);
                    Vec::new()
                })
                .into_iter()
                .map(|column| ResultColumn {
                    name: column.name,
                    column_type: column.column_type,
                });
            self.columns.push((pipe.name.clone(), columns.collect()));
        }
    }

    /// Publishes everything, with a token of these scopes.
    pub(crate) fn publish(&self, index: &Index, token: &str, scopes: &[(&str, &str)]) {
        self.publish_as(index, &self.model.name, &self.published, token, scopes);
    }

    /// The same under another name and with other limits.
    pub(crate) fn publish_as(
        &self,
        index: &Index,
        name: &str,
        published: &PublishedWorkspace,
        token: &str,
        scopes: &[(&str, &str)],
    ) {
        self.apply(
            index,
            Kind::Workspace,
            name,
            Published::Workspace(published.clone()),
        );
        self.publish_access(index, name, token, scopes);
        for source in &self.model.data_sources {
            let object = format!("{name}-{}", source.object);
            self.apply(
                index,
                Kind::DataSource,
                &object,
                Published::DataSource(name.to_owned(), source.published()),
            );
        }
        for pipe in &self.model.pipes {
            let published = PublishedPipe {
                name: pipe.name.clone(),
                revision: pipe.revision.clone(),
                generation: 1,
                template: pipe.template.clone(),
                description: pipe.description.clone(),
                columns: self
                    .columns
                    .iter()
                    .find(|(known, _)| *known == pipe.name)
                    .map(|(_, columns)| columns.clone())
                    .unwrap_or_default(),
            };
            self.apply(
                index,
                Kind::Pipe,
                &format!("{name}-{}", pipe.object),
                Published::Pipe(name.to_owned(), published),
            );
        }
    }

    fn publish_access(&self, index: &Index, name: &str, token: &str, scopes: &[(&str, &str)]) {
        let scope = |(kind, resource): &(&str, &str)| -> Scope {
            serde_json::from_value(serde_json::json!({ "type": kind, "resource": resource }))
                .unwrap()
        };
        let access = WorkspaceAccess {
            namespace: self.model.namespace.clone(),
            workspace: name.to_owned(),
            reader: self.reader.clone(),
            writer: self.writer.clone(),
            tokens: vec![PublishedToken {
                name: "token".to_owned(),
                sha256: hash(token),
                since: Timestamp::UNIX_EPOCH,
                scopes: scopes.iter().map(scope).collect(),
            }],
            former_values: Vec::new(),
            estate: None,
        };
        self.apply(
            index,
            Kind::Access,
            &format!("access-{}-{name}", self.model.namespace),
            Published::Access(access),
        );
    }

    fn apply(&self, index: &Index, kind: Kind, name: &str, published: Published) {
        let key = ObjectKey {
            kind,
            namespace: self.model.namespace.clone(),
            name: name.to_owned(),
        };
        index.apply(Object {
            key,
            age: (0, String::new()),
            published,
        });
    }

    /// A table of the workspace, with its database.
    pub(crate) fn table(&self, name: &str) -> String {
        format!("`{}`.`{name}`", self.published.database)
    }
}

/// SHA-256 in hex, as tokens are published.
fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn sha256(password: &str) -> aviary_plan::catalog::Sha256 {
    aviary_plan::catalog::Sha256::new(hash(password)).unwrap()
}

fn read(manifests: &str) -> WorkspaceObjects {
    use serde::Deserialize as _;
    let mut workspace = None;
    let mut objects = (Vec::new(), Vec::new());
    for document in serde_yaml::Deserializer::from_str(manifests) {
        let mut value = serde_yaml::Value::deserialize(document).unwrap();
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = value["metadata"]["namespace"]
            .as_str()
            .unwrap_or("test")
            .to_owned();
        value["apiVersion"] = "aviary.dev/v1alpha1".into();
        value["metadata"]["namespace"] = namespace.clone().into();
        value["metadata"]["uid"] = format!("uid-{namespace}-{name}").into();
        match value["kind"].as_str().unwrap() {
            "Workspace" => {
                workspace = Some(serde_yaml::from_value::<WorkspaceObject>(value).unwrap());
            }
            "DataSource" => objects.0.push(Arc::new(
                serde_yaml::from_value::<DataSource>(value).unwrap(),
            )),
            "Pipe" => objects
                .1
                .push(Arc::new(serde_yaml::from_value::<Pipe>(value).unwrap())),
            other => panic!("{other}"),
        }
    }
    WorkspaceObjects {
        workspace: Arc::new(workspace.unwrap()),
        data_sources: objects.0,
        pipes: objects.1,
        access_tokens: Vec::new(),
    }
}
