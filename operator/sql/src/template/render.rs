//! Renders a template: SQL with marks for bound values, and the values beside it.
//! No text of a request enters the SQL.

use std::borrow::Cow;

use super::{
    ParameterType, ParameterValues, RenderError, Rendered,
    parse::Program,
    program::{Choice, Condition, Operand, Part, Slot},
    value,
};

/// What to do about a parameter that has neither a value nor a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Report it.
    Refuse,
    /// Put a value of its type in its place, to see what the SQL looks like.
    Sample,
}

/// Renders a program and tells which arms it took.
pub(super) fn render(
    program: &Program,
    values: &ParameterValues<'_>,
    absent: Absent,
) -> Result<(Rendered, Vec<usize>), RenderError> {
    let mut renderer = Renderer {
        slots: &program.slots,
        values,
        absent,
        sql: String::with_capacity(program.sql_length),
        parameters: Vec::with_capacity(program.slots.len()),
        bound: [0; 4],
        missing: Vec::new(),
        taken: Vec::new(),
    };
    renderer.parts(&program.parts)?;
    if !renderer.missing.is_empty() {
        return Err(RenderError::Missing {
            parameters: renderer.missing,
        });
    }
    let rendered = Rendered {
        sql: renderer.sql,
        parameters: renderer.parameters,
    };
    Ok((rendered, renderer.taken))
}

struct Renderer<'a> {
    slots: &'a [Slot],
    values: &'a ParameterValues<'a>,
    absent: Absent,
    sql: String,
    parameters: Vec<(String, String)>,
    /// One bit for each slot that is bound already.
    bound: [u64; 4],
    missing: Vec<String>,
    taken: Vec<usize>,
}

impl<'a> Renderer<'a> {
    fn parts(&mut self, parts: &'a [Part]) -> Result<(), RenderError> {
        for part in parts {
            match part {
                Part::Sql(sql) => self.sql.push_str(sql),
                Part::Bind(slot) => self.bind(*slot)?,
                Part::Choice(choice) => self.choose(choice)?,
            }
        }
        Ok(())
    }

    fn choose(&mut self, choice: &'a Choice) -> Result<(), RenderError> {
        for (index, arm) in choice.arms.iter().enumerate() {
            if self.holds(&arm.condition)? {
                self.taken.push(choice.first_arm + index);
                return self.parts(&arm.body);
            }
        }
        self.taken.push(choice.first_arm + choice.arms.len());
        self.parts(&choice.otherwise)
    }

    fn bind(&mut self, index: usize) -> Result<(), RenderError> {
        let slot = &self.slots[index];
        self.sql.push_str(&slot.mark);
        let (word, bit) = (index / 64, 1_u64 << (index % 64));
        if self.bound[word] & bit != 0 {
            return Ok(());
        }
        self.bound[word] |= bit;
        if let Some(text) = self.bound_text(slot)? {
            self.parameters.push((slot.bound_name.clone(), text));
        }
        Ok(())
    }

    /// The text that ClickHouse reads the parameter's value from.
    fn bound_text(&mut self, slot: &Slot) -> Result<Option<String>, RenderError> {
        let given = self.values.get_all(&slot.parameter.name);
        match (slot.parameter.kind, given.clone().next(), &slot.default) {
            (_, None, Some(default)) => Ok(Some(default.bound.clone())),
            (ParameterType::Scalar(kind), _, _) => Ok(self.scalar(slot)?.map(|canonical| {
                let mut text = String::with_capacity(canonical.len());
                value::write_scalar(kind, &canonical, &mut text);
                text
            })),
            (ParameterType::Array(kind), Some(_), _) => {
                let mut text = String::new();
                let elements = self.values.elements(&slot.parameter.name);
                for (index, raw) in elements.into_iter().enumerate() {
                    let canonical = validate(slot, raw, Some(index + 1))?;
                    value::write_element(kind, &canonical, &mut text);
                }
                value::finish_array(&mut text);
                Ok(Some(text))
            }
            (ParameterType::Array(kind), None, None) => Ok(self.stand_in(slot).map(|sample| {
                let mut text = String::new();
                value::write_element(kind, sample, &mut text);
                value::finish_array(&mut text);
                text
            })),
        }
    }

    /// The canonical value of a scalar parameter: the request's or the default.
    fn scalar<'s>(&mut self, slot: &'s Slot) -> Result<Option<Cow<'s, str>>, RenderError>
    where
        'a: 's,
    {
        let values = self.values;
        let mut given = values.get_all(&slot.parameter.name);
        match (given.next(), &slot.default) {
            (Some(_), _) if given.next().is_some() => Err(RenderError::Repeated {
                parameter: slot.parameter.name.clone(),
            }),
            (Some(raw), _) => validate(slot, raw, None).map(Some),
            (None, Some(default)) => Ok(default
                .canonical
                .first()
                .map(|canonical| Cow::Borrowed(canonical.as_str()))),
            (None, None) => Ok(self.stand_in(slot).map(Cow::Borrowed)),
        }
    }

    /// Notes a missing value, or gives a sample in its place.
    fn stand_in<'s>(&mut self, slot: &'s Slot) -> Option<&'s str> {
        match self.absent {
            Absent::Sample => Some(slot.sample()),
            Absent::Refuse => {
                let name = &slot.parameter.name;
                if !self.missing.contains(name) {
                    self.missing.push(name.clone());
                }
                None
            }
        }
    }

    fn holds(&mut self, condition: &Condition) -> Result<bool, RenderError> {
        match condition {
            Condition::Defined(slot) => Ok(self.raw(*slot).is_some()),
            Condition::Not(negated) => Ok(!self.holds(negated)?),
            Condition::All(conditions) => {
                for condition in conditions {
                    if !self.holds(condition)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Any(conditions) => {
                for condition in conditions {
                    if self.holds(condition)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Test(Operand { slot, typed }, test) => {
                let index = *slot;
                let slot = &self.slots[index];
                let value = match typed {
                    true => self.scalar(slot)?,
                    false => self.raw(index).map(Cow::Borrowed),
                };
                Ok(test.passes(slot, *typed, value.as_deref()))
            }
        }
    }

    fn raw(&self, slot: usize) -> Option<&'a str> {
        self.values.get_all(&self.slots[slot].parameter.name).next()
    }
}

/// The canonical form of a request's text, if it is a value the parameter takes.
fn validate<'v>(
    slot: &Slot,
    raw: &'v str,
    element: Option<usize>,
) -> Result<Cow<'v, str>, RenderError> {
    let kind = slot.parameter.kind.element();
    let canonical = value::canonical(kind, raw).filter(|canonical| {
        slot.allowed.is_empty()
            || slot
                .allowed
                .iter()
                .any(|member| value::compare(kind, member, canonical).is_eq())
    });
    canonical.ok_or_else(|| RenderError::Invalid {
        parameter: slot.parameter.name.clone(),
        element,
        expected: match slot.allowed.as_slice() {
            [] => value::expectation(kind),
            allowed => format!("one of {}", allowed.join(", ")),
        },
    })
}
