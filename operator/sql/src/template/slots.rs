//! Collects a template's parameters while it is parsed: every use of a name ends
//! in one slot, whose type, default and documentation come from all of its uses.

use std::collections::HashMap;

use super::{
    Parameter, ParameterType, Value,
    error::{ParseError, line_and_column},
    expression::{Call, Expression, ExpressionKind},
    parameter::{ScalarType, is_reserved},
    program::{DefaultValue, Slot},
    value,
};

/// Most parameters in one template.
const MAX_PARAMETERS: usize = 256;

/// Whether a value is needed whenever the template renders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// In every rendering.
    Always,
    /// Only when some condition holds.
    Conditional,
}

/// The parameters found so far.
pub(super) struct Slots<'a> {
    source: &'a str,
    drafts: Vec<Draft>,
    by_name: HashMap<String, usize>,
}

/// A slot in the making.
struct Draft {
    slot: Slot,
    /// Where the type was first written; unknown while only `defined()` names it.
    typed_at: Option<usize>,
    /// Whether some use needs a value in every rendering.
    always_used: bool,
}

impl<'a> Slots<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self {
            source,
            drafts: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    /// The slots, once the whole template is read.
    pub(super) fn finish(self) -> Vec<Slot> {
        let finish = |draft: Draft| {
            let mut slot = draft.slot;
            slot.parameter.required |= draft.always_used && slot.default.is_none();
            slot.bound_name = format!("p_{}", slot.parameter.name);
            slot.mark = format!(
                "{{{}:{}}}",
                slot.bound_name,
                slot.parameter.kind.clickhouse_name()
            );
            slot
        };
        self.drafts.into_iter().map(finish).collect()
    }

    pub(super) fn kind(&self, slot: usize) -> ParameterType {
        self.drafts[slot].slot.parameter.kind
    }

    /// The slot of a name that is used without a type; text until a typed use says
    /// otherwise.
    pub(super) fn untyped(&mut self, name: &str, at: usize) -> Result<usize, ParseError> {
        if let Some(&slot) = self.by_name.get(name) {
            return Ok(slot);
        }
        if is_reserved(name) {
            return Err(ParseError::new(
                at,
                format!("`{name}` is reserved and cannot be a parameter"),
            )
            .hint("requests use this name for something else: choose another"));
        }
        if self.drafts.len() == MAX_PARAMETERS {
            return Err(ParseError::new(
                at,
                format!("more than {MAX_PARAMETERS} parameters"),
            ));
        }
        let slot = self.drafts.len();
        self.drafts.push(Draft::new(name));
        self.by_name.insert(name.to_owned(), slot);
        Ok(slot)
    }

    /// The slot of `Type(name, ...)`.
    pub(super) fn typed(
        &mut self,
        call: Call,
        at: usize,
        reach: Reach,
    ) -> Result<usize, ParseError> {
        let usage = Usage::of(call, at)?;
        let slot = self.untyped(&usage.name, usage.name_at)?;
        let source = self.source;
        let draft = &mut self.drafts[slot];
        let known = draft.slot.parameter.kind;
        if let Some(first) = draft.typed_at.filter(|_| known != usage.kind) {
            let (line, column) = line_and_column(source, first);
            return Err(ParseError::new(
                at,
                format!(
                    "`{}` is {} here and {known} at line {line}, column {column}",
                    usage.name, usage.kind
                ),
            )
            .hint("a parameter has one type: convert it in SQL where another is needed"));
        }
        draft.typed_at.get_or_insert(at);
        draft.always_used |= reach == Reach::Always;
        draft.merge(usage)?;
        Ok(slot)
    }
}

impl Draft {
    fn new(name: &str) -> Self {
        Self {
            slot: Slot {
                parameter: Parameter {
                    name: name.to_owned(),
                    kind: ParameterType::Scalar(ScalarType::String),
                    default: None,
                    required: false,
                    description: None,
                    example: None,
                    enumeration: Vec::new(),
                    format: None,
                },
                mark: String::new(),
                bound_name: String::new(),
                default: None,
                allowed: Vec::new(),
            },
            typed_at: None,
            always_used: false,
        }
    }

