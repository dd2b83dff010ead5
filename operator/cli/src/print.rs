//! A plan for people, for `clickhouse-client` and for machines.

use crate::input::InputError;
use crate::report::{Planned, Refusal, Report, Skipped};
use aviary_plan::{Statement, Step};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Write};

/// In which form a plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Each step with its reason and its statements.
    #[default]
    Text,
    /// The statements alone, to be piped into clickhouse-client. Users get a password hash of
    /// zeros, which stands for the one that the operator makes.
    Sql,
    /// One document with the steps, what is refused and what was skipped.
    Json,
}

/// ClickHouse reads no longer statement unless it is told to.
const ORDINARY_QUERY_SIZE: usize = 256 << 10;

/// Input that could not be read.
pub(crate) fn input_error(error: &InputError, notes: &mut dyn Write) -> io::Result<()> {
    writeln!(notes, "{}", line(&format!("error: {error}")))?;
    writeln!(notes, "  hint: {}", error.hint())
}

/// What was skipped and refused, unless the plan itself will say so.
pub(crate) fn notes(report: &Report, output: Output, notes: &mut dyn Write) -> io::Result<()> {
    if output == Output::Json {
        return Ok(());
    }
    for Skipped { place, message } in &report.skipped {
        writeln!(notes, "{}", line(&format!("note: {place}: {message}")))?;
    }
    for refusal in &report.refusals {
        let Refusal {
            place,
            object,
            field,
            message,
            hint,
            ..
        } = refusal;
        let object = format!("{} {}/{}", object.kind, object.namespace, object.name);
        let field = if field.is_empty() {
            String::new()
        } else {
            format!("{field}: ")
        };
        writeln!(
            notes,
            "{}",
            line(&format!("error: {place}: {object}: {field}{message}"))
        )?;
        if let Some(hint) = hint {
            writeln!(notes, "{}", line(&format!("  hint: {hint}")))?;
        }
    }
    match report.refusals.len() {
        0 => Ok(()),
        1 => writeln!(notes, "error: 1 fault: the plan goes without what it is in"),
        faults => writeln!(
            notes,
            "error: {faults} faults: the plan goes without what they are in"
        ),
    }
}

/// What people wrote in YAML may hold line breaks and worse.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The plan.
pub(crate) fn plan(report: &Report, output: Output) -> String {
    match output {
        Output::Text => report.workspaces.iter().map(text).collect(),
        Output::Sql => sql(&report.workspaces),
        Output::Json => format!("{:#}\n", json(report)),
    }
}

fn title(Planned { model, plan }: &Planned) -> String {
    format!(
        "workspace {}/{}, database {}: {}, {}, {}; {}",
        model.namespace,
        model.name,
        model.database.as_str(),
        count(model.data_sources.len(), "data source"),
        count(model.pipes.len(), "pipe"),
        count(model.access_tokens.len(), "token"),
        count(plan.steps.len(), "step"),
    )
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn summary(step: &Step) -> String {
    format!("{step} ({:?}, {})", step.why, step.object)
}

fn text(planned: &Planned) -> String {
    let mut text = format!("{}\n\n", title(planned));
    for (number, step) in planned.plan.steps.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", number + 1, summary(step));
        for statement in step.statements() {
            let _ = writeln!(text, "    {}", statement.text().replace('\n', "\n    "));
        }
    }
    text.push('\n');
    text
}

fn sql(workspaces: &[Planned]) -> String {
    let mut text = String::new();
    let steps = || workspaces.iter().flat_map(|planned| &planned.plan.steps);
    let sizes = steps().flat_map(Step::statements).map(|it| it.text().len());
    let longest = sizes.max().unwrap_or_default();
    if longest >= ORDINARY_QUERY_SIZE {
        let _ = writeln!(text, "SET max_query_size = {};\n", longest + 1);
    }
    for planned in workspaces {
        let _ = writeln!(text, "-- {}\n", title(planned));
        for step in &planned.plan.steps {
            let _ = writeln!(text, "-- {}", summary(step));
            for statement in step.statements() {
                let _ = writeln!(text, "{};\n", statement.text());
            }
        }
    }
    text
}

fn json(report: &Report) -> Value {
    let workspaces = report.workspaces.iter().map(|Planned { model, plan }| {
        let steps = plan.steps.iter().map(|step| {
            let statements = step.statements();
            json!({
                "summary": step.to_string(),
                "reason": format!("{:?}", step.why),
                "object": step.object.to_string(),
                "statements": statements.iter().map(Statement::text).collect::<Vec<_>>(),
            })
        });
        json!({
            "namespace": model.namespace,
            "name": model.name,
            "database": model.database.as_str(),
            "steps": steps.collect::<Vec<_>>(),
        })
    });
    json!({
        "workspaces": workspaces.collect::<Vec<_>>(),
        "refused": report.refusals,
        "skipped": report.skipped,
    })
}
