//! The replica side of PSYNC, sans-IO.
//!
//! A [`Replica`] is one connection's worth of protocol: bytes go in, bytes to send and [`Event`]s come out. It
//! knows no socket and no clock; [`crate::link`] drives it, tests and fuzzers do so without a network.
//!
//! ```text
//! PING, AUTH, REPLCONF …, PSYNC ──► +CONTINUE ─────────────────────► commands …
//!                                └► +FULLRESYNC ► RDB payload ► end ► commands …
//! ```
//!
//! Sources: `syncWithMaster`, `slaveTryPartialResynchronization` and `readSyncBulkPayload` in
//! `src/replication.c` of the servers.

mod error;
mod handshake;
mod payload;
mod position;
mod replica;

pub use error::{Error, Step};
pub use handshake::{Announce, Credentials, PORT_UNSEEN_BY_SENTINEL};
pub use position::{Position, ReplId, ReplIdError};
pub use replica::{Event, Replica};