    /// Adds what another use says; what was said first wins.
    fn merge(&mut self, usage: Usage) -> Result<(), ParseError> {
        let slot = &mut self.slot;
        let parameter = &mut slot.parameter;
        parameter.kind = usage.kind;
        parameter.required |= usage.required;
        parameter.description = parameter.description.take().or(usage.description);
        parameter.example = parameter.example.take().or(usage.example);
        parameter.format = parameter.format.take().or(usage.format);
        let element = usage.kind.element();
        if parameter.enumeration.is_empty() {
            slot.allowed = usage
                .enumeration
                .iter()
                .map(|member| canonical_literal(element, member, usage.at))
                .collect::<Result<_, _>>()?;
            parameter.enumeration = usage.enumeration;
        }
        if slot.default.is_none()
            && let Some(default) = usage.default
        {
            slot.default = Some(default_value(usage.kind, &default, usage.at)?);
            parameter.default = Some(default);
        }
        self.check_default(usage.at)
    }

    fn check_default(&self, at: usize) -> Result<(), ParseError> {
        let Slot {
            default, allowed, ..
        } = &self.slot;
        let kind = self.slot.parameter.kind.element();
        let is_allowed = |value: &String| {
            allowed
                .iter()
                .any(|member| value::compare(kind, member, value).is_eq())
        };
        let strays = default
            .iter()
            .flat_map(|default| &default.canonical)
            .any(|value| !allowed.is_empty() && !is_allowed(value));
        if strays {
            let name = &self.slot.parameter.name;
            return Err(ParseError::new(
                at,
                format!("the default of `{name}` is not one of its enum values"),
            ));
        }
        Ok(())
    }
}

/// One `Type(name, ...)` as written.
struct Usage {
    at: usize,
    name: String,
    name_at: usize,
    kind: ParameterType,
    default: Option<Value>,
    required: bool,
    description: Option<String>,
    example: Option<Value>,
    enumeration: Vec<Value>,
    format: Option<String>,
}

impl Usage {
    fn of(call: Call, at: usize) -> Result<Self, ParseError> {
        let function = call.function;
        let mut positional = call.positional.into_iter();
        let (name, name_at) = parameter_name(&function, positional.next(), at)?;
        let kind = match ScalarType::named(&function) {
            Some(scalar) => ParameterType::Scalar(scalar),
            None => ParameterType::Array(element_type(positional.next())?),
        };
        let mut usage = Self {
            at,
            name,
            name_at,
            kind,
            default: None,
            required: false,
            description: None,
            example: None,
            enumeration: Vec::new(),
            format: None,
        };
        if let Some(default) = positional.next() {
            usage.default = literal(default)?;
        }
        if let Some(extra) = positional.next() {
            return Err(
                ParseError::new(extra.at, format!("`{function}` takes no further argument here"))
                    .hint("after the default come description='...', required=True, enum=[...], example=..., format='...'"),
            );
        }
        for (keyword, value) in call.keywords {
            usage.keyword(&keyword, value)?;
        }
        Ok(usage)
    }

    fn keyword(&mut self, keyword: &str, value: Expression) -> Result<(), ParseError> {
        let at = value.at;
        let value = literal(value)?;
        match (keyword, value) {
            ("default", value) => {
                if self.default.is_some() {
                    return Err(ParseError::new(at, "the default is given twice"));
                }
                self.default = value;
            }
            ("description", Some(Value::Text(text))) => self.description = Some(text),
            ("format", Some(Value::Text(text))) => self.format = Some(text),
            ("example", value) => self.example = value,
            ("required", Some(Value::Boolean(required))) => self.required = required,
            ("enum", Some(Value::List(values))) => self.enumeration = values,
            ("description" | "format" | "required" | "enum", None) => {}
            ("description" | "format", _) => {
                return Err(ParseError::new(
                    at,
                    format!("`{keyword}` takes a text in quotes"),
                ));
            }
            ("required", _) => return Err(ParseError::new(at, "`required` takes True or False")),
            ("enum", _) => return Err(ParseError::new(at, "`enum` takes a list of values")),
            _ => {
                return Err(ParseError::new(at, format!("unknown argument `{keyword}`"))
                    .hint("there are default, description, required, enum, example and format"));
            }
        }
        Ok(())
    }
}

