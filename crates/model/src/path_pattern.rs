//! Patterns of CoAP and HTTP paths: `/sensors/{room}/temperature`, `/press-{n}/state`.

use std::fmt;

use thiserror::Error;

use crate::{CaptureName, Captures};

/// Why a text is not a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PathPatternError {
    /// The text does not begin with `/`.
    #[error("a path begins with `/`")]
    NoSlash,
    /// A `{` has no `}`, or a `}` no `{`, in the same segment.
    #[error("`{segment}` has a brace without its partner")]
    Brace {
        /// The segment at fault.
        segment: String,
    },
    /// What stands in braces is not a name.
    #[error("`{text}` is not a capture name: a letter, then up to 31 letters, digits, `-` or `_`")]
    Name {
        /// The text in braces.
        text: String,
    },
    /// One segment has two captures; nothing would say where the first ends.
    #[error("`{segment}` has more than one capture")]
    TwoCaptures {
        /// The segment at fault.
        segment: String,
    },
    /// A capture name occurs twice.
    #[error("the capture `{name}` occurs twice")]
    Repeated {
        /// The repeated name.
        name: CaptureName,
    },
}

/// A path in which `{name}` stands for one segment, or for the part of one beside literal text.
///
/// A capture stands for one or more characters and never for `/`: paths are split before they are
/// percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    names: Vec<CaptureName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Capture { before: String, after: String },
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`PathPatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let rest = text.strip_prefix('/').ok_or(PathPatternError::NoSlash)?;
        let mut names = Vec::new();
        let segments = match rest {
            "" => Vec::new(),
            rest => {
                rest.split('/').map(|part| segment(part, &mut names)).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { text: text.into(), segments, names })
    }

    /// Returns the pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the names of the captures, from left to right.
    pub fn names(&self) -> &[CaptureName] {
        &self.names
    }

    /// Returns how many segments are literal: the pattern with more of them wins.
    pub fn literal_segments(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_))).count()
    }

    /// Returns how many segments a matching path has.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Returns whether this is the root path `/`.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Matches the decoded segments of a path.
    pub fn matches<S: AsRef<str>>(&self, path: &[S]) -> Option<Captures> {
        if path.len() != self.segments.len() {
            return None;
        }
        let mut found = Vec::with_capacity(self.names.len());
        for (segment, part) in self.segments.iter().zip(path) {
            let part = part.as_ref();
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Literal(_) => return None,
                Segment::Capture { before, after } => {
                    let inner = part.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
                    if inner.is_empty() {
                        return None;
                    }
                    found.push(inner.into());
                }
            }
        }
        Some(Captures::new(found))
    }

    /// Returns the path segments for which the captures stand: the inverse of [`matches`](Self::matches).
    ///
    /// `None` if there are fewer captures than the pattern has.
    pub fn fill(&self, captures: &Captures) -> Option<Vec<String>> {
        let mut texts = captures.iter();
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => Some(text.clone()),
                Segment::Capture { before, after } => {
                    Some(format!("{before}{}{after}", texts.next()?))
                }
            })
            .collect()
    }

    /// Returns whether some path matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|(ours, theirs)| segments_overlap(ours, theirs))
    }
}

fn segment(part: &str, names: &mut Vec<CaptureName>) -> Result<Segment, PathPatternError> {
    let brace = || PathPatternError::Brace { segment: part.into() };
    let Some((before, rest)) = part.split_once('{') else {
        return if part.contains('}') { Err(brace()) } else { Ok(Segment::Literal(part.into())) };
    };
    let (name, after) = rest.split_once('}').ok_or_else(brace)?;
    if before.contains('}') {
        return Err(brace());
    }
    if after.contains('{') {
        return Err(PathPatternError::TwoCaptures { segment: part.into() });
    }
    if after.contains('}') {
        return Err(brace());
    }
    let name =
        CaptureName::new(name).map_err(|error| PathPatternError::Name { text: error.text })?;
    if names.contains(&name) {
        return Err(PathPatternError::Repeated { name });
    }
    names.push(name);
    Ok(Segment::Capture { before: before.into(), after: after.into() })
}

fn segments_overlap(ours: &Segment, theirs: &Segment) -> bool {
    match (ours, theirs) {
        (Segment::Literal(ours), Segment::Literal(theirs)) => ours == theirs,
        (Segment::Literal(text), Segment::Capture { before, after })
        | (Segment::Capture { before, after }, Segment::Literal(text)) => {
            text.len() > before.len() + after.len()
                && text.starts_with(before)
                && text.ends_with(after)
        }
        (
            Segment::Capture { before: ours_before, after: ours_after },
            Segment::Capture { before: theirs_before, after: theirs_after },
        ) => {
            (ours_before.starts_with(theirs_before.as_str())
                || theirs_before.starts_with(ours_before.as_str()))
                && (ours_after.ends_with(theirs_after.as_str())
                    || theirs_after.ends_with(ours_after.as_str()))
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let captures = PathPattern::parse(pattern).unwrap().matches(&segments)?;
        Some(captures.iter().map(str::to_owned).collect())
    }

    #[test]
    fn captures_stand_for_one_segment_or_part_of_one() {
        #[rustfmt::skip]
        let cases: [(&str, &str, Option<&[&str]>); 7] = [
            ("/sensors/{room}/t",   "/sensors/boiler/t",    Some(&["boiler"])),
            ("/sensors/{room}/t",   "/sensors/a/b/t",       None),
            ("/sensors/{room}/t",   "/sensors//t",          None),
            ("/press-{n}/s",        "/press-7/s",           Some(&["7"])),
            ("/press-{n}/s",        "/press-/s",            None),
            ("/a{x}a",              "/aa",                  None),
            ("/{a}/{b}",            "/1/2",                 Some(&["1", "2"])),
        ];
        for (pattern, path, expected) in cases {
            let expected = expected.map(|texts| texts.iter().map(ToString::to_string).collect());
            assert_eq!(matches(pattern, path), expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn wrong_patterns_are_refused() {
        assert_eq!(PathPattern::parse("a/b"), Err(PathPatternError::NoSlash));
        assert!(matches!(PathPattern::parse("/a{b"), Err(PathPatternError::Brace { .. })));
        assert!(matches!(PathPattern::parse("/a}b"), Err(PathPatternError::Brace { .. })));
        assert!(matches!(PathPattern::parse("/{a}{b}"), Err(PathPatternError::TwoCaptures { .. })));
        assert!(matches!(PathPattern::parse("/{1}"), Err(PathPatternError::Name { .. })));
        assert!(matches!(PathPattern::parse("/{a}/{a}"), Err(PathPatternError::Repeated { .. })));
    }

    #[test]
    fn overlap_is_found() {
        #[rustfmt::skip]
        let cases = [
            ("/a/{x}",      "/{y}/b",   true),
            ("/a/{x}",      "/b/{x}",   false),
            ("/p-{n}",      "/p-1-{m}", true),
            ("/p-{n}",      "/q-{m}",   false),
            ("/{a}",        "/{a}/b",   false),
        ];
        for (ours, theirs, expected) in cases {
            let overlap =
                PathPattern::parse(ours).unwrap().overlaps(&PathPattern::parse(theirs).unwrap());
            assert_eq!(overlap, expected, "{ours} and {theirs}");
        }
    }

    #[test]
    fn filling_is_the_inverse_of_matching() {
        let pattern = PathPattern::parse("/sensors/{room}/press-{n}").unwrap();
        let path = ["sensors", "boiler", "press-7"];
        let captures = pattern.matches(&path).unwrap();
        assert_eq!(pattern.fill(&captures).unwrap(), path);
    }
}
