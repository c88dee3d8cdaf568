//! What is in an RDB: a summary, the biggest keys and prefixes, when keys expire, and every key one by one.
//!
//! An [`Inspector`] reads the file once. What it holds is bounded, however many keys, databases and prefixes there are:
//! the biggest keys by heaps of a few, prefixes by [counters](Prefixes) that say when they could not count all.
//! [`page`] makes one self-contained HTML page of a [`Summary`].
//!
//! ```
//! use replsync::inspect::{Inspector, Options};
//! use replsync::rdb::{Reader, Slice};
//!
//! let file = b"REDIS0004\xfe\x00\x00\x03a:b\xc0\x2a\xff";
//! let mut inspector = Inspector::new(Reader::new(Slice::new(file)), Options::default());
//! while let Some(key) = inspector.next_key()? {
//!     assert_eq!((key.name, key.bytes, key.elements), (&b"a:b"[..], 7, Some(2)));
//! }
//! assert_eq!(inspector.into_summary().totals.keys, 1);
//! # Ok::<(), replsync::rdb::Error>(())
//! ```

mod facts;
mod filter;
mod glob;
mod html;
mod inspector;
mod key;
mod prefixes;
mod summary;
mod text;
mod top;
mod ttl;

pub use facts::{Facts, ModuleFacts};
pub use filter::{Filter, TypeFilter};
pub use glob::Glob;
pub use html::page;
pub use inspector::Inspector;
pub use key::{BigKey, Key};
pub use prefixes::{Prefix, PrefixSummary, Prefixes};
pub use summary::{Counts, Database, Group, Summary};
pub use text::{human_bytes, percent, printable, thousands, utc};
pub use ttl::{BUCKETS, Bucket, RelativeTo, Ttls};

/// What is wanted of an inspection.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which keys are looked at.
    pub filter: Filter,
    /// How many of the biggest are kept: keys by bytes, keys of each type by elements, prefixes.
    pub top: usize,
    /// What ends a prefix: each occurrence in a key, up to [`Options::prefix_depth`] of them. Not empty.
    pub delimiter: Vec<u8>,
    /// How many delimiters the longest prefix has.
    pub prefix_depth: usize,
    /// How many prefixes are counted at once, of each depth.
    pub prefixes_max: usize,
    /// The time that expiries are told from where the file does not say when it was written, in milliseconds since the
    /// epoch.
    pub now_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            top: 20,
            delimiter: b":".to_vec(),
            prefix_depth: 3,
            prefixes_max: 16_384,
            now_ms: 0,
        }
    }
}
