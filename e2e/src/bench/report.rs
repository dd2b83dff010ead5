//! How figures are shown: one line each, with the figure to reach beside it.

use serde::Serialize;
use std::fmt;

/// The figures of one section.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    title: String,
    figures: Vec<Figure>,
}

/// One number.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

/// The figure to reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Report {
    /// An empty report.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            figures: Vec::new(),
        }
    }

    /// Adds a figure.
    #[must_use]
    pub(crate) fn with(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    /// Prints it.
    #[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
    pub(crate) fn print(&self) {
        println!("\n{self}");
    }

    fn reached(&self) -> impl Iterator<Item = bool> {
        self.figures.iter().filter_map(|figure| figure.reached)
    }
}

/// Prints how many of the figures to reach are reached.
#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
pub(crate) fn print_sum(reports: &[Report]) {
    let all: Vec<bool> = reports.iter().flat_map(Report::reached).collect();
    let reached = all.iter().filter(|reached| **reached).count();
    println!("\n{reached} of {} figures to reach are reached", all.len());
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.title)?;
        self.figures
            .iter()
            .try_for_each(|figure| write!(formatter, "\n  {figure}"))
    }
}

impl Figure {
    /// A number with no figure to reach; `unit` is empty for ratios.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            goal: None,
            reached: None,
            note: String::new(),
        }
    }

    /// It has to be this or more.
    #[must_use]
    pub(crate) fn at_least(self, goal: f64) -> Self {
        let reached = self.value >= goal;
        self.with_goal(Goal::AtLeast(goal), reached)
    }

    /// It has to be this or less.
    #[must_use]
    pub(crate) fn at_most(self, goal: f64) -> Self {
        let reached = self.value <= goal;
        self.with_goal(Goal::AtMost(goal), reached)
    }

    /// It has to be less.
    #[must_use]
    pub(crate) fn below(self, goal: f64) -> Self {
        let reached = self.value < goal;
        self.with_goal(Goal::Below(goal), reached)
    }

    /// Says more about it.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn with_goal(self, goal: Goal, reached: bool) -> Self {
        Self {
            goal: Some(goal),
            reached: Some(reached),
            ..self
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.unit {
            "" => readable(self.value),
            unit => format!("{} {unit}", readable(self.value)),
        };
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtLeast(goal)) => format!("[>= {}]", readable(goal)),
            Some(Goal::AtMost(goal)) => format!("[<= {}]", readable(goal)),
            Some(Goal::Below(goal)) => format!("[< {}]", readable(goal)),
        };
        let verdict = match self.reached {
            None => "",
            Some(true) => "reached",
            Some(false) => "MISSED",
        };
        let line = format!(
            "{:<48} {value:>14}  {goal:<11} {verdict:<8} {}",
            self.name, self.note
        );
        formatter.write_str(line.trim_end())
    }
}

/// Three digits that say something, or all of those before the point.
fn readable(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 100.0 || value == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_it_is_reached() {
        let line = |figure: Figure| {
            figure
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let rate = |value| Figure::new("rate", value, "").at_least(0.85);
        assert_eq!(line(rate(0.912)), "rate 0.912 [>= 0.850] reached");
        assert_eq!(line(rate(0.8499)), "rate 0.850 [>= 0.850] MISSED");
        assert_eq!(
            line(
                Figure::new("p99", 500.0, "ms")
                    .below(500.0)
                    .note("40 changes")
            ),
            "p99 500 ms [< 500] MISSED 40 changes"
        );
        assert_eq!(
            line(Figure::new("requests", 0.0, "").at_most(0.0)),
            "requests 0 [<= 0] reached"
        );
        assert_eq!(line(Figure::new("memory", 41.26, "MiB")), "memory 41.3 MiB");
    }

    #[test]
    fn a_figure_that_could_not_be_had_is_missed() {
        let figure = Figure::new("rate", f64::NAN, "").at_least(0.85);
        assert_eq!(figure.reached, Some(false));
    }
}
