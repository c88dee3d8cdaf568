//! The summary for people.

use std::fmt::Write;

use replsync::inspect::{
    BUCKETS, BigKey, Facts, Prefixes, RelativeTo, Summary, human_bytes, percent, printable, thousands, utc,
};
use replsync::rdb::Checksum;

use super::Seen;
use crate::args::Inspect;
use crate::output::{self, counted};
use crate::stderr;

/// Longer names are cut in tables.
const NAME_CHARS: usize = 60;

pub fn text(args: &Inspect, seen: &Seen) -> String {
    let summary = &seen.summary;
    let mut text = String::new();
    if let Some(error) = &seen.error {
        let _ = match summary.is_complete {
            false => writeln!(
                text,
                "INCOMPLETE: reading stopped at byte {}. What follows is only what stands before it.",
                error.offset
            ),
            true => writeln!(text, "NOT TO BE RELIED ON: the file was changed while it was read."),
        };
        let _ = writeln!(text, "{}\n", stderr::harmless(&error.message));
    }
    header(&mut text, args, seen);
    if summary.totals.keys > 0 {
        types(&mut text, summary);
        databases(&mut text, summary);
        ttls(&mut text, summary);
        by_bytes(&mut text, summary);
        by_elements(&mut text, summary);
        prefixes(&mut text, summary);
    }
    text
}

fn header(text: &mut String, args: &Inspect, seen: &Seen) {
    let summary = &seen.summary;
    let facts = &summary.facts;
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    fact("file", format!("{}, {}", output::path(&args.file), size(seen)));
    fact("written by", written_by(facts));
    if let Some(at) = facts.written_at_ms() {
        fact("written at", utc(i64::try_from(at).unwrap_or(i64::MAX)));
    }
    if let Some(bytes) = facts.number("used-mem") {
        fact("used memory", format!("{}, of the server when it wrote this", human_bytes(bytes)));
    }
    if let (Some(id), Some(offset)) = (facts.aux("repl-id"), facts.number("repl-offset")) {
        fact("replication", format!("{}, offset {offset}", printable(id)));
    }
    fact(
        "checksum",
        match facts.checksum {
            Some(Checksum::Verified) => "CRC-64, fits",
            Some(_) => "none in the file",
            None => "not reached",
        }
        .to_owned(),
    );
    if facts.functions > 0 {
        let names = facts.function_names.join(", ");
        fact("functions", format!("{}: {names}", counted(facts.functions, "library", "libraries")));
    }
    if facts.scripts > 0 {
        fact("scripts", counted(facts.scripts, "Lua script", "Lua scripts"));
    }
    for (name, module) in &facts.modules {
        let keys = counted(module.keys, "key", "keys");
        let aux = match module.aux_bytes {
            0 => String::new(),
            bytes => format!(", {} outside keys", human_bytes(bytes)),
        };
        fact("module", format!("{name}: {keys}{aux}"));
    }
    if let Some(filter) = args.filter_text() {
        let left_out = counted(summary.keys_left_out, "key", "keys");
        fact("filter", format!("{}; {left_out} left out", printable(filter.as_bytes())));
    }
    let databases = summary.databases.len() as u64;
    let totals = &summary.totals;
    fact(
        "keys",
        format!(
            "{} in {}, {} with an expiry, {}",
            thousands(totals.keys),
            counted(databases, "database", "databases"),
            thousands(totals.expires),
            human_bytes(totals.bytes)
        ),
    );
    if summary.field_expiries > 0 {
        fact("", counted(summary.field_expiries, "hash field with an expiry", "hash fields with an expiry"));
    }
}

fn size(seen: &Seen) -> String {
    let read = seen.summary.bytes;
    match seen.file_bytes {
        Some(bytes) if seen.error.is_none() && bytes > read => {
            let more = counted(bytes - read, "byte", "bytes");
            format!("{}, and {more} behind the end of the RDB", human_bytes(read))
        }
        Some(bytes) => human_bytes(bytes),
        None => human_bytes(read),
    }
}

