//! Lists of links (RFC 6690): writing them, and choosing those that a query asks for.

use std::fmt::Write;

/// A link to a resource, with attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    target: String,
    attributes: Vec<(&'static str, String)>,
}

impl Link {
    /// Makes a link to a path, given as decoded segments.
    pub fn to_path<S: AsRef<str>>(segments: &[S]) -> Self {
        let mut target = String::new();
        for segment in segments {
            target.push('/');
            encode_segment(segment.as_ref(), &mut target);
        }
        if target.is_empty() {
            target.push('/');
        }
        Self { target, attributes: Vec::new() }
    }

    /// Adds an attribute; a list is one text with spaces between its members.
    #[must_use]
    pub fn attribute(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Returns whether the link is one of those that `argument` of a query asks for: `rt=temp`, `rt=te*`,
    /// `href=/sensors*` (section 4.1). An argument that is no filter chooses every link.
    pub fn matches(&self, argument: &str) -> bool {
        let Some((name, wanted)) = argument.split_once('=') else { return true };
        let fits = |value: &str| match wanted.strip_suffix('*') {
            Some(prefix) => value.starts_with(prefix),
            None => value == wanted,
        };
        if name == "href" {
            return fits(&self.target);
        }
        let is_list = matches!(name, "rt" | "if" | "rel" | "rev" | "ct");
        self.attributes
            .iter()
            .filter(|(key, _)| *key == name)
            .any(|(_, value)| fits(value) || is_list && value.split(' ').any(fits))
    }

    fn write(&self, output: &mut String) {
        write!(output, "<{}>", self.target).expect("a String takes everything");
        for (name, value) in &self.attributes {
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if is_number {
                write!(output, ";{name}={value}").expect("a String takes everything");
            } else {
                write!(output, ";{name}=\"").expect("a String takes everything");
                for character in value.chars() {
                    if matches!(character, '"' | '\\') {
                        output.push('\\');
                    }
                    output.push(character);
                }
                output.push('"');
            }
        }
    }
}

/// Writes the links for which every argument of the query holds.
pub fn write_links<'a>(links: impl IntoIterator<Item = &'a Link>, query: &[String]) -> String {
    let mut output = String::new();
    for link in links {
        if query.iter().all(|argument| link.matches(argument)) {
            if !output.is_empty() {
                output.push(',');
            }
            link.write(&mut output);
        }
    }
    output
}

/// Appends a segment, percent-encoding what a path may not hold (RFC 7252, section 6.5).
fn encode_segment(segment: &str, output: &mut String) {
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
            | b':'
            | b'@' => {
                output.push(char::from(byte));
            }
            byte => write!(output, "%{byte:02X}").expect("a String takes everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> [Link; 3] {
        [
            Link::to_path(&["sensors", "t"]).attribute("rt", "temp outdoor").attribute("ct", "0"),
            Link::to_path(&["sensors", "{room}"]).attribute("title", r#"/sensors/"{room}""#),
            Link::to_path::<&str>(&[]).attribute("ct", "50 60"),
        ]
    }

    #[test]
    fn links_are_written_with_their_attributes() {
        assert_eq!(
            write_links(&links(), &[]),
            r#"</sensors/t>;rt="temp outdoor";ct=0,</sensors/%7Broom%7D>;title="/sensors/\"{room}\"",</>;ct="50 60""#
        );
    }

    #[test]
    fn queries_choose_links() {
        #[rustfmt::skip]
        let cases: [(&[&str], &[usize]); 10] = [
            (&["rt=temp"],                  &[0]),
            (&["rt=outdoor"],               &[0]),
            (&["rt=out*"],                  &[0]),
            (&["rt=temp outdoor"],          &[0]),
            (&["rt=tem"],                   &[]),
            (&["ct=60"],                    &[2]),
            (&["href=/sensors/*"],          &[0, 1]),
            (&["href=/sensors/t", "ct=0"],  &[0]),
            (&["href=/sensors/t", "ct=50"], &[]),
            (&["page"],                     &[0, 1, 2]),
        ];
        let links = links();
        for (query, expected) in cases {
            let query: Vec<String> = query.iter().map(ToString::to_string).collect();
            let expected = write_links(expected.iter().map(|&index| &links[index]), &[]);
            assert_eq!(write_links(&links, &query), expected, "{query:?}");
        }
    }
}
