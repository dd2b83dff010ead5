//! `aviary plan` as people run it: whole outputs of the samples and of a folder with
//! faults of each kind, and that nothing given to it makes it panic.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use aviary_cli::{Exit, PlanArgs, plan};
use clap::Parser;
use insta::assert_snapshot;
use pretty_assertions::assert_eq;
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;

const SAMPLES: &str = "../../config/samples/flights";
const FAULTS: &str = "tests/faults";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    plan: PlanArgs,
}

struct Ran {
    exit: Exit,
    out: String,
    notes: String,
}

fn run(arguments: &[&str], stdin: &[u8]) -> Ran {
    let command = ["plan"].iter().chain(arguments);
    let command = Command::try_parse_from(command).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let exit = plan(&command.plan, &mut &*stdin, &mut out, &mut notes).unwrap();
    Ran {
        exit,
        out: String::from_utf8(out).unwrap(),
        notes: String::from_utf8(notes).unwrap(),
    }
}

/// All that a command says and how it ends. Long statements are cut: the planner's own golden
/// cases have them whole, and the engine is sent them.
fn told(arguments: &[&str]) -> String {
    let Ran { exit, out, notes } = run(arguments, b"");
    let out: Vec<String> = out.lines().map(cut).collect();
    format!(
        "{}\n=== standard error\n{notes}\n=== {exit:?}",
        out.join("\n")
    )
}

fn cut(line: &str) -> String {
    let statement = line.trim_start_matches([' ', '"']);
    match line.char_indices().nth(64) {
        Some((end, _)) if statement.starts_with("CREATE ") => format!("{}…", &line[..end]),
        _ => line.to_owned(),
    }
}

#[test]
fn samples() {
    assert_snapshot!(told(&["-f", SAMPLES]));
}

#[test]
fn faults() {
    assert_snapshot!("faults_sql", told(&["-f", FAULTS, "-o", "sql"]));
    assert_snapshot!("faults_json", told(&["-f", FAULTS, "-o", "json"]));
}

#[test]
fn input_that_cannot_be_read() {
    let no_yaml = "tests/commands.rs";
    let unread: Vec<String> = ["tests/none", no_yaml, "tests/snapshots", "-"]
        .iter()
        .map(|path| {
            let Ran { exit, out, notes } = run(&["-f", path], b"\xff");
            assert_eq!((exit, out.as_str()), (Exit::Unreadable, ""));
            notes
        })
        .collect();
    assert_snapshot!("unreadable", unread.concat());
    assert_eq!(
        Command::try_parse_from(["plan"]).err().unwrap().exit_code(),
        2
    );
}

/// However the files are named, the same is planned.
#[test]
fn order_of_files_does_not_matter() {
    let files = ["tokens", "pipes", "data-sources", "workspace"];
    let files = files.map(|file| format!("{SAMPLES}/{file}.yaml"));
    let [tokens, pipes, sources, workspace] = files.each_ref().map(String::as_str);
    let apart = run(
        &["-f", tokens, "-f", pipes, "-f", sources, "-f", workspace],
        b"",
    );
    assert_eq!(apart.out, run(&["-f", SAMPLES], b"").out);
    let texts = files.map(|file| std::fs::read_to_string(file).unwrap());
    let piped = run(&["-f", "-"], texts.join("\n---\n").as_bytes());
    assert_eq!(apart.out, piped.out);
}

#[test]
fn a_long_statement_raises_the_limit() {
    let columns: Vec<String> = (0..500)
        .map(|number| format!("{{name: a_rather_long_name_of_a_column_{number}, type: \"Array(Nullable(DateTime64(3, 'Europe/Berlin')))\"}}"))
        .collect();
    let manifests = format!(
        "{{apiVersion: aviary.dev/v1alpha1, kind: Workspace, metadata: {{name: w}}, spec: {{clusterRef: {{name: c}}}}}}\n---\n{{apiVersion: aviary.dev/v1alpha1, kind: DataSource, metadata: {{name: d}}, spec: {{workspace: w, columns: [{}]}}}}",
        columns.join(", ")
    );
    let ran = run(&["-f", "-", "-o", "sql"], manifests.as_bytes());
    assert_eq!((ran.exit, ran.notes.as_str()), (Exit::Fine, ""));
    let limit = ran.out.strip_prefix("SET max_query_size = ").unwrap();
    let limit: usize = limit.split(';').next().unwrap().parse().unwrap();
    assert!(
        ran.out
            .split(";\n\n")
            .all(|statement| statement.len() < limit + 256)
    );
}

/// Manifests out of words that mean something somewhere.
fn anything() -> impl Strategy<Value = serde_json::Value> {
    let word = prop::sample::select(vec![
        "",
        "*",
        "1",
        "$",
        "on",
        "shop",
        "id",
        "Date",
        "MergeTree",
        "1w",
        "9999999w9999999w",
        "id + (",
        "PIPES:READ",
        "SELECT 1",
        "SELECT * FROM all",
        "{{ Int8(",
        "Array(",
        "http://a",
        "99%",
        "ключ",
    ]);
    let field = prop::sample::select(vec![
        "name",
        "workspace",
        "columns",
        "type",
        "engine",
        "sortingKey",
        "ttl",
        "column",
        "keep",
        "nodes",
        "sql",
        "endpoint",
        "node",
        "scopes",
        "resource",
        "clusterRef",
        "limits",
        "queryTimeout",
        "external",
        "replicas",
        "url",
        "default",
        "codec",
        "database",
        "metadata",
        "namespace",
        "uid",
    ]);
    let leaf = prop_oneof![
        4 => word.prop_map(serde_json::Value::from),
        1 => any::<i64>().prop_map(serde_json::Value::from),
        1 => any::<bool>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            3 => hash_map(field.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), text in "[-a-z:{}\\[\\]&*!|>'\"#%, \n]{0,200}") {
        run(&["-f", "-"], &bytes);
        run(&["-f", "-"], text.as_bytes());
    }

    #[test]
    fn no_manifest_makes_it_panic(specs in vec(anything(), 5)) {
        let kinds = ["Workspace", "DataSource", "Pipe", "AccessToken", "ClickHouseCluster"];
        let manifests = kinds.iter().zip(specs).map(|(kind, spec)| {
            let metadata = serde_json::json!({"name": "shop"});
            serde_json::json!({"apiVersion": "aviary.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}).to_string()
        });
        let manifests: Vec<String> = manifests.collect();
        let ran = run(&["-f", "-", "-o", "json"], manifests.join("\n---\n").as_bytes());
        prop_assert_ne!(ran.exit, Exit::Unreadable);
    }

    /// Every place of the samples once with something else in it.
    #[test]
    fn no_edit_makes_it_panic(line in 0..200_usize, text in "[-a-z0-9:{}\\[\\]'\"(),_ ]{0,20}") {
        let samples = ["workspace", "data-sources", "pipes", "tokens"];
        let samples = samples.map(|file| std::fs::read_to_string(format!("{SAMPLES}/{file}.yaml")).unwrap());
        let samples = samples.join("\n---\n");
        let mut lines: Vec<&str> = samples.lines().collect();
        let line = line % lines.len();
        let indentation = &lines[line][..lines[line].len() - lines[line].trim_start().len()];
        let edited = format!("{indentation}{text}");
        lines[line] = &edited;
        run(&["-f", "-"], lines.join("\n").as_bytes());
    }
}
