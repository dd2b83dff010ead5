//! Builds a template's program from its segments: what may stand in `{{ }}` and
//! `{% %}`, which `end` belongs to which `if`, and what the names mean.

use super::{
    error::ParseError,
    expression::{self, Call, Comparison, Expression, ExpressionKind},
    parameter::{ParameterType, SUPPORTED_TYPES, ScalarType},
    program::{Arm, Choice, Condition, Operand, Part, Slot, Test},
    segments::{Inner, Segment, cut},
    slots::{Reach, Slots, canonical_literal},
};

/// Deepest nesting of `{% if %}`.
const MAX_NESTING: usize = 32;

/// Longest template, in bytes. Kubernetes objects are not larger than 1.5 MiB.
const MAX_LENGTH: usize = 1 << 20;

/// A parsed template.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) parts: Vec<Part>,
    /// Its parameters, in order of first appearance.
    pub(super) slots: Vec<Slot>,
    /// How many branches there are, missing `else` branches included.
    pub(super) arm_count: usize,
    /// About how long its SQL is, so that a rendering allocates once.
    pub(super) sql_length: usize,
}

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Program, ParseError> {
    if source.len() > MAX_LENGTH {
        return Err(ParseError::new(
            0,
            format!("longer than {MAX_LENGTH} bytes, the most a template may have"),
        ));
    }
    let mut parser = Parser {
        slots: Slots::new(source),
        open: Vec::new(),
        parts: Vec::new(),
        arm_count: 0,
    };
    for segment in cut(source)?.segments {
        match segment {
            Segment::Sql(sql) => parser.parts.push(Part::Sql(sql)),
            Segment::Expression(inner) => parser.placeholder(inner)?,
            Segment::Statement(inner) => parser.statement(inner)?,
        }
    }
    parser.finish()
}

struct Parser<'a> {
    slots: Slots<'a>,
    /// The choices around the current place, outermost first.
    open: Vec<OpenChoice>,
    /// The parts of the innermost open branch.
    parts: Vec<Part>,
    arm_count: usize,
}

/// An `{% if %}` whose `{% end %}` is still to come.
struct OpenChoice {
    at: usize,
    /// What stands before it in the branch around it.
    before: Vec<Part>,
    arms: Vec<Arm>,
    /// The condition of the branch being read; none in `{% else %}`.
    condition: Option<Condition>,
}

