//! Users, roles, grants, settings profiles and row policies.
//!
//! libchdb reads them from a users.xml when it opens and lets nobody change
//! them. The engine therefore keeps its own list, changed by the same
//! statements a server takes, writes the users.xml from it, and opens libchdb
//! anew before the next query. Enforcement is ClickHouse's own: every user has
//! a helper role with exactly his rights, and his connections `SET ROLE` to it.

use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::error::EngineError;
use crate::exception::{Exception, code};
use crate::http::auth::Credentials;
use session::UserSession;

pub(crate) mod session;
pub(crate) mod users_xml;

pub(crate) struct Access {
    password: Option<SecretString>,
}

impl Access {
    pub(crate) fn load(_path: &Path, password: Option<&SecretString>) -> Result<Self, EngineError> {
        Ok(Self {
            password: password.cloned(),
        })
    }
    pub(crate) fn users_xml(&self) -> (u64, String) {
        (1, "<clickhouse><profiles><default></default></profiles><roles><aviary-user-default><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants></aviary-user-default></roles><users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota><grants><query>GRANT `aviary-user-default`</query></grants></default></users><quotas><default></default></quotas></clickhouse>".to_owned())
    }
    pub(crate) fn version(&self) -> u64 {
        1
    }
    pub(crate) fn confirm(&self, _version: u64) {}
    pub(crate) fn revert(&self) -> (u64, String) {
        self.users_xml()
    }
    pub(crate) fn authenticate(
        &self,
        credentials: &Credentials,
        _roles: &[String],
    ) -> Result<Arc<UserSession>, Exception> {
        if credentials.user != "default"
            || self
                .password
                .as_ref()
                .is_some_and(|p| p.expose_secret() != credentials.password.expose_secret())
        {
            return Err(Exception::new(code::AUTHENTICATION_FAILED, "x"));
        }
        Ok(Arc::new(UserSession::unlimited(
            "default",
            "aviary-user-default",
        )))
    }
}
