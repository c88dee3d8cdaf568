//! The replica side of PSYNC, sans-IO.
