//! The differences that docs/formats/verdicts.md explains.

use replsync::server::{Product, Server};

/// A reason as the name of a class: without the numbers and names in it.
pub fn reason(text: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '0'..='9' => {
                if !out.ends_with('#') {
                    out.push('#');
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// The server takes a failure (0 bytes) for success where 0 bytes are claimed.
const ZERO: &str = "0 bytes claimed are what an error gives, too";

/// A class of differences: what its name holds, and why it is there. docs/formats/verdicts.md says more of each.
const EXPLAINED: [(&str, &[&str], &str); 17] = [
    ("only we refuse", &["bytes after the end of the value"], "RESTORE looks no further than the value"),
    ("only we refuse", &["unreadable: truncated"], "RESTORE reads on into the payload's footer"),
    ("only we refuse", &["starts no valid length"], "the server takes an encoding for a length"),
    (
        "only we refuse",
        &[": lzf: it gives more bytes than it claims"],
        "0 bytes claimed are what its error is, too",
    ),
    ("only we refuse", &["listpack's item does not end in its own length"], "the same length in more bytes"),
    ("only we refuse", &["Stream", "listpack has more items than it says"], "not compared in streams"),
    ("only we refuse", &["Stream", "listpack has fewer items than it says"], "not compared in streams"),
    ("only we refuse", &["Stream", "stream has entries beyond its last id"], "not compared by the server"),
    ("only we refuse", &["Stream", "stream's entries do not ascend"], "not compared by the server"),
    ("only we refuse", &["Stream", "stream's length is not the number"], "not compared by the server"),
    ("only we refuse", &["Stream", "stream node's counts are wrong"], "not compared by the server"),
    ("only we refuse", &["Zset", "members are not sorted"], "not compared by the server"),
    (
        "only we refuse",
        &["Zset", "score that is not a number"],
        "the server reads as much of a number as there is",
    ),
    ("only we refuse", &["HashTtl", "no field expires when the hash says"], "not compared by the server"),
    ("only we refuse", &["the key expires at"], "loaded and expired"),
    (
        "the server crashes or hangs",
        &["unreadable: truncated"],
        "it makes a table for as many as are claimed",
    ),
];

/// Why verdicts of that class differ, where that is known.
pub fn why(direction: &str, what: &str) -> Option<&'static str> {
    let fits = |class: &&(&str, &[&str], &str)| {
        class.0 == direction && class.1.iter().all(|word| what.contains(word))
    };
    EXPLAINED.iter().find(fits).map(|class| class.2)
}

/// What a server must not be asked about: Redis 7.0 and 7.4 free a pending entry twice while they refuse a stream in
/// which a consumer has it twice, and what they say of anything after that is worth nothing.
pub fn breaks(by: Server, finding: &str) -> bool {
    by.product == Product::Redis && by.rdb_version() <= 12 && finding.contains("pending entry has two owners")
}
