//! Redis-compatible replication: the protocol, the formats, and what is built on them.
//!
//! The rooms stand on floors; each uses only those below it (and, on its own floor, those named before it):
//!
//! | floor | rooms | |
//! | --- | --- | --- |
//! | 6 | [`verify`], [`inspect`], [`migrate`], [`backup`] | features, told as a story |
//! | 5 | [`capture`] | a live keyspace, copied exactly and without a fork |
//! | 4 | [`digest`], [`compare`], [`apply`] | digests of keyspaces; two keyspaces compared; writing into a target |
//! | 3 | [`files`], [`clock`], [`endpoint`], [`channel`], [`spool`], [`link`] | drivers: RDB files, connections, bounded queues, what waits on disk, the replica link |
//! | 2 | [`psync`], [`command`] | sans-IO: the replica's handshake and position; what each command touches and how it is rewritten |
//! | 1 | [`rdb`] | the format |
//! | 0 | [`server`], [`shift`], [`checksum`], [`resp`] | who is who; expiries out of reach; CRC-64; the wire |
//!
//! Floors 0 to 2 are state machines and functions over bytes: they know no socket, clock or runtime, and build
//! without tokio (`default-features = false`).

#[cfg(feature = "tokio")]
pub mod apply;
#[cfg(feature = "tokio")]
pub mod backup;
#[cfg(feature = "tokio")]
pub mod capture;
#[cfg(feature = "tokio")]
pub mod channel;
pub mod checksum;
pub mod clock;
pub mod command;
pub mod compare;
pub mod digest;
#[cfg(feature = "tokio")]
pub mod endpoint;
pub mod files;
pub mod inspect;
#[cfg(feature = "tokio")]
pub mod link;
#[cfg(feature = "tokio")]
pub mod migrate;
pub mod psync;
pub mod rdb;
pub mod resp;
pub mod server;
pub mod shift;
#[cfg(feature = "tokio")]
pub mod spool;
pub mod verify;
