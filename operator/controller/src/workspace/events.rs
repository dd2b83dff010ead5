//! What a pass did, told as one event an object and kind of change.

use crate::events::Event;
use crate::index::Members;
use crate::workspace::replicas::OnReplica;
use aviary_crds::event_reasons::EventReason;
use aviary_plan::ObjectKey;
use aviary_plan::planner::{Action, Step};
use aviary_runtime::events::EventRecorder;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tells of the steps that were done.
pub(crate) fn tell(
    events: &EventRecorder,
    workspace: &ObjectReference,
    members: &Members,
    outcomes: &[OnReplica],
) {
    let works = outcomes.iter().filter_map(|outcome| {
        let work = outcome.work.as_ref().ok()?;
        Some((outcome.name.as_str(), work.done.as_slice()))
    });
    let describe = |step: &Step| describe(step, members);
    for (object, event) in changes(works, outcomes.len(), describe) {
        let reference = reference(&object, members).unwrap_or_else(|| workspace.clone());
        events.publish(&reference, (&event).into());
    }
}

/// One event for each object and reason. What is made for the first time is told once, on the
/// workspace: at scale an event for each object would cost more than the object.
fn changes<'a>(
    done: impl Iterator<Item = (&'a str, &'a [Step])>,
    replicas: usize,
    describe: impl Fn(&Step) -> String,
) -> Vec<(ObjectKey, Event)> {
    let mut told: BTreeMap<(ObjectKey, EventReason), BTreeMap<String, BTreeSet<&str>>> =
        BTreeMap::new();
    for (replica, steps) in done {
        for step in steps.iter().filter(|step| is_worth_telling(step)) {
            told.entry((step.object.clone(), step.event_reason()))
                .or_default()
                .entry(describe(step))
                .or_default()
                .insert(replica);
        }
    }
    told.into_iter()
        .map(|((object, reason), steps)| {
            let steps = steps.into_iter().map(|(step, on)| {
                if on.len() == replicas {
                    return step;
                }
                let on: Vec<&str> = on.into_iter().collect();
                format!("{step} on {}", on.join(", "))
            });
            let what = steps.collect::<Vec<_>>().join("; ");
            (object, event(reason, what))
        })
        .collect()
}

/// What was done, and of a policy on age what it will do.
fn describe(step: &Step, members: &Members) -> String {
    let ttl = match (&step.action, &step.object) {
        (Action::ModifyTtl { ttl: Some(_), .. }, ObjectKey::DataSource(name)) => {
            let source = find_object(&members.data_sources, name);
            source.and_then(|source| source.spec.ttl.as_ref())
        }
        _ => None,
    };
    match ttl.map(|ttl| (&ttl.column, &ttl.keep)) {
        Some((Some(column), Some(keep))) => {
            format!("{step}; rows expire {keep} after their `{column}`")
        }
        _ => step.to_string(),
    }
}

fn is_worth_telling(step: &Step) -> bool {
    match step.event_reason() {
        EventReason::Created => matches!(step.action, Action::CreateDatabase { .. }),
        _ => !step.is_bookkeeping(),
    }
}

fn event(reason: EventReason, what: String) -> Event {
    match reason {
        EventReason::DriftRepaired => Event::DriftRepaired { what },
        EventReason::Dropped => Event::Dropped { what },
        EventReason::Released => Event::Released { what },
        EventReason::Created => Event::Created { what },
        EventReason::Updated => Event::Updated { what },
    }
}

fn reference(object: &ObjectKey, members: &Members) -> Option<ObjectReference> {
    match object {
        ObjectKey::Workspace => None,
        ObjectKey::DataSource(name) => find(&members.data_sources, name),
        ObjectKey::Pipe(name) => find(&members.pipes, name),
        ObjectKey::AccessToken(name) => find(&members.access_tokens, name),
    }
}

fn find<K: Resource<DynamicType = ()>>(objects: &[Arc<K>], name: &str) -> Option<ObjectReference> {
    let object = find_object(objects, name)?;
    Some(object.object_ref(&()))
}

fn find_object<'a, K: Resource>(objects: &'a [Arc<K>], name: &str) -> Option<&'a Arc<K>> {
    objects.iter().find(|object| object.name_any() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aviary_plan::catalog::Catalog;
    use aviary_plan::{Scope, Why};

    fn step(object: ObjectKey, name: &str, why: Why) -> Step {
        let database = crate::testing::model().database;
        Step {
            database: Catalog::empty(database).name,
            object,
            scope: Scope::Object,
            action: Action::DropView {
                name: name.to_owned(),
            },
            why,
        }
    }

    #[test]
    fn steps_of_an_object_are_told_together_and_where_if_not_everywhere() {
        let source = ObjectKey::DataSource("s".to_owned());
        let both = step(source.clone(), "v1", Why::Drifted);
        let one = step(source.clone(), "v2", Why::Drifted);
        let fresh = step(source.clone(), "v3", Why::Missing);
        let (a, b) = ([both.clone(), one, fresh], [both]);
        let done = [("a", &a[..]), ("b", &b[..])].into_iter();
        let told = changes(done, 2, Step::to_string);
        let what = "drop the view v1; drop the view v2 on a".to_owned();
        assert_eq!(told, vec![(source, Event::DriftRepaired { what })]);
    }
}
