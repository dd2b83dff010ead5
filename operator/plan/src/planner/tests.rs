//! Plans as data: one golden file per case, and the properties that hold for all.

mod deletion;
mod quarantine;

use super::{Action, Circumstances, Plan, Scope, Why, plan};
use crate::catalog::Catalog;
use crate::model::WorkspaceModel;
use crate::testing::desired_by;
use crate::testing::simulate::apply;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// A case is a file of manifests. A line `# then` separates what is there from
/// what is desired; without it, nothing is there.
#[test]
fn golden() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut paths: Vec<_> = fs::read_dir(cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../cases");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, render(&text)));
    }
}

fn render(case: &str) -> String {
    let (before, after) = match case.split_once("# then\n") {
        Some((before, after)) => (Some(before), after),
        None => (None, case),
    };
    let (model, desired) = desired_by(after);
    let mut observed = Catalog::empty(desired.name.clone());
    if let Some(before) = before {
        let (model, desired) = desired_by(before);
        observed = apply(
            &observed,
            &plan(&desired, &observed, &model.circumstances()),
        );
    }
    let plan = plan(&desired, &observed, &model.circumstances());
    show(&model, &plan)
}

fn show(model: &WorkspaceModel, plan: &Plan) -> String {
    let mut text = String::new();
    for rejection in model.rejections.iter().chain(&plan.refusals) {
        let reason = rejection.reason.as_str();
        writeln!(
            text,
            "! {} {reason}: {}",
            rejection.object, rejection.message
        )
        .unwrap();
    }
    for pipe in &model.pipes {
        let sources: Vec<&str> = pipe.data_sources.iter().map(String::as_str).collect();
        writeln!(text, "= pipe {} reads {}", pipe.name, sources.join(", ")).unwrap();
        for line in pipe.template.lines() {
            writeln!(text, "    {line}").unwrap();
        }
    }
    for step in &plan.steps {
        writeln!(text, "- {step} ({:?}, {})", step.why, step.object).unwrap();
        for statement in step.statements() {
            writeln!(text, "    {statement}").unwrap();
        }
    }
    text
}

const FLIGHTS: &str = "
kind: DataSource
metadata: {name: flights}
spec:
  workspace: shop
  columns:
  - {name: year, type: Int16}
  - {name: carrier, type: LowCardinality(String)}
  - {name: delay, type: Nullable(Int32)}
  sortingKey: [year, carrier]
";

/// The catalog after a plan for the manifests was run on an empty server.
fn applied(manifests: &str) -> Catalog {
    let (model, desired) = desired_by(manifests);
    let empty = Catalog::empty(desired.name.clone());
    apply(&empty, &plan(&desired, &empty, &model.circumstances()))
}

/// Plans for the manifests on a server that was tampered with.
fn repairs(manifests: &str, tamper: impl FnOnce(&mut Catalog)) -> Plan {
    let mut observed = applied(manifests);
    tamper(&mut observed);
    let (model, desired) = desired_by(manifests);
    let repairs = plan(&desired, &observed, &model.circumstances());
    let repaired = apply(&observed, &repairs);
    let again = plan(&desired, &repaired, &model.circumstances());
    assert_eq!(again.steps, [], "repairs hold");
    repairs
}

fn told(plan: &Plan) -> Vec<String> {
    let told = plan
        .steps
        .iter()
        .map(|step| format!("{step} ({:?})", step.why));
    told.collect()
}

#[test]
fn planning_twice_plans_nothing() {
    assert_eq!(repairs(FLIGHTS, |_| {}), Plan::default());
}

