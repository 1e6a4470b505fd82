//! Endpoints: paths with parameters, such as `/%{room}/temperature`.

use std::{fmt, sync::Arc};

use thiserror::Error;

const LEVELS_MAX: usize = 64;

/// The path of a mapping, in which `%{name}` stands for one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    text: Arc<str>,
    levels: Vec<Level>,
}

/// One level of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Literal(Arc<str>),
    Parameter,
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// It is too short or too long.
    #[error("has {0} characters; 2 to 256 are allowed")]
    Length(usize),
    /// It does not begin with `/`.
    #[error("does not begin with `/`")]
    NoSlash,
    /// It has too many levels.
    #[error("has more than 64 levels")]
    TooDeep,
    /// A level is neither a name nor a parameter.
    #[error(
        "has a level that is neither a name (letters, digits, `_`; no digit first) nor `%{{name}}`"
    )]
    Level,
}

impl Endpoint {
    /// Reads an endpoint.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let length = text.chars().count();
        if !(2..=256).contains(&length) {
            return Err(EndpointError::Length(length));
        }
        let rest = text.strip_prefix('/').ok_or(EndpointError::NoSlash)?;
        let levels: Vec<Level> = rest.split('/').map(level).collect::<Result<_, _>>()?;
        if levels.len() > LEVELS_MAX {
            return Err(EndpointError::TooDeep);
        }
        Ok(Self { text: text.into(), levels })
    }

    /// Returns the endpoint as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Returns the last level if it is a name: the key in objects.
    pub(crate) fn key(&self) -> Option<&str> {
        match self.levels.last()? {
            Level::Literal(name) => Some(name),
            Level::Parameter => None,
        }
    }

    /// Returns all levels but the last: what objects are published on.
    pub(crate) fn prefix(&self) -> &[Level] {
        &self.levels[..self.levels.len() - 1]
    }

    /// Returns whether some path matches both, or lies below what matches one of them.
    pub(crate) fn clashes_with(&self, other: &Self) -> bool {
        self.levels.iter().zip(&other.levels).all(|pair| match pair {
            (Level::Literal(ours), Level::Literal(theirs)) => ours == theirs,
            (Level::Parameter, _) | (_, Level::Parameter) => true,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Returns whether a path stands for these levels.
pub(crate) fn matches(levels: &[Level], path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut parts = rest.split('/');
    let all = levels.iter().all(|level| match (level, parts.next()) {
        (Level::Literal(name), Some(part)) => &**name == part,
        (Level::Parameter, Some(part)) => is_parameter(part),
        (_, None) => false,
    });
    all && parts.next().is_none()
}

/// Returns whether a text may stand for a parameter.
pub(crate) fn is_parameter(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', '+', '#', '\0'])
}

fn level(text: &str) -> Result<Level, EndpointError> {
    let is_name = |text: &str| {
        let begins = |first: char| first.is_ascii_alphabetic() || first == '_';
        text.starts_with(begins)
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let parameter = text.strip_prefix("%{").and_then(|rest| rest.strip_suffix('}'));
    match parameter {
        Some(name) if is_name(name) => Ok(Level::Parameter),
        None if is_name(text) => Ok(Level::Literal(text.into())),
        _ => Err(EndpointError::Level),
    }
}
