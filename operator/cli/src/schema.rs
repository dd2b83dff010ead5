//! What the API server would say of an object: fields it does not know (which
//! `kubectl` refuses and others lose silently), the schema of its kind, and the
//! rules that stand in the schema as CEL.

use aviary_crds::all_definitions;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, PatternOptions, ValidationError};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_cel::{CompiledSchema, compile_schema};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field, such as `spec.columns[2].type`; empty for the object as a whole.
    pub(crate) path: String,
    /// What is wrong with it.
    pub(crate) message: String,
    /// What to do, where one can guess it.
    pub(crate) hint: Option<String>,
}

/// The schemas of all kinds.
pub(crate) struct Schemas {
    kinds: BTreeMap<String, Schema>,
    rules: kube_cel::Validator,
}

struct Schema {
    document: Value,
    structure: jsonschema::Validator,
    rules: CompiledSchema,
}

impl Schemas {
    /// Those of the kinds that Aviary has.
    pub(crate) fn of_all_kinds() -> Self {
        let kinds = all_definitions().into_iter();
        let kinds =
            kinds.map(|definition| (definition.spec.names.kind.clone(), schema(&definition)));
        Self {
            kinds: kinds.collect(),
            rules: kube_cel::Validator::new(),
        }
    }

    /// The names of the kinds.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// What is wrong with an object of a kind that there is.
    pub(crate) fn check(&self, kind: &str, object: &Value) -> Vec<Violation> {
        let Some(schema) = self.kinds.get(kind) else {
            return Vec::new();
        };
        let violations = schema.structure.iter_errors(object);
        let violations: Vec<Violation> = violations
            .flat_map(|error| violations_of(&schema.document, &error))
            .collect();
        if !violations.is_empty() {
            return violations;
        }
        let broken = self.rules.validate_compiled(&schema.rules, object, None);
        let broken = broken
            .err()
            .map_or_else(Vec::new, kube_cel::ValidationErrors::into_vec);
        let violations = broken.into_iter().map(|error| Violation {
            path: error.field_path,
            message: error.message,
            hint: None,
        });
        violations.collect()
    }
}

#[expect(
    clippy::expect_used,
    reason = "the schemas are our own, and every test compiles them"
)]
fn schema(definition: &CustomResourceDefinition) -> Schema {
    let version = &definition.spec.versions[0].schema;
    let schema = version
        .as_ref()
        .and_then(|it| it.open_api_v3_schema.as_ref());
    let mut document = serde_json::to_value(schema).expect("a schema is JSON");
    let rules = compile_schema(&document);
    document["properties"]["apiVersion"] = json!({"type": "string"});
    document["properties"]["kind"] = json!({"type": "string"});
    document["properties"]["metadata"] = metadata();
    close(&mut document);
    let structure = jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(&document)
        .expect("it is a JSON schema");
    Schema {
        document,
        structure,
        rules,
    }
}

/// What Kubernetes asks of `metadata`.
fn metadata() -> Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|it| it.inline_subschemas = true);
    let schema = settings
        .into_generator()
        .into_root_schema_for::<ObjectMeta>();
    let mut schema = schema.to_value();
    schema["properties"]["name"] = json!({
        "type": "string",
        "maxLength": 253,
        "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    });
    schema["properties"]["namespace"] = json!({
        "type": "string",
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    });
    schema["required"] = json!(["name"]);
    schema
}

/// Lets an object have no other fields than those that its schema names.
fn close(schema: &mut Value) {
    let has_fields = schema.get("properties").is_some_and(Value::is_object);
    if has_fields && schema.get("additionalProperties").is_none() {
        schema["additionalProperties"] = json!(false);
    }
    match schema {
        Value::Object(parts) => parts.values_mut().for_each(close),
        Value::Array(parts) => parts.iter_mut().for_each(close),
        _ => {}
    }
}

fn violations_of(schema: &Value, error: &ValidationError<'_>) -> Vec<Violation> {
    let parent = dotted(error.instance_path().as_str());
    let inner = |name: &str| {
        if parent.is_empty() {
            name.to_owned()
        } else {
            format!("{parent}.{name}")
        }
    };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let keyword = error.schema_path().as_str();
            let there = keyword
                .rsplit_once('/')
                .and_then(|(there, _)| schema.pointer(there));
            let known = there.and_then(|it| it["properties"].as_object());
            let known: Vec<&str> = known
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
                .collect();
            let violations = unexpected.iter().map(|name| Violation {
                path: inner(name),
                message: "there is no such field".to_owned(),
                hint: Some(meant(name, &known)),
            });
            violations.collect()
        }
        ValidationErrorKind::Required { property } => vec![Violation {
            path: inner(property.as_str().unwrap_or_default()),
            message: "it is needed and not there".to_owned(),
            hint: None,
        }],
        kind => vec![Violation {
            message: error.masked_with("it").to_string(),
            hint: misread(kind, error.instance()),
            path: parent,
        }],
    }
}

/// Which of the names somebody may have meant.
pub(crate) fn meant(name: &str, known: &[&str]) -> String {
    let alike = |known: &&str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    let nearest = known.iter().copied().map(|it| (alike(&it), it));
    match nearest.max_by(|(one, _), (other, _)| one.total_cmp(other)) {
        Some((likeness, nearest)) if likeness > 0.8 => format!("did you mean `{nearest}`?"),
        _ => format!("there are {}", known.join(", ")),
    }
}

/// What YAML made of a text without quotes.
fn misread(kind: &ValidationErrorKind, value: &Value) -> Option<String> {
    let ValidationErrorKind::Type {
        kind: TypeKind::Single(JsonType::String),
    } = kind
    else {
        return None;
    };
    match value {
        Value::Bool(_) => {
            Some("YAML reads on, off, yes, no, y and n as booleans: put it in quotes".to_owned())
        }
        Value::Number(_) => Some("put it in quotes".to_owned()),
        _ => None,
    }
}

/// `/spec/columns/2/type` as people write it: `spec.columns[2].type`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else if path.is_empty() {
            path = part;
        } else {
            path.push_str(&format!(".{part}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_can_be_asked_here() {
        for (kind, schema) in Schemas::of_all_kinds().kinds {
            assert!(
                !schema.rules.has_errors(),
                "{kind}: {:?}",
                schema.rules.compilation_errors()
            );
        }
    }
}
