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
        "Int8" | "Int16" | "Int32" | "UInt8" | "UInt16" | "UInt32" => {
            json!({ "type": "integer", "format": "int32" })
        }
        "Int64" | "UInt64" => json!({ "type": "integer", "format": "int64" }),
        "Int128" | "Int256" | "UInt128" | "UInt256" => {
            json!({ "type": "string", "pattern": "^-?[0-9]+$" })
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

/// The schema of a parameter.
pub(super) fn of_parameter(parameter: &Parameter) -> Json {
    let mut schema = match parameter.kind {
        ParameterType::Scalar(scalar) => of_scalar(scalar, &parameter.enumeration),
        ParameterType::Array(element) => {
            json!({ "type": "array", "items": of_scalar(element, &parameter.enumeration) })
        }
    };
    if let (Json::Object(schema), Some(default)) = (&mut schema, &parameter.default) {
        schema.insert("default".to_owned(), of_default(parameter.kind, default));
    }
    schema
}

fn of_scalar(scalar: ScalarType, allowed: &[Value]) -> Json {
    let mut schema = match scalar {
        ScalarType::Integer { bits, signed } => {
            let mut schema = json!({ "type": "integer" });
            if bits <= 64 {
                schema["format"] = if bits <= 32 { "int32" } else { "int64" }.into();
            }
            if !signed {
                schema["minimum"] = 0.into();
            }
            schema
        }
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
        schema["enum"] = allowed.iter().map(json_of).collect();
    }
    schema
}

/// A list may be written as one text with commas.
fn of_default(kind: ParameterType, default: &Value) -> Json {
    match (kind, default) {
        (ParameterType::Array(_), Value::Text(text)) if text.is_empty() => json!([]),
        (ParameterType::Array(_), Value::Text(text)) => text.split(',').collect(),
        (
            ParameterType::Array(_),
            single @ (Value::Boolean(_) | Value::Integer(_) | Value::Float(_)),
        ) => json!([json_of(single)]),
        (_, value) => json_of(value),
    }
}

/// A value of a template in JSON.
pub(super) fn json_of(value: &Value) -> Json {
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
            json!({ "type": "array", "items": { "type": "array", "items": { "type": "integer", "format": "int32" } } })
        );
        assert_eq!(of_column("DateTime64(3, 'UTC')")["type"], "string");
        assert_eq!(
            of_column("SimpleAggregateFunction(sum, UInt64)")["format"],
            "int64"
        );
        assert_eq!(of_column("Enum8('a' = 1)"), json!({ "type": "string" }));
    }
}
