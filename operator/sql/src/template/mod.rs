//! The template language of pipes: SQL with typed parameters and conditional
//! parts.
//!
//! ```text
//! SELECT carrier, count() AS flights FROM flights
//! WHERE month = {{ Int32(month, 1, description='1 to 12') }}
//! {% if defined(origin) %} AND origin = {{ String(origin) }} {% end %}
//! ```
//!
//! The delimiters and words are those of Tinybird's templates. What differs is
//! how a value gets into the query: never as text, always as a parameter that
//! ClickHouse binds by type, so no value can change what the SQL says.

mod error;
mod expression;
mod expression_text;
mod parameter;
mod parameter_values;
mod parse;
mod program;
mod render;
mod sample_renderings;
mod segments;
mod slots;
mod value;

pub use error::TemplateError;
pub use parameter::{Parameter, ParameterType, ScalarType, UnknownType, Value};
pub use parameter_values::{ParameterValues, RenderError, Rendered};
pub(crate) use segments::OutlineItem;

use crate::dependencies::{References, references};

/// A parsed template, ready to be rendered many times.
#[derive(Debug)]
pub struct Template {
    program: parse::Program,
}

impl Template {
    /// Parses the text of a template.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        parse::parse(source)
            .map(|program| Self { program })
            .map_err(|fault| fault.locate(source))
    }

    /// The parameters it takes, in order of first appearance.
    pub fn parameters(&self) -> Vec<Parameter> {
        let slots = self.program.slots.iter();
        slots.map(|slot| slot.parameter.clone()).collect()
    }

    /// Whether it takes a parameter of this name.
    pub fn knows(&self, name: &str) -> bool {
        let mut slots = self.program.slots.iter();
        slots.any(|slot| slot.parameter.name == name)
    }

    /// Renders it for a request. Values for names it does not know are ignored.
    pub fn render(&self, values: &ParameterValues) -> Result<Rendered, RenderError> {
        render::render(&self.program, values, render::Absent::Refuse)
            .map(|(rendered, _taken)| rendered)
    }

    /// Up to eight renderings that requests can cause and that together take every
    /// branch where that is possible, with made-up values where there is no
    /// default. For validating the SQL before any request comes.
    pub fn render_for_check(&self) -> Vec<Rendered> {
        sample_renderings::renderings(&self.program)
    }

    /// The tables and table functions that some rendering of it refers to.
    pub fn references(&self) -> References {
        let mut found = References::default();
        for rendered in self.render_for_check() {
            found.extend(references(&rendered.sql));
        }
        found
    }
}

/// The tokens of a template's text, for taking it apart as text.
pub(crate) fn outline(source: &str) -> Result<Vec<OutlineItem>, TemplateError> {
    segments::cut(source)
        .map(|scanned| scanned.outline)
        .map_err(|fault| fault.locate(source))
}

/// Line and column of a byte position, counted from 1.
pub(crate) fn line_and_column(source: &str, at: usize) -> (usize, usize) {
    error::line_and_column(source, at)
}
