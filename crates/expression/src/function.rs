//! The functions of the language: names, arguments, results.

use super::types::Types;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Bit,
    Bool,
    Ceil,
    Clamp,
    Default,
    Floor,
    Lookup,
    Max,
    Min,
    Number,
    Round,
    Scale,
    Sqrt,
    String,
}

impl Function {
    pub(super) const ALL: [Self; 15] = [
        Self::Abs,
        Self::Bit,
        Self::Bool,
        Self::Ceil,
        Self::Clamp,
        Self::Default,
        Self::Floor,
        Self::Lookup,
        Self::Max,
        Self::Min,
        Self::Number,
        Self::Round,
        Self::Scale,
        Self::Sqrt,
        Self::String,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        let signature = self.signature();
        &signature[1..signature.find('(').expect("a signature has arguments")]
    }

    /// Returns how the function is called, in backticks.
    pub(super) fn signature(self) -> &'static str {
        match self {
            Self::Abs => "`abs(x)`",
            Self::Bit => "`bit(x, number)`",
            Self::Bool => "`bool(x)`",
            Self::Ceil => "`ceil(x)`",
            Self::Clamp => "`clamp(x, low, high)`",
            Self::Default => "`default(x, otherwise)`",
            Self::Floor => "`floor(x)`",
            Self::Lookup => "`lookup(x, key, result, …, otherwise)`",
            Self::Max => "`max(x, y, …)`",
            Self::Min => "`min(x, y, …)`",
            Self::Number => "`number(x)`",
            Self::Round => "`round(x, digits)`",
            Self::Scale => "`scale(x, in_low, in_high, out_low, out_high)`",
            Self::Sqrt => "`sqrt(x)`",
            Self::String => "`string(x)`",
        }
    }

    /// Returns whether the function can be called with so many arguments.
    pub(super) fn takes(self, count: usize) -> bool {
        match self {
            Self::Abs
            | Self::Bool
            | Self::Ceil
            | Self::Floor
            | Self::Number
            | Self::Sqrt
            | Self::String => count == 1,
            Self::Bit | Self::Default => count == 2,
            Self::Round => count == 1 || count == 2,
            Self::Clamp => count == 3,
            Self::Scale => count == 5,
            Self::Max | Self::Min => count >= 2,
            Self::Lookup => count >= 3,
        }
    }

    /// Returns what each argument must be able to be.
    pub(super) fn wants(self) -> Types {
        match self {
            Self::Abs
            | Self::Ceil
            | Self::Clamp
            | Self::Floor
            | Self::Max
            | Self::Min
            | Self::Round
            | Self::Scale
            | Self::Sqrt => Types::NUMBER,
            Self::Bit => Types::INTEGER,
            Self::Bool | Self::Number | Self::String => {
                Types::BOOLEAN.or(Types::NUMBER).or(Types::STRING)
            }
            Self::Default | Self::Lookup => Types::ANY,
        }
    }

    /// Returns what the result can be.
    pub(super) fn gives(self, arguments: &[Types]) -> Types {
        let null = arguments.iter().fold(Types::NONE, |all, types| all.or(types.null_only()));
        let union = arguments.iter().fold(Types::NONE, |all, types| all.or(*types));
        let numbers = union.without(Types::ANY.without(Types::NUMBER));
        match self {
            Self::Abs | Self::Ceil | Self::Floor | Self::Round => numbers.or(null),
            Self::Clamp | Self::Max | Self::Min => numbers.or(null),
            Self::Scale | Self::Sqrt => Types::DOUBLE.or(null),
            Self::Bit | Self::Bool => Types::BOOLEAN.or(Types::NULL),
            Self::Number => Types::NUMBER.or(Types::NULL),
            Self::String => Types::STRING.or(null),
            // The first argument may be null: an expression in which it cannot is refused.
            Self::Default => arguments[0].without(Types::NULL).or(arguments[1]),
            Self::Lookup => {
                let results = arguments[1..]
                    .chunks(2)
                    .map(|pair| *pair.last().expect("a chunk is not empty"))
                    .fold(Types::NONE, Types::or);
                if arguments.len().is_multiple_of(2) { results } else { results.or(Types::NULL) }
            }
        }
    }
}
