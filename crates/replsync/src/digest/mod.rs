//! Digests of keyspaces: what is the same for clients has the same digest, whatever its encoding, its order, and the
//! version of the server that wrote it.
//!
//! [`replsync_1`] is ours, specified in docs/formats/digest.md: sums of 128-bit hashes, so that keys can be added and
//! taken away, and two keyspaces that differ can be narrowed down by database and slot. A [`KeyHasher`] is fed with the
//! elements of a key, and what it makes of them is added to a [`Keyspace`]; [`read`] does that for a whole RDB.
//!
//! [`debug`] is the servers': what `DEBUG DIGEST` prints, as docs/formats/debug-digest.md describes it. It sees less, but
//! a real server says what it must be.

pub mod debug;
mod keyspace;
mod read;
pub mod replsync_1;

pub use keyspace::{Keyspace, Tally};
pub use read::{About, At, DATABASES_MAX, Error, read};
pub use replsync_1::{ElementDigest, KeyDigest, KeyHasher, Sum};
