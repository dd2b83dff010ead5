//! ClickHouse's types as JSON Schema: what a value of a column looks like in an
//! answer, and a parameter in a request.

use aviary_sql::template::{Parameter, ParameterType, ScalarType, Value};
use serde_json::{Map, Value as Json, json};

/// The schema of a column's values in the format JSON.
pub(super) fn of_column(column_type: &str) -> Json {
    let text = column_type.trim();
    if let Some(inner) = argument(text, "Nullable") {
        return nullable(of_column(inner));
    }
    if let Some(inner) = argument(text, "LowCardinality") {
        return of_column(inner);
    }
    if let Some(inner) = argument(text, "Array") {
        return json!({ "type": "array", "items": of_column(inner) });
    }
    if let Some(inner) =
        argument(text, "SimpleAggregateFunction").and_then(|inner| inner.split_once(','))
    {
        return of_column(inner.1);
    }
    let name = text.split('(').next().unwrap_or_default();
    match name {
        "Int8" | "Int16" | "Int32" | "Int64" | "Int128" | "Int256" | "UInt8" | "UInt16"
        | "UInt32" | "UInt64" | "UInt128" | "UInt256" => {
            let (signed, bits) = match name.strip_prefix('U') {
                Some(name) => (false, &name[3..]),
                None => (true, &name[3..]),
            };
            integer(bits.parse().unwrap_or(u16::MAX), signed)
        }
        "Float32" => nullable(json!({ "type": "number", "format": "float" })),
        "Float64" | "BFloat16" => nullable(json!({ "type": "number", "format": "double" })),
        "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => {
            json!({ "type": "number" })
        }
        "Bool" => json!({ "type": "boolean" }),
        "Date" | "Date32" => json!({ "type": "string", "format": "date" }),
        "DateTime" | "DateTime64" => json!({ "type": "string", "example": "2024-01-31 12:00:00" }),
        "UUID" => json!({ "type": "string", "format": "uuid" }),
        "IPv4" => json!({ "type": "string", "format": "ipv4" }),
        "IPv6" => json!({ "type": "string", "format": "ipv6" }),
        "Map" | "JSON" | "Object" => json!({ "type": "object", "additionalProperties": true }),
        "Tuple" | "Nested" | "Variant" | "Dynamic" | "Point" | "Ring" | "Polygon" => json!({}),
        "Nothing" => json!({ "type": "null" }),
        _ => json!({ "type": "string" }),
    }
}

/// The formats of JSON Schema are signed, so an unsigned type takes the next one,
/// and none is wide enough for the widest. ClickHouse writes all of them as numbers.
fn integer(bits: u16, signed: bool) -> Json {
    let mut schema = json!({ "type": "integer" });
    match if signed { bits } else { bits + 1 } {
        0..=32 => schema["format"] = "int32".into(),
        33..=64 => schema["format"] = "int64".into(),
        _ => {}
    }
    if !signed {
        schema["minimum"] = 0.into();
    }
    schema
}

/// The schema of a parameter.
pub(super) fn of_parameter(parameter: &Parameter) -> Json {
    let mut schema = match parameter.kind {
        ParameterType::Scalar(scalar) => of_scalar(scalar, &parameter.enumeration),
        ParameterType::Array(element) => {
            json!({ "type": "array", "items": of_scalar(element, &parameter.enumeration) })
        }
    };
    if let (Json::Object(schema), Some(default)) = (&mut schema, &parameter.default) {
        schema.insert("default".to_owned(), of_argument(parameter.kind, default));
    }
    schema
}

fn of_scalar(scalar: ScalarType, allowed: &[Value]) -> Json {
    let mut schema = match scalar {
        ScalarType::Integer { bits, signed } => integer(bits, signed),
        ScalarType::Float32 => json!({ "type": "number", "format": "float" }),
        ScalarType::Float64 => json!({ "type": "number", "format": "double" }),
        ScalarType::String => json!({ "type": "string" }),
        ScalarType::Date => json!({ "type": "string", "format": "date" }),
        ScalarType::DateTime => json!({ "type": "string", "example": "2024-01-31 12:00:00" }),
        ScalarType::DateTime64 => {
            json!({ "type": "string", "example": "2024-01-31 12:00:00.000000" })
        }
        ScalarType::Boolean => json!({ "type": "boolean" }),
        ScalarType::Uuid => json!({ "type": "string", "format": "uuid" }),
    };
    if !allowed.is_empty() {
        schema["enum"] = allowed
            .iter()
            .map(|value| of_value(scalar, value))
            .collect();
    }
    schema
}

