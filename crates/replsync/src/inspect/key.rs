//! A key, as it is read and as it is kept.

use crate::rdb::{DataType, ModuleId};

/// A key and the size of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The database.
    pub db: u32,
    /// Its name.
    pub name: &'a [u8],
    /// The type of its value.
    pub data_type: DataType,
    /// Of a module's value: the type that the module registered.
    pub module: Option<ModuleId>,
    /// How the value is written; see [`Measure::encoding`](crate::rdb::Measure::encoding).
    pub encoding: &'static str,
    /// Elements, bytes of a string; see [`Measure::elements`](crate::rdb::Measure::elements).
    pub elements: Option<u64>,
    /// What it takes in the file, in bytes: its opcodes, its name, its value.
    pub bytes: u64,
    /// How many of a hash's fields have an expiry.
    pub field_expiries: u64,
    /// When it expires, in milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// Whether that had passed at the time that expiries are told from.
    pub is_expired: bool,
    /// Seconds since it was used, where the server evicts by LRU.
    pub idle_seconds: Option<u64>,
    /// Its logarithmic access counter, where the server evicts by LFU.
    pub freq: Option<u8>,
    /// Where its type byte stands in the file.
    pub offset: u64,
}

impl Key<'_> {
    /// What `TYPE` answers.
    pub fn type_name(&self) -> String {
        type_name(self.data_type, self.module)
    }
}

pub(super) fn type_name(data_type: DataType, module: Option<ModuleId>) -> String {
    module.map_or_else(|| data_type.name().to_owned(), ModuleId::name)
}

/// One of the biggest keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigKey {
    /// The database.
    pub db: u32,
    /// Its name; of a longer one the first [`BigKey::NAME_BYTES_MAX`] bytes.
    pub name: Vec<u8>,
    /// How long the name is.
    pub name_bytes: u64,
    /// The type of its value.
    pub data_type: DataType,
    /// Of a module's value: the type that the module registered.
    pub module: Option<ModuleId>,
    /// How the value is written.
    pub encoding: &'static str,
    /// Elements, bytes of a string.
    pub elements: Option<u64>,
    /// What it takes in the file.
    pub bytes: u64,
    /// When it expires, in milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
}

impl BigKey {
    /// Of a name, so many bytes are kept.
    pub const NAME_BYTES_MAX: usize = 1024;

    /// What `TYPE` answers.
    pub fn type_name(&self) -> String {
        type_name(self.data_type, self.module)
    }
}

impl From<&Key<'_>> for BigKey {
    fn from(key: &Key<'_>) -> Self {
        Self {
            db: key.db,
            name: key.name[..key.name.len().min(Self::NAME_BYTES_MAX)].to_vec(),
            name_bytes: key.name.len() as u64,
            data_type: key.data_type,
            module: key.module,
            encoding: key.encoding,
            elements: key.elements,
            bytes: key.bytes,
            expires_at_ms: key.expires_at_ms,
        }
    }
}
