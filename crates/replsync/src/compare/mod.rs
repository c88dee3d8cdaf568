//! Two keyspaces, compared key by key: of two live servers ([`live`]), of two RDB files ([`files`]).
//!
//! Both say the same of the same data, and in the same words.
//!
//! **Values.** Encodings do not count, nor does the order of what has none: strings are compared by their bytes, lists
//! in order, sets and hashes without one, scores as numbers (zero has one sign), hash fields with their expiries. Of a
//! stream count the entries with their fields in order, the last id, the groups with their last delivered id, and the
//! pending entries with their consumer. What does not count: `entries-added`, `max-deleted-entry-id`, `entries-read`,
//! the id of the first entry, consumers that have nothing pending, the time and number of deliveries, when consumers
//! were seen, and the memory of idempotent producers; servers of different versions do not all have them, or change
//! them without a word to their replicas. Of a module's value the bytes count, since only the module can read them.
//!
//! **Expiries** are absolute times, to the millisecond where both sides know them so.
//!
//! **Not looked at**: what modules keep outside the keyspace or attach to keys, scripts, ACLs, configuration, access
//! times.

mod difference;
mod elements;
pub mod files;
#[cfg(feature = "tokio")]
pub mod live;
mod text;

pub use difference::{Kind, Side};
pub use elements::Part;
#[cfg(feature = "tokio")]
pub use live::{At, Both, Comparison, Difference, Digests, Error, Options, Pass, Precision};
