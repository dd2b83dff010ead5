//! `aviary plan`: what a ClickHouse that has nothing yet would be told.

use crate::input::{self, InputError};
use crate::inventory::{Inventory, Tenant};
use crate::print::{self, Output};
use crate::report::{Planned, Refusal, Report};
use aviary_crds::conditions::Reason;
use aviary_plan::catalog::Sha256;
use aviary_plan::{
    Catalog, CredentialHashes, LastPublished, ObjectKey, Rejection, ServerFeatures, WorkspaceModel,
    desired, model,
};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `aviary plan`.
///
/// Objects are checked as the API server checks them (unknown fields, schema and CEL rules) and
/// planned for as the operator plans. What only a server can tell is not known here: whether
/// ClickHouse takes an expression or a pipe's query, what is there already, and whether the
/// cluster admits the namespace. Ends with 0, with 1 if something is refused, and with 2 if
/// nothing could be read.
#[derive(clap::Args)]
pub struct PlanArgs {
    /// Manifests: a file, a folder with all its .yaml and .yml files, or - for standard input.
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE|DIR|-",
        required = true
    )]
    pub files: Vec<PathBuf>,
    /// Namespace of objects that do not say theirs.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Plan for a cluster with Keeper, whose tables replicate; a ClickHouseCluster with several
    /// replicas among the manifests says so, too.
    #[arg(long)]
    pub replicated: bool,
}

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// Something was refused.
    Refused = 1,
    /// Input could not be read.
    Unreadable = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reads, plans and prints: the plan to `out`, and all else to `notes`.
pub fn plan(
    args: &PlanArgs,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> io::Result<Exit> {
    let inventory = match Inventory::read(args, stdin) {
        Ok(inventory) => inventory,
        Err(error) => {
            print::input_error(&error, notes)?;
            return Ok(Exit::Unreadable);
        }
    };
    let report = report(inventory, args.replicated);
    print::notes(&report, args.output, notes)?;
    out.write_all(print::plan(&report, args.output).as_bytes())?;
    Ok(if report.refusals.is_empty() {
        Exit::Fine
    } else {
        Exit::Refused
    })
}

impl Inventory {
    /// Reads and sorts what the arguments name.
    pub fn read(args: &PlanArgs, stdin: &mut dyn Read) -> Result<Self, InputError> {
        let inventory = Self::of(&input::read(&args.files, stdin)?, &args.namespace);
        if inventory.tenants.is_empty() && inventory.refusals.is_empty() {
            return Err(InputError::Nothing);
        }
        Ok(inventory)
    }
}

fn report(inventory: Inventory, replicated: bool) -> Report {
    let mut report = Report {
        workspaces: Vec::new(),
        refusals: inventory.refusals,
        skipped: inventory.skipped,
    };
    let mut owners: BTreeMap<_, String> = BTreeMap::new();
    for tenant in &inventory.tenants {
        let planned = plan_for(tenant, replicated || tenant.on_replicas);
        let rejections = planned
            .model
            .rejections
            .iter()
            .chain(&planned.plan.refusals);
        let refusals: Vec<Refusal> = rejections.filter_map(|it| tenant.refusal(it)).collect();
        report.refusals.extend(refusals);
        let owner = format!("{}/{}", planned.model.namespace, planned.model.name);
        let place = (tenant.cluster.clone(), planned.model.database.to_string());
        if let Some(other) = owners.get(&place) {
            report
                .refusals
                .extend(tenant.refusal(&database_taken(&planned.model, other)));
            continue;
        }
        owners.insert(place, owner);
        report.workspaces.push(planned);
    }
    report.refusals.sort();
    report
}

/// The operator's own way from objects to steps, with nothing there yet.
fn plan_for(tenant: &Tenant, replication: bool) -> Planned {
    let model = model(&tenant.objects, &LastPublished::default());
    let server = ServerFeatures {
        replication,
        ..ServerFeatures::current()
    };
    let desired = desired(&model, &no_passwords(), &server);
    let nothing = Catalog::empty(model.database.clone());
    let plan = aviary_plan::plan(&desired, &nothing, &model.circumstances());
    Planned { model, plan }
}

fn database_taken(model: &WorkspaceModel, owner: &str) -> Rejection {
    Rejection {
        object: ObjectKey::Workspace,
        reason: Reason::OwnedByAnother,
        message: format!(
            "the database {} is that of Workspace {owner}: give this one another spec.database",
            model.database
        ),
    }
}

/// Stands for the hashes of passwords that only the operator knows. It can be sent to
/// ClickHouse, and nobody knows a password that it lets in.
#[expect(clippy::expect_used, reason = "64 zeros are 64 hexadecimal digits")]
pub fn no_passwords() -> CredentialHashes {
    let zeros = Sha256::new("0".repeat(64)).expect("a hash");
    CredentialHashes {
        reader_sha256: zeros.clone(),
        writer_sha256: zeros,
    }
}
