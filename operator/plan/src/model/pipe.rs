//! Pipes, checked: each becomes one template with the pipes it uses inside, in an
//! order in which every pipe comes after those it uses.

use super::claims::Claims;
use super::data_source::ValidDataSource;
use super::metadata::{object_name, uid};
use super::unknown_names::{near, nodes};
use crate::derived_names;
use crate::objects::{ObjectKey, Rejection};
use crate::short_hash::short_hash;
use aviary_crds::Pipe;
use aviary_crds::conditions::Reason;
use aviary_sql::{
    ComposeInput, Identifier, Node, Rendered, TableReference, Template, compose,
    compose_with_pipes, nearest, places,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pipe whose nodes make one template. ClickHouse has not seen it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPipe {
    /// Its Kubernetes name.
    pub object: String,
    /// Its uid.
    pub uid: String,
    /// Its name in SQL and URLs.
    pub name: String,
    /// What it answers.
    pub description: Option<String>,
    /// Whether it is published over HTTP.
    pub has_endpoint: bool,
    /// One statement in the template language, with all that it uses.
    pub template: String,
    /// Changes when the answer may.
    pub revision: String,
    /// The data sources it reads, itself or through other pipes, by name in SQL.
    pub data_sources: BTreeSet<String>,
}

impl ValidPipe {
    /// What ClickHouse is to be asked about before the pipe is published.
    pub fn renderings(&self) -> Vec<Rendered> {
        let template = Template::parse(&self.template);
        template.map_or_else(|_| Vec::new(), |template| template.render_for_check())
    }
}

/// A pipe on its own, before the others are put into it.
struct ParsedPipe<'a> {
    pipe: &'a Pipe,
    name: String,
    endpoint: &'a str,
    /// Its nodes as one template that names other pipes as tables.
    own_template: String,
    /// Pipes it names.
    pipes: BTreeSet<String>,
    /// Data sources it names.
    data_sources: BTreeSet<String>,
}

/// What is wrong with a pipe.
struct InvalidPipe {
    reason: Reason,
    message: String,
}

/// The tables that pipes can read besides each other.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    /// The database they are in.
    pub(super) database: &'a Identifier,
    /// Valid data sources.
    pub(super) data_sources: &'a [ValidDataSource],
}

pub(super) fn check_all(
    tables: Tables<'_>,
    pipes: &[Arc<Pipe>],
    claims: &Claims,
    rejections: &mut Vec<Rejection>,
) -> Vec<ValidPipe> {
    let mut valid = Vec::new();
    let mut drafts: BTreeMap<String, ParsedPipe<'_>> = BTreeMap::new();
    let mut faults: BTreeMap<String, (String, InvalidPipe)> = BTreeMap::new();
    for pipe in pipes {
        let object = object_name(&pipe.metadata);
        let name = derived_names::sql_name(pipe.spec.name.as_deref(), &pipe.metadata);
        if !claims.holds(&ObjectKey::Pipe(object.clone()), &name) {
            continue;
        }
        match draft(tables, pipe, name.clone(), claims) {
            Ok(draft) => {
                drafts.insert(name, draft);
            }
            Err(fault) => {
                faults.insert(name, (object, fault));
            }
        }
    }
    let mut remaining: BTreeSet<String> = drafts.keys().cloned().collect();
    while let Some(name) = next_ready(&drafts, &remaining) {
        remaining.remove(&name);
        let draft = &drafts[&name];
        match finish(tables, draft, &drafts, &faults) {
            Ok(pipe) => valid.push(pipe),
            Err(fault) => {
                faults.insert(name, (object_name(&draft.pipe.metadata), fault));
            }
        }
    }
    for name in &remaining {
        let fault = circle_fault(name, &drafts, &remaining);
        let object = object_name(&drafts[name].pipe.metadata);
        faults.insert(name.clone(), (object, fault));
    }
    let invalid = faults.into_values().map(|(object, fault)| Rejection {
        object: ObjectKey::Pipe(object),
        reason: fault.reason,
        message: fault.message,
    });
    rejections.extend(invalid);
    valid
}

