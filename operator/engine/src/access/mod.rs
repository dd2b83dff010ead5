//! Users, roles, grants, settings profiles and row policies.
//!
//! libchdb reads them from a users.xml when it opens and lets nobody change
//! them. The engine therefore keeps its own list, changed by the same
//! statements a server takes, writes the users.xml from it, and opens libchdb
//! anew before the next query. Enforcement is ClickHouse's own: every user has
//! a helper role with exactly his rights, and his connections `SET ROLE` to it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{EngineError, io_error};
use crate::exception::{Exception, code};
use crate::files::write_private;
use crate::xml::is_unwritable;
use model::{Authentication, DEFAULT_USER, Model, helper};
use pending::Pending;
use session::UserSession;
use statement::AccessStatement;

mod apply;
pub(crate) mod model;
pub(crate) mod parse;
mod pending;
pub(crate) mod session;
pub(crate) mod statement;
mod users_xml;

/// The list of users and their rights, on disk and in memory.
pub(crate) struct Access {
    path: PathBuf,
    default_user: Authentication,
    /// Counts changes; libchdb knows those up to the version it was opened with.
    version: AtomicU64,
    state: Mutex<State>,
}

/// The users at one time.
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    model: Arc<Model>,
}

struct State {
    model: Arc<Model>,
    /// What libchdb last took.
    confirmed: Arc<Model>,
    /// How the two differ.
    pending: Pending,
    applied: Instant,
    sessions: HashMap<String, Arc<UserSession>>,
}

impl State {
    /// Works out anew what libchdb is yet to take. What mattered to everybody does so still, unless
    /// it has taken all.
    fn update_pending(&mut self, is_more_to_take: bool) {
        let mattered = is_more_to_take && self.pending.everybody;
        self.pending = Pending::between(&self.confirmed, &self.model);
        self.pending.everybody |= mattered;
    }
}

impl Access {
    /// Reads the list; a new data path has none.
    pub(crate) fn load(
        path: &Path,
        default_password: Option<&SecretString>,
    ) -> Result<Self, EngineError> {
        let model: Model = if path.exists() {
            let text = fs::read_to_string(path).map_err(io_error("read", path))?;
            serde_json::from_str(&text).map_err(|source| EngineError::AccessFile {
                path: path.to_owned(),
                source,
            })?
        } else {
            Model::default()
        };
        let model = Arc::new(model);
        Ok(Self {
            path: path.to_owned(),
            default_user: default_password.map_or(Authentication::NoPassword, |password| {
                Authentication::of_password(password.expose_secret())
            }),
            version: AtomicU64::new(1),
            state: Mutex::new(State {
                confirmed: Arc::clone(&model),
                model,
                pending: Pending::default(),
                applied: Instant::now(),
                sessions: HashMap::new(),
            }),
        })
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn model(&self) -> Arc<Model> {
        Arc::clone(&self.lock().model)
    }

    /// Whether changes that libchdb is yet to take may matter to this user's statement.
    pub(crate) fn concerns(&self, user: &str, statement: &[u8]) -> bool {
        self.lock().pending.concerns(user, statement)
    }

    /// When the last access statement was applied.
    pub(crate) fn last_applied(&self) -> Instant {
        self.lock().applied
    }

    /// The file for libchdb, and what it holds.
    pub(crate) fn users_xml(&self) -> (Snapshot, String) {
        let state = self.lock();
        let snapshot = Snapshot {
            version: self.version(),
            model: Arc::clone(&state.model),
        };
        (snapshot, users_xml::render(&state.model))
    }

    /// Notes that libchdb took these users.
    pub(crate) fn confirm(&self, taken: Snapshot) {
        let mut state = self.lock();
        state.confirmed = taken.model;
        let is_last = Arc::ptr_eq(&state.confirmed, &state.model);
        state.update_pending(!is_last);
    }

    /// Says that the changes matter to everybody.
    pub(crate) fn concern_everybody(&self) {
        self.lock().pending.everybody = true;
    }

    /// Goes back to the users libchdb last took.
    pub(crate) fn revert(&self) -> (u64, String) {
        let mut state = self.lock();
        state.model = Arc::clone(&state.confirmed);
        state.pending = Pending::default();
        state.sessions.clear();
        if let Err(error) = self.save(&state.model) {
            tracing::error!(%error, "cannot save the list of users");
        }
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        (version, users_xml::render(&state.model))
    }

    /// Applies a statement and saves the outcome before it is answered. Returns the changed users
    /// that libchdb knows.
    pub(crate) fn apply(&self, statement: AccessStatement) -> Result<Vec<String>, Exception> {
        let mut state = self.lock();
        let changed = apply::apply(&state.model, statement)?;
        if changed == *state.model {
            return Ok(Vec::new());
        }
        let is_changed = |name: &&String| changed.users.get(*name) != state.model.users.get(*name);
        let known = state.confirmed.users.keys();
        let touched = known.filter(is_changed).cloned().collect();
        if is_unwritable(&users_xml::render(&changed)) {
            return Err(Exception::new(
                code::BAD_ARGUMENTS,
                "This engine's access control takes no control characters but tabulators and line breaks.",
            ));
        }
        self.save(&changed)
            .map_err(|error| Exception::new(code::LOGICAL_ERROR, error.to_string()))?;
        state.model = Arc::new(changed);
        state.update_pending(true);
        state.applied = Instant::now();
        state.sessions.clear();
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(touched)
    }

    fn save(&self, model: &Model) -> Result<(), EngineError> {
        let text =
            serde_json::to_string_pretty(model).map_err(|source| EngineError::AccessFile {
                path: self.path.clone(),
                source,
            })?;
        write_private(&self.path, &text)
    }

    /// Finds out whose request this is, and what his connections are like. `password` is absent
    /// where the request names no user either.
    pub(crate) fn authenticate(
        &self,
        name: &str,
        password: Option<&SecretString>,
    ) -> Result<Arc<UserSession>, Exception> {
        let mut state = self.lock();
        let model = Arc::clone(&state.model);
        let user = model.users.get(name);
        let known = match user {
            Some(user) => Some(&user.authentication),
            None => Some(&self.default_user).filter(|_| name == DEFAULT_USER),
        };
        let given = password.map_or("", |password| password.expose_secret());
        if !known.is_some_and(|known| known.accepts(given)) {
            return Err(refusal(name, password.is_some()));
        }
        if let Some(session) = state.sessions.get(name) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(match user {
            Some(user) => model.session(name, user),
            None => UserSession {
                user: DEFAULT_USER.to_owned(),
                helper_role: helper(DEFAULT_USER),
                ..UserSession::default()
            },
        });
        state.sessions.insert(name.to_owned(), Arc::clone(&session));
        Ok(session)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same words for a wrong password and an unknown user.
fn refusal(name: &str, is_given: bool) -> Exception {
    let code = if is_given {
        code::AUTHENTICATION_FAILED
    } else {
        code::REQUIRED_PASSWORD
    };
    Exception::new(
        code,
        format!(
            "{name}: Authentication failed: password is incorrect, or there is no user with such name."
        ),
    )
}