#[test]
fn drift_is_put_back() {
    let plan = repairs(FLIGHTS, |catalog| {
        let table = catalog.tables.get_mut("flights").unwrap();
        table.columns.remove(1);
        table.ttl = Some("year + toIntervalDay(1)".to_owned());
        table.columns[0].comment = "mine".to_owned();
        catalog.views.remove("flights__reject");
        let ingest = catalog.views.get_mut("flights__ingest").unwrap();
        ingest.query = "SELECT 1".to_owned();
        catalog.tables.remove("flights__landing");
        let reader = catalog.users.get_mut("acme_shop__reader").unwrap();
        reader.grants.clear();
        reader.settings.clear();
        reader.roles.insert("admin".to_owned());
    });
    assert_eq!(
        told(&plan),
        [
            "create the table flights__landing (Drifted)",
            "set the password and settings of the user acme_shop__reader (Drifted)",
            "grant SELECT to acme_shop__reader (Drifted)",
            "revoke the role admin from acme_shop__reader (Drifted)",
            "add to flights: carrier (Drifted)",
            "set the comment of flights.year (Drifted)",
            "remove the TTL of flights (Drifted)",
            "create the view flights__reject (Drifted)",
            "set the query of flights__ingest (Drifted)",
        ]
    );
}

#[test]
fn changed_limits_are_no_drift() {
    let limits = |limits: &str| {
        format!(
            "kind: Workspace\nmetadata: {{name: shop}}\nspec: {{clusterRef: {{name: shared}}, limits: {{{limits}}}}}\n---{FLIGHTS}"
        )
    };
    let changed = repairs_to(&limits("queryTimeout: 7s"), &applied(&limits("")));
    assert_eq!(
        told(&changed),
        [
            "set the password and settings of the user acme_shop__reader (SpecChanged)",
            "note the owner of the database (SpecChanged)",
        ]
    );
}

#[test]
fn a_database_that_was_taken_away_is_drift() {
    let (model, desired) = desired_by(FLIGHTS);
    let observed = Catalog::empty(desired.name.clone());
    for (had_database, why) in [(false, Why::Missing), (true, Why::Drifted)] {
        let circumstances = Circumstances {
            had_database,
            ..model.circumstances()
        };
        let plan = plan(&desired, &observed, &circumstances);
        let of_workspace = |step: &&super::Step| step.object == crate::ObjectKey::Workspace;
        let mut steps = plan.steps.iter().filter(of_workspace);
        assert!(steps.all(|step| step.why == why), "{:?}", told(&plan));
    }
}

#[test]
fn a_right_that_cannot_be_revoked_stops_nothing_else() {
    let plan = repairs(FLIGHTS, |catalog| {
        let reader = catalog.users.get_mut("acme_shop__reader").unwrap();
        reader.roles.insert("admin".to_owned());
        catalog.views.remove("flights__reject");
    });
    let scopes: Vec<Scope> = plan.steps.iter().map(|step| step.scope).collect();
    assert_eq!(scopes, [Scope::Object; 2], "{:?}", told(&plan));
}

#[test]
fn another_owner_is_never_touched() {
    let plan = repairs(FLIGHTS, |catalog| {
        let comment = &mut catalog.database.as_mut().unwrap().comment;
        *comment = crate::comment::Comment::Foreign("mine".to_owned());
    });
    assert_eq!(plan.steps, []);
    assert_eq!(plan.refusals.len(), 1);
    let plan = repairs(FLIGHTS, |catalog| {
        let comment = &mut catalog
            .tables
            .get_mut("flights_quarantine")
            .unwrap()
            .comment;
        *comment = crate::comment::Comment::Foreign("mine".to_owned());
    });
    assert_eq!(plan.steps, []);
    assert_eq!(plan.refusals.len(), 1);
}

