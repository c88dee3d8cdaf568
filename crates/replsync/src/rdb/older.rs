//! Older forms of a value that stand in its own bytes.

use super::walk::walk;
use super::{Input, Kind, Limits, Slice, readable};
use crate::server::Server;

/// The value of `kind` in `raw` in a form that `by` loads, where one is a prefix of `raw`: a stream of 8.6 without
/// its memory of idempotent producers, which is written last, is a stream of 7.2.
pub fn older_form(kind: Kind, raw: &[u8], by: Server) -> Option<(Kind, &[u8])> {
    let older = match kind {
        Kind::Stream4 => Kind::Stream3,
        _ => return None,
    };
    let mut input = Slice::new(raw);
    let fits = readable(older, by) && walk(&mut input, older.grammar(), &Limits::default(), u64::MAX).is_ok();
    let len = usize::try_from(input.offset()).ok()?;
    fits.then(|| raw.get(..len).map(|prefix| (older, prefix))).flatten()
}

/// Whether the raw bytes of a [`Kind::String`] are compressed.
pub fn is_compressed(raw: &[u8]) -> bool {
    // The two high bits say "encoded", the others LZF (`RDB_ENC_LZF` in `src/rdb.h`).
    raw.first() == Some(&0xc3)
}
