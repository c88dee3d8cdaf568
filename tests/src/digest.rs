//! DEBUG DIGEST of test servers: a second opinion beside the comparison by commands.
//!
//! It covers keys, types, values, and that a key has an expiry; it is blind to expiry values, consumer groups and
//! functions. It blocks a server while it runs, so it belongs in tests only.

use anyhow::Result;

use crate::client::{Conn, Version, text};

/// The forty hex digits that the server prints.
pub fn debug_digest(conn: &mut Conn) -> Result<String> {
    Ok(text(&conn.words("DEBUG DIGEST")?))
}

/// Whether two versions print the same digest for the same contents.
///
/// Tried with one filling (`fill`) that native replicas of eleven versions took over: Redis 5.0 to 7.0 print one digest,
/// Redis 7.2 to 8.6 and Valkey 8.0 to 9.1 another, since 7.2 prints scores in their shortest form. Redis 7.4 to 8.6 agree
/// on hashes with field expiries too; Valkey 9 leaves a field's having an expiry out of the digest.
pub fn print_alike(a: Version, b: Version) -> bool {
    let field_expiries = a.has_field_ttl() || b.has_field_ttl();
    a.redis_at_least(7, 2) == b.redis_at_least(7, 2) && (a.valkey == b.valkey || !field_expiries)
}
