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

use crate::core::write_private;
use crate::error::{EngineError, io_error};
use crate::exception::{Exception, code};
use crate::http::auth::Credentials;
use crate::sql::statement::Statement;
use dependents::Dependents;
use model::{Authentication, DEFAULT_USER, Model, helper};
use pending::Pending;
use session::UserSession;
use statement::AccessStatement;

mod apply;
mod dependents;
pub(crate) mod describe;
pub(crate) mod model;
pub(crate) mod parse;
mod parse_grants;
mod parse_settings;
mod pending;
mod question;
pub(crate) mod session;
pub(crate) mod statement;
pub(crate) mod users_xml;

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
    dependents: Dependents,
    applied: Instant,
    sessions: HashMap<(String, Vec<String>), Arc<UserSession>>,
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
                dependents: Dependents::default(),
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
    pub(crate) fn concerns(&self, user: &str, database: &str, statement: &[u8]) -> bool {
        let State {
            pending,
            dependents,
            ..
        } = &*self.lock();
        pending.concerns(dependents, user, database, statement)
    }

    /// Notes what a statement is about to make that acts in a user's name later.
    pub(crate) fn note_dependents(&self, statement: &Statement<'_>, user: &str, database: &str) {
        self.lock().dependents.note(statement, user, database);
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
        state.pending = Pending::between(&state.confirmed, &state.model);
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

    /// Applies a statement and saves the outcome before it is answered.
    pub(crate) fn apply(&self, statement: AccessStatement) -> Result<(), Exception> {
        let mut state = self.lock();
        let changed = apply::apply(&state.model, statement)?;
        if changed == *state.model {
            return Ok(());
        }
        if users_xml::is_unwritable(&users_xml::render(&changed)) {
            return Err(Exception::new(
                code::BAD_ARGUMENTS,
                "This engine's access control takes no control characters but tabulators and line breaks.",
            ));
        }
        self.save(&changed)
            .map_err(|error| Exception::new(code::LOGICAL_ERROR, error.to_string()))?;
        state.model = Arc::new(changed);
        state.pending = Pending::between(&state.confirmed, &state.model);
        state.applied = Instant::now();
        state.sessions.clear();
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn save(&self, model: &Model) -> Result<(), EngineError> {
        let text =
            serde_json::to_string_pretty(model).map_err(|source| EngineError::AccessFile {
                path: self.path.clone(),
                source,
            })?;
        write_private(&self.path, &text)
    }

    /// Finds out whose request this is, and what his connections are like.
    pub(crate) fn authenticate(
        &self,
        credentials: &Credentials,
        roles: &[String],
    ) -> Result<Arc<UserSession>, Exception> {
        let mut state = self.lock();
        let name = &credentials.user;
        let model = Arc::clone(&state.model);
        let user = model.users.get(name);
        let authentication = if name == DEFAULT_USER {
            Some(&self.default_user)
        } else {
            user.map(|user| &user.authentication)
        };
        if !authentication.is_some_and(|known| known.accepts(credentials.password.expose_secret()))
        {
            return Err(refusal(credentials));
        }
        let key = (name.clone(), roles.to_vec());
        if let Some(session) = state.sessions.get(&key) {
            return Ok(Arc::clone(session));
        }
        let session = match user {
            None => default_session(&model, roles)?,
            Some(user) => {
                let roles = if roles.is_empty() {
                    user.active_roles()
                } else {
                    check_granted(roles, |role| user.grants.roles.contains_key(role))?;
                    roles.to_vec()
                };
                model.session(name, user, roles)
            }
        };
        let session = Arc::new(session);
        state.sessions.insert(key, Arc::clone(&session));
        Ok(session)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn default_session(model: &Model, roles: &[String]) -> Result<UserSession, Exception> {
    check_granted(roles, |role| model.roles.contains_key(role))?;
    let mut session = UserSession::unlimited(DEFAULT_USER, &helper(DEFAULT_USER));
    session.roles = roles.to_vec();
    Ok(session)
}

fn check_granted(roles: &[String], granted: impl Fn(&str) -> bool) -> Result<(), Exception> {
    match roles.iter().find(|role| !granted(role)) {
        None => Ok(()),
        Some(role) => Err(Exception::new(
            code::SET_NON_GRANTED_ROLE,
            format!("Role {role} should be granted to set as a current."),
        )),
    }
}

/// The same words for a wrong password and an unknown user.
fn refusal(credentials: &Credentials) -> Exception {
    let code = if credentials.given {
        code::AUTHENTICATION_FAILED
    } else {
        code::REQUIRED_PASSWORD
    };
    Exception::new(
        code,
        format!(
            "{}: Authentication failed: password is incorrect, or there is no user with such name.",
            credentials.user
        ),
    )
}
