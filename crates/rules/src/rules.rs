//! All rules of one uplink, in file order, with their memory.

use std::sync::Arc;

use tidegate_model::{Reading, Topic};

use crate::{
    MemoryLimits, Rule,
    memory::{Entry, Last, Memory},
};

/// What the rules say of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Pass,
    /// It stays; the number is that of the first rule that held it back, counted from 0.
    Filtered(usize),
}

/// The rules of one uplink, in file order, and what they remember.
///
/// There is one memory per topic for all rules: the last reading that all of them let pass. So a
/// reading that a later rule holds back does not move the deadband of an earlier one.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    memory: Memory,
}

impl Rules {
    /// Takes the rules in file order, with an empty memory: the first reading of each topic passes.
    pub fn new(rules: Vec<Rule>, limits: MemoryLimits) -> Self {
        Self { rules, memory: Memory::new(limits) }
    }

    /// Returns the rules in file order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides on the next reading of `topic`, and remembers it if it passes.
    pub fn decide(&mut self, topic: &Topic, reading: &Reading) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::Pass;
        }
        let entry = entry(&mut self.memory, &self.rules, topic);
        if entry.rules.is_empty() {
            return Verdict::Pass;
        }
        if let Some(last) = &entry.last {
            let holds = |rule: &&usize| !self.rules[**rule].passes(reading, last);
            if let Some(&rule) = entry.rules.iter().find(holds) {
                return Verdict::Filtered(rule);
            }
        }
        self.memory.remember(topic, Last::from(reading));
        Verdict::Pass
    }

    /// Remembers a reading that was let pass before the memory was lost.
    pub fn remember(&mut self, topic: &Topic, reading: &Reading) {
        if self.rules.is_empty() {
            return;
        }
        if !entry(&mut self.memory, &self.rules, topic).rules.is_empty() {
            self.memory.remember(topic, Last::from(reading));
        }
    }
}

fn entry<'a>(memory: &'a mut Memory, rules: &[Rule], topic: &Topic) -> &'a Entry {
    memory.entry(topic, || {
        let concerned = |(index, rule): (usize, &Rule)| rule.concerns(topic).then_some(index);
        let rules: Arc<[usize]> = rules.iter().enumerate().filter_map(concerned).collect();
        Entry { rules, last: None }
    })
}

#[cfg(test)]
mod tests;
