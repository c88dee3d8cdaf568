//! In what way something differs, and on which side something is missing.

use std::fmt;

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first: what is right.
    Source,
    /// The second, which should hold the same.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// In what way something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only the target has it.
    MissingInSource,
    /// Only the source has it.
    MissingInTarget,
    /// The values are of different types.
    Type,
    /// The values differ; when a hash field expires belongs to the value. The expiries may differ as well.
    Value,
    /// Only the expiries of the key differ.
    Expiry,
    /// A function library.
    Function,
}

impl Kind {
    /// The word for it in machine-readable output, where the source is a and the target b.
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingInSource => "missing_in_a",
            Self::MissingInTarget => "missing_in_b",
            Self::Type => "type",
            Self::Value => "value",
            Self::Expiry => "expiry",
            Self::Function => "function",
        }
    }
}
