//! Older forms of a value that stand in its own bytes.

use super::primitive::length;
use super::walk::walk;
use super::{Input, Kind, Limits, Slice, readable};
use crate::server::Server;

/// A value in an older form than it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OlderForm<'a> {
    /// What it is now.
    pub kind: Kind,
    /// Its bytes.
    pub raw: &'a [u8],
    /// Whether it lacks something that the newer form holds, and not only room for it.
    pub is_poorer: bool,
}

/// The value of `kind` in `raw` in a form that `by` loads, where one is a prefix of `raw`: a stream of 8.6 without
/// its memory of idempotent producers, which is written last, is a stream of 7.2.
pub fn older_form(kind: Kind, raw: &[u8], by: Server) -> Option<OlderForm<'_>> {
    let older = match kind {
        Kind::Stream4 => Kind::Stream3,
        _ => return None,
    };
    let mut input = Slice::new(raw);
    if !readable(older, by) || walk(&mut input, older.grammar(), &Limits::default(), u64::MAX).is_err() {
        return None;
    }
    let prefix = raw.get(..usize::try_from(input.offset()).ok()?)?;
    // How long and how much is remembered, which every stream says, then the number of producers.
    let _settings = (length(&mut input).ok()?, length(&mut input).ok()?);
    let is_poorer = length(&mut input).ok()? > 0;
    Some(OlderForm { kind: older, raw: prefix, is_poorer })
}

/// Whether the raw bytes of a [`Kind::String`] are compressed.
pub fn is_compressed(raw: &[u8]) -> bool {
    // The two high bits say "encoded", the others LZF (`RDB_ENC_LZF` in `src/rdb.h`).
    raw.first() == Some(&0xc3)
}
