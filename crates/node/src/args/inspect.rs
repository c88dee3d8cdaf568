//! `inspect FILE`

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use replsync::clock::now_ms;
use replsync::inspect::{Filter, Glob, Options, TypeFilter};

const EXAMPLES: &str = "\
Examples:
  replsync-node inspect dump.rdb
  replsync-node inspect dump.rdb --html report.html
  replsync-node inspect dump.rdb --keys --match 'session:*' --type hash | head
  zstd -dc dump.rdb.zst | replsync-node inspect - --json

Exit codes: 0 read to its end · 1 the file is damaged; what was read before is shown and said to be incomplete
            2 wrong usage · 3 the file cannot be read, or what was asked cannot be written · 4 stopped by a signal";

/// Say what is in an RDB file
///
/// Its header; keys by type, encoding and database; the biggest keys and prefixes; when keys expire. Sizes are those in the
/// file: what a key takes in a server's memory is not in it. The file is read once, in bounded memory; values are counted,
/// not checked: `verify` does that.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// An RDB file; `-` is standard input
    pub file: PathBuf,
    /// Print each key as a JSON line instead of the summary
    #[arg(long)]
    pub keys: bool,
    /// Write the summary with charts as a web page, one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Look only at keys that this pattern chooses, as with KEYS: `*`, `?`, `[a-z]`, `[^a]`, `\x`
    #[arg(long = "match", value_name = "GLOB")]
    pub glob: Option<OsString>,
    /// Look only at this type: string, list, set, zset, hash, stream, array, module, or a module's own type; several with
    /// commas or again
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Look only at this database; several with commas or again
    #[arg(long = "db", value_name = "N", value_delimiter = ',')]
    pub databases: Vec<u32>,
    /// How many of the biggest are shown: keys by bytes, keys of each type by elements, prefixes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub top: u32,
    /// What ends a prefix
    #[arg(long, value_name = "TEXT", default_value = ":", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub delimiter: String,
    /// How many delimiters the longest prefix has; 0 for no prefixes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=16))]
    pub prefix_depth: u32,
    /// How many prefixes are counted at once, of each depth; when there are more, the smaller ones are given up and the
    /// figures say what they may lack
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(2..=16_777_216))]
    pub prefix_limit: u32,
}

impl Inspect {
    /// As the library wants it.
    pub fn options(&self) -> Options {
        // Without a summary nothing but the keys is wanted.
        let has_summary = !self.keys || self.html.is_some();
        Options {
            filter: Filter {
                glob: self.glob.as_ref().map(|glob| Glob::new(&glob.clone().into_vec())),
                types: self.types.iter().map(|name| TypeFilter::named(name)).collect(),
                databases: self.databases.clone(),
            },
            top: if has_summary { self.top as usize } else { 0 },
            delimiter: self.delimiter.clone().into_bytes(),
            prefix_depth: if has_summary { self.prefix_depth as usize } else { 0 },
            prefixes_max: self.prefix_limit as usize,
            now_ms: now_ms(),
        }
    }

    /// The filter in the words of the command line; nothing when every key passes.
    pub fn filter_text(&self) -> Option<String> {
        let mut words = Vec::new();
        words.extend(self.glob.as_ref().map(|glob| format!("--match {}", glob.to_string_lossy())));
        if !self.types.is_empty() {
            words.push(format!("--type {}", self.types.join(",")));
        }
        if !self.databases.is_empty() {
            let databases: Vec<String> = self.databases.iter().map(u32::to_string).collect();
            words.push(format!("--db {}", databases.join(",")));
        }
        (!words.is_empty()).then(|| words.join(" "))
    }
}
