//! `each`: the members of one payload as readings of their own.

use std::sync::Arc;

use thiserror::Error;

use crate::{Document, Value};

/// Which members of an object become readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Each {
    /// Every member; a nested object is one reading with a document value.
    Member,
    /// Every leaf; the name is the path of names joined by `.`.
    Leaf,
}

impl Each {
    /// Returns the word used in mapping files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Leaf => "leaf",
        }
    }
}

/// Why a payload has no members to take apart.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EachError {
    /// The payload is something else than an object.
    #[error("`each = \"{}\"` needs an object, found {found}", .each.as_str())]
    NotAnObject {
        /// What the mapping asks for.
        each: Each,
        /// What there was.
        found: &'static str,
    },
    /// The object has no member.
    #[error("`each = \"{}\"` needs at least one member", .each.as_str())]
    Empty {
        /// What the mapping asks for.
        each: Each,
    },
    /// Two leaves have the same path.
    #[error("the name `{name}` occurs twice")]
    Duplicate {
        /// The repeated name.
        name: String,
    },
}

/// Takes an object apart into named values, in its own order.
///
/// # Errors
///
/// [`EachError`] if `value` is no object, has no member, or has two leaves of one name.
pub fn expand(value: &Value, each: Each) -> Result<Vec<(Arc<str>, Value)>, EachError> {
    let Value::Document(document) = value else {
        return Err(EachError::NotAnObject { each, found: value.type_name() });
    };
    let members = match each {
        Each::Member => {
            document.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        Each::Leaf => {
            let mut leaves = Vec::new();
            collect_leaves("", document, &mut leaves);
            leaves
        }
    };
    if members.is_empty() {
        return Err(EachError::Empty { each });
    }
    match Document::new(members.clone()) {
        Ok(_) => Ok(members),
        Err(duplicate) => Err(EachError::Duplicate { name: duplicate.name.to_string() }),
    }
}

fn collect_leaves(prefix: &str, document: &Document, leaves: &mut Vec<(Arc<str>, Value)>) {
    for (name, value) in document.iter() {
        let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        match value {
            Value::Document(inner) => collect_leaves(&path, inner, leaves),
            leaf => leaves.push((path.into(), leaf.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_value;

    fn names(json: &str, each: Each) -> Result<Vec<String>, EachError> {
        let members = expand(&parse_value(json.as_bytes()).unwrap(), each)?;
        Ok(members.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn members_and_leaves_are_named() {
        let json = r#"{"weight":12.5,"door":{"open":true,"count":3}}"#;
        assert_eq!(
            names(json, Each::Member).unwrap(),
            ["weight=12.5", r#"door={"open":true,"count":3}"#]
        );
        assert_eq!(
            names(json, Each::Leaf).unwrap(),
            ["weight=12.5", "door.open=true", "door.count=3"]
        );
    }

    #[test]
    fn what_has_no_members_is_refused() {
        assert_eq!(
            names("[1]", Each::Member),
            Err(EachError::NotAnObject { each: Each::Member, found: "array" })
        );
        assert_eq!(names("{}", Each::Member), Err(EachError::Empty { each: Each::Member }));
        assert_eq!(
            names(r#"{"a":{"b":1},"a.b":2}"#, Each::Leaf),
            Err(EachError::Duplicate { name: "a.b".into() })
        );
    }
}
