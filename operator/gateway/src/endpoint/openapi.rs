//! What a token can call, for people and for generators of clients: the list of
//! pipes, and the OpenAPI document.

use super::schema;
use crate::answer_body::Body;
use crate::context::Context;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::format::Format;
use crate::index::ServedPipe;
use crate::rights::{Access, authorize};
use aviary_sql::template::Parameter;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// `GET /v0/pipes`: the pipes that the token may read.
pub(crate) fn handle_list(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let pipes: Vec<Json> = readable(context)?.map(describe).collect();
    Ok(document(context, &json!({ "pipes": pipes })))
}

/// The pipes that the token may read.
fn readable<'c>(
    context: &'c Context<'_>,
) -> Result<impl Iterator<Item = &'c ServedPipe>, ApiError> {
    let pipes = context.workspace()?.pipes.values();
    let principal = &context.opened.principal;
    Ok(pipes
        .filter(|pipe| authorize(principal, Access::Read(&pipe.published.name)).is_ok())
        .map(Arc::as_ref))
}

fn describe(pipe: &ServedPipe) -> Json {
    let published = &pipe.published;
    json!({
        "name": published.name,
        "description": published.description,
        "revision": published.revision,
        "url": format!("/v0/pipes/{}.json", published.name),
        "parameters": pipe.template.parameters(),
        "columns": published.columns,
    })
}

/// `GET /v0/pipes/openapi.json`: the same as an OpenAPI 3.1 document.
pub(crate) fn handle_openapi(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let workspace = context.workspace()?;
    let mut paths = Map::new();
    for pipe in readable(context)? {
        for format in Format::ALL {
            let path = format!("/v0/pipes/{}.{}", pipe.published.name, format.extension());
            let item = json!({ "get": get(pipe, format), "post": post(pipe, format) });
            paths.insert(path, item);
        }
    }
    let openapi = json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("{}/{}", workspace.key.namespace, workspace.key.name),
            "description": "The endpoints of a workspace. Rows come as ClickHouse writes them.",
            "version": "v0",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "query": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "query": { "type": "apiKey", "in": "query", "name": "token" },
            },
            "schemas": { "Error": error_schema() },
        },
    });
    Ok(document(context, &openapi))
}

fn get(pipe: &ServedPipe, format: Format) -> Json {
    let mut operation = operation(pipe, format);
    let id = format!("{}_{}", pipe.published.name, format.extension());
    operation["operationId"] = id.into();
    operation["parameters"] = pipe.template.parameters().iter().map(parameter).collect();
    operation
}

/// The same with the parameters in the body, where long ones have room.
fn post(pipe: &ServedPipe, format: Format) -> Json {
    let mut operation = operation(pipe, format);
    let id = format!("{}_{}_post", pipe.published.name, format.extension());
    operation["operationId"] = id.into();
    let parameters = pipe.template.parameters();
    let properties: Map<String, Json> = parameters
        .iter()
        .map(|parameter| {
            let mut schema = schema::of_parameter(parameter);
            if let Some(description) = &parameter.description {
                schema["description"] = description.clone().into();
            }
            (parameter.name.clone(), schema)
        })
        .collect();
    let required: Vec<&str> = parameters
        .iter()
        .filter(|parameter| is_required(parameter))
        .map(|parameter| parameter.name.as_str())
        .collect();
    let is_body_required = !required.is_empty();
    let mut schema = json!({ "type": "object", "properties": properties });
    if is_body_required {
        schema["required"] = required.into();
    }
    operation["requestBody"] = json!({
        "required": is_body_required,
        "content": {
            "application/json": { "schema": schema },
            "application/x-www-form-urlencoded": { "schema": schema },
        },
    });
    operation
}

/// What does not depend on where the parameters are.
fn operation(pipe: &ServedPipe, format: Format) -> Json {
    let published = &pipe.published;
    let mut operation = json!({
        "tags": [published.name],
        "responses": {
            "200": {
                "description": "The rows.",
                "content": { media_type(format): content(pipe, format) },
            },
            "default": {
                "description": "The request failed.",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    if let Some(description) = &published.description {
        operation["description"] = description.clone().into();
    }
    operation
}

fn media_type(format: Format) -> &'static str {
    format.media_type().split(';').next().unwrap_or_default()
}

fn is_required(parameter: &Parameter) -> bool {
    parameter.required && parameter.default.is_none()
}

fn parameter(parameter: &Parameter) -> Json {
    let mut document = json!({
        "name": parameter.name,
        "in": "query",
        "required": is_required(parameter),
        "schema": schema::of_parameter(parameter),
    });
    if let Some(description) = &parameter.description {
        document["description"] = description.clone().into();
    }
    if let Some(example) = &parameter.example {
        document["example"] = schema::of_argument(parameter.kind, example);
    }
    document
}

fn content(pipe: &ServedPipe, format: Format) -> Json {
    let columns = pipe.published.columns.iter();
    let row =
        schema::of_row(columns.map(|column| (column.name.as_str(), column.column_type.as_str())));
    match format {
        Format::Json => json!({ "schema": {
            "type": "object",
            "required": ["meta", "data", "rows", "statistics"],
            "properties": {
                "meta": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "name": { "type": "string" }, "type": { "type": "string" } },
                } },
                "data": { "type": "array", "items": row },
                "rows": { "type": "integer" },
                "rows_before_limit_at_least": { "type": "integer" },
                "statistics": { "type": "object", "properties": {
                    "elapsed": { "type": "number" },
                    "rows_read": { "type": "integer" },
                    "bytes_read": { "type": "integer" },
                } },
            },
        } }),
        Format::NdJson => json!({ "schema": row }),
        Format::Csv => json!({ "schema": { "type": "string" } }),
        Format::Parquet => {
            json!({ "schema": { "type": "string", "contentMediaType": media_type(format) } })
        }
    }
}

fn error_schema() -> Json {
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "required": ["error", "code", "request_id"],
        "properties": {
            "error": { "type": "string", "description": "What is wrong and what to do." },
            "code": { "type": "string", "enum": codes },
            "request_id": { "type": "string", "description": "Also the query_id in ClickHouse." },
            "parameters": { "type": "array", "items": { "type": "string" } },
            "import_id": { "type": "string" },
            "acknowledged_rows": { "type": "integer" },
        },
    })
}

fn document(context: &Context<'_>, document: &Json) -> Response<Body> {
    let text = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(Body::full(Bytes::from(text)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert("x-request-id", context.request_id.header());
    response
}