impl Parser<'_> {
    fn finish(self) -> Result<Program, ParseError> {
        if let Some(open) = self.open.last() {
            return Err(ParseError::new(open.at, "`if` without `{% end %}`")
                .hint("an `{% end %}` inside an SQL comment does not count"));
        }
        let slots = self.slots.finish();
        Ok(Program {
            sql_length: sql_length(&self.parts, &slots),
            parts: self.parts,
            slots,
            arm_count: self.arm_count,
        })
    }

    fn reach(&self) -> Reach {
        if self.open.is_empty() {
            Reach::Always
        } else {
            Reach::Conditional
        }
    }

    fn placeholder(&mut self, inner: Inner<'_>) -> Result<(), ParseError> {
        let Expression { at, kind } = expression::parse(inner)?;
        match kind {
            ExpressionKind::Call(call) => {
                check_function(&call, at)?;
                let reach = self.reach();
                let slot = self.slots.typed(call, at, reach)?;
                self.parts.push(Part::Bind(slot));
                Ok(())
            }
            ExpressionKind::Name(name) => Err(ParseError::new(at, format!("`{name}` has no type"))
                .hint(format!("write `{{{{ String({name}) }}}}`, or another type"))),
            _ => Err(
                ParseError::new(at, "only a typed parameter can stand in `{{ }}`")
                    .hint("for example `{{ Int32(month, 1) }}`"),
            ),
        }
    }

    fn statement(&mut self, inner: Inner<'_>) -> Result<(), ParseError> {
        let text = inner.text.trim_start();
        let at = inner.at + inner.text.len() - text.len();
        let length = text
            .find(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .unwrap_or(text.len());
        let (keyword, rest) = text.split_at(length);
        let rest = Inner {
            text: rest,
            at: at + length,
        };
        match keyword {
            "if" => self.begin(rest, at),
            "elif" => self.next_arm(rest, at),
            "else" => self.otherwise(rest, at),
            "end" => self.end(rest, at),
            _ => Err(ParseError::new(at, unknown_statement(keyword))
                .hint("there are if, elif, else and end")),
        }
    }

    fn begin(&mut self, condition: Inner<'_>, at: usize) -> Result<(), ParseError> {
        if self.open.len() == MAX_NESTING {
            return Err(ParseError::new(at, "`if` is nested too deep"));
        }
        let reach = self.reach();
        let condition = self.condition(expression::parse(condition)?, reach)?;
        self.open.push(OpenChoice {
            at,
            before: std::mem::take(&mut self.parts),
            arms: Vec::new(),
            condition: Some(condition),
        });
        Ok(())
    }

    fn next_arm(&mut self, condition: Inner<'_>, at: usize) -> Result<(), ParseError> {
        self.close_arm("elif", at)?;
        let condition = self.condition(expression::parse(condition)?, Reach::Conditional)?;
        if let Some(open) = self.open.last_mut() {
            open.condition = Some(condition);
        }
        Ok(())
    }

    fn otherwise(&mut self, rest: Inner<'_>, at: usize) -> Result<(), ParseError> {
        if !rest.text.trim().is_empty() {
            return Err(ParseError::new(rest.at, "`else` takes nothing after it")
                .hint("another condition is `{% elif ... %}`"));
        }
        self.close_arm("else", at)
    }

    fn end(&mut self, rest: Inner<'_>, at: usize) -> Result<(), ParseError> {
        if !rest.text.trim().is_empty() {
            return Err(ParseError::new(rest.at, "`end` takes nothing after it"));
        }
        let Some(mut open) = self.open.pop() else {
            return Err(ParseError::new(at, "`end` without `if`"));
        };
        let body = std::mem::replace(&mut self.parts, open.before);
        let otherwise = match open.condition {
            Some(condition) => {
                open.arms.push(Arm { condition, body });
                Vec::new()
            }
            None => body,
        };
        let first_arm = self.arm_count;
        self.arm_count += open.arms.len() + 1;
        self.parts.push(Part::Choice(Choice {
            first_arm,
            arms: open.arms,
            otherwise,
        }));
        Ok(())
    }

    /// Ends the branch being read in favour of the next one.
    fn close_arm(&mut self, keyword: &str, at: usize) -> Result<(), ParseError> {
        let Some(open) = self.open.last_mut() else {
            return Err(ParseError::new(at, format!("`{keyword}` without `if`")));
        };
        let Some(condition) = open.condition.take() else {
            return Err(ParseError::new(at, format!("`{keyword}` after `else`")));
        };
        let body = std::mem::take(&mut self.parts);
        open.arms.push(Arm { condition, body });
        Ok(())
    }

    fn condition(&mut self, expression: Expression, reach: Reach) -> Result<Condition, ParseError> {
        let Expression { at, kind } = expression;
        match kind {
            ExpressionKind::Not(negated) => {
                Ok(Condition::Not(Box::new(self.condition(*negated, reach)?)))
            }
            ExpressionKind::And(parts) => Ok(Condition::All(self.conditions(parts, reach)?)),
            ExpressionKind::Or(parts) => Ok(Condition::Any(self.conditions(parts, reach)?)),
            ExpressionKind::Call(call) if call.function == "defined" => self.defined(call, at),
            ExpressionKind::Compare(left, comparison, right) => {
                self.comparison(*left, comparison, *right, reach)
            }
            ExpressionKind::In(left, right) => self.membership(*left, *right, reach),
            kind => {
                let operand = self.operand(Expression { at, kind }, reach)?;
                Ok(Condition::Test(operand, Test::Truthy))
            }
        }
    }

    /// The parts of `and` and `or`: whether the later ones matter depends on the
    /// first.
    fn conditions(
        &mut self,
        parts: Vec<Expression>,
        reach: Reach,
    ) -> Result<Vec<Condition>, ParseError> {
        parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| {
                let reach = if index == 0 {
                    reach
                } else {
                    Reach::Conditional
                };
                self.condition(part, reach)
            })
            .collect()
    }

    fn defined(&mut self, call: Call, at: usize) -> Result<Condition, ParseError> {
        let [argument] = &call.positional[..] else {
            return Err(ParseError::new(
                at,
                "`defined` takes the name of one parameter",
            ));
        };
        match &argument.kind {
            ExpressionKind::Name(name) if call.keywords.is_empty() => {
                let slot = self.slots.untyped(name, argument.at)?;
                Ok(Condition::Defined(slot))
            }
            _ => Err(ParseError::new(
                at,
                "`defined` takes the name of one parameter",
            )),
        }
    }

    fn comparison(
        &mut self,
        left: Expression,
        comparison: Comparison,
        right: Expression,
        reach: Reach,
    ) -> Result<Condition, ParseError> {
        let (operand, comparison, literal) = match left.kind {
            ExpressionKind::Literal(_) => (right, comparison.mirrored(), left),
            _ => (left, comparison, right),
        };
        let operand = self.operand(operand, reach)?;
        let literal = self.literal(operand, literal)?;
        Ok(Condition::Test(operand, Test::Compare(comparison, literal)))
    }

    fn membership(
        &mut self,
        left: Expression,
        right: Expression,
        reach: Reach,
    ) -> Result<Condition, ParseError> {
        let ExpressionKind::List(items) = right.kind else {
            return Err(ParseError::new(right.at, "`in` takes a list of literals"));
        };
        let operand = self.operand(left, reach)?;
        let literals = items
            .into_iter()
            .map(|item| self.literal(operand, item))
            .collect::<Result<_, _>>()?;
        Ok(Condition::Test(operand, Test::OneOf(literals)))
    }

    fn operand(&mut self, expression: Expression, reach: Reach) -> Result<Operand, ParseError> {
        let Expression { at, kind } = expression;
        match kind {
            ExpressionKind::Name(name) => Ok(Operand {
                slot: self.slots.untyped(&name, at)?,
                typed: false,
            }),
            ExpressionKind::Call(call) => {
                check_function(&call, at)?;
                let slot = self.slots.typed(call, at, reach)?;
                if matches!(self.slots.kind(slot), ParameterType::Array(_)) {
                    return Err(ParseError::new(at, "an array cannot be a condition")
                        .hint("ask `defined(name)`"));
                }
                Ok(Operand { slot, typed: true })
            }
            _ => Err(ParseError::new(at, "this cannot be a condition")
                .hint("conditions ask defined(name), or compare a parameter with a literal")),
        }
    }

    fn literal(&mut self, operand: Operand, literal: Expression) -> Result<String, ParseError> {
        let Expression { at, kind } = literal;
        match kind {
            ExpressionKind::Literal(value) => {
                let kind = if operand.typed {
                    self.slots.kind(operand.slot).element()
                } else {
                    ScalarType::String
                };
                let is_text = matches!(value, super::Value::Text(_));
                if !operand.typed && !is_text {
                    return Err(ParseError::new(at, "a parameter without a type is text")
                        .hint("compare with a text in quotes, or write Int32(name) and the like"));
                }
                canonical_literal(kind, &value, at)
            }
            ExpressionKind::None => Err(ParseError::new(at, "`None` cannot be compared with")
                .hint("ask `defined(name)` or `not defined(name)`")),
            _ => Err(ParseError::new(
                at,
                "a parameter can be compared with a literal only",
            )),
        }
    }
}

