//! The word someone meant.

/// Returns the candidate that `word` was most likely meant to be, if any is near.
///
/// Near is up to one typing error (a letter too many, missing, wrong, or two swapped) for each three
/// letters, at least one. Letter case and `_` for `-` count as no error. Of equally near ones the first wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(WORD_CHARS_MAX + 1).map(fold).collect();
    if word.len() > WORD_CHARS_MAX {
        return None;
    }
    let errors_max = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (distance(&word, &candidate.chars().map(fold).collect::<Vec<_>>()), candidate)
        })
        .filter(|(errors, candidate)| *errors <= errors_max && *errors < candidate.chars().count())
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}

/// Longer words are not meant to be any of ours.
const WORD_CHARS_MAX: usize = 64;

fn fold(letter: char) -> char {
    if letter == '_' { '-' } else { letter.to_ascii_lowercase() }
}

/// Optimal string alignment distance.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut current = vec![row];
        for column in 1..=right.len() {
            let same = left[row - 1] == right[column - 1];
            let mut cost = (last[column] + 1)
                .min(current[column - 1] + 1)
                .min(last[column - 1] + usize::from(!same));
            let swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if swapped {
                cost = cost.min(before_last[column - 2] + 1);
            }
            current.push(cost);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}
