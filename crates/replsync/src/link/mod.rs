//! The replica link: a replication connection that is kept up.
//!
//! [`Link::start`] runs it in a task of its own, which reads all that comes and sends its ACKs however slow the
//! consumer is: what that has yet to take waits in a [spool](crate::spool). A broken connection is made anew and asks for a partial resync from the exact offset where it
//! broke; a master that can no longer give it answers with a full resync, which arrives as an event of its own
//! and never as commands. Where it must not fork for us ([`FullResync::Never`]), that ends the link instead.

mod driver;
mod error;
mod payload;
mod resume;
mod spooled;

pub use driver::{Config, Event, Link};
pub use error::Error;
pub use payload::{PayloadReader, PayloadSender, payload_channel};
pub use resume::{FullResync, NotContinued, can_continue};
