//! The engine behind the HTTP interface: open, opened anew when users change, closed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};

use crate::access::Access;
use crate::config::EngineConfig;
use crate::config_xml;
use crate::connections::OpenEngine;
use crate::control::Control;
use crate::deduplication_log;
use crate::error::{EngineError, io_error};
use crate::exception::{Exception, code};
use crate::files::write_private;
use crate::libchdb::Api;
use crate::library;
use crate::running::Registry;
use crate::sql::quote::{Identifier, Literal};

/// How often queries past the deadline are cancelled again.
const CANCEL_INTERVAL: Duration = Duration::from_millis(200);

/// An opening waits for access statements that follow each other this closely,
/// so that they share it,
const DEBOUNCE: Duration = Duration::from_millis(20);

/// but not longer than this.
const LONGEST_DEBOUNCE: Duration = Duration::from_millis(150);

/// What never changes while the engine runs.
#[derive(Debug, Default)]
pub(crate) struct ServerInfo {
    pub(crate) version: String,
    pub(crate) timezone: String,
    pub(crate) display_name: String,
    content_types: HashMap<String, String>,
}

impl ServerInfo {
    /// The Content-Type of an output format, in any case; nothing where there
    /// is no such format.
    pub(crate) fn content_type(&self, format: &str) -> Option<&str> {
        self.content_types
            .get(&format.to_ascii_lowercase())
            .map(String::as_str)
    }
}

/// All of a running engine but its listeners.
pub(crate) struct Core {
    pub(crate) config: EngineConfig,
    pub(crate) info: Arc<ServerInfo>,
    pub(crate) access: Access,
    pub(crate) registry: Arc<Registry>,
    pub(crate) slots: Arc<Semaphore>,
    api: &'static Api,
    runtime: Handle,
    control: Arc<Control>,
    /// Readers run queries; the writer opens the engine anew. `None` when closed.
    gate: RwLock<Option<OpenEngine>>,
    /// The version of the access list that libchdb has read.
    opened_version: AtomicU64,
    /// How often libchdb was opened.
    openings: AtomicU64,
    /// Held by who opens it anew.
    opening: Mutex<()>,
    /// Held as long as the data path is ours.
    _lock: File,
}

/// The right to run queries, which keeps the engine open.
pub(crate) type OpenGuard<'a> = RwLockReadGuard<'a, OpenEngine>;

impl Core {
    /// Opens libchdb on the data path. Blocks.
    pub(crate) fn open(config: EngineConfig, runtime: Handle) -> Result<Self, EngineError> {
        let api = Api::load(&library::locate(config.library.as_deref())?)?;
        fs::create_dir_all(&config.data_path).map_err(io_error("create", &config.data_path))?;
        let lock = lock(&config.data_path)?;
        let clickhouse = config.data_path.join("clickhouse");
        deduplication_log::repair(&clickhouse).map_err(io_error("repair", &clickhouse))?;
        let access = Access::load(
            &config.data_path.join("access.json"),
            config.default_password.as_ref(),
        )?;
        write_private(
            &config.data_path.join("config.xml"),
            &config_xml::render(&config),
        )?;

        let control = Arc::new(Control::default());
        let mut core = Self {
            slots: Arc::new(Semaphore::new(config.max_concurrent_queries)),
            registry: Arc::new(Registry::new(Arc::clone(&control))),
            info: Arc::default(),
            access,
            api,
            runtime,
            control,
            gate: RwLock::new(None),
            opened_version: AtomicU64::new(0),
            openings: AtomicU64::new(0),
            opening: Mutex::default(),
            config,
            _lock: lock,
        };
        let (taken, users) = core.access.users_xml();
        *core.gate.get_mut() = Some(core.boot(&users)?);
        core.opened_version.store(taken.version, Ordering::Release);
        let broken = |exception: Exception| EngineError::Broken {
            reason: exception.to_string(),
        };
        core.info = Arc::new(core.read_info().map_err(broken)?);
        Ok(core)
    }

