//! Whether two patterns of text identifiers have a node in common.

use super::{Piece, Reach};

/// A pattern, taken apart into single characters.
#[derive(Clone, Copy)]
enum Step {
    Letter(char),
    /// One character of a capture.
    One(Reach),
    /// Any number of further characters of a capture.
    More(Reach),
}

/// Walks both patterns at once over every text that they may share; states are pairs of places.
pub(super) fn texts_overlap(ours: &[Piece], theirs: &[Piece]) -> bool {
    let (ours, theirs) = (steps(ours), steps(theirs));
    let mut seen = vec![false; (ours.len() + 1) * (theirs.len() + 1)];
    let mut open = vec![(0, 0)];
    while let Some((left, right)) = open.pop() {
        if left == ours.len() && right == theirs.len() {
            return true;
        }
        if std::mem::replace(&mut seen[left * (theirs.len() + 1) + right], true) {
            continue;
        }
        let (step, other) = (ours.get(left), theirs.get(right));
        if let Some(Step::More(_)) = step {
            open.push((left + 1, right));
        }
        if let Some(Step::More(_)) = other {
            open.push((left, right + 1));
        }
        if let (Some(step), Some(other)) = (step, other)
            && share_a_character(*step, *other)
        {
            open.push((left + advance(*step), right + advance(*other)));
        }
    }
    false
}

fn steps(pieces: &[Piece]) -> Vec<Step> {
    let mut steps = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => steps.extend(text.chars().map(Step::Letter)),
            Piece::Capture { reach } => steps.extend([Step::One(*reach), Step::More(*reach)]),
        }
    }
    steps
}

fn advance(step: Step) -> usize {
    usize::from(!matches!(step, Step::More(_)))
}

fn share_a_character(step: Step, other: Step) -> bool {
    match (step, other) {
        (Step::Letter(ours), Step::Letter(theirs)) => ours == theirs,
        (Step::Letter(letter), Step::One(reach) | Step::More(reach))
        | (Step::One(reach) | Step::More(reach), Step::Letter(letter)) => {
            reach == Reach::Any || !matches!(letter, '.' | '/')
        }
        _ => true,
    }
}
