//! DEBUG DIGEST of test servers: a second opinion beside the comparison by commands.
//!
//! It covers keys, types, values, and that a key has an expiry; it is blind to expiry values, consumer groups and
//! functions. It blocks a server while it runs, so it belongs in tests only.

use anyhow::Result;

use crate::client::{Conn, text};

/// The forty hex digits that the server prints.
pub fn debug_digest(conn: &mut Conn) -> Result<String> {
    Ok(text(&conn.words("DEBUG DIGEST")?))
}
