//! Endpoints: a pipe's query, run with a request's parameters, its rows passed
//! through as ClickHouse writes them.

mod answer;
mod failure;
mod openapi;
mod parameters;
mod schema;

pub(crate) use openapi::{handle_list, handle_openapi};

use crate::answer_body::Body;
use crate::context::Context;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::event::{Recorder, Waiting};
use crate::format::Format;
use crate::index::{ServedPipe, ServedWorkspace};
use crate::request_body::RequestBody;
use crate::request_id::RequestId;
use crate::rights::Access;
use crate::upstream::{Answer, Repeat, Request};
use aviary_sql::{ParameterValues, RenderError};
use http::Response;
use http::request::Parts;
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

/// ClickHouse ends a query at the workspace's limit; this much later the gateway does.
const GRACE: Duration = Duration::from_secs(2);

/// What ClickHouse is asked for a request to `GET|POST /v0/pipes/<name>.<format>`.
pub(crate) struct EndpointQuery {
    format: Format,
    /// The query string of the URL.
    query: String,
    sql: String,
}

/// The pipe of this name, which the token may read.
pub(crate) fn find<'a>(
    context: &'a Context<'_>,
    name: &str,
) -> Result<&'a Arc<ServedPipe>, ApiError> {
    context.authorize(Access::Read(name))?;
    let pipe = context.workspace()?.pipes.get(name);
    pipe.ok_or_else(|| {
        ApiError::new(
            ErrorCode::PipeUnknown,
            format!("there is no pipe `{name}` with an endpoint"),
        )
    })
}

impl EndpointQuery {
    /// What a request without a body asks.
    pub(crate) fn of_query(
        context: &Context<'_>,
        pipe: &ServedPipe,
        format: Format,
        parts: &Parts,
    ) -> Result<Self, ApiError> {
        Self::new(context, pipe, format, &parameters::of_query(parts))
    }

    /// What a request with a body asks.
    pub(crate) async fn of_body(
        context: &Context<'_>,
        pipe: &ServedPipe,
        format: Format,
        parts: &Parts,
        body: RequestBody,
    ) -> Result<Self, ApiError> {
        let share = &context.workspace()?.shares.answers;
        let body = parameters::collect(body, share).await?;
        Self::new(context, pipe, format, &parameters::of_body(parts, &body)?)
    }

    fn new(
        context: &Context<'_>,
        pipe: &ServedPipe,
        format: Format,
        values: &ParameterValues<'_>,
    ) -> Result<Self, ApiError> {
        let rendered = pipe.template.render(values);
        let rendered = rendered.map_err(|error| explain(&error))?;
        let start = context.workspace()?.query_start(format);
        Ok(Self {
            format,
            query: query_string(start, &rendered.parameters),
            sql: rendered.sql,
        })
    }

    /// Asks ClickHouse, and answers.
    pub(crate) async fn answer(
        self,
        context: &Context<'_>,
        recorder: &mut Recorder,
    ) -> Result<Response<Body>, ApiError> {
        let workspace = context.workspace()?;
        let slot = workspace.queries.admit().await?;
        recorder.answers_rows(self.format);
        recorder.waits_for(Waiting::ClickHouse);
        let answer = self.ask(workspace, &context.request_id).await?;
        answer::respond(context, answer, self.format, slot, recorder).await
    }

    async fn ask(&self, workspace: &ServedWorkspace, id: &RequestId) -> Result<Answer, ApiError> {
        let timeout = workspace.query_timeout();
        let request = Request {
            query_id: Some(id),
            query: &self.query,
            authorization: &workspace.reader,
            body: &[self.sql.as_bytes()],
            patience: timeout + GRACE,
            repeat: Repeat::Anywhere,
        };
        let sent = workspace.replicas.send(&request).await;
        sent.map_err(|error| failure::of_upstream(&error, timeout))
    }
}

/// The settings of the query, and its parameters. Nothing of a request
/// gets in here but the values of parameters the pipe has.
fn query_string(start: &str, parameters: &[(String, String)]) -> String {
    let mut query = String::with_capacity(start.len() + parameters.len() * 64);
    query.push_str(start);
    for (name, value) in parameters {
        query.push_str("&param_");
        query.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        query.push('=');
        query.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }
    query
}

fn explain(error: &RenderError) -> ApiError {
    let code = match error {
        RenderError::Missing { .. } => ErrorCode::ParameterMissing,
        RenderError::Invalid { .. } | RenderError::Repeated { .. } => ErrorCode::ParameterInvalid,
    };
    ApiError::new(code, error.to_string()).parameters(error.parameters())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_become_settings() {
        let parameters = [(
            "p_a".to_owned(),
            "1&max_execution_time=0 '\u{e9}".to_owned(),
        )];
        assert_eq!(
            query_string("database=d", &parameters),
            "database=d&param_p_a=1%26max_execution_time%3D0+%27%C3%A9"
        );
    }
}