/// Refuses what is no type, with the word the author may have meant.
fn check_function(call: &Call, at: usize) -> Result<(), ParseError> {
    let function = call.function.as_str();
    if function == "Array" || ScalarType::named(function).is_some() {
        return Ok(());
    }
    if function == "defined" {
        return Err(
            ParseError::new(at, "`defined` is a condition and has no value")
                .hint("use it in `{% if defined(name) %}`"),
        );
    }
    let hint = match ScalarType::likely(function) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are {SUPPORTED_TYPES}, and in conditions defined"),
    };
    Err(ParseError::new(at, format!("unknown function `{function}`")).hint(hint))
}

fn unknown_statement(keyword: &str) -> String {
    if keyword.is_empty() {
        "expected a statement in `{% %}`".to_owned()
    } else {
        format!("unknown statement `{keyword}`")
    }
}

/// The length of the longest rendering's SQL.
fn sql_length(parts: &[Part], slots: &[Slot]) -> usize {
    let length = |part: &Part| match part {
        Part::Sql(sql) => sql.len(),
        Part::Bind(slot) => slots[*slot].mark.len(),
        Part::Choice(choice) => choice
            .arms
            .iter()
            .map(|arm| &arm.body)
            .chain([&choice.otherwise])
            .map(|body| sql_length(body, slots))
            .max()
            .unwrap_or_default(),
    };
    parts.iter().map(length).sum()
}
