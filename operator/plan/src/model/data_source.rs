//! A data source, checked: types parsed, expressions guarded, the TTL policy
//! turned into an expression.

use super::claims::Claims;
use super::metadata::{object_name, uid};
use crate::catalog::is_tuple;
use crate::column_type::ColumnType;
use crate::derived_names;
use crate::expression_guard::{check_scalar, check_ttl};
use crate::objects::{ObjectKey, Rejection};
use crate::ttl::{LONGEST_DAYS, guarded, guarded_clause};
use aviary_crds::DeletionPolicy;
use aviary_crds::conditions::Reason;
use aviary_crds::data_source::{CsvDialect, DataSource, DataSourceSpec, Engine, EngineType, Ttl};
use aviary_crds::published::{PublishedColumn, PublishedDataSource};
use aviary_crds::quantity::Duration;
use std::sync::Arc;

const SECONDS_PER_DAY: u64 = 86_400;

/// A data source whose spec is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidDataSource {
    /// Its Kubernetes name.
    pub object: String,
    /// Its uid.
    pub uid: String,
    /// Its name in SQL.
    pub name: String,
    /// What the data is.
    pub description: Option<String>,
    /// Its columns in order.
    pub columns: Vec<ValidColumn>,
    /// Its engine.
    pub engine: EngineType,
    /// The engine's arguments as SQL.
    pub engine_arguments: Vec<String>,
    /// Parts of the sorting key as SQL.
    pub sorting_key: Vec<String>,
    /// The partition key as SQL.
    pub partition_key: Option<String>,
    /// The TTL clause.
    pub ttl: Option<String>,
    /// How long rows stay in quarantine.
    pub quarantine_keep: Keep,
    /// How CSV files are written.
    pub csv: CsvDialect,
    /// What becomes of the table when the object is deleted.
    pub deletion: DeletionPolicy,
}

/// How long rows are kept, so that ClickHouse can reckon with it: at least a second, and not so
/// long that dates overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    seconds: u64,
}

impl Keep {
    fn new(duration: &Duration) -> Result<Self, String> {
        let seconds = duration.get().as_secs();
        if seconds == 0 {
            return Err("must be at least 1s: shorter would delete rows at once".to_owned());
        }
        if seconds > LONGEST_DAYS * SECONDS_PER_DAY {
            return Err(format!(
                "must not exceed {LONGEST_DAYS}d: later dates overflow ClickHouse's type and rows would be deleted at once"
            ));
        }
        Ok(Self { seconds })
    }

    /// When something ends that began at a moment, as SQL.
    pub(crate) fn after(self, moment: &str) -> String {
        let seconds = self.seconds;
        if seconds.is_multiple_of(SECONDS_PER_DAY) {
            format!("{moment} + toIntervalDay({})", seconds / SECONDS_PER_DAY)
        } else {
            format!("{moment} + toIntervalSecond({seconds})")
        }
    }
}

/// A column whose type is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// The values that the engine takes of it; all of its type if there are none here.
    pub allowed: Vec<i64>,
    /// Where its value stands in a JSON row.
    pub json_path: String,
    /// SQL expression for rows that do not give a value.
    pub default: Option<String>,
    /// Codecs as ClickHouse writes them.
    pub codec: Option<String>,
    /// What the column is.
    pub comment: Option<String>,
}

impl ValidDataSource {
    /// Everything that the ClickHouse table is made from, as one text to hash.
    pub(crate) fn definition(&self) -> String {
        let Self {
            object: _,
            uid: _,
            name,
            description,
            columns,
            engine,
            engine_arguments,
            sorting_key,
            partition_key,
            ttl,
            quarantine_keep,
            csv: _,
            deletion,
        } = self;
        let columns: Vec<_> = columns
            .iter()
            .map(|column| {
                let ValidColumn {
                    name,
                    column_type,
                    // From the engine's arguments, which are here, too.
                    allowed: _,
                    json_path: _,
                    default,
                    codec,
                    comment,
                } = column;
                (name, column_type.to_string(), default, codec, comment)
            })
            .collect();
        format!(
            "{:?}",
            (
                name,
                description,
                columns,
                engine.as_str(),
                engine_arguments,
                sorting_key,
                partition_key,
                ttl,
                quarantine_keep.seconds,
                deletion
            )
        )
    }

    /// What gateways need to ingest, once ClickHouse has this shape.
    pub fn published(&self) -> PublishedDataSource {
        let columns = self.columns.iter().map(|column| PublishedColumn {
            name: column.name.clone(),
            column_type: column.column_type.to_string(),
            allowed: column.allowed.clone(),
            json_path: column.json_path.clone(),
            has_default: column.default.is_some(),
        });
        PublishedDataSource {
            name: self.name.clone(),
            columns: columns.collect(),
            csv: self.csv.clone(),
        }
    }
}

