//! `replsync-node`: moves live Redis and Valkey data between servers and versions.
fn main() {}
