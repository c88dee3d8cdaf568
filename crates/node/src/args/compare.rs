//! Arguments of `compare`.

use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  replsync-node compare monday.rdb tuesday.rdb
  replsync-node compare redis-6.2.rdb redis-8.6.rdb --json | jq -r 'select(.kind).key'

Exit codes: 0 the same · 1 they differ · 2 wrong usage · 3 a file cannot be read
            4 stopped by a signal · 5 they could not be compared: a file is corrupt, or was
            written to meanwhile (standard error says which, where and why)";

/// Say which keys of two RDB files differ, and in what
///
/// The files may be of any versions, of Redis and of Valkey. What clients see is compared: the encoding of a value, the
/// order of keys in the file and of members in a set do not count. Expiries of keys and of hash fields count to the
/// millisecond; a key whose expiry has passed is a key like any other, since it is in the file. Of streams count entries,
/// the last id, groups with their last id, and pending entries with their consumer; delivery times and counts, consumers
/// with nothing pending, entries-added and entries-read do not, since versions differ in them. What modules keep outside
/// the keyspace is not compared.
///
/// Both files are read at the same time, first whole to be summed, then again as often as it takes to find what differs.
/// Memory is bounded whatever their size: --memory, and some 20 MiB, and twice the largest string or packed collection;
/// and for elements of a key that are named (--elements), up to 4 MiB each where names and values are so long.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    /// An RDB file
    pub a: PathBuf,
    /// Another RDB file
    pub b: PathBuf,
    /// What may be held of keys and elements that may differ, such as 64MiB; more makes fewer passes over the files
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    pub memory: u64,
    /// Name so many differing keys at most, and count the rest [default: 1000; all with --json]
    #[arg(long, value_name = "COUNT")]
    pub keys: Option<u64>,
    /// Name so many differing elements of a key at most, and count the rest
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub elements: usize,
}

/// Bytes, with or without a unit: `1048576`, `64KiB`, `256MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err("a size, such as 64MiB or 1GiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a size, such as 64MiB or 1GiB".to_owned())?;
    Ok(number.saturating_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let sizes = ["12", "64KiB", "256MiB", "2GiB"].map(size);
        assert_eq!(sizes, [Ok(12), Ok(64 << 10), Ok(256 << 20), Ok(2 << 30)]);
        assert!(size("MiB").is_err() && size("1TB").is_err() && size("-1").is_err() && size("").is_err());
    }
}
