//! Names with wildcards, as people write them for principals.

use std::fmt;

/// A name or a glob: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Takes a pattern; every text is one.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// Returns the pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the one name that it stands for, if it has no wildcard.
    pub fn literal(&self) -> Option<&str> {
        (!self.0.contains(['*', '?'])).then_some(&*self.0)
    }

    /// Returns whether the whole of `text` matches. Costs at most the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let mut pattern = self.0.chars();
        let mut rest = text.chars();
        // Behind the last `*`: the pattern there, and the text from which it was tried.
        let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            match (pattern.next(), rest.next()) {
                (Some('*'), _) => {
                    retry = Some((pattern.clone(), before.clone()));
                    rest = before;
                }
                (None, None) => return true,
                (Some('?'), Some(_)) => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => {
                    // What the last `*` stands for grows by one character.
                    let Some((behind, from)) = &mut retry else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (behind.clone(), from.clone());
                }
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        #[rustfmt::skip]
        let cases = [
            ("press-*", "press-7",  true),
            ("press-*", "press-",   true),
            ("press-*", "a-press-", false),
            ("*-7",     "press-7",  true),
            ("*-7",     "press-77", false),
            ("*-7",     "a-7-7",    true),
            ("p?-*-x",  "p1-a-b-x", true),
            ("press",   "press-7",  false),
            ("press-7", "press",    false),
            ("*",       "",         true),
            ("",        "",         true),
            ("",        "a",        false),
            ("**a*",    "bab",      true),
        ];
        for (glob, text, expected) in cases {
            assert_eq!(Glob::new(glob).matches(text), expected, "{glob} against {text}");
        }
    }
}