pub(super) fn check_all(
    data_sources: &[Arc<DataSource>],
    claims: &Claims,
    rejections: &mut Vec<Rejection>,
) -> Vec<ValidDataSource> {
    let mut valid = Vec::new();
    for source in data_sources {
        let object = ObjectKey::DataSource(object_name(&source.metadata));
        let name = derived_names::sql_name(source.spec.name.as_deref(), &source.metadata);
        if !claims.holds(&object, &name) {
            continue;
        }
        match check(source, name) {
            Ok(source) => valid.push(source),
            Err(faults) => rejections.push(Rejection {
                object,
                reason: Reason::Invalid,
                message: faults.join("; "),
            }),
        }
    }
    valid
}

fn check(source: &DataSource, name: String) -> Result<ValidDataSource, Vec<String>> {
    let spec = &source.spec;
    let mut faults: Vec<String> = derived_names::refusal(&name).into_iter().collect();
    let names: Vec<&str> = spec.columns.iter().map(|it| it.name.as_str()).collect();
    let columns = check_columns(spec, &names, &mut faults);
    let engine_arguments = check_engine(spec, &mut faults);
    for (index, part) in spec.sorting_key.iter().enumerate() {
        if let Err(error) = check_scalar(part, &names) {
            faults.push(format!("sortingKey[{index}]: {error}"));
        } else if is_tuple(part) {
            faults.push(format!(
                "sortingKey[{index}]: `{part}` is a tuple: give each part of it an item of its own, and leave sortingKey out for insertion order"
            ));
        }
    }
    if let Some(Err(error)) = spec
        .partition_key
        .as_deref()
        .map(|key| check_scalar(key, &names))
    {
        faults.push(format!("partitionKey: {error}"));
    }
    let ttl = match spec
        .ttl
        .as_ref()
        .map(|ttl| check_policy(ttl, &columns, &names))
    {
        None => None,
        Some(Ok(clause)) => Some(clause),
        Some(Err(fault)) => {
            faults.push(format!("ttl{fault}"));
            None
        }
    };
    let quarantine_keep = match Keep::new(&spec.quarantine.keep) {
        Ok(keep) if faults.is_empty() => keep,
        Ok(_) => return Err(faults),
        Err(fault) => {
            faults.push(format!("quarantine.keep: {fault}"));
            return Err(faults);
        }
    };
    Ok(ValidDataSource {
        object: object_name(&source.metadata),
        uid: uid(&source.metadata),
        name,
        description: spec.description.clone(),
        columns,
        engine: spec.engine.engine_type,
        engine_arguments,
        sorting_key: spec.sorting_key.clone(),
        partition_key: spec.partition_key.clone(),
        ttl,
        quarantine_keep,
        csv: spec.csv.clone(),
        deletion: spec.deletion_policy,
    })
}

fn check_columns(
    spec: &DataSourceSpec,
    names: &[&str],
    faults: &mut Vec<String>,
) -> Vec<ValidColumn> {
    let mut valid: Vec<ValidColumn> = Vec::with_capacity(spec.columns.len());
    for column in &spec.columns {
        let name = &column.name;
        if valid.iter().any(|other| other.name == *name) {
            faults.push(format!("columns: `{name}` stands twice"));
            continue;
        }
        if name.starts_with("c__") || !aviary_sql::is_plain_name(name) {
            faults.push(format!(
                "columns: `{name}` cannot be a name here: use letters, digits and underscores, not beginning with `c__`"
            ));
        }
        if let Some(Err(error)) = column
            .default
            .as_deref()
            .map(|default| check_scalar(default, names))
        {
            faults.push(format!("columns[{name}].default: {error}"));
        }
        let codec = match column.codec.as_deref().map(canonical_codec) {
            None => None,
            Some(Ok(codec)) => Some(codec),
            Some(Err(fault)) => {
                faults.push(format!("columns[{name}].codec: {fault}"));
                None
            }
        };
        match ColumnType::parse(&column.column_type) {
            Ok(column_type) => valid.push(ValidColumn {
                name: name.clone(),
                column_type,
                allowed: allowed(&spec.engine, name),
                json_path: column
                    .json_path
                    .clone()
                    .unwrap_or_else(|| format!("$.{name}")),
                default: column.default.clone(),
                codec,
                comment: column.comment.clone().filter(|text| !text.is_empty()),
            }),
            Err(error) => faults.push(format!("columns[{name}].type: {error}")),
        }
    }
    valid
}

