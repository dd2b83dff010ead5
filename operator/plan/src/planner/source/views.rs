//! The two views between landing and tables.
//!
//! By now the tables have every column that the new queries name, and rows still
//! come in. `MODIFY QUERY` exchanges a view's query at once, but there are two
//! views, and between their changes one decides by the old rule and one by the
//! new. A row must then end in both tables rather than in none. Rows that the new
//! rule refuses and the old one took go to both if the rejecting view changes
//! first; rows that it takes and the old one refused, if the ingesting view does.
//! Only a column that must have a value makes the rule stricter. (A change that
//! makes it stricter for one column and laxer for another at once counts as the
//! former: a row that lacks exactly the latter's value can slip between the two
//! statements. Such changes are rare, and the gap is theirs alone.)

use super::steps::SourceSteps;
use crate::catalog::{Table, View};
use crate::derived_names;
use crate::planner::step::Action;

pub(super) fn plan(steps: &mut SourceSteps<'_>, name: &str) {
    let (ingest, reject) = (derived_names::ingest(name), derived_names::reject(name));
    let stricter = steps
        .observed
        .tables
        .get(name)
        .is_some_and(|found| is_stricter(&steps.desired.tables[name], found));
    let order = if stricter {
        [reject, ingest]
    } else {
        [ingest, reject]
    };
    for view in order {
        plan_view(steps, &view);
    }
}

fn plan_view(steps: &mut SourceSteps<'_>, name: &str) {
    let wanted = &steps.desired.views[name];
    let view = wanted.clone();
    let name = name.to_owned();
    let Some(found) = steps.observed.views.get(&name) else {
        steps.make(Action::CreateView { name, view });
        return;
    };
    if found.target != wanted.target || found.definer != wanted.definer {
        steps.change(Action::ReplaceView { name, view });
        return;
    }
    if found.query != wanted.query {
        let name = name.clone();
        steps.change(Action::ModifyView {
            name,
            view: view.clone(),
        });
    }
    if found.comment != wanted.comment {
        let View { comment, .. } = view;
        steps.change(Action::CommentTable { name, comment });
    }
}

/// Whether some rows that were taken so far are not any more.
fn is_stricter(wanted: &Table, found: &Table) -> bool {
    let optional = |default: &str, column_type: &str| {
        !default.is_empty()
            || column_type.starts_with("Nullable(")
            || column_type.starts_with("LowCardinality(Nullable(")
    };
    wanted.columns.iter().any(|column| {
        if optional(&column.default, &column.column_type) {
            return false;
        }
        let before = found.columns.iter().find(|it| it.name == column.name);
        before.is_none_or(|before| optional(&before.default, &before.column_type))
    })
}