/// A parameter's default or example. A list may be written as one text with commas.
pub(super) fn of_argument(kind: ParameterType, value: &Value) -> Json {
    match (kind, value) {
        (ParameterType::Scalar(scalar), value) => of_value(scalar, value),
        (ParameterType::Array(_), Value::Text(text)) if text.is_empty() => json!([]),
        (ParameterType::Array(element), Value::Text(text)) => {
            text.split(',').map(|text| of_text(element, text)).collect()
        }
        (ParameterType::Array(element), Value::List(values)) => values
            .iter()
            .map(|value| of_value(element, value))
            .collect(),
        (ParameterType::Array(element), single) => json!([of_value(element, single)]),
    }
}

/// A value as its type has it in JSON, however the template writes it.
fn of_value(scalar: ScalarType, value: &Value) -> Json {
    match value {
        Value::Text(text) => of_text(scalar, text),
        other => json_of(other),
    }
}

fn of_text(scalar: ScalarType, text: &str) -> Json {
    let is_bare = matches!(
        scalar,
        ScalarType::Integer { .. }
            | ScalarType::Float32
            | ScalarType::Float64
            | ScalarType::Boolean
    );
    let parsed = serde_json::from_str(text.trim()).ok();
    let bare = parsed.filter(|value: &Json| is_bare && (value.is_number() || value.is_boolean()));
    bare.unwrap_or_else(|| text.into())
}

/// A value of a template in JSON.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(value) => value.clone().into(),
        Value::List(values) => values.iter().map(json_of).collect(),
    }
}

fn nullable(schema: Json) -> Json {
    let Json::Object(mut schema) = schema else {
        return schema;
    };
    if let Some(name) = schema.get("type").filter(|name| name.is_string()).cloned() {
        schema.insert("type".to_owned(), json!([name, "null"]));
    }
    Json::Object(schema)
}

/// What stands in the brackets of `Name(...)`.
fn argument<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.strip_prefix(name)?
        .strip_prefix('(')?
        .strip_suffix(')')
}

/// The schema of a row with these columns.
pub(super) fn of_row<'c>(columns: impl Iterator<Item = (&'c str, &'c str)>) -> Json {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, column_type) in columns {
        properties.insert(name.to_owned(), of_column(column_type));
        required.push(name);
    }
    json!({ "type": "object", "required": required, "properties": properties })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_nest() {
        assert_eq!(
            of_column("LowCardinality(Nullable(String))"),
            json!({ "type": ["string", "null"] })
        );
        assert_eq!(
            of_column("Array(Array(UInt8))"),
            json!({ "type": "array", "items": { "type": "array", "items": { "type": "integer", "format": "int32", "minimum": 0 } } })
        );
        assert_eq!(of_column("DateTime64(3, 'UTC')")["type"], "string");
        assert_eq!(
            of_column("SimpleAggregateFunction(sum, Int64)")["format"],
            "int64"
        );
        assert_eq!(of_column("Enum8('a' = 1)"), json!({ "type": "string" }));
    }

    #[test]
    fn an_integer_fits_into_its_format() {
        let integer = |format: &str| json!({ "type": "integer", "format": format });
        let natural = |format: &str| json!({ "type": "integer", "format": format, "minimum": 0 });
        assert_eq!(of_column("Int32"), integer("int32"));
        assert_eq!(of_column("UInt16"), natural("int32"));
        assert_eq!(of_column("UInt32"), natural("int64"));
        assert_eq!(of_column("Int64"), integer("int64"));
        let widest = json!({ "type": "integer", "minimum": 0 });
        assert_eq!(of_column("UInt64"), widest);
        assert_eq!(of_column("UInt256"), widest);
        assert_eq!(of_column("Int128"), json!({ "type": "integer" }));
        let unsigned = |bits| ScalarType::Integer {
            bits,
            signed: false,
        };
        assert_eq!(of_scalar(unsigned(32), &[]), natural("int64"));
        assert_eq!(of_scalar(unsigned(64), &[]), widest);
    }

    #[test]
    fn arguments_are_of_their_type() {
        let text = |text: &str| Value::Text(text.to_owned());
        let int = ScalarType::Integer {
            bits: 64,
            signed: true,
        };
        let list = ParameterType::Array;
        assert_eq!(of_argument(list(int), &text("1, -2")), json!([1, -2]));
        assert_eq!(of_argument(list(int), &text("")), json!([]));
        assert_eq!(
            of_argument(list(ScalarType::String), &text("1,a")),
            json!(["1", "a"])
        );
        assert_eq!(
            of_argument(list(ScalarType::Float64), &text("1.5")),
            json!([1.5])
        );
        assert_eq!(of_argument(ParameterType::Scalar(int), &text("7")), 7);
        assert_eq!(
            of_argument(ParameterType::Scalar(ScalarType::Boolean), &text("true")),
            true
        );
        assert_eq!(
            of_argument(ParameterType::Scalar(ScalarType::String), &text("7")),
            "7"
        );
    }
}
