//! Names that are made of captures, and read back.

use thiserror::Error;

use crate::captures::{CaptureName, Captures};

/// Names that are longer are not read.
const NAME_BYTES_MAX: usize = 512;

/// A name with captures to fill in, such as `{press} {side}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Capture(usize),
}

/// Why a text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameTemplateError {
    /// A brace has no partner.
    #[error("a brace has no partner")]
    Brace,
    /// A name in braces is not captured by the pattern.
    #[error("`{{{0}}}` is not captured by `topics`")]
    Unknown(String),
    /// There is nothing.
    #[error("a name has at least one character")]
    Empty,
}

impl NameTemplate {
    /// Reads a name over the captures of a pattern.
    ///
    /// # Errors
    ///
    /// [`NameTemplateError`].
    pub fn parse(text: &str, names: &[CaptureName]) -> Result<Self, NameTemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let inside = rest[at..].strip_prefix('{').ok_or(NameTemplateError::Brace)?;
            let end = inside.find(['{', '}']).filter(|&end| inside[end..].starts_with('}'));
            let end = end.ok_or(NameTemplateError::Brace)?;
            let index = names.iter().position(|name| name.as_str() == &inside[..end]);
            parts.push(Part::Literal(rest[..at].to_owned()));
            let unknown = || NameTemplateError::Unknown(inside[..end].to_owned());
            parts.push(Part::Capture(index.ok_or_else(unknown)?));
            rest = &inside[end + 1..];
        }
        parts.push(Part::Literal(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Literal(text) if text.is_empty()));
        if parts.is_empty() {
            return Err(NameTemplateError::Empty);
        }
        Ok(Self(parts))
    }

    /// Fills in what the captures stood for.
    pub fn fill(&self, captures: &Captures) -> String {
        self.render(|index| captures.get(index).unwrap_or_default())
    }

    /// Fills in the same for every capture.
    pub fn fill_with(&self, text: &str) -> String {
        self.render(|_| text)
    }

    fn render<'t>(&self, capture: impl Fn(usize) -> &'t str) -> String {
        self.0.iter().fold(String::new(), |filled, part| match part {
            Part::Literal(literal) => filled + literal,
            Part::Capture(index) => filled + capture(*index),
        })
    }

    /// Finds what captures stand for in a text of at most 512 bytes; returns whether there is just one way to read it, which agrees with what
    /// is known of the captures.
    pub fn read(&self, text: &str, captures: &mut [Option<String>]) -> bool {
        if text.len() > NAME_BYTES_MAX {
            return false;
        }
        let ways = self.ways(text);
        if ways[0][0] != 1 {
            return false;
        }
        let mut at = 0;
        for (part, behind) in self.0.iter().zip(&ways[1..]) {
            let end = match part {
                Part::Literal(literal) => at + literal.len(),
                Part::Capture(_) => (at + 1..=text.len())
                    .find(|&end| behind[end] > 0 && is_capture(text, at, end))
                    .expect("there is a way"),
            };
            if let Part::Capture(index) = part {
                match &captures[*index] {
                    Some(known) if *known != text[at..end] => return false,
                    _ => captures[*index] = Some(text[at..end].to_owned()),
                }
            }
            at = end;
        }
        true
    }

    /// Returns in how many ways the parts from each on make the text from each byte on: 0, 1, or 2 for more.
    fn ways(&self, text: &str) -> Vec<Vec<u8>> {
        let mut ways = vec![vec![0; text.len() + 1]; self.0.len() + 1];
        ways[self.0.len()][text.len()] = 1;
        for (number, part) in self.0.iter().enumerate().rev() {
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let behind = &ways[number + 1];
                let found: u8 = match part {
                    Part::Literal(literal) if text[at..].starts_with(literal.as_str()) => {
                        behind[at + literal.len()]
                    }
                    Part::Literal(_) => 0,
                    Part::Capture(_) => (at + 1..=text.len())
                        .filter(|&end| behind[end] > 0 && is_capture(text, at, end))
                        .map(|end| behind[end])
                        .fold(0, u8::saturating_add),
                };
                ways[number][at] = found.min(2);
            }
        }
        ways
    }
}

/// Returns whether a part of a text may be what a capture stands for: within one level of a topic.
fn is_capture(text: &str, at: usize, end: usize) -> bool {
    text.get(at..end).is_some_and(|part| !part.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<CaptureName> {
        ["a", "b"].map(|name| CaptureName::new(name).unwrap()).to_vec()
    }

    #[test]
    fn names_are_filled_in_and_read_back_where_there_is_one_way() {
        #[rustfmt::skip]
        let cases = [
            // template   text        captures
            ("{a}",       "x",        Some([Some("x"), None])),
            ("{a} {b}",   "x y",      Some([Some("x"), Some("y")])),
            ("{a} {b}",   "x y z",    None),
            ("{a}{b}",    "xy",       Some([Some("x"), Some("y")])),
            ("{a}{b}",    "xyz",      None),
            ("{a}-{a}",   "x-x",      Some([Some("x"), None])),
            ("{a}-{a}",   "x-y",      None),
            ("{a}",       "x/y",      None),
            ("p{a}",      "p",        None),
            ("p",         "p",        Some([None, None])),
            ("ä{a}",      "äö",       Some([Some("ö"), None])),
        ];
        for (template, text, expected) in cases {
            let template = NameTemplate::parse(template, &names()).unwrap();
            let mut captures = vec![None; 2];
            let found = template.read(text, &mut captures).then_some(captures);
            let expected = expected.map(|it| it.map(|it| it.map(str::to_owned)).to_vec());
            assert_eq!(found, expected, "{template:?} {text}");
            if let Some(found) = found {
                let texts = found.into_iter().map(|it| it.unwrap_or_default().into());
                assert_eq!(template.fill(&Captures::new(texts)), text);
            }
        }
        let template = NameTemplate::parse("{a}-{b}", &names()).unwrap();
        assert_eq!(template.fill_with("x"), "x-x");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        use NameTemplateError::{Brace, Empty, Unknown};
        let unknown = |name: &str| Unknown(name.to_owned());
        for (text, expected) in
            [("", Empty), ("{a", Brace), ("a}", Brace), ("{{a}}", Brace), ("{c}", unknown("c"))]
        {
            assert_eq!(NameTemplate::parse(text, &names()), Err(expected), "{text}");
        }
    }
}
