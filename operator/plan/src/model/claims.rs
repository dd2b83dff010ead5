//! Who of several objects that want one name has it.

use super::metadata::{object_name, precedence, uid};
use crate::derived_names;
use crate::last_published::LastPublished;
use crate::objects::{ObjectKey, Rejection};
use aviary_crds::conditions::Reason;
use aviary_crds::{DataSource, Pipe};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who has which name in SQL. Data sources and pipes share one name space; of two
/// objects that want a name the older has it.
pub(super) struct Claims {
    holders: BTreeMap<String, ObjectKey>,
}

impl Claims {
    pub(super) fn of(
        data_sources: &[Arc<DataSource>],
        pipes: &[Arc<Pipe>],
        last: &LastPublished,
        rejections: &mut Vec<Rejection>,
    ) -> Self {
        let sources = data_sources.iter().map(|source| {
            let object = ObjectKey::DataSource(object_name(&source.metadata));
            let name = derived_names::sql_name(source.spec.name.as_deref(), &source.metadata);
            let has_it = last.names.get(&uid(&source.metadata)) == Some(&name);
            (name, precedence(&source.metadata, has_it), object)
        });
        let pipes = pipes.iter().map(|pipe| {
            let object = ObjectKey::Pipe(object_name(&pipe.metadata));
            let name = derived_names::sql_name(pipe.spec.name.as_deref(), &pipe.metadata);
            let has_it = last.names.get(&uid(&pipe.metadata)) == Some(&name);
            (name, precedence(&pipe.metadata, has_it), object)
        });
        let mut wanted: Vec<_> = sources.chain(pipes).collect();
        wanted.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
        let mut holders: BTreeMap<String, ObjectKey> = BTreeMap::new();
        for (name, _, object) in wanted {
            if let Some(holder) = holders.get(&name) {
                rejections.push(Rejection {
                    message: format!(
                        "the name `{name}` is taken by {holder} in this workspace: make this one anew with another spec.name"
                    ),
                    object,
                    reason: Reason::NameConflict,
                });
            } else {
                holders.insert(name, object);
            }
        }
        Self { holders }
    }

    pub(super) fn holds(&self, object: &ObjectKey, name: &str) -> bool {
        self.holders.get(name) == Some(object)
    }

    pub(super) fn holder(&self, name: &str) -> Option<&ObjectKey> {
        self.holders.get(name)
    }

    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.holders.keys().map(String::as_str).collect()
    }
}
