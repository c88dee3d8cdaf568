//! One file a command.

pub mod digest;
pub mod doctor;
pub mod migrate;
