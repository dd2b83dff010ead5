//! What a user's connections are set up with.

/// Everything about a user that a connection needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct UserSession {
    pub(crate) user: String,
    /// The role that holds the user's own grants.
    pub(crate) helper_role: String,
    /// The roles active beside it.
    pub(crate) roles: Vec<String>,
    /// The values of the user's settings, `readonly` aside.
    pub(crate) values: Vec<(String, String)>,
    pub(crate) readonly: u8,
    /// The profile with the constraints on the user's settings.
    pub(crate) profile: Option<String>,
    /// In whose name the user's views run.
    pub(crate) definer: Option<String>,
    pub(crate) default_database: Option<String>,
}
