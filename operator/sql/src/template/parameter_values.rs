//! What goes into a rendering and what comes out of it.

use super::value::split_list;
use std::borrow::Cow;

/// The parameters of a request, as text. A name may come several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterValues<'v> {
    /// Requests have few parameters, so a list is searched faster than a map.
    given: Vec<Given<'v>>,
}

/// A value and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given<'v> {
    name: Cow<'v, str>,
    value: Cow<'v, str>,
    /// Whether it came as an element of a list, and so is no list itself.
    is_element: bool,
}

impl<'v> ParameterValues<'v> {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; earlier ones of the same name stay.
    pub fn push(&mut self, name: impl Into<Cow<'v, str>>, value: impl Into<Cow<'v, str>>) {
        self.add(name.into(), value.into(), false);
    }

    /// Adds an element of a list, whose commas are its own.
    pub fn push_element(&mut self, name: impl Into<Cow<'v, str>>, value: impl Into<Cow<'v, str>>) {
        self.add(name.into(), value.into(), true);
    }

    fn add(&mut self, name: Cow<'v, str>, value: Cow<'v, str>, is_element: bool) {
        self.given.push(Given {
            name,
            value,
            is_element,
        });
    }

    /// The values of a name, in the order in which they came.
    pub fn get_all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> + Clone {
        self.given_as(name).map(|given| &*given.value)
    }

    /// The elements of an array parameter: values that came several times or as a
    /// list are taken as they are, a single one is cut at its commas.
    pub(super) fn elements<'s>(&'s self, name: &'s str) -> Vec<&'s str> {
        let mut given = self.given_as(name);
        match (given.next(), given.next()) {
            (Some(only), None) if !only.is_element => split_list(&only.value).collect(),
            _ => self.get_all(name).collect(),
        }
    }

    fn given_as<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Given<'v>> + Clone {
        self.given.iter().filter(move |given| given.name == name)
    }

    /// The names, once for every value.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|given| &*given.name)
    }
}

impl<'v, N: Into<Cow<'v, str>>, V: Into<Cow<'v, str>>> FromIterator<(N, V)>
    for ParameterValues<'v>
{
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut values = Self::new();
        values.extend(pairs);
        values
    }
}

impl<'v, N: Into<Cow<'v, str>>, V: Into<Cow<'v, str>>> Extend<(N, V)> for ParameterValues<'v> {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.push(name, value);
        }
    }
}

/// A statement for ClickHouse and the values to bind in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// SQL with marks such as `{p_month:Int32}`.
    pub sql: String,
    /// The name in the mark (`p_month`) and the text that ClickHouse reads the
    /// value from, to be sent as `param_p_month`.
    pub parameters: Vec<(String, String)>,
}

/// Why a request's values cannot be used. Messages never repeat a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Parameters without a default are not in the request.
    #[error("missing parameter{} {}", if parameters.len() == 1 { "" } else { "s" }, quoted(parameters))]
    Missing {
        /// All that are missing.
        parameters: Vec<String>,
    },
    /// A value is not of the parameter's type or not one that it takes.
    #[error("parameter `{parameter}`{}: expected {expected}", place(*element))]
    Invalid {
        /// The parameter.
        parameter: String,
        /// Which element of an array, counted from 1.
        element: Option<usize>,
        /// What a good value looks like.
        expected: String,
    },
    /// A parameter that takes one value came several times.
    #[error("parameter `{parameter}`: expected one value, found several")]
    Repeated {
        /// The parameter.
        parameter: String,
    },
}

impl RenderError {
    /// The names of the parameters at fault.
    pub fn parameters(&self) -> &[String] {
        match self {
            Self::Missing { parameters } => parameters,
            Self::Invalid { parameter, .. } | Self::Repeated { parameter } => {
                std::slice::from_ref(parameter)
            }
        }
    }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn place(element: Option<usize>) -> String {
    element.map_or_else(String::new, |index| format!(", element {index}"))
}
