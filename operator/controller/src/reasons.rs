//! Which reason a condition has for what ClickHouse or a connection to it says.

use crate::fleet::ConnectError;
use aviary_clickhouse::Category;
use aviary_crds::conditions::Reason;

/// The reason for what a replica answered, or that it did not.
pub(crate) fn of_category(category: Category) -> Reason {
    match category {
        Category::Silent => Reason::ClickHouseUnreachable,
        Category::Busy => Reason::ClickHouseBusy,
        Category::Credentials => Reason::CredentialsInvalid,
        Category::Refused => Reason::ClickHouseRefused,
        Category::Misconfigured => Reason::Invalid,
    }
}

/// The reason for a cluster that cannot be asked anything.
pub(crate) fn of_connection(error: &ConnectError) -> Reason {
    match error {
        ConnectError::Credentials(_) => Reason::CredentialsInvalid,
        ConnectError::Address { .. } => Reason::Invalid,
        // The cluster itself is not at fault.
        ConnectError::Kubernetes(_) => Reason::Unknown,
    }
}