fn written_by(facts: &Facts) -> String {
    let server = match facts.server() {
        Some(("valkey", version)) => format!("Valkey {version}"),
        Some((_, version)) => format!("Redis {version}"),
        None => "a server that does not say its version".to_owned(),
    };
    match facts.header {
        Some((magic, version)) => format!("{server}, RDB version {version} ({})", magic.as_str()),
        None => server,
    }
}

fn types(text: &mut String, summary: &Summary) {
    let mut table = Table::new(&["<TYPE", "<ENCODING", ">KEYS", ">ELEMENTS", ">MOST", ">BYTES", ">SHARE"]);
    for (name, counts, groups) in summary.types() {
        for (index, group) in groups.iter().enumerate() {
            let type_name = if index == 0 { name.clone() } else { String::new() };
            let has_elements = group.module.is_none() && group.encoding != "module";
            let elements = |number: u64| if has_elements { thousands(number) } else { String::new() };
            table.row(vec![
                type_name,
                group.encoding.to_owned(),
                thousands(group.counts.keys),
                elements(group.counts.elements),
                elements(group.elements_max),
                human_bytes(group.counts.bytes),
                percent(group.counts.bytes, summary.totals.bytes),
            ]);
        }
        if groups.len() > 1 {
            let most = groups.iter().map(|group| group.elements_max).max().unwrap_or(0);
            table.row(vec![
                String::new(),
                "all".to_owned(),
                thousands(counts.keys),
                thousands(counts.elements),
                thousands(most),
                human_bytes(counts.bytes),
                percent(counts.bytes, summary.totals.bytes),
            ]);
        }
    }
    section(text, "Types and encodings", "elements of strings are their bytes", table);
}

fn databases(text: &mut String, summary: &Summary) {
    let mut table = Table::new(&[">DB", ">KEYS", ">EXPIRING", ">BYTES", ">SHARE", "<TYPES"]);
    let mut row = |name: String, counts: &replsync::inspect::Counts, types: String| {
        table.row(vec![
            name,
            thousands(counts.keys),
            thousands(counts.expires),
            human_bytes(counts.bytes),
            percent(counts.bytes, summary.totals.bytes),
            types,
        ]);
    };
    for (db, database) in &summary.databases {
        let types = database.types.iter().map(|(name, counts)| format!("{name} {}", thousands(counts.keys)));
        row(db.to_string(), &database.counts, types.collect::<Vec<_>>().join(", "));
    }
    if summary.databases_beyond.keys > 0 {
        row("others".to_owned(), &summary.databases_beyond, String::new());
    }
    section(text, "Databases", "", table);
}

fn ttls(text: &mut String, summary: &Summary) {
    let ttls = &summary.ttls;
    let mut table = Table::new(&["<TIME LEFT", ">KEYS", ">SHARE", ">BYTES"]);
    for (bucket, counts) in BUCKETS.iter().zip(&ttls.buckets) {
        table.row(vec![
            bucket.label.to_owned(),
            thousands(counts.keys),
            percent(counts.keys, summary.totals.keys),
            human_bytes(counts.bytes),
        ]);
    }
    let at = utc(i64::try_from(ttls.relative_to_ms).unwrap_or(i64::MAX));
    let note = match ttls.relative_to {
        RelativeTo::FileTime => format!("from when the file was written, {at}"),
        RelativeTo::Now => format!("from now, {at}: the file does not say when it was written"),
    };
    section(text, "Expiries", &note, table);
}

fn by_bytes(text: &mut String, summary: &Summary) {
    let mut table = Table::new(&[">BYTES", ">ELEMENTS", ">DB", "<TYPE", "<ENCODING", "<KEY"]);
    for key in &summary.biggest_by_bytes {
        table.row(vec![
            human_bytes(key.bytes),
            key.elements.map(thousands).unwrap_or_default(),
            key.db.to_string(),
            key.type_name(),
            key.encoding.to_owned(),
            name(key),
        ]);
    }
    section(text, "Biggest keys by bytes in the file", "", table);
}

