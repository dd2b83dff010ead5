//! What the index is told: objects, and what each of them publishes.

use aviary_crds::published::{
    PublishedDataSource, PublishedPipe, PublishedWorkspace, WorkspaceAccess,
};

/// The kinds of objects the gateway is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `Workspace`.
    Workspace,
    /// `DataSource`.
    DataSource,
    /// `Pipe`.
    Pipe,
    /// The Secret with a workspace's users and token hashes.
    Access,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An object, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Object {
    /// Which object.
    pub key: ObjectKey,
    /// When it was made, and its uid: of two that claim one name, the older is served.
    pub age: (i64, String),
    /// What it publishes.
    pub published: Published,
}

/// What an object publishes.
#[derive(Clone, Debug)]
pub enum Published {
    /// Of a `Workspace`.
    Workspace(PublishedWorkspace),
    /// Of a `DataSource` and the workspace it names.
    DataSource(String, PublishedDataSource),
    /// Of a `Pipe` and the workspace it names.
    Pipe(String, PublishedPipe),
    /// Of a published-workspace Secret.
    Access(WorkspaceAccess),
}
