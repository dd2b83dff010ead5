//! Whose data is dropped when he goes, and what becomes of all other data.

use super::{FLIGHTS, applied, repairs_to, told};
use crate::catalog::Catalog;
use crate::consent::{Consent, Consents};
use crate::model::WorkspaceModel;
use crate::planner::{Circumstances, Plan, Retired, Scope, Step, plan, retire};
use crate::testing::desired_by;
use crate::testing::simulate::apply;

/// FLIGHTS as they are while they are being deleted.
fn deleted(policy: &str) -> String {
    let metadata = "name: flights, deletionTimestamp: '2026-01-01T00:00:00Z'}";
    FLIGHTS
        .replace("name: flights}", metadata)
        .replace("spec:", &format!("spec:\n  deletionPolicy: {policy}"))
}

/// The uids of those whose data the plan drops.
pub(super) fn consenting(plan: &Plan) -> Vec<&str> {
    let consents = plan.steps.iter().filter_map(Step::consent);
    consents.map(Consent::owner).collect()
}

/// Whatever the policy was when the tables were made or last looked at.
#[test]
fn data_goes_on_the_last_word_of_its_owner_alone() {
    for made in ["Retain", "Delete"] {
        let policy = format!("spec:\n  deletionPolicy: {made}");
        let observed = applied(&FLIGHTS.replace("spec:", &policy));
        // Gone without a word, and told to be kept.
        for last in [String::new(), deleted("Retain")] {
            let plan = repairs_to(&last, &observed);
            assert_eq!(consenting(&plan), Vec::<&str>::new(), "{made}: {last}");
            let left = apply(&observed, &plan);
            let tables: Vec<&String> = left.tables.keys().collect();
            assert_eq!(tables, ["flights", "flights_quarantine"]);
        }
        // The rest of the spec need not be in order.
        for last in [deleted("Delete"), deleted("Delete").replace("Int16", "Int")] {
            let plan = repairs_to(&last, &observed);
            assert_eq!(consenting(&plan), ["datasource-acme-flights"; 2]);
            let left = apply(&observed, &plan);
            assert_eq!(left.tables.len() + left.views.len(), 0);
            assert!(plan.steps.iter().all(|it| it.scope == Scope::Cleanup));
        }
    }
}

#[test]
fn a_consent_does_not_reach_what_has_another_owner_by_now() {
    let mut observed = applied(FLIGHTS);
    let quarantine = observed.tables.get_mut("flights_quarantine").unwrap();
    quarantine.comment = quarantine.comment.released();
    let plan = repairs_to(&deleted("Delete"), &observed);
    let left = apply(&observed, &plan);
    let tables: Vec<&String> = left.tables.keys().collect();
    assert_eq!(tables, ["flights_quarantine"]);
}

/// Somebody put a table that holds rows where only a passage should be.
#[test]
fn a_landing_that_holds_rows_is_not_made_anew() {
    let mut observed = applied(FLIGHTS);
    let landing = observed.tables.get_mut("flights__landing").unwrap();
    landing.engine.family = "MergeTree".to_owned();
    let plan = repairs_to(FLIGHTS, &observed);
    assert_eq!((plan.steps.len(), plan.refusals.len()), (0, 1));
}

/// A consent that could not be carried out while the object was there.
fn recorded(owner: &str, table: Option<&str>) -> Consents {
    let record = aviary_crds::clickhouse_cluster::PendingDrop {
        owner_uid: owner.to_owned(),
        owner: "acme/x".to_owned(),
        workspace: "acme/shop".to_owned(),
        database: "acme_shop".to_owned(),
        table: table.map(str::to_owned),
        consented_at: None,
        why: String::new(),
    };
    [Consent::recorded(&record)].into_iter().collect()
}

/// Deleted and made anew before any pass saw that it was gone.
#[test]
fn a_data_source_made_anew_has_what_its_namesake_left() {
    let anew = FLIGHTS.replace("name: flights}", "name: flights, uid: another}");
    let before = applied(FLIGHTS);
    let taken_over = repairs_to(&anew, &before);
    assert_eq!(taken_over.refusals, []);
    assert_eq!(consenting(&taken_over), Vec::<&str>::new());
    let after = apply(&before, &taken_over);
    assert_eq!(repairs_to(&anew, &after), Plan::default());

    // The policy that it had consents to nothing once it is gone, and its last word does.
    let before = applied(&FLIGHTS.replace("spec:", "spec:\n  deletionPolicy: Delete"));
    assert_eq!(consenting(&repairs_to(&anew, &before)), Vec::<&str>::new());
    let (model, desired) = desired_by(&anew);
    let circumstances = Circumstances {
        consents: recorded("datasource-acme-flights", Some("flights")),
        ..model.circumstances()
    };
    let replaced = plan(&desired, &before, &circumstances);
    assert_eq!(
        told(&replaced)[..5],
        [
            "drop the view flights__ingest (Orphaned)",
            "drop the view flights__reject (Orphaned)",
            "drop the table flights (Orphaned)",
            "drop the table flights__landing (Orphaned)",
            "drop the table flights_quarantine (Orphaned)",
        ]
    );
    let after = apply(&before, &replaced);
    assert_eq!(repairs_to(&anew, &after), Plan::default());

    // Another data source wants the table's name: what was kept is not for it.
    let stranger = FLIGHTS.replace(
        "name: flights}\nspec:",
        "name: others}\nspec:\n  name: flights",
    );
    let refused = repairs_to(&stranger, &applied(FLIGHTS));
    assert_eq!(refused.refusals.len(), 1);
    assert_eq!(consenting(&refused), Vec::<&str>::new());
}

