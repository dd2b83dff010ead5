//! Representative renderings of a template, for checking its SQL before any
//! request comes: each is one that some request can cause, and together they take
//! every branch, as far as eight renderings can.

use std::{cell::Cell, collections::HashMap};

use super::{
    ParameterValues, Rendered,
    parse::Program,
    program::{Choice, Condition, Operand, Part, Slot, Test},
    render::{Absent, render},
    value,
};

/// Most renderings of one template.
const MAX_RENDERINGS: usize = 8;

/// Most arms that one rendering is steered towards.
const MAX_GOALS: usize = 256;

/// Most conditions looked at in search of requests, whatever a template asks.
const MAX_STEPS: usize = 50_000;

/// Renders with nothing given, with everything given, and then for the arms that
/// were not taken yet.
pub(super) fn renderings(program: &Program) -> Vec<Rendered> {
    let mut checker = Checker {
        program,
        taken: vec![false; program.arm_count],
        renderings: Vec::new(),
        steps_left: Cell::new(MAX_STEPS),
    };
    checker.add(&World::new());
    if program.arm_count > 0 {
        let everything = (0..program.slots.len())
            .map(|slot| (slot, Some(program.slots[slot].sample().to_owned())))
            .collect();
        checker.add(&everything);
    }
    while checker.renderings.len() < MAX_RENDERINGS {
        let Some(world) = checker.world_for_untaken_arms() else {
            break;
        };
        if !checker.add(&world) {
            break;
        }
    }
    checker.renderings
}

/// A request in the making: which parameters it has, with which value. What is
/// not in the map is open, and absent if nothing decides it.
type World = HashMap<usize, Option<String>>;

struct Checker<'a> {
    program: &'a Program,
    taken: Vec<bool>,
    renderings: Vec<Rendered>,
    steps_left: Cell<usize>,
}

