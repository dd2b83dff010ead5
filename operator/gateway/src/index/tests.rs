//! The index, fed by hand.

use super::*;
use crate::Gateway;
use crate::rights::{Access, authorize};
use aviary_crds::data_source::CsvDialect;
use aviary_crds::published::{
    ClickHouseUser, FormerValue, PublishedColumn, PublishedDataSource, PublishedPipe,
    PublishedToken, PublishedWorkspace, WorkspaceAccess,
};
use aviary_crds::{Scope, ScopeType};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// A gateway whose index has the workspace `demo/shop` with the token `secret`.
fn shop() -> Gateway {
    let gateway = Gateway::new(crate::GatewayArgs::default()).unwrap();
    gateway.index().apply(workspace(100));
    gateway.index().apply(access("secret"));
    gateway
}

fn object(kind: Kind, name: &str, published: Published) -> Object {
    Object {
        key: key(kind, name),
        age: (0, name.to_owned()),
        published,
    }
}

fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey {
        kind,
        namespace: "demo".to_owned(),
        name: name.to_owned(),
    }
}

fn workspace(requests_per_second: u32) -> Object {
    let published = PublishedWorkspace {
        database: "demo_shop".to_owned(),
        replica_urls: vec!["http://127.0.0.1:8123".to_owned()],
        concurrent_queries: 10,
        query_timeout_milliseconds: 1000,
        query_memory_bytes: 1 << 30,
        requests_per_second,
        body_size_bytes: 1 << 20,
    };
    object(Kind::Workspace, "shop", Published::Workspace(published))
}

fn access(token: &str) -> Object {
    access_of("shop", &[(token, 1)], &[])
}

/// The Secret of a workspace whose tokens have these values, and had the others, each since a second.
fn access_of(workspace: &str, tokens: &[(&str, i64)], former: &[(&str, i64)]) -> Object {
    let user = |name: &str| ClickHouseUser {
        name: name.to_owned(),
        password: "hunter2".to_owned().into(),
    };
    let access = WorkspaceAccess {
        namespace: "demo".to_owned(),
        workspace: workspace.to_owned(),
        reader: user("reader"),
        writer: user("writer"),
        tokens: tokens
            .iter()
            .map(|(value, since)| token(value, *since))
            .collect(),
        former_values: former
            .iter()
            .map(|(value, since)| FormerValue {
                sha256: hex::encode(Sha256::digest(value)),
                since: Timestamp::from_second(*since).unwrap(),
            })
            .collect(),
        estate: None,
    };
    let name = format!("{workspace}-access");
    object(Kind::Access, &name, Published::Access(access))
}

fn token(value: &str, since: i64) -> PublishedToken {
    PublishedToken {
        name: "reader".to_owned(),
        sha256: hex::encode(Sha256::digest(value)),
        since: Timestamp::from_second(since).unwrap(),
        scopes: vec![Scope {
            scope_type: ScopeType::PipesRead,
            resource: "*".to_owned(),
        }],
    }
}

fn pipe(object_name: &str, template: &str) -> Object {
    let published = PublishedPipe {
        name: "answer".to_owned(),
        revision: template.to_owned(),
        generation: 1,
        template: template.to_owned(),
        description: None,
        columns: Vec::new(),
    };
    let published = Published::Pipe("shop".to_owned(), published);
    object(Kind::Pipe, object_name, published)
}

fn data_source(column: &str) -> Object {
    let published = PublishedDataSource {
        name: "sales".to_owned(),
        columns: vec![PublishedColumn {
            name: column.to_owned(),
            column_type: "Int32".to_owned(),
            allowed: Vec::new(),
            json_path: format!("$.{column}"),
            has_default: false,
        }],
        csv: CsvDialect::default(),
    };
    let published = Published::DataSource("shop".to_owned(), published);
    object(Kind::DataSource, "sales", published)
}

fn served(gateway: &Gateway) -> Option<Arc<ServedWorkspace>> {
    gateway
        .index()
        .authenticate(&TokenHash::of(b"secret"))?
        .served
        .clone()
}

