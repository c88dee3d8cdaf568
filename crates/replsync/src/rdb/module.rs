//! Names of modules' types, which travel packed into a number.

use std::fmt;

/// A module type's id: nine characters of six bits, then ten bits of the type's own encoding version.
///
/// Source: `moduleTypeEncodeId` in `src/module.c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleId(pub u64);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl ModuleId {
    /// The name that the module registered.
    pub fn name(self) -> String {
        (0..9).map(|i| char::from(ALPHABET[((self.0 >> (10 + 6 * (8 - i))) & 0x3f) as usize])).collect()
    }

    /// The version of the type's encoding, 0 to 1023.
    pub fn encoding_version(self) -> u16 {
        (self.0 & 0x3ff) as u16
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleId({}, {})", self.name(), self.encoding_version())
    }
}