#[test]
fn a_column_added_by_hand_is_nobodys_business() {
    let plan = repairs(FLIGHTS, |catalog| {
        let columns = &mut catalog.tables.get_mut("flights").unwrap().columns;
        let mut extra = columns[0].clone();
        extra.name = "extra".to_owned();
        columns.push(extra);
    });
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_column_added_by_hand_keeps_no_change_from_coming() {
    let mut observed = applied(FLIGHTS);
    let columns = &mut observed.tables.get_mut("flights").unwrap().columns;
    let mut extra = columns[0].clone();
    extra.name = "extra".to_owned();
    columns.push(extra);
    let live = |names: &[&str]| {
        let columns: Vec<String> = names
            .iter()
            .map(|name| format!("{{name: {name}, type: X, jsonPath: $, hasDefault: false}}"))
            .collect();
        let csv = "{delimiter: \",\", quote: \"'\", header: Auto, nullMarkers: []}";
        format!(
            "status: {{published: {{name: flights, columns: [{}], csv: {csv}}}}}\n",
            columns.join(", ")
        )
    };
    let changed = FLIGHTS.replace("spec:", "spec:\n  description: new");
    let with_status = format!("{changed}{}", live(&["year", "carrier", "delay"]));
    let plan = repairs_to(&with_status, &observed);
    assert_eq!(plan.refusals, []);
    assert_eq!(told(&plan), ["set the comment of flights (SpecChanged)"]);

    // What the spec had is refused to go, as ever.
    let with_status = format!("{changed}{}", live(&["year", "carrier", "delay", "extra"]));
    let refused = repairs_to(&with_status, &observed);
    assert!(refused.refusals[0].message.contains("`extra`"));
}

#[test]
fn a_refused_password_is_set_again() {
    let observed = applied(FLIGHTS);
    let (model, desired) = desired_by(FLIGHTS);
    let circumstances = Circumstances {
        credentials_refused: true,
        ..model.circumstances()
    };
    let plan = plan(&desired, &observed, &circumstances);
    assert_eq!(told(&plan).len(), 2);
    assert!(
        plan.steps
            .iter()
            .all(|step| !format!("{step:?}").contains("aaaa"))
    );
    for statement in plan.steps.iter().flat_map(super::Step::statements) {
        assert!(statement.text().contains("aaaa") || statement.text().contains("bbbb"));
        assert!(!format!("{statement} {statement:?}").contains("aaaa"));
    }
}

#[test]
fn what_lost_its_owner_is_dropped_or_released_and_can_be_taken_over() {
    let (_, nothing) = desired_by("");
    let released = repairs_to("", &applied(FLIGHTS));
    assert_eq!(
        told(&released),
        [
            "drop the view flights__ingest (Orphaned)",
            "drop the view flights__reject (Orphaned)",
            "keep the table flights, no longer managed (Orphaned)",
            "drop the table flights__landing (Orphaned)",
            "keep the table flights_quarantine, no longer managed (Orphaned)",
        ]
    );
    let left = apply(&applied(FLIGHTS), &released);
    assert_eq!(
        plan(&nothing, &left, &Circumstances::default()),
        Plan::default()
    );

    let taken = FLIGHTS.replace("name: flights}", "name: flights, uid: another}");
    let taken_over = repairs_to(&taken, &left);
    assert_eq!(
        told(&taken_over),
        [
            "create the table flights__landing (Missing)",
            "create the view flights__ingest (Missing)",
            "create the view flights__reject (Missing)",
            "set the comment of flights_quarantine (SpecChanged)",
            "set the comment of flights (SpecChanged)",
        ]
    );
}

fn repairs_to(manifests: &str, observed: &Catalog) -> Plan {
    let (model, desired) = desired_by(manifests);
    plan(&desired, observed, &model.circumstances())
}

mod properties {
    //! Whatever people write and whatever somebody breaks.

    use super::deletion::consenting;
    use super::*;
    use proptest::prelude::*;

    /// A data source of one of three names. Columns and all else vary.
    fn data_source() -> impl Strategy<Value = String> {
        let column_type = prop::sample::select(vec![
            "Int32",
            "UInt64",
            "String",
            "LowCardinality(Nullable(String))",
            "Nullable(Float64)",
            "DateTime64(3)",
            "Array(Int8)",
            "Decimal(9, 2)",
        ]);
        let column = (
            column_type,
            prop::sample::select(vec!["", "default: \"1\"", "default: \"now()\""]),
            prop::sample::select(vec!["", "codec: ZSTD(3)", "codec: 'Delta, LZ4'"]),
            prop::sample::select(vec!["", "comment: it's", "comment: new"]),
        );
        let columns = prop::collection::btree_map("[a-e]", column, 1..5);
        let rest = (
            prop::sample::select(vec!["a", "b-b", "c"]),
            prop::sample::select(vec!["", "  deletionPolicy: Delete\n", "  description: x\n"]),
            prop::sample::select(vec!["", ", deletionTimestamp: '2026-01-01T00:00:00Z'"]),
            prop::sample::select(vec!["", "  ttl: {expression: now() + INTERVAL 1 DAY}\n"]),
            prop::sample::select(vec!["first", "second"]),
        );
        (columns, rest).prop_map(|(columns, (name, more, deleted, ttl, uid))| {
            let mut text = format!(
                "kind: DataSource\nmetadata: {{name: {name}, uid: {name}-{uid}{deleted}}}\nspec:\n  workspace: shop\n{more}{ttl}  columns:\n"
            );
            for (column, (column_type, default, codec, comment)) in columns {
                text.push_str(&format!("  - {{name: {column}, type: '{column_type}'"));
                for part in [default, codec, comment] {
                    if !part.is_empty() {
                        text.push_str(", ");
                        text.push_str(&part.replace("it's", "\"it's\""));
                    }
                }
                text.push_str("}\n");
            }
            text
        })
    }

    fn workspace() -> impl Strategy<Value = String> {
        prop::collection::vec(data_source(), 0..4).prop_map(|sources| sources.join("---\n"))
    }

    /// Takes away or spoils the nth thing in the catalog.
    fn spoil(catalog: &mut Catalog, choice: usize) {
        let nth = |names: Vec<String>| {
            let count = names.len().max(1);
            names.into_iter().nth(choice % count)
        };
        match choice % 7 {
            0 => {
                nth(catalog.tables.keys().cloned().collect())
                    .and_then(|name| catalog.tables.remove(&name));
            }
            1 => {
                nth(catalog.views.keys().cloned().collect())
                    .and_then(|name| catalog.views.remove(&name));
            }
            2 => {
                if let Some(table) = catalog.tables.values_mut().nth(choice % 3) {
                    table.ttl = Some("now()".to_owned());
                    table.columns.pop();
                }
            }
            3 => {
                if let Some(view) = catalog.views.values_mut().nth(choice % 3) {
                    view.query.push_str(" LIMIT 1");
                    view.definer = None;
                }
            }
            4 => {
                // A user that views run as cannot be dropped.
                catalog.users.remove("acme_shop__reader");
            }
            5 => {
                if let Some(user) = catalog.users.values_mut().nth(choice % 2) {
                    user.grants.clear();
                    user.by_password_hash = false;
                }
            }
            _ => {
                if let Some(table) = catalog.tables.values_mut().nth(choice % 5) {
                    for column in &mut table.columns {
                        column.comment.push('x');
                        column.codec.clear();
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_plan_is_final(
            history in prop::collection::vec((workspace(), prop::option::of(any::<usize>())), 1..5),
        ) {
            let mut found = Catalog::empty(desired_by("").1.name);
            for (manifests, spoiled) in history {
                if let Some(choice) = spoiled {
                    spoil(&mut found, choice);
                }
                let (model, desired) = desired_by(&manifests);
                let first = plan(&desired, &found, &model.circumstances());
                for step in &first.steps {
                    let drops = matches!(
                        step.action,
                        Action::DropTable { .. } | Action::DropDatabase { .. }
                    );
                    prop_assert_eq!(drops, step.consent().is_some());
                }
                for uid in consenting(&first) {
                    prop_assert!(!model.existing_data_sources.contains_key(uid));
                    let word = format!("uid: {uid}, deletionTimestamp");
                    let mut of_owner = manifests.split("---").filter(|it| it.contains(&word));
                    let consented = of_owner.any(|it| it.contains("deletionPolicy: Delete"));
                    prop_assert!(consented, "{}", uid);
                }
                found = apply(&found, &first);
                let second = plan(&desired, &found, &model.circumstances());
                prop_assert_eq!(told(&second), Vec::<String>::new());
            }
        }
    }
}