fn opens(gateway: &Gateway, token: &str) -> bool {
    let token = TokenHash::of(token.as_bytes());
    gateway.index().authenticate(&token).is_some()
}

/// The template that `answer` is served with.
fn template(gateway: &Gateway) -> Option<String> {
    let workspace = served(gateway)?;
    let pipe = workspace.pipes.get("answer")?;
    Some(pipe.published.template.clone())
}

#[test]
fn a_token_opens_its_workspace_until_its_secret_says_otherwise() {
    let gateway = shop();
    let index = gateway.index();
    let opens = |token| opens(&gateway, token);
    assert!(opens("secret") && !opens("other") && !opens(""));
    index.apply(access("rotated"));
    assert!(opens("rotated") && !opens("secret"));
    // A deleted Secret comes back; the workspace it was for may not.
    index.delete(&key(Kind::Access, "shop-access"));
    assert!(opens("rotated"));
    index.delete(&key(Kind::Workspace, "shop"));
    assert!(!opens("rotated"));
}

#[test]
fn the_secret_that_comes_back_takes_the_place_of_the_deleted_one() {
    let gateway = shop();
    let index = gateway.index();
    let opens = |token| opens(&gateway, token);
    index.delete(&key(Kind::Access, "shop-access"));
    let mut other = access("new");
    other.key.name = "made-anew".to_owned();
    index.apply(other);
    assert!(opens("new") && !opens("secret"));
    // With no workspace to wait for, a Secret's end is the end.
    index.delete(&key(Kind::Workspace, "shop"));
    assert!(opens("new"));
    index.delete(&key(Kind::Access, "made-anew"));
    assert!(!opens("new"));
}

/// Names are chosen so that the order of Secrets alone would decide for the thief.
#[test]
fn who_has_a_value_keeps_it() {
    [false, true].into_iter().for_each(holder_keeps_the_value);
}

fn holder_keeps_the_value(thief_first: bool) {
    let holder = access_of("victim", &[("known", 10)], &[]);
    let thief = access_of("a-thief", &[("known", 20), ("own", 20)], &[]);
    let gateway = Gateway::new(crate::GatewayArgs::default()).unwrap();
    let index = gateway.index();
    let both = if thief_first {
        [thief.clone(), holder.clone()]
    } else {
        [holder.clone(), thief.clone()]
    };
    both.into_iter().for_each(|one| index.apply(one));
    assert_eq!(opened(&gateway, "known").as_deref(), Some("victim"));
    assert_eq!(opened(&gateway, "own").as_deref(), Some("a-thief"));
    // All at once comes to the same.
    index.replace(Kind::Access, vec![thief, holder.clone()], &[]);
    assert_eq!(opened(&gateway, "known").as_deref(), Some("victim"));
    // A value that its workspace has given up opens nothing, the other's door included.
    index.apply(access_of("victim", &[("new", 30)], &[("known", 10)]));
    assert_eq!(opened(&gateway, "known"), None);
    assert_eq!(opened(&gateway, "new").as_deref(), Some("victim"));
    // It may come back to it, and to nobody else while it is there.
    index.apply(holder);
    assert_eq!(opened(&gateway, "known").as_deref(), Some("victim"));
    index.delete(&key(Kind::Access, "victim-access"));
    assert_eq!(opened(&gateway, "known").as_deref(), Some("a-thief"));
}

/// The workspace that a token opens.
fn opened(gateway: &Gateway, token: &str) -> Option<String> {
    let opened = gateway
        .index()
        .authenticate(&TokenHash::of(token.as_bytes()))?;
    Some(opened.principal.workspace.name.clone())
}

#[test]
fn a_change_leaves_the_tokens_of_others_alone() {
    let gateway = shop();
    let index = gateway.index();
    index.apply(access_of("other", &[("theirs", 1)], &[]));
    let found = |token: &str| {
        let token = TokenHash::of(token.as_bytes());
        index.authenticate(&token).unwrap()
    };
    let (own, theirs) = (found("secret"), found("theirs"));
    index.apply(pipe("p", "SELECT 1"));
    assert!(!Arc::ptr_eq(&own, &found("secret")));
    assert!(Arc::ptr_eq(&theirs, &found("theirs")));
}

