//! A ClickHouse of a test's own, with a workspace, for gateways that the test puts before it.

use super::engine::start_engine;
use super::gateway::Served;
use super::process::Process;
use super::workspace::{ALL, Workspace};
use super::{Admin, Caller, scratch};
use aviary_crds::published::PublishedWorkspace;
use std::path::PathBuf;

/// An engine with a workspace.
pub(crate) struct Scene {
    data: PathBuf,
    pub(crate) engine: Process,
    pub(crate) admin: Admin,
    pub(crate) shop: Workspace,
}

impl Scene {
    /// Starts an engine with data of this name, and makes what the manifests ask for.
    pub(crate) async fn new(name: &str, manifests: &str) -> Self {
        let data = scratch(name);
        let engine = start_engine(&data, 0);
        let admin = Admin::new(engine.address);
        let shop = Workspace::make(&admin, manifests).await;
        Self {
            data,
            engine,
            admin,
            shop,
        }
    }

    /// Somebody who may do everything in the workspace, through this gateway.
    pub(crate) fn caller(&self, served: &Served) -> Caller {
        self.variant(served, "shop", |_| {})
    }

    /// The same in the workspace under another name, published otherwise.
    pub(crate) fn variant(
        &self,
        served: &Served,
        name: &str,
        change: impl FnOnce(&mut PublishedWorkspace),
    ) -> Caller {
        let mut published = self.shop.published.clone();
        change(&mut published);
        let token = format!("token of {name}");
        let index = served.gateway.index();
        self.shop.publish_as(index, name, &published, &token, ALL);
        Caller::new(served.address, &token)
    }

    /// Rows in a table of the workspace.
    pub(crate) async fn count(&self, table: &str) -> u64 {
        let table = self.shop.table(table);
        self.admin
            .number(&format!("SELECT count() FROM {table}"))
            .await
    }

    /// Starts the engine again, which was killed, at its address.
    pub(crate) fn revive(&mut self) {
        self.engine = start_engine(&self.data, self.engine.address.port());
        self.admin = Admin::new(self.engine.address);
    }
}