#[test]
fn a_workspace_made_anew_has_the_database_its_namesake_left() {
    let of = |policy: &str, uid: &str, kubernetes: &str| {
        let manifests = format!(
            "kind: Workspace\nmetadata: {{name: shop, uid: {uid}}}\nspec: {{clusterRef: {{name: shared}}, deletionPolicy: {policy}}}\n---{FLIGHTS}"
        );
        let mut model = desired_by(&manifests).0;
        model.kubernetes = kubernetes.to_owned();
        let desired = crate::desired(
            &model,
            &crate::testing::credentials(),
            &crate::ServerFeatures::current(),
        );
        (model, desired)
    };
    let planned = |(model, desired): &(WorkspaceModel, Catalog), observed: &Catalog| {
        plan(desired, observed, &model.circumstances())
    };
    let made = |policy: &str| {
        let first = of(policy, "u1", "k1");
        let empty = Catalog::empty(first.1.name.clone());
        apply(&empty, &planned(&first, &empty))
    };
    let second = of("Retain", "u2", "k1");

    let kept = made("Retain");
    for left in [&kept, &made("Delete")] {
        let taken_over = planned(&second, left);
        assert_eq!(taken_over.refusals, []);
        assert_eq!(consenting(&taken_over), Vec::<&str>::new());
        let after = apply(left, &taken_over);
        assert_eq!(planned(&second, &after), Plan::default());
    }

    let deleted = made("Delete");
    let circumstances = Circumstances {
        consents: recorded("u1", None),
        ..second.0.circumstances()
    };
    let replaced = plan(&second.1, &deleted, &circumstances);
    assert_eq!(told(&replaced)[0], "drop the database (Orphaned)");
    assert_eq!(consenting(&replaced), ["u1"]);
    let after = apply(&deleted, &replaced);
    assert_eq!(planned(&second, &after), Plan::default());

    for elsewhere in ["k2", ""] {
        let refused = planned(&of("Retain", "u2", elsewhere), &kept);
        assert_eq!((refused.steps.len(), refused.refusals.len()), (0, 1));
    }
}

/// The workspace of these manifests goes, as the rest of them says.
fn retired(observed: &Catalog, manifests: &str) -> Plan {
    let objects = crate::testing::objects("acme", manifests);
    let workspace = objects.workspace.clone();
    let mut consents = crate::model(&objects, &crate::LastPublished::of(&objects)).consents;
    consents.extend(Consent::of_workspace(&workspace));
    let uid = workspace.metadata.uid.as_deref().unwrap();
    let workspace = Retired {
        uid,
        kubernetes: "k1",
        consents: &consents,
    };
    retire(observed, workspace)
}

fn going(policy: &str) -> String {
    format!(
        "kind: Workspace
metadata: {{name: shop, deletionTimestamp: '2026-01-01T00:00:00Z'}}
spec: {{clusterRef: {{name: shared}}, deletionPolicy: {policy}}}
---"
    )
}

#[test]
fn a_workspace_is_retired_by_its_last_word() {
    let workspace = "kind: Workspace\nmetadata: {name: shop}\nspec: {clusterRef: {name: shared}, deletionPolicy: Delete}\n---";
    for observed in [applied(FLIGHTS), applied(&format!("{workspace}{FLIGHTS}"))] {
        // It was told to be kept, or is gone without a word.
        for last in [going("Retain"), String::new()] {
            let kept = retired(&observed, &last);
            assert_eq!(consenting(&kept), Vec::<&str>::new());
            let left = apply(&observed, &kept);
            assert!(left.users.is_empty() && left.views.is_empty());
            assert!(left.tables.contains_key("flights"));
            assert_eq!(retired(&left, &last), Plan::default());
        }
        let dropped = retired(&observed, &going("Delete"));
        assert_eq!(
            told(&dropped),
            [
                "drop the view flights__ingest (Retired)",
                "drop the view flights__reject (Retired)",
                "drop the user acme_shop__reader (Retired)",
                "drop the user acme_shop__writer (Retired)",
                "drop the database (Retired)",
            ]
        );
        // The database stays, and one data source of it does not.
        let partly = retired(
            &observed,
            &format!("{}{}", going("Retain"), deleted("Delete")),
        );
        assert_eq!(consenting(&partly), ["datasource-acme-flights"; 2]);
        let left = apply(&observed, &partly);
        assert!(left.tables.is_empty() && left.database.is_some());
    }
}

#[test]
fn what_is_not_the_workspaces_own_is_not_retired() {
    let mut elsewhere = applied(FLIGHTS);
    let another = going("Delete").replace("name: shop,", "name: shop, uid: another,");
    assert_eq!(retired(&elsewhere, &another), Plan::default());
    // A copy of the whole Kubernetes has the uids, and not the data.
    if let Some(database) = &mut elsewhere.database
        && let crate::comment::Comment::Owned { ownership, .. } = &mut database.comment
    {
        ownership.kubernetes = "k2".to_owned();
    }
    assert_eq!(retired(&elsewhere, &going("Delete")), Plan::default());
}

/// Wherever it stops, what is left is looked after the next time.
#[test]
fn a_retirement_that_fails_halfway_leaks_nothing() {
    for last in [
        going("Retain"),
        going("Delete"),
        format!("{}{}", going("Retain"), deleted("Delete")),
    ] {
        let before = applied(FLIGHTS);
        let whole = retired(&before, &last);
        let mut steps = whole.steps.iter();
        assert!(steps.all(|step| step.scope == Scope::Foundation));
        for done in 0..whole.steps.len() {
            let mut half = whole.clone();
            half.steps.truncate(done);
            let left = apply(&before, &half);
            let rest = retired(&left, &last);
            assert_eq!(rest.steps, whole.steps[done..], "{last} after {done}");
        }
    }
}
