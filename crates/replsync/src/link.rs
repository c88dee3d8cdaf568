//! The replica link: a live replication connection, kept up.
