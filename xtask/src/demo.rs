//! What `tidegate demo` must say of itself.

use anyhow::{Context as _, Result, bail};

/// Judges a demo by the figures of its receiving side: it received something, and missed nothing.
///
/// # Errors
///
/// Says what the figures are if they are not that.
pub(crate) fn judge(summary: &str) -> Result<()> {
    let missing = figure(summary, "missing").context("the demo printed no `missing` figure")?;
    let received = figure(summary, "received").context("the demo printed no `received` figure")?;
    if missing != 0 || received == 0 {
        bail!("the demo's cloud received {received} readings and missed {missing}");
    }
    Ok(())
}

/// Returns the last number that stands next to `label`, before or after it: `missing = 0`, `0 missing`.
fn figure(text: &str, label: &str) -> Option<u64> {
    let is_break = |character: char| !character.is_alphanumeric();
    text.lines().rev().find_map(|line| {
        let line = line.replace([',', '\'', '\u{202f}', '_'], "").to_lowercase();
        let words: Vec<&str> = line.split(is_break).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| *word == label)?;
        let after = words.get(at + 1).and_then(|word| word.parse().ok());
        let before = at.checked_sub(1).and_then(|before| words[before].parse().ok());
        after.or(before)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_beside_their_label() {
        #[rustfmt::skip]
        let cases = [
            // summary                                  label       figure
            ("missing = 0",                             "missing",  Some(0)),
            ("Received: 12,345 readings\nmissing: 3",   "received", Some(12_345)),
            ("12 received, 0 missing",                  "missing",  Some(0)),
            ("nothing missing here",                    "missing",  None),
            ("missing 7\nmissing 0",                    "missing",  Some(0)),
        ];
        for (summary, label, expected) in cases {
            assert_eq!(figure(summary, label), expected, "{label} in {summary:?}");
        }
    }
}