fn draft<'a>(
    tables: Tables<'_>,
    pipe: &'a Pipe,
    name: String,
    claims: &Claims,
) -> Result<ParsedPipe<'a>, InvalidPipe> {
    let invalid = |message: String| InvalidPipe {
        reason: Reason::Invalid,
        message,
    };
    let reserved = (name == "openapi").then(|| {
        "`openapi` is the description of all endpoints: make it anew with another spec.name"
            .to_owned()
    });
    if let Some(refusal) = reserved.or_else(|| derived_names::refusal(&name)) {
        return Err(invalid(refusal));
    }
    let taken = claims.names();
    let clash = pipe
        .spec
        .nodes
        .iter()
        .find(|node| node.name != name && taken.contains(node.name.as_str()));
    if let Some(node) = clash {
        return Err(invalid(format!(
            "nodes[{}]: the name is that of a data source or pipe of this workspace, which the node would hide: rename the node",
            node.name
        )));
    }
    let nodes = nodes(pipe);
    let last = nodes.last().map_or("", |node| node.name);
    let endpoint = pipe
        .spec
        .endpoint
        .as_ref()
        .map_or(last, |endpoint| endpoint.node.as_str());
    let own_template = compose(&nodes, endpoint).map_err(|error| invalid(error.to_string()))?;
    let mut draft = ParsedPipe {
        pipe,
        name,
        endpoint,
        pipes: BTreeSet::new(),
        data_sources: BTreeSet::new(),
        own_template,
    };
    let mut missing = BTreeSet::new();
    check_reach_of(&draft.own_template)?;
    for (table, certain) in tables_of(&draft.own_template).map_err(invalid)? {
        let here = table
            .database
            .as_deref()
            .is_none_or(|database| database == tables.database.as_str());
        if !here {
            continue;
        }
        match claims.holder(&table.name) {
            Some(ObjectKey::Pipe(_)) if table.database.is_none() => {
                draft.pipes.insert(table.name);
            }
            Some(ObjectKey::DataSource(_)) => {
                draft.data_sources.insert(table.name);
            }
            _ => match derived_names::source_of_quarantine(&table.name) {
                Some(source) if matches!(claims.holder(source), Some(ObjectKey::DataSource(_))) => {
                    draft.data_sources.insert(source.to_owned());
                }
                _ if certain => {
                    missing.insert(table.name);
                }
                _ => {}
            },
        }
    }
    if missing.is_empty() {
        return Ok(draft);
    }
    let known: BTreeSet<&str> = taken
        .iter()
        .copied()
        .chain(nodes.iter().map(|node| node.name))
        .collect();
    let missing: Vec<String> = missing
        .iter()
        .map(|name| {
            let place = places(&nodes, name)
                .first()
                .map(|place| format!("{place}: "));
            format!(
                "{}there is no data source, pipe or node named `{name}` in this workspace{}",
                place.unwrap_or_default(),
                near(&nearest(name, known.iter().copied()))
            )
        })
        .collect();
    Err(InvalidPipe {
        reason: Reason::ReferenceNotFound,
        message: missing.join("; "),
    })
}

/// Whether a tenant may run every rendering of the template.
pub fn stays_in_reach(template: &str) -> bool {
    check_reach_of(template).is_ok()
}

fn check_reach_of(template: &str) -> Result<(), InvalidPipe> {
    let fault = |reason, message: String| InvalidPipe { reason, message };
    let template =
        Template::parse(template).map_err(|error| fault(Reason::Invalid, error.to_string()))?;
    for rendered in template.render_for_check() {
        aviary_sql::check_reach(&rendered.sql)
            .map_err(|error| fault(Reason::OutOfReach, error.to_string()))?;
    }
    Ok(())
}

/// The tables that any rendering of the template reads, and whether each is
/// certainly a table: what stands after IN may be a column.
fn tables_of(template: &str) -> Result<BTreeMap<TableReference, bool>, String> {
    let template = Template::parse(template).map_err(|error| error.to_string())?;
    let mut tables = BTreeMap::new();
    for rendered in template.render_for_check() {
        let references = aviary_sql::references(&rendered.sql);
        for table in references.possible_tables {
            tables.entry(table).or_insert(false);
        }
        tables.extend(references.tables.into_iter().map(|table| (table, true)));
    }
    Ok(tables)
}

