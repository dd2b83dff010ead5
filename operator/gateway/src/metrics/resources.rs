//! What requests are about, and what is counted of each: a pipe, a data source, or a workspace where
//! it is neither. Its series live as long as it is served.

use super::route_kind::RouteKind;
use super::series::Series;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Label sets, each a resource with a route, that have series of their own. Each has about twenty (a
/// histogram's buckets, statuses, outcomes of rows), so that a gateway exports twenty thousand at
/// most, which a Prometheus takes of one target without being prepared for it; and each takes 256
/// bytes of every worker. A workspace may have as many as it leaves free, so that none hides what
/// others do; what comes later is counted together.
pub(super) const MOST_LABEL_SETS: usize = 1000;

/// A pipe or a data source of a workspace, or the workspace itself.
pub(crate) struct Resource {
    pub(crate) name: ResourceName,
    /// From the first request of each kind on.
    series: [OnceLock<Arc<Series>>; RouteKind::COUNT],
    all: Resources,
}

/// How a resource is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResourceName {
    pub(crate) namespace: String,
    pub(crate) workspace: String,
    pub(crate) kind: ResourceKind,
    /// Its own name; empty for a workspace.
    pub(crate) name: String,
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ResourceKind {
    Workspace,
    Pipe,
    DataSource,
}

/// All resources that are served.
#[derive(Clone, Default)]
pub(super) struct Resources(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<BTreeMap<ResourceName, Weak<Resource>>>,
    label_sets: Mutex<LabelSets>,
    /// What those share that came too late.
    others: [OnceLock<Arc<Series>>; RouteKind::COUNT],
}

/// Label sets that resources have of their own.
#[derive(Default)]
struct LabelSets {
    all: usize,
    /// By namespace and name of the workspace; one without any is not there.
    by_workspace: BTreeMap<(String, String), usize>,
}

impl LabelSets {
    /// Takes one for a workspace, if there is one left for it.
    fn take(&mut self, workspace: (String, String)) -> bool {
        let own = self.by_workspace.get(&workspace).copied().unwrap_or(0);
        let has_room = own < MOST_LABEL_SETS - self.all;
        if has_room {
            self.all += 1;
            self.by_workspace.insert(workspace, own + 1);
        }
        has_room
    }

    fn give_back(&mut self, workspace: (String, String), count: usize) {
        self.all -= count;
        if let Entry::Occupied(mut own) = self.by_workspace.entry(workspace) {
            *own.get_mut() -= count;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

impl Resources {
    /// The resource of this name, which is the same for all who serve it.
    pub(super) fn named(&self, name: ResourceName) -> Arc<Resource> {
        let mut known = self.known();
        if let Some(resource) = known.get(&name).and_then(Weak::upgrade) {
            return resource;
        }
        let resource = Arc::new(Resource {
            name: name.clone(),
            series: Default::default(),
            all: self.clone(),
        });
        known.insert(name, Arc::downgrade(&resource));
        resource
    }

    /// Those that are served, in order.
    pub(super) fn served(&self) -> Vec<Arc<Resource>> {
        self.known().values().filter_map(Weak::upgrade).collect()
    }

    /// What those share that came too late, if there are any.
    pub(super) fn others(&self, route: RouteKind) -> Option<&Arc<Series>> {
        self.0.others[route as usize].get()
    }

    /// Series for one more label set, or those that the others share.
    fn series(&self, name: &ResourceName, route: RouteKind) -> Arc<Series> {
        if self.label_sets().take(name.workspace()) {
            return Arc::new(Series::new());
        }
        let others = self.0.others[route as usize].get_or_init(|| Arc::new(Series::new()));
        Arc::clone(others)
    }

    fn label_sets(&self) -> MutexGuard<'_, LabelSets> {
        let label_sets = self.0.label_sets.lock();
        label_sets.unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ResourceName, Weak<Resource>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resource {
    /// What is counted of its requests of a kind.
    pub(super) fn series(&self, route: RouteKind) -> &Series {
        self.series[route as usize].get_or_init(|| self.all.series(&self.name, route))
    }

    /// The same, if there were any and they are not counted with those of others.
    pub(super) fn own_series(&self, route: RouteKind) -> Option<&Series> {
        let series = self.series[route as usize].get()?;
        let others = self.all.others(route);
        let is_own = others.is_none_or(|others| !Arc::ptr_eq(series, others));
        is_own.then_some(series)
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        let own = RouteKind::ALL
            .iter()
            .filter_map(|route| self.own_series(*route));
        let own = own.count();
        let workspace = self.name.workspace();
        self.all.label_sets().give_back(workspace, own);
        let mut known = self.all.known();
        // There may be another of its name by now.
        if known
            .get(&self.name)
            .is_some_and(|named| named.strong_count() == 0)
        {
            known.remove(&self.name);
        }
    }
}

impl ResourceName {
    fn workspace(&self) -> (String, String) {
        (self.namespace.clone(), self.workspace.clone())
    }

    /// The names as labels.
    pub(super) fn labels(&self) -> Vec<(&'static str, &str)> {
        let mut labels = vec![
            ("namespace", self.namespace.as_str()),
            ("workspace", self.workspace.as_str()),
        ];
        match self.kind {
            ResourceKind::Workspace => {}
            ResourceKind::Pipe => labels.push(("pipe", &self.name)),
            ResourceKind::DataSource => labels.push(("datasource", &self.name)),
        }
        labels
    }
}
