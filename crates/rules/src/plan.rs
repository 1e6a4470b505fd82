//! Which rules concern a topic.

use tidegate_model::Topic;

use crate::{Action, Rule};

/// One rule that concerns a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which of the rules.
    pub(crate) rule: usize,
    /// Where what the rule remembers of the topic stands, if it remembers anything: among the last
    /// readings, or among the states.
    pub(crate) at: usize,
}

/// The rules that concern a topic, in order, and what they have to remember of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// How many last readings: one for each form that a reading has on its way, where one is asked for.
    pub(crate) lasts: usize,
    /// The rules with states, by place.
    pub(crate) states: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(rules: &[Rule], topic: &Topic) -> Self {
        let mut plan = Self::default();
        let mut form_is_new = true;
        for (rule, known) in rules.iter().enumerate().filter(|(_, rule)| rule.concerns(topic)) {
            let mut at = 0;
            match &known.action {
                Action::Thin(thinning) if thinning.compares() => {
                    plan.lasts += usize::from(std::mem::take(&mut form_is_new));
                    at = plan.lasts - 1;
                }
                Action::Exclude | Action::Thin(_) => {}
                Action::Convert(_) => form_is_new = true,
                Action::Window(_) | Action::SwingingDoor(_) | Action::Anomaly(_) => {
                    form_is_new |= matches!(known.action, Action::Anomaly(_));
                    at = plan.states.len();
                    plan.states.push(rule);
                }
            }
            plan.steps.push(Step { rule, at });
        }
        plan
    }

    /// Returns whether anything has to be remembered of the topic.
    pub(crate) fn remembers(&self) -> bool {
        self.lasts > 0 || !self.states.is_empty()
    }
}