fn by_elements(text: &mut String, summary: &Summary) {
    let mut table = Table::new(&["<TYPE", ">ELEMENTS", ">BYTES", ">DB", "<ENCODING", "<KEY"]);
    for (data_type, keys) in &summary.biggest_by_elements {
        for (index, key) in keys.iter().enumerate() {
            table.row(vec![
                if index == 0 { data_type.name().to_owned() } else { String::new() },
                key.elements.map(thousands).unwrap_or_default(),
                human_bytes(key.bytes),
                key.db.to_string(),
                key.encoding.to_owned(),
                name(key),
            ]);
        }
    }
    section(text, "Biggest keys of each type by elements", "of strings by their length", table);
}

fn prefixes(text: &mut String, summary: &Summary) {
    let prefixes = &summary.prefixes;
    if prefixes.depth == 0 {
        return;
    }
    let mut table = Table::new(&[">BYTES", ">SHARE", ">KEYS", "<PREFIX"]);
    for prefix in &prefixes.biggest {
        let more = |missed: u64| if missed > 0 { "+" } else { "" };
        table.row(vec![
            format!("{}{}", human_bytes(prefix.bytes), more(prefix.missed_bytes_max)),
            percent(prefix.bytes, summary.totals.bytes),
            format!("{}{}", thousands(prefix.keys), more(prefix.missed_keys_max)),
            cut(&printable(&prefix.prefix)),
        ]);
    }
    let without = format!("{} without one", counted(prefixes.without.keys, "key", "keys"));
    let all = match prefixes.distinct {
        Some(distinct) => format!("{} in all", thousands(distinct)),
        None => "APPROXIMATE, not all could be counted; + marks a lower bound".to_owned(),
    };
    let too_long = match prefixes.too_long_keys {
        0 => String::new(),
        keys => format!(
            "; longer ones than {} bytes, of {}, are not counted",
            Prefixes::PREFIX_BYTES_MAX,
            counted(keys, "key", "keys")
        ),
    };
    let note = format!(
        "up to {} of {:?}; {all}{too_long}; {without}; none that is missing here has more than {}",
        counted(prefixes.depth as u64, "delimiter", "delimiters"),
        String::from_utf8_lossy(&prefixes.delimiter),
        human_bytes(prefixes.unlisted_bytes_max)
    );
    section(text, "Biggest prefixes", &note, table);
}

fn name(key: &BigKey) -> String {
    let text = cut(&printable(&key.name));
    match key.name_bytes > key.name.len() as u64 {
        true => format!("{text} ({} bytes)", thousands(key.name_bytes)),
        false => text,
    }
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn section(text: &mut String, title: &str, note: &str, table: Table) {
    if table.rows.is_empty() {
        return;
    }
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    let _ = writeln!(text, "\n{title}{note}");
    table.write(text);
}

/// Columns as wide as what is in them.
struct Table {
    /// Whether a column is set flush right, and its title.
    columns: Vec<(bool, &'static str)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// `<` before a title sets its column flush left, `>` flush right.
    fn new(titles: &[&'static str]) -> Self {
        let columns = titles.iter().map(|title| (title.starts_with('>'), &title[1..]));
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn write(&self, text: &mut String) {
        let width = |index: usize, title: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(title.len())
        };
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(index, (_, title))| width(index, title)).collect();
        let titles: Vec<String> = self.columns.iter().map(|(_, title)| (*title).to_owned()).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (is_right, _)) in row.iter().zip(&widths).zip(&self.columns) {
                let _ = match is_right {
                    true => write!(line, "  {cell:>width$}"),
                    false => write!(line, "  {cell:<width$}"),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
}
