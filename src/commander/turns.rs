//! Commands for one topic go one after the other, those for others beside them.

use std::collections::HashMap;

use tidegate_model::Topic;
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Topics are looked through for lines in which nobody stands any more when there are so many.
const TOPICS_BEFORE_PRUNING: usize = 1_024;

/// The ends of all lines: one for each topic.
#[derive(Debug)]
pub(super) struct Turns {
    last: HashMap<Topic, Ahead>,
    prune_at: usize,
}

/// Resolves when the command ahead has ended: with an error if it had its turn, else with who was ahead of it.
#[derive(Debug)]
struct Ahead(oneshot::Receiver<Ahead>);

/// A command's place in the line for its topic; dropped, it lets the next one go on.
#[derive(Debug)]
pub(super) struct Turn {
    ahead: Option<Ahead>,
    behind: Option<oneshot::Sender<Ahead>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { last: HashMap::new(), prune_at: TOPICS_BEFORE_PRUNING }
    }
}

impl Turns {
    /// Goes to the end of the line for `topic`.
    pub(super) fn line_up(&mut self, topic: &Topic) -> Turn {
        if self.last.len() >= self.prune_at {
            self.last.retain(|_, last| matches!(last.0.try_recv(), Err(TryRecvError::Empty)));
            self.prune_at = TOPICS_BEFORE_PRUNING.max(2 * self.last.len());
        }
        let (behind, last) = oneshot::channel();
        let ahead = self.last.insert(topic.clone(), Ahead(last));
        Turn { ahead, behind: Some(behind) }
    }
}

impl Turn {
    /// Waits until every command ahead has ended. Cancel-safe.
    pub(super) async fn come(&mut self) {
        while let Some(Ahead(ended)) = &mut self.ahead {
            self.ahead = ended.await.ok();
        }
    }
}

impl Drop for Turn {
    /// Whoever leaves the line early lets nobody past those ahead.
    fn drop(&mut self) {
        if let (Some(ahead), Some(behind)) = (self.ahead.take(), self.behind.take()) {
            // Nobody need stand behind.
            drop(behind.send(ahead));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn has_come(turn: &mut Turn) -> bool {
        turn.come().now_or_never().is_some()
    }

    /// main.14: two commands for a point keep their order; those for other points do not wait.
    #[test]
    fn main_14_commands_for_one_topic_keep_their_order() {
        let (mut turns, a) = (Turns::default(), Topic::new("a").unwrap());
        let [mut first, mut second, third, mut fourth] = [(); 4].map(|()| turns.line_up(&a));
        let mut other = turns.line_up(&Topic::new("b").unwrap());
        assert!(has_come(&mut other));
        assert!(has_come(&mut first) && !has_come(&mut second));
        // Whoever leaves early, or was cut off while waiting, lets nobody past.
        drop(third);
        assert!(!has_come(&mut fourth));
        drop(first);
        assert!(has_come(&mut second) && !has_come(&mut fourth));
        drop(second);
        assert!(has_come(&mut fourth));
        assert!(!has_come(&mut turns.line_up(&a)));
        drop(fourth);
        assert!(has_come(&mut turns.line_up(&a)));
    }

    #[test]
    fn topics_without_a_line_are_forgotten() {
        let mut turns = Turns::default();
        let held = turns.line_up(&Topic::new("held").unwrap());
        for number in 0..10 * TOPICS_BEFORE_PRUNING {
            turns.line_up(&Topic::new(&format!("t/{number}")).unwrap());
            assert!(turns.last.len() <= TOPICS_BEFORE_PRUNING);
        }
        assert!(!has_come(&mut turns.line_up(&Topic::new("held").unwrap())));
        drop(held);
    }
}