#[test]
fn a_workspace_is_served_when_all_of_it_is_there() {
    let gateway = Gateway::new(crate::GatewayArgs::default()).unwrap();
    let index = gateway.index();
    index.apply(pipe("p", "SELECT 1"));
    index.apply(access("secret"));
    let opened = index.authenticate(&TokenHash::of(b"secret")).unwrap();
    assert!(authorize(&opened.principal, Access::Read("answer")).is_ok());
    assert!(opened.served.is_none());
    index.apply(workspace(100));
    assert_eq!(template(&gateway).as_deref(), Some("SELECT 1"));
    index.delete(&key(Kind::Workspace, "shop"));
    assert!(served(&gateway).is_none());
}

#[test]
fn a_change_is_live_and_a_broken_one_is_not() {
    let gateway = shop();
    gateway.index().apply(pipe("p", "SELECT 1"));
    gateway.index().apply(pipe("p", "SELECT {{ Int32(n, 2) }}"));
    let good = template(&gateway);
    assert_eq!(good.as_deref(), Some("SELECT {{ Int32(n, 2) }}"));
    gateway.index().apply(pipe("p", "SELECT {% if %}"));
    assert_eq!(template(&gateway), good);
    gateway.index().delete(&key(Kind::Pipe, "p"));
    assert_eq!(template(&gateway), None);
}

#[test]
fn of_two_that_claim_a_name_the_older_is_served() {
    let gateway = shop();
    let mut younger = pipe("a-younger", "SELECT 'younger'");
    younger.age = (2, String::new());
    gateway.index().apply(younger);
    let mut older = pipe("older", "SELECT 'older'");
    older.age = (1, String::new());
    gateway.index().apply(older);
    assert_eq!(template(&gateway).as_deref(), Some("SELECT 'older'"));
    gateway.index().delete(&key(Kind::Pipe, "older"));
    assert_eq!(template(&gateway).as_deref(), Some("SELECT 'younger'"));
}

#[test]
fn a_new_list_takes_the_place_of_the_old_one_at_once() {
    let gateway = shop();
    gateway.index().apply(pipe("p", "SELECT 1"));
    gateway
        .index()
        .replace(Kind::Pipe, vec![pipe("q", "SELECT 2")], &[]);
    assert_eq!(template(&gateway).as_deref(), Some("SELECT 2"));
    // What is there and not understood stays as it was.
    gateway
        .index()
        .replace(Kind::Pipe, Vec::new(), &[key(Kind::Pipe, "q")]);
    assert_eq!(template(&gateway).as_deref(), Some("SELECT 2"));
    gateway.index().replace(Kind::Pipe, Vec::new(), &[]);
    assert_eq!(template(&gateway), None);
    gateway.index().replace(Kind::Workspace, Vec::new(), &[]);
    assert!(served(&gateway).is_none());
}

#[test]
fn what_does_not_change_goes_on_where_it_was() {
    let gateway = shop();
    gateway.index().apply(data_source("id"));
    let before = served(&gateway).unwrap();
    gateway.index().apply(pipe("p", "SELECT 1"));
    gateway
        .index()
        .replace(Kind::Access, vec![access("secret")], &[]);
    let after = served(&gateway).unwrap();
    assert!(Arc::ptr_eq(
        &before.intakes["sales"],
        &after.intakes["sales"]
    ));
    assert!(Arc::ptr_eq(&before.rate, &after.rate) && Arc::ptr_eq(&before.queries, &after.queries));

    gateway.index().apply(data_source("number"));
    gateway.index().apply(workspace(50));
    let changed = served(&gateway).unwrap();
    assert!(!Arc::ptr_eq(
        &before.intakes["sales"],
        &changed.intakes["sales"]
    ));
    assert!(
        !Arc::ptr_eq(&before.rate, &changed.rate) && Arc::ptr_eq(&before.queries, &changed.queries)
    );
}
