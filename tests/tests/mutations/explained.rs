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

/// A class of differences: who differs, what its name holds, and why. docs/formats/verdicts.md says more of each.
const EXPLAINED: &[(&str, &str, &str)] = &[
    (ONLY_WE_REFUSE, "bytes after the end of the value", "RESTORE looks no further than the value"),
    (ONLY_WE_REFUSE, "unreadable: truncated", "RESTORE reads on into the payload's footer"),
    (ONLY_WE_REFUSE, "starts no valid length", "the server takes an encoding for a length"),
    (ONLY_WE_REFUSE, "lzf: it gives more bytes than it claims", NO_BYTES),
    (ONLY_WE_REFUSE, "lzf: it copies from before its start", NO_BYTES),
    (ONLY_WE_REFUSE, "listpack's item does not end in its own length", "the same length in more bytes"),
    (ONLY_WE_REFUSE, "listpack has more items than it says", "not compared in streams"),
    (ONLY_WE_REFUSE, "listpack has fewer items than it says", "not compared in streams"),
    (ONLY_WE_REFUSE, "stream has entries beyond its last id", NOT_COMPARED),
    (ONLY_WE_REFUSE, "stream's nodes do not ascend", "a server sorts them"),
    (ONLY_WE_REFUSE, "stream's entries do not ascend", NOT_COMPARED),
    (ONLY_WE_REFUSE, "stream's length is not the number", NOT_COMPARED),
    (ONLY_WE_REFUSE, "stream node's counts are wrong", NOT_COMPARED),
    (ONLY_WE_REFUSE, "members are not sorted", NOT_COMPARED),
    (ONLY_WE_REFUSE, "no field expires when the hash says", NOT_COMPARED),
    (ONLY_WE_REFUSE, "a pending entry has two owners", NOT_COMPARED),
    (ONLY_WE_REFUSE, "score that is not a number", "the server reads as much of a number as there is"),
    (ONLY_WE_REFUSE, "database_size: ", "a hint for the server"),
    (ONLY_WE_REFUSE, "slot_size: ", "a hint for the server"),
    (ONLY_WE_REFUSE, "empty: ", "a server skips empty keys of a file"),
    (HARM, "unreadable: truncated", "it makes a table for as many as are claimed"),
];

pub const ONLY_WE_REFUSE: &str = "only we refuse";
pub const HARM: &str = "the server crashes or hangs";

const NOT_COMPARED: &str = "not compared by the server";
/// Decompression fails with 0 bytes, which is what was claimed.
const NO_BYTES: &str = "no bytes are claimed, and none are what an error gives, too";

/// Why verdicts of that class differ, where that is known.
pub fn why(who: &str, what: &str) -> Option<&'static str> {
    EXPLAINED.iter().find(|class| class.0 == who && what.contains(class.1)).map(|class| class.2)
}

/// What a server must not be asked about: Redis 7.0 and 7.4 free a pending entry twice while they refuse a stream in
/// which a consumer has it twice, and what they say of anything after that is worth nothing.
pub fn breaks(by: Server, finding: &str) -> bool {
    by.product == Product::Redis && by.rdb_version() <= 12 && finding.contains("pending entry has two owners")
}
