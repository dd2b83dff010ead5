//! Names of what Aviary makes in ClickHouse, from the names of what people wrote.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The table that takes raw rows for a data source.
pub fn landing(data_source: &str) -> String {
    format!("{data_source}__landing")
}

/// The view that writes typed rows.
pub fn ingest(data_source: &str) -> String {
    format!("{data_source}__ingest")
}

/// The view that writes all other rows to quarantine.
pub fn reject(data_source: &str) -> String {
    format!("{data_source}__reject")
}

/// The table with the rows that did not convert.
pub fn quarantine(data_source: &str) -> String {
    format!("{data_source}_quarantine")
}

/// The data source whose quarantine a table of this name is; no data source can have such a name.
pub fn source_of_quarantine(table: &str) -> Option<&str> {
    table.strip_suffix("_quarantine")
}

/// The user that runs endpoint queries.
pub fn reader(database: &str) -> String {
    format!("{database}__reader")
}

/// The user that writes rows.
pub fn writer(database: &str) -> String {
    format!("{database}__writer")
}

/// The name of a data source or pipe in SQL.
pub(crate) fn sql_name(spec_name: Option<&str>, metadata: &ObjectMeta) -> String {
    aviary_crds::names::sql_name(spec_name, metadata.name.as_deref().unwrap_or_default())
}

/// Whether Aviary keeps the name for tables of its own, and why a data source or
/// pipe cannot have it. The schema says so for `spec.name`; a name that comes from
/// `metadata.name` is checked only here.
pub(crate) fn refusal(name: &str) -> Option<String> {
    if name.contains("__") {
        return Some(format!(
            "the name `{name}` holds `__`, which Aviary uses for tables of its own: make it anew with a spec.name"
        ));
    }
    if source_of_quarantine(name).is_some() {
        return Some(format!(
            "the name `{name}` ends in `_quarantine`, which Aviary uses for tables of its own: make it anew with a spec.name"
        ));
    }
    if !aviary_sql::is_plain_name(name) {
        return Some(format!(
            "the name `{name}` cannot stand in SQL without quotes: make it anew with a spec.name of letters, digits and underscores"
        ));
    }
    None
}
