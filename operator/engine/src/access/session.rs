//! What a user's connections are set up with.

/// Everything about a user that a connection needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// Settings the user may change although he is read-only.
    pub(crate) changeable_in_readonly: Vec<String>,
    /// In whose name the user's views run.
    pub(crate) definer: Option<String>,
    pub(crate) default_database: Option<String>,
}

impl UserSession {
    pub(crate) fn unlimited(user: &str, helper_role: &str) -> Self {
        Self {
            user: user.to_owned(),
            helper_role: helper_role.to_owned(),
            roles: Vec::new(),
            values: Vec::new(),
            readonly: 0,
            profile: None,
            changeable_in_readonly: Vec::new(),
            definer: None,
            default_database: None,
        }
    }
}
