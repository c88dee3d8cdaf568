//! One file a command.

pub mod digest;
pub mod compare;
pub mod doctor;
pub mod inspect;
pub mod migrate;
