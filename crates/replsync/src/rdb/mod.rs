//! RDB: the format of dumps, on disk and on the wire.
//!
//! A [`Reader`] turns an [`Input`] (memory or a stream) into [`Item`]s. Of a value it finds the end, by the
//! grammar of its [`Kind`]; its bytes can be taken raw, as [`dump`] payloads and files want them, checked down to the
//! last packed item (a [`Finding`] does not stop the reading), or decoded into [`Element`]s, which are the same whatever
//! the encoding. [`readable`] says which server loads which kind. A [`FileWriter`] makes files of raw values and of what
//! [`encode`] writes.
//!
//! Nothing is believed: lengths are checked against [`Limits`], memory grows as bytes arrive, what is compressed
//! cannot claim more than its bytes can give, and unknown bytes are errors with their offset.
//!
//! ```
//! use replsync::rdb::{Item, Reader, Slice};
//!
//! let file = b"REDIS0004\xfe\x00\x00\x01k\xc0\x2a\xff";
//! let mut reader = Reader::new(Slice::new(file));
//! while let Some(item) = reader.next_item()? {
//!     if let Item::Entry(entry) = item {
//!         assert_eq!((entry.db, reader.key()), (0, &b"k"[..]));
//!         assert_eq!(reader.raw_value(1024)?, Some(&b"\xc0\x2a"[..]));
//!     }
//! }
//! # Ok::<(), replsync::rdb::Error>(())
//! ```

mod check;
mod decode;
pub mod distinct;
#[cfg(test)]
mod doc_test;
pub mod dump;
mod element;
pub mod encode;
mod error;
mod file_writer;
mod input;
mod intset;
mod item;
mod kind;
mod listpack;
mod lzf;
mod measure;
mod module;
mod older;
mod opcode;
mod packed;
mod primitive;
mod quoted;
mod reader;
mod walk;
mod window;
mod writer;
mod ziplist;
mod zipmap;

pub use check::{Again, Checked, Checker, Finding, FindingKind, MAX_FINDINGS};
pub use decode::{STRING_PART_BYTES, decode, decode_string};
pub use element::{ArrayValue, Element, Idmp, ModulePart, StreamId};
pub use encode::rewrite_field_expiries;
pub use error::Error;
pub use file_writer::{FileWriter, Finished};
pub use input::{Buffered, Input, Slice};
pub use item::{Checksum, Entry, Item, ModuleAux};
pub use kind::{DataType, Kind, Magic, readable, restore_version};
pub use measure::Measure;
pub use module::ModuleId;
pub use older::{OlderForm, is_compressed, older_form};
pub use quoted::quoted;
pub use reader::{Place, Reader};
pub use writer::Writer;

/// What an RDB may ask for. Servers set no such limits: raise these for a source that holds longer strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest string, decompressed, in bytes: 1 GiB by default (servers default to 512 MiB). Also bounds
    /// what modules keep outside the keyspace, and the packed blobs of small collections.
    pub max_string_bytes: u64,
    /// The most fields of one stream entry: 1,048,576 by default.
    pub max_stream_fields: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_string_bytes: 1 << 30, max_stream_fields: 1 << 20 }
    }
}

impl Limits {
    #[inline]
    fn check_string(&self, len: u64, offset: u64) -> Result<(), Error> {
        if len > self.max_string_bytes {
            return Err(Error::TooLong { offset, len, limit: self.max_string_bytes });
        }
        Ok(())
    }
}