    /// The open engine, with the users as they are now. Waits while it is
    /// opened anew. Blocks.
    pub(crate) fn enter(&self) -> Result<OpenGuard<'_>, Exception> {
        if self.is_stale() {
            self.reopen()?;
        }
        RwLockReadGuard::try_map(self.gate.blocking_read(), Option::as_ref).map_err(|_| closed())
    }

    /// The open engine, with those users as they are now that matter to a
    /// statement of this user. Blocks.
    pub(crate) fn enter_for(
        &self,
        user: &str,
        statement: &[u8],
    ) -> Result<OpenGuard<'_>, Exception> {
        if self.is_stale() && self.access.concerns(user, statement) {
            self.reopen()?;
        }
        RwLockReadGuard::try_map(self.gate.blocking_read(), Option::as_ref).map_err(|_| closed())
    }

    /// Whether views run in this user's name, so that others read and write through him.
    pub(crate) fn is_definer(&self, user: &str) -> bool {
        let _open = self.gate.blocking_read();
        let names = [user.to_owned(), Identifier(user).to_string()];
        let definers = names.map(|name| Literal(&format!(" DEFINER = {name} ")).to_string());
        let found = self.control.ask(&format!(
            "SELECT 1 FROM system.tables WHERE multiSearchAny(create_table_query, [{}]) LIMIT 1",
            definers.join(", ")
        ));
        // Where it is not known, he may.
        found.map_or(true, |found| !found.is_empty())
    }

    /// How often libchdb was opened.
    pub(crate) fn openings(&self) -> u64 {
        self.openings.load(Ordering::Relaxed)
    }

    /// Whether users changed since libchdb read them.
    pub(crate) fn is_stale(&self) -> bool {
        self.opened_version.load(Ordering::Acquire) < self.access.version()
    }

    /// Opens libchdb anew with the current users, once the running queries have
    /// ended or the deadline has ended them.
    fn reopen(&self) -> Result<(), Exception> {
        let wanted = self.access.version();
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have done it while this thread waited.
        if self.opened_version.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        self.debounce();
        let mut gate = self
            .runtime
            .block_on(self.drained(self.config.drain_deadline));
        if gate.is_none() {
            return Err(closed());
        }
        let (taken, users) = self.access.users_xml();
        let started = Instant::now();
        self.detach_replicated();
        *gate = None;
        self.control.close();
        match self.boot(&users) {
            Ok(engine) => {
                *gate = Some(engine);
                self.opened_version.store(taken.version, Ordering::Release);
                self.access.confirm(taken);
                tracing::debug!(elapsed = ?started.elapsed(), "opened libchdb anew for changed users");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "libchdb refused the changed users; going back to the last ones it took");
                let (version, users) = self.access.revert();
                let engine = self.boot(&users).unwrap_or_else(|error| {
                    // Nothing is left to serve requests with; whoever watches
                    // over the process can start it again.
                    tracing::error!(%error, "libchdb does not open any more");
                    std::process::exit(1);
                });
                *gate = Some(engine);
                self.opened_version.store(version, Ordering::Release);
                Err(Exception::new(
                    code::LOGICAL_ERROR,
                    "The engine could not take the last changes of users, roles or grants and has undone them.",
                ))
            }
        }
    }

    /// Lets go of replicated tables, which are back with the next opening: libchdb crashes when
    /// it is closed while one of them looks for its place in Keeper, as here they all do.
    fn detach_replicated(&self) {
        if self.config.zookeeper.is_empty() {
            return;
        }
        // In hex, a name has no characters that mean something to the answer.
        let listed = self.control.ask(
            "SELECT hex(database), hex(name) FROM system.tables WHERE engine LIKE 'Replicated%MergeTree'",
        );
        let listed = listed.unwrap_or_else(|exception| {
            tracing::warn!(%exception, "cannot list replicated tables");
            String::new()
        });
        for (database, table) in listed.lines().filter_map(|line| line.split_once('\t')) {
            let [database, table] = [database, table].map(|name| {
                let name = hex::decode(name).unwrap_or_default();
                Identifier(&String::from_utf8_lossy(&name)).to_string()
            });
            let detach = format!("DETACH TABLE {database}.{table}");
            if let Err(exception) = self.control.ask(&detach) {
                tracing::warn!(%exception, "cannot detach a replicated table");
            }
        }
    }

    /// Waits while access statements come one after the other. Whoever makes
    /// one user after another makes them known by one opening.
    fn debounce(&self) {
        let started = Instant::now();
        loop {
            let quiet = self.access.last_applied().elapsed();
            let missing = DEBOUNCE.saturating_sub(quiet);
            if missing.is_zero() || started.elapsed() >= LONGEST_DEBOUNCE {
                return;
            }
            std::thread::sleep(missing);
        }
    }

    /// The gate for writing: no query runs any more, none starts.
    async fn drained(&self, deadline: Duration) -> RwLockWriteGuard<'_, Option<OpenEngine>> {
        let write = self.gate.write();
        tokio::pin!(write);
        if let Ok(gate) = tokio::time::timeout(deadline, &mut write).await {
            return gate;
        }
        tracing::warn!(?deadline, "queries run past the deadline and are cancelled");
        loop {
            // Repeated for those that were just about to start.
            self.registry.cancel_inside();
            if let Ok(gate) = tokio::time::timeout(CANCEL_INTERVAL, &mut write).await {
                return gate;
            }
        }
    }

    fn boot(&self, users: &str) -> Result<OpenEngine, EngineError> {
        let data_path = &self.config.data_path;
        write_private(&data_path.join("users.xml"), users)?;
        let arguments = vec![
            format!("--path={}", data_path.join("clickhouse").display()),
            format!("--config-file={}", data_path.join("config.xml").display()),
        ];
        let connection = self
            .api
            .connect(&arguments)
            .ok_or_else(|| EngineError::Open {
                path: data_path.clone(),
            })?;
        Api::survive_exit();
        self.control.set(connection);
        self.openings.fetch_add(1, Ordering::Relaxed);
        Ok(OpenEngine::new(self.api, arguments))
    }

    fn read_info(&self) -> Result<ServerInfo, Exception> {
        let basics = self
            .control
            .ask("SELECT version(), timezone(), hostName()")?;
        let mut fields = basics.trim_end().split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (version, timezone, display_name) = (next(), next(), next());
        let formats = self
            .control
            .ask("SELECT lower(name), content_type FROM system.formats WHERE is_output")?;
        Ok(ServerInfo {
            version,
            timezone,
            display_name,
            content_types: formats
                .lines()
                .filter_map(|line| line.split_once('\t'))
                .map(|(name, content_type)| (name.to_owned(), content_type.to_owned()))
                .collect(),
        })
    }

    /// Ends all queries, at the deadline by force, and closes libchdb.
    pub(crate) async fn close(self: &Arc<Self>) {
        let mut gate = self.drained(self.config.shutdown_deadline).await;
        let engine = gate.take();
        let core = Arc::clone(self);
        let closing = tokio::task::spawn_blocking(move || {
            core.detach_replicated();
            drop(engine);
            core.control.close();
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing libchdb failed");
        }
    }
}

fn closed() -> Exception {
    Exception::new(code::ABORTED, "The engine is shutting down.")
}

fn lock(data_path: &Path) -> Result<File, EngineError> {
    let path = data_path.join("lock");
    let file = File::create(&path).map_err(io_error("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(EngineError::InUse {
            path: data_path.to_owned(),
        }),
        Err(fs::TryLockError::Error(source)) => Err(EngineError::Io {
            action: "lock",
            path,
            source,
        }),
    }
}