fn parameter_name(
    function: &str,
    argument: Option<Expression>,
    at: usize,
) -> Result<(String, usize), ParseError> {
    match argument {
        Some(Expression {
            at,
            kind: ExpressionKind::Name(name),
        }) => Ok((name, at)),
        Some(other) => Err(ParseError::new(
            other.at,
            format!("`{function}` takes the name of a parameter first"),
        )
        .hint("a bare name, without quotes")),
        None => Err(ParseError::new(
            at,
            format!("`{function}` needs the name of a parameter"),
        )),
    }
}

/// The second argument of `Array`. As in Tinybird it may be left out, empty or
/// anything but a word, and then the elements are text; a word that is no type is
/// a mistake.
fn element_type(argument: Option<Expression>) -> Result<ScalarType, ParseError> {
    let Some(argument) = argument else {
        return Ok(ScalarType::String);
    };
    let at = argument.at;
    let name = match argument.kind {
        ExpressionKind::Literal(Value::Text(text)) => text,
        ExpressionKind::Name(name) => name,
        _ => return Ok(ScalarType::String),
    };
    match ScalarType::named(&name) {
        Some(scalar) => Ok(scalar),
        None if !crate::is_plain_name(&name) => Ok(ScalarType::String),
        None => Err(unknown_element(&name, at)),
    }
}

fn unknown_element(name: &str, at: usize) -> ParseError {
    ParseError::new(
        at,
        format!("`{name}` is no type for the elements of an array"),
    )
    .hint(format!("there are {}", super::parameter::SUPPORTED_TYPES))
}

/// The value of a literal; `None` in the template is nothing.
fn literal(expression: Expression) -> Result<Option<Value>, ParseError> {
    let Expression { at, kind } = expression;
    match kind {
        ExpressionKind::Literal(value) => Ok(Some(value)),
        ExpressionKind::None => Ok(None),
        ExpressionKind::List(items) => items
            .into_iter()
            .map(|item| {
                let at = item.at;
                match literal(item)? {
                    Some(Value::List(_)) | None => Err(ParseError::new(
                        at,
                        "a list holds texts, numbers, True and False",
                    )),
                    Some(value) => Ok(value),
                }
            })
            .collect::<Result<_, _>>()
            .map(|values| Some(Value::List(values))),
        _ => Err(ParseError::new(
            at,
            "expected a text in quotes, a number, True, False or a list",
        )),
    }
}

/// The canonical form of a literal, which must be a value of the type.
pub(super) fn canonical_literal(
    kind: ScalarType,
    literal: &Value,
    at: usize,
) -> Result<String, ParseError> {
    let text = match literal {
        Value::List(_) => None,
        single => Some(single.to_string()),
    };
    text.as_deref()
        .and_then(|text| value::canonical(kind, text))
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| {
            let shown: String = literal.to_string().chars().take(40).collect();
            ParseError::new(at, format!("`{shown}` is no {}", kind.name()))
                .hint(format!("expected {}", value::expectation(kind)))
        })
}

fn default_value(
    kind: ParameterType,
    default: &Value,
    at: usize,
) -> Result<DefaultValue, ParseError> {
    let (element, items) = match (kind, default) {
        (ParameterType::Scalar(scalar), single) => (scalar, vec![single.clone()]),
        (ParameterType::Array(element), Value::List(values)) => (element, values.clone()),
        (ParameterType::Array(element), single) => {
            let text = single.to_string();
            let items = value::split_list(&text)
                .map(|item| Value::Text(item.to_owned()))
                .collect();
            (element, items)
        }
    };
    let canonical = items
        .iter()
        .map(|item| canonical_literal(element, item, at))
        .collect::<Result<Vec<_>, _>>()?;
    let mut bound = String::new();
    match kind {
        ParameterType::Scalar(scalar) => {
            for value in &canonical {
                value::write_scalar(scalar, value, &mut bound);
            }
        }
        ParameterType::Array(element) => {
            for value in &canonical {
                value::write_element(element, value, &mut bound);
            }
            value::finish_array(&mut bound);
        }
    }
    Ok(DefaultValue { canonical, bound })
}
