//! What a parsed template consists of: SQL, places where a value is bound, and
//! choices between parts. Names are resolved to slots, literals are validated, so
//! rendering has nothing left to look up or to refuse but the request's values.

use super::{
    expression::Comparison,
    parameter::{Parameter, ScalarType},
    value,
};

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// SQL, as it is.
    Sql(String),
    /// The value of a slot, bound as a parameter.
    Bind(usize),
    /// `{% if %}`.
    Choice(Choice),
}

/// `{% if %} ... {% elif %} ... {% else %} ... {% end %}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    /// A number of its own for each arm, counted through the template: the first
    /// arm has this one, the `else` branch (written or not) the last.
    pub(super) first_arm: usize,
    pub(super) arms: Vec<Arm>,
    pub(super) otherwise: Vec<Part>,
}

/// A condition and what it guards.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arm {
    pub(super) condition: Condition,
    pub(super) body: Vec<Part>,
}

/// When an arm is taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// The request has the parameter.
    Defined(usize),
    /// The value passes a test.
    Test(Operand, Test),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

/// A value that a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    pub(super) slot: usize,
    /// `Int32(x)`, which is validated and has a default, rather than `x`, which is
    /// the request's text or nothing.
    pub(super) typed: bool,
}

/// What a condition asks of a value. Literals are in canonical form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// Neither zero, nor false, nor empty.
    Truthy,
    Compare(Comparison, String),
    OneOf(Vec<String>),
}

/// A parameter and what rendering needs of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    pub(super) parameter: Parameter,
    /// The mark that stands for the value in SQL: `{p_month:Int32}`.
    pub(super) mark: String,
    /// The name in that mark: `p_month`.
    pub(super) bound_name: String,
    pub(super) default: Option<DefaultValue>,
    /// The enumeration in canonical form.
    pub(super) allowed: Vec<String>,
}

/// A default in the two forms in which it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefaultValue {
    /// The elements of an array, or the one scalar.
    pub(super) canonical: Vec<String>,
    /// As the bound parameter travels.
    pub(super) bound: String,
}

impl Test {
    /// Whether the value passes; nothing is never equal and never ordered.
    pub(super) fn passes(&self, slot: &Slot, typed: bool, value: Option<&str>) -> bool {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let kind = if typed {
            slot.parameter.kind.element()
        } else {
            ScalarType::String
        };
        match (self, value) {
            (Self::Truthy, value) => value.is_some_and(|value| is_truthy(kind, value)),
            (Self::Compare(comparison, _), None) => *comparison == NotEqual,
            (Self::Compare(comparison, literal), Some(value)) => {
                let ordering = value::compare(kind, value, literal);
                match comparison {
                    Equal => ordering.is_eq(),
                    NotEqual => ordering.is_ne(),
                    Less => ordering.is_lt(),
                    LessOrEqual => ordering.is_le(),
                    Greater => ordering.is_gt(),
                    GreaterOrEqual => ordering.is_ge(),
                }
            }
            (Self::OneOf(_), None) => false,
            (Self::OneOf(literals), Some(value)) => literals
                .iter()
                .any(|literal| value::compare(kind, value, literal).is_eq()),
        }
    }
}

fn is_truthy(kind: ScalarType, value: &str) -> bool {
    match kind {
        ScalarType::Integer { .. } | ScalarType::Boolean => value != "0",
        ScalarType::Float32 | ScalarType::Float64 => {
            value.parse::<f64>().is_ok_and(|number| number != 0.0)
        }
        _ => !value.is_empty(),
    }
}
