//! The engine, and what an operator does with a workspace on it.

use aviary_clickhouse::{Bounds, Outcome, ReaderCredentials, Replica, ReplicaConfig};
use aviary_engine::{Engine, EngineConfig};
use aviary_plan::catalog::Sha256;
use aviary_plan::model::WorkspaceModel;
use aviary_plan::{CredentialHashes, LastPublished, Plan, desired, model, plan, testing};
use clickhouse::Client;
use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const IS_ENGINE: &str = "AVIARY_TEST_ENGINE";
const ANNOUNCEMENT: &str = "engine at ";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The engine in a process of its own, which is this binary run again. It ends when
/// its standard input does, which is when the tests are over.
static ENGINE: LazyLock<EngineProcess> = LazyLock::new(|| {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["harness::engine_process", "--exact", "--nocapture"])
        .env(IS_ENGINE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = output
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.strip_prefix(ANNOUNCEMENT)?.to_owned()));
    EngineProcess {
        address: address.unwrap(),
        _child: child,
        _output: output,
    }
});

struct EngineProcess {
    address: String,
    /// Holds its standard input.
    _child: Child,
    /// The test harness in the child says more later, and must be able to.
    _output: Lines<BufReader<ChildStdout>>,
}

/// Not a test of its own: what the engine's process runs.
#[test]
fn engine_process() {
    if std::env::var_os(IS_ENGINE).is_none() {
        return;
    }
    aviary_engine::library::install().unwrap();
    let data = TempDir::new().unwrap();
    let mut config = EngineConfig::new(data.path());
    config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let engine = RUNTIME.block_on(Engine::start(config)).unwrap();
    println!("\n{ANNOUNCEMENT}{}", engine.address());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    RUNTIME.block_on(engine.shutdown());
    // The tests are gone, and with them the reader of what else would be said.
    std::process::exit(0);
}

/// Runs a test.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(test)
}

pub(crate) fn url() -> String {
    format!("http://{}", ENGINE.address)
}

/// The engine as the operator sees it.
pub(crate) fn replica() -> Replica {
    replica_as("default")
}

/// The engine as an operator with this user sees it.
pub(crate) fn replica_as(user: &str) -> Replica {
    connect(&url(), user, Duration::from_secs(60))
}

pub(crate) fn replica_at(url: &str, deadline: Duration) -> Replica {
    connect(url, "default", deadline)
}

fn connect(url: &str, user: &str, deadline: Duration) -> Replica {
    Replica::connect(&ReplicaConfig {
        name: "replica-0".to_owned(),
        url: url.to_owned(),
        user: user.to_owned(),
        password: String::new().into(),
        connect_deadline: deadline,
        statement_deadline: deadline,
    })
    .unwrap()
}

/// Time enough for any plan, and the right to carry it out.
pub(crate) fn unhurried() -> Bounds<'static> {
    Bounds::within(Duration::from_mins(5))
}

/// Runs a statement as somebody who may do everything.
pub(crate) async fn sql(statement: &str) {
    let client = Client::default().with_url(url()).with_user("default");
    let result = client.query_raw(statement).execute().await;
    result.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// Asks for text as somebody who may do everything.
pub(crate) async fn ask(query: &str) -> String {
    let answer = ask_by(("default", ""), query).await;
    answer.unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Asks for text as somebody with this name and password.
pub(crate) async fn ask_by(user: (&str, &str), query: &str) -> Result<String, String> {
    let client = Client::default()
        .with_url(url())
        .with_user(user.0)
        .with_password(user.1)
        .with_compression(clickhouse::Compression::None);
    let mut answer = client.query_raw(query).fetch_bytes("TSV").unwrap();
    let bytes = answer.collect().await.map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Ok(text.trim_end().to_owned())
}

/// The login of the reader that [`converge`] makes: SHA-256 of `reader` and `writer`.
pub(crate) fn reader(model: &WorkspaceModel) -> ReaderCredentials {
    ReaderCredentials {
        user: model.reader.clone(),
        password: "reader".to_owned().into(),
    }
}

fn credentials() -> CredentialHashes {
    let hash = |hex: &str| Sha256::new(hex).unwrap();
    CredentialHashes {
        reader_sha256: hash("3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30"),
        writer_sha256: hash("b93006774cbdd4b299389a03ac3d88c3a76b460d538795bc12718011a909fba5"),
    }
}

/// One pass of an operator over a workspace on one replica.
pub(crate) struct Pass {
    pub(crate) model: WorkspaceModel,
    pub(crate) plan: Plan,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Pass {
    /// What was done and why.
    pub(crate) fn told(&self) -> Vec<String> {
        let steps = self.plan.steps.iter();
        steps
            .map(|step| format!("{step} ({:?})", step.why))
            .collect()
    }
}

/// Brings the engine to what the manifests say. The namespace tells tests apart.
pub(crate) async fn converge(namespace: &str, manifests: &str) -> Pass {
    let pass = pass(namespace, manifests).await;
    for outcome in &pass.outcomes {
        let step = &pass.plan.steps[outcome.step];
        assert_eq!(outcome.result, Ok(()), "{step}: {:#?}", step.statements());
    }
    pass
}

/// The same, whatever comes of it.
pub(crate) async fn pass(namespace: &str, manifests: &str) -> Pass {
    pass_on(&replica(), namespace, manifests).await
}

/// The same, on a replica that may know something from before.
pub(crate) async fn pass_on(replica: &Replica, namespace: &str, manifests: &str) -> Pass {
    let objects = testing::objects(namespace, manifests);
    let model = model(&objects, &LastPublished::of(&objects));
    let observed = replica.observe(&model.database).await.unwrap();
    let desired = desired(&model, &credentials(), &observed.server);
    let desired = replica
        .canonicalise(desired, &observed.catalog)
        .await
        .unwrap();
    let plan = plan(&desired, &observed.catalog, &model.circumstances());
    let outcomes = replica.execute(&plan, &unhurried()).await;
    Pass {
        model,
        plan,
        outcomes,
    }
}