/// ClickHouse fails an INSERT as a whole if one of its rows has another value here.
fn allowed(engine: &Engine, column: &str) -> Vec<i64> {
    let is = |argument: &Option<String>| argument.as_deref() == Some(column);
    if is(&engine.sign) {
        vec![1, -1]
    } else if is(&engine.is_deleted) {
        vec![0, 1]
    } else {
        Vec::new()
    }
}

/// The arguments of the engine, each a column of the table.
fn check_engine(spec: &DataSourceSpec, faults: &mut Vec<String>) -> Vec<String> {
    let engine = &spec.engine;
    let mut known = |field: &str, name: &str| {
        if !spec.columns.iter().any(|column| column.name == name) {
            faults.push(format!("engine.{field}: there is no column `{name}`"));
        }
        name.to_owned()
    };
    let mut arguments = Vec::new();
    if let Some(sign) = &engine.sign {
        arguments.push(known("sign", sign));
    }
    if let Some(version) = &engine.version {
        arguments.push(known("version", version));
    }
    if let Some(is_deleted) = &engine.is_deleted {
        arguments.push(known("isDeleted", is_deleted));
    }
    if let Some(columns) = &engine.columns {
        let columns: Vec<String> = columns.iter().map(|name| known("columns", name)).collect();
        arguments.push(format!("({})", columns.join(", ")));
    }
    arguments
}

fn check_policy(ttl: &Ttl, columns: &[ValidColumn], names: &[&str]) -> Result<String, String> {
    if let Some(expression) = &ttl.expression {
        let checked = check_ttl(expression, names).map_err(|error| error.to_string());
        let times: Vec<&str> = columns
            .iter()
            .filter(|column| is_time(&column.column_type))
            .map(|column| column.name.as_str())
            .collect();
        return checked
            .and_then(|()| guarded_clause(expression, &times))
            .map_err(|fault| format!(".expression: {fault}"));
    }
    let (Some(name), Some(keep)) = (&ttl.column, &ttl.keep) else {
        return Err(": give column and keep, or expression".to_owned());
    };
    let Some(column) = columns.iter().find(|column| column.name == *name) else {
        return Err(format!(
            ".column: there is no column `{name}` of a valid type"
        ));
    };
    let moment = match &column.column_type {
        ColumnType::Date | ColumnType::DateTime { .. } => name.clone(),
        ColumnType::Date32 => format!("toDate({name})"),
        ColumnType::DateTime64 { .. } => format!("toDateTime({name})"),
        other => {
            return Err(format!(
                ".column: `{name}` is {other}, and must be Date, Date32, DateTime or DateTime64 without Nullable"
            ));
        }
    };
    match Keep::new(keep) {
        Ok(keep) => Ok(guarded(&keep.after(&moment), &[name])),
        Err(fault) => Err(format!(".keep: {fault}; leave ttl out to keep rows")),
    }
}

fn is_time(column_type: &ColumnType) -> bool {
    matches!(
        column_type,
        ColumnType::Date
            | ColumnType::Date32
            | ColumnType::DateTime { .. }
            | ColumnType::DateTime64 { .. }
    )
}

/// A list of codecs, spaced as ClickHouse does it.
fn canonical_codec(text: &str) -> Result<String, String> {
    const KNOWN: [&str; 10] = [
        "NONE",
        "LZ4",
        "LZ4HC",
        "ZSTD",
        "T64",
        "Delta",
        "DoubleDelta",
        "Gorilla",
        "FPC",
        "GCD",
    ];
    let mut codecs = Vec::new();
    let mut rest = text.trim();
    loop {
        let name_end = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_end);
        let Some(known) = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            return Err(format!("`{name}` is not one of {}", KNOWN.join(", ")));
        };
        let mut codec = (*known).to_owned();
        let mut after = after.trim_start();
        if let Some(inner) = after.strip_prefix('(') {
            let Some((arguments, tail)) = inner.split_once(')') else {
                return Err("a bracket is not closed".to_owned());
            };
            let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
            let plain = |argument: &&str| {
                argument.parse::<u16>().is_ok() || matches!(*argument, "'bit'" | "'byte'")
            };
            if !arguments.iter().all(plain) {
                return Err(format!("the arguments of {known} must be numbers"));
            }
            codec = format!("{codec}({})", arguments.join(", "));
            after = tail.trim_start();
        }
        codecs.push(codec);
        if after.is_empty() {
            return Ok(codecs.join(", "));
        }
        rest = after
            .strip_prefix(',')
            .ok_or_else(|| format!("expected a comma before `{after}`"))?
            .trim_start();
    }
}