/// A pipe that uses none of those that still wait.
fn next_ready(
    drafts: &BTreeMap<String, ParsedPipe<'_>>,
    remaining: &BTreeSet<String>,
) -> Option<String> {
    remaining
        .iter()
        .find(|name| drafts[*name].pipes.is_disjoint(remaining))
        .cloned()
}

fn finish(
    tables: Tables<'_>,
    draft: &ParsedPipe<'_>,
    drafts: &BTreeMap<String, ParsedPipe<'_>>,
    faults: &BTreeMap<String, (String, InvalidPipe)>,
) -> Result<ValidPipe, InvalidPipe> {
    if let Some(broken) = draft.pipes.iter().find(|used| faults.contains_key(*used)) {
        return Err(InvalidPipe {
            reason: Reason::DependencyNotReady,
            message: format!("it uses the pipe `{broken}`, which is not valid: see there"),
        });
    }
    let used = transitive(draft, drafts);
    let data_sources: BTreeSet<String> = used
        .iter()
        .map(|name| &drafts[name])
        .chain([draft])
        .flat_map(|pipe| pipe.data_sources.iter().cloned())
        .collect();
    let pipes: Vec<Node<'_>> = used
        .iter()
        .map(|name| Node {
            name,
            sql: &drafts[name].own_template,
        })
        .collect();
    let nodes = nodes(draft.pipe);
    let template = compose_with_pipes(ComposeInput {
        nodes: &nodes,
        pipes: &pipes,
        endpoint: draft.endpoint,
    })
    .map_err(|error| InvalidPipe {
        reason: Reason::Invalid,
        message: error.to_string(),
    })?;
    let revision = revision(tables, &draft.name, &template, &data_sources);
    Ok(ValidPipe {
        object: object_name(&draft.pipe.metadata),
        uid: uid(&draft.pipe.metadata),
        name: draft.name.clone(),
        description: draft.pipe.spec.description.clone(),
        has_endpoint: draft.pipe.spec.endpoint.is_some(),
        template,
        revision,
        data_sources,
    })
}

/// The shapes of the tables belong to it: a new column changes `SELECT *`.
fn revision(
    tables: Tables<'_>,
    name: &str,
    template: &str,
    data_sources: &BTreeSet<String>,
) -> String {
    let shapes = tables
        .data_sources
        .iter()
        .filter(|source| data_sources.contains(&source.name))
        .flat_map(|source| &source.columns)
        .map(|column| format!("{} {}", column.name, column.column_type));
    let shapes: Vec<String> = shapes.collect();
    let parts = [name, template].into_iter();
    short_hash(parts.chain(shapes.iter().map(String::as_str)))
}

/// All pipes that a pipe uses, directly or not.
fn transitive(
    draft: &ParsedPipe<'_>,
    drafts: &BTreeMap<String, ParsedPipe<'_>>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = draft.pipes.iter().collect();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            open.extend(&drafts[name].pipes);
        }
    }
    found
}

/// A pipe is left over because it is in a circle or uses one that is.
fn circle_fault(
    name: &str,
    drafts: &BTreeMap<String, ParsedPipe<'_>>,
    remaining: &BTreeSet<String>,
) -> InvalidPipe {
    let mut path: Vec<&str> = vec![name];
    loop {
        let current = path[path.len() - 1];
        let next = drafts[current]
            .pipes
            .iter()
            .find(|used| remaining.contains(*used));
        let Some(next) = next else {
            // Cannot be: what waits for nothing is not left over.
            return InvalidPipe {
                reason: Reason::DependencyCycle,
                message: format!("pipes use each other in a circle around `{current}`"),
            };
        };
        if let Some(start) = path.iter().position(|seen| seen == next) {
            let in_circle = start == 0;
            path.push(next);
            let circle = path[start..].join(" -> ");
            return if in_circle {
                InvalidPipe {
                    reason: Reason::DependencyCycle,
                    message: format!("pipes use each other in a circle: {circle}"),
                }
            } else {
                InvalidPipe {
                    reason: Reason::DependencyNotReady,
                    message: format!("it uses pipes that use each other in a circle: {circle}"),
                }
            };
        }
        path.push(next);
    }
}
