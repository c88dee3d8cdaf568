//! Writing into a target: an RDB's entries and a stream's commands, as an ordinary client.
//!
//! Planning is apart from sending. [`Copier`] and [`Follower`] turn entries and commands into [`Batch`]es:
//! encoded commands that remember what each of them is about; plain code without I/O. [`Pipeline`] sends batches
//! in order over one connection, checks every reply, and says how far the target has got.

mod batch;
mod changes;
mod copy;
mod doubts;
mod error;
mod follow;
mod pieces;
mod pipeline;
mod sweep;
mod target;
mod throttle;

pub use batch::{Batch, Place};
pub use copy::{Copied, Copier, CopyOptions};
pub use doubts::OfKey;
pub use error::{Error, Loss};
pub use follow::{Dropped, Follower};
pub use pipeline::{Applied, Pipeline};
pub use sweep::{Direction, Sweeper, Swept, try_sweep};
pub use target::{Eviction, Target};
pub use throttle::{OutputLimit, Throttle, check_target};