impl Checker<'_> {
    /// Renders for a request; whether that took a new arm.
    fn add(&mut self, world: &World) -> bool {
        let mut values = ParameterValues::new();
        for (slot, value) in world {
            if let Some(value) = value {
                values.push(&self.program.slots[*slot].parameter.name, value);
            }
        }
        let Ok((rendered, taken)) = render(self.program, &values, Absent::Sample) else {
            return false;
        };
        let mut is_new = false;
        for arm in taken {
            is_new |= !std::mem::replace(&mut self.taken[arm], true);
        }
        if !self.renderings.contains(&rendered) {
            self.renderings.push(rendered);
        }
        is_new
    }

    /// A request that takes as many untaken arms as can be had at once.
    fn world_for_untaken_arms(&self) -> Option<World> {
        let mut goals = Vec::new();
        self.collect_goals(&self.program.parts, &mut Vec::new(), &mut goals);
        let mut world = World::new();
        let mut reached = 0;
        for goal in goals {
            let mut attempt = world.clone();
            // What must hold leaves less choice than what must not.
            let (hold, fail): (Vec<_>, Vec<_>) = goal.iter().partition(|(_, wanted)| *wanted);
            let holds = hold
                .iter()
                .chain(&fail)
                .all(|(condition, wanted)| self.settle(condition, *wanted, &mut attempt));
            if holds {
                world = attempt;
                reached += 1;
            }
        }
        (reached > 0).then_some(world)
    }

    /// The conditions on the way to each untaken arm, outermost first.
    fn collect_goals<'c>(
        &self,
        parts: &'c [Part],
        path: &mut Vec<(&'c Condition, bool)>,
        goals: &mut Vec<Vec<(&'c Condition, bool)>>,
    ) {
        for part in parts {
            if let Part::Choice(choice) = part {
                let length = path.len();
                self.collect_from_choice(choice, path, goals);
                path.truncate(length);
            }
        }
    }

    fn collect_from_choice<'c>(
        &self,
        choice: &'c Choice,
        path: &mut Vec<(&'c Condition, bool)>,
        goals: &mut Vec<Vec<(&'c Condition, bool)>>,
    ) {
        for (index, arm) in choice.arms.iter().enumerate() {
            path.push((&arm.condition, true));
            self.collect_goal(choice.first_arm + index, path, goals);
            self.collect_goals(&arm.body, path, goals);
            path.pop();
            path.push((&arm.condition, false));
        }
        self.collect_goal(choice.first_arm + choice.arms.len(), path, goals);
        self.collect_goals(&choice.otherwise, path, goals);
    }

    fn collect_goal<'c>(
        &self,
        arm: usize,
        path: &[(&'c Condition, bool)],
        goals: &mut Vec<Vec<(&'c Condition, bool)>>,
    ) {
        if !self.taken[arm] && goals.len() < MAX_GOALS {
            goals.push(path.to_vec());
        }
    }

    /// Decides what is still open so that the condition comes out as wanted.
    fn settle(&self, condition: &Condition, wanted: bool, world: &mut World) -> bool {
        let Some(steps_left) = self.steps_left.get().checked_sub(1) else {
            return false;
        };
        self.steps_left.set(steps_left);
        match (condition, wanted) {
            (Condition::Not(negated), _) => self.settle(negated, !wanted, world),
            (Condition::All(parts), true) | (Condition::Any(parts), false) => {
                parts.iter().all(|part| self.settle(part, wanted, world))
            }
            (Condition::All(parts), false) | (Condition::Any(parts), true) => {
                parts.iter().any(|part| {
                    let mut attempt = world.clone();
                    let holds = self.settle(part, wanted, &mut attempt);
                    if holds {
                        *world = attempt;
                    }
                    holds
                })
            }
            (Condition::Defined(slot), _) => {
                let sample = self.program.slots[*slot].sample();
                let value = world
                    .entry(*slot)
                    .or_insert_with(|| wanted.then(|| sample.to_owned()));
                value.is_some() == wanted
            }
            (Condition::Test(operand, test), _) => self.settle_test(*operand, test, wanted, world),
        }
    }

    fn settle_test(&self, operand: Operand, test: &Test, wanted: bool, world: &mut World) -> bool {
        let slot = &self.program.slots[operand.slot];
        let comes_out = |value: Option<&str>| {
            let value = match value {
                None if operand.typed => Some(slot.sample()),
                given => given,
            };
            test.passes(slot, operand.typed, value) == wanted
        };
        if let Some(value) = world.get(&operand.slot) {
            return comes_out(value.as_deref());
        }
        let is_possible = |candidate: &String| comes_out(Some(candidate)) && slot.takes(candidate);
        if let Some(found) = candidates(slot, test).into_iter().find(is_possible) {
            world.insert(operand.slot, Some(found));
            return true;
        }
        let without = comes_out(None);
        if without {
            world.insert(operand.slot, None);
        }
        without
    }
}

/// Values worth trying to make a test come out one way or the other: what it
/// mentions, their neighbours, and what the parameter itself suggests.
fn candidates(slot: &Slot, test: &Test) -> Vec<String> {
    let mentioned = match test {
        Test::Truthy => &[],
        Test::Compare(_, literal) => std::slice::from_ref(literal),
        Test::OneOf(literals) => literals.as_slice(),
    };
    let neighbours = mentioned
        .iter()
        .filter_map(|literal| literal.parse::<i64>().ok())
        .flat_map(|number| [number.checked_sub(1), number.checked_add(1)])
        .flatten()
        .map(|number| number.to_string());
    mentioned
        .iter()
        .cloned()
        .chain(neighbours)
        .chain(slot.allowed.iter().cloned())
        .chain([slot.sample().to_owned()])
        .chain(["0", "1", "", "x", "1970-01-01", "2106-01-01"].map(str::to_owned))
        .chain(["1970-01-01 00:00:00", "2106-01-01 00:00:00"].map(str::to_owned))
        .collect()
}

impl Slot {
    /// A value that the parameter takes: its default, the first of its
    /// enumeration, or one of its type.
    pub(super) fn sample(&self) -> &str {
        self.default
            .iter()
            .filter_map(|default| default.canonical.first())
            .chain(self.allowed.first())
            .map(String::as_str)
            .next()
            .unwrap_or_else(|| value::sample(self.parameter.kind.element()))
    }

    fn takes(&self, raw: &str) -> bool {
        let kind = self.parameter.kind.element();
        value::canonical(kind, raw).is_some_and(|canonical| {
            self.allowed.is_empty()
                || self
                    .allowed
                    .iter()
                    .any(|member| value::compare(kind, member, &canonical).is_eq())
        })
    }
}
