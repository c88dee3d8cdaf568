//! The wire: RESP as requests, replies and the replication stream use it.
//!
//! Three parts, all sans-IO:
//! - [`encode`] writes commands;
//! - [`scan`] reads the replication stream: commands with exact byte accounting;
//! - [`reply`] reads a server's replies (RESP2).
//!
//! Both readers take bytes as they come: the same bytes in any pieces give the same result, and no length is
//! believed before its bytes are there.

pub mod encode;
pub mod reply;
pub mod scan;

mod line;

pub use encode::{Command, write_bulk, write_command};
pub use reply::{Reply, ReplyDecoder, ReplyError};
pub use scan::{CommandScanner, Frame, ScanError, StreamCommand};
