//! One file a command.

pub mod backup;
pub mod compare;
pub mod digest;
pub mod doctor;
pub mod inspect;
pub mod migrate;
pub mod verify;
