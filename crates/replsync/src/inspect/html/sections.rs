//! The sections of the page.

use std::fmt::Write;

use super::table::{Name, Table};
use super::{escape, time};
use crate::inspect::{
    BUCKETS, BigKey, Counts, Prefixes, RelativeTo, Summary, human_bytes, percent, printable, thousands,
};
use crate::rdb::DataType;

fn begin(html: &mut String, title: &str, note: &str) {
    let _ = writeln!(html, "<section>\n<h2>{}</h2>", escape(title));
    if !note.is_empty() {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
    }
}

fn end(html: &mut String) {
    html.push_str("</section>\n");
}

/// A name of a key or a prefix.
fn code(name: &[u8]) -> String {
    format!("<bdi><code>{}</code></bdi>", escape(&printable(name)))
}

fn key(key: &BigKey) -> String {
    match key.name_bytes > key.name.len() as u64 {
        true => format!("{}… <span class=\"note\">({} bytes)</span>", code(&key.name), key.name_bytes),
        false => code(&key.name),
    }
}

pub(super) fn types(html: &mut String, summary: &Summary) {
    begin(
        html,
        "What the bytes are",
        "Types of values and how they are encoded. Elements of strings are their bytes.",
    );
    let mut types = summary.types();
    types.sort_by_key(|(_, counts, _)| std::cmp::Reverse(counts.bytes));
    stacked(html, &types, summary.totals.bytes);
    let titles = ["Type and encoding", ">Keys", ">Bytes", "<Share", ">Elements", "<Most in one"];
    let mut table = Table::begin(html, "Types and encodings", &titles);
    for (name, counts, groups) in &types {
        table.sums();
        let class = groups[0].data_type.name();
        let cells = |counts: &Counts, most: u64| {
            let elements = |number: u64| match groups[0].data_type {
                DataType::Module => "–".to_owned(),
                _ => thousands(number),
            };
            let share = percent(counts.bytes, summary.totals.bytes);
            let bytes = human_bytes(counts.bytes);
            [thousands(counts.keys), bytes, share, elements(counts.elements), elements(most)]
        };
        let most = groups.iter().map(|group| group.elements_max).max().unwrap_or(0);
        // One encoding needs no sum.
        let only = match groups {
            [group] if group.encoding != name => {
                format!(" <span class=\"note\">{}</span>", escape(group.encoding))
            }
            _ => String::new(),
        };
        let html = format!("<span class=\"dot {class}\"></span>{}{only}", escape(name));
        table.row(&Name { html, class, bar: None }, &cells(counts, most));
        for group in groups.iter().filter(|_| groups.len() > 1) {
            let name = Name { html: escape(group.encoding), class, bar: None };
            table.row(&name, &cells(&group.counts, group.elements_max));
        }
    }
    table.end();
    end(html);
}

/// One bar of all types; the list below it and the table say the same.
fn stacked(html: &mut String, types: &[(String, Counts, &[crate::inspect::Group])], whole: u64) {
    html.push_str(
        "<svg class=\"chart\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"Bytes by type: ",
    );
    let shares = types.iter().map(|(name, counts, _)| format!("{name} {}", percent(counts.bytes, whole)));
    html.push_str(&escape(&shares.collect::<Vec<_>>().join(", ")));
    html.push_str("\">\n");
    let mut x = 0.0;
    for (_, counts, groups) in types {
        let width = counts.bytes as f64 * 1000.0 / whole.max(1) as f64;
        let class = groups[0].data_type.name();
        // A hair of the background between two types.
        let shown = (width - 2.0).max(width.min(1.0));
        let _ = writeln!(
            html,
            "<rect class=\"{class}\" x=\"{x:.2}\" width=\"{shown:.2}\" height=\"10\" fill=\"currentColor\"/>"
        );
        x += width;
    }
    html.push_str("</svg>\n<ul class=\"legend\">\n");
    for (name, counts, groups) in types {
        let class = groups[0].data_type.name();
        let share = percent(counts.bytes, whole);
        let _ = writeln!(html, "<li><span class=\"dot {class}\"></span>{} <b>{share}</b></li>", escape(name));
    }
    html.push_str("</ul>\n");
}

pub(super) fn databases(html: &mut String, summary: &Summary) {
    begin(html, "Databases", "");
    let titles = ["Database", ">Keys", ">With an expiry", ">Bytes", "<Share"];
    let mut table = Table::begin(html, "Databases", &titles);
    let longest = summary.databases.values().map(|database| database.counts.bytes).max().unwrap_or(0);
    let mut row = |name: String, counts: &Counts| {
        let share = percent(counts.bytes, summary.totals.bytes);
        let cells = [thousands(counts.keys), thousands(counts.expires), human_bytes(counts.bytes), share];
        table.row(&Name { html: name, class: "plain", bar: Some((counts.bytes, longest)) }, &cells);
    };
    for (db, database) in &summary.databases {
        let types = database.types.iter().map(|(name, counts)| format!("{} {name}", thousands(counts.keys)));
        let types = types.collect::<Vec<_>>().join(", ");
        row(format!("{db} <span class=\"note\">{}</span>", escape(&types)), &database.counts);
    }
    if summary.databases_beyond.keys > 0 {
        row("all others".to_owned(), &summary.databases_beyond);
    }
    table.end();
    end(html);
}

pub(super) fn expiries(html: &mut String, summary: &Summary) {
    let ttls = &summary.ttls;
    let from = match ttls.relative_to {
        RelativeTo::FileTime => {
            format!("Time left when the file was written, {}.", time(ttls.relative_to_ms))
        }
        RelativeTo::Now => format!(
            "Time left at {}, when this page was made: the file does not say when it was written.",
            time(ttls.relative_to_ms)
        ),
    };
    let fields = match summary.field_expiries {
        0 => String::new(),
        fields => format!(" Besides, fields of hashes with an expiry of their own: {}.", thousands(fields)),
    };
    begin(html, "When keys expire", &(from + &fields));
    let mut table =
        Table::begin(html, "Keys by time left", &["Time left", ">Keys", "<Share of keys", ">Bytes"]);
    let longest = ttls.buckets.iter().map(|counts| counts.keys).max().unwrap_or(0);
    for (bucket, counts) in BUCKETS.iter().zip(&ttls.buckets) {
        let bar = Some((counts.keys, longest));
        let share = percent(counts.keys, summary.totals.keys);
        let class = if bucket.name == "expired" { "hash" } else { "plain" };
        table.row(
            &Name { html: escape(bucket.label), class, bar },
            &[thousands(counts.keys), share, human_bytes(counts.bytes)],
        );
    }
    table.end();
    end(html);
}

pub(super) fn by_bytes(html: &mut String, summary: &Summary) {
    if summary.biggest_by_bytes.is_empty() {
        return;
    }
    begin(html, "Biggest keys by bytes", "");
    let titles = ["Key", ">Bytes", "<Share", ">Elements", "Type", "Encoding", ">DB"];
    let mut table = Table::begin(html, "Biggest keys by bytes", &titles);
    let longest = summary.biggest_by_bytes.first().map_or(0, |key| key.bytes);
    for big in &summary.biggest_by_bytes {
        let (class, bar) = (big.data_type.name(), Some((big.bytes, longest)));
        let elements = big.elements.map_or("–".to_owned(), thousands);
        let cells = [
            human_bytes(big.bytes),
            percent(big.bytes, summary.totals.bytes),
            elements,
            big.type_name(),
            big.encoding.to_owned(),
            big.db.to_string(),
        ];
        table.row(&Name { html: key(big), class, bar }, &cells);
    }
    table.end();
    end(html);
}

pub(super) fn by_elements(html: &mut String, summary: &Summary) {
    if summary.biggest_by_elements.iter().all(|(_, keys)| keys.is_empty()) {
        return;
    }
    begin(html, "Biggest keys of each type by elements", "Strings by their length, decompressed.");
    html.push_str("<div class=\"pair\">\n");
    for (data_type, keys) in &summary.biggest_by_elements {
        let class = data_type.name();
        let _ = writeln!(html, "<div>\n<h3><span class=\"dot {class}\"></span>{class}</h3>");
        let title = if *data_type == DataType::String { ">Length" } else { ">Elements" };
        let caption = format!("Biggest keys of type {class}");
        let mut table = Table::begin(html, &caption, &["Key", title, ">Bytes", ">DB"]);
        let longest = keys.first().and_then(|key| key.elements).unwrap_or(0);
        for big in keys {
            let elements = big.elements.unwrap_or(0);
            let cells = [thousands(elements), human_bytes(big.bytes), big.db.to_string()];
            table.row(&Name { html: key(big), class, bar: Some((elements, longest)) }, &cells);
        }
        table.end();
        html.push_str("</div>\n");
    }
    html.push_str("</div>\n");
    end(html);
}

pub(super) fn prefixes(html: &mut String, summary: &Summary) {
    let prefixes = &summary.prefixes;
    if prefixes.depth == 0 || (prefixes.biggest.is_empty() && prefixes.without.keys == 0) {
        return;
    }
    let delimiter = String::from_utf8_lossy(&prefixes.delimiter);
    let all = match prefixes.distinct {
        Some(distinct) => format!("{} in all.", thousands(distinct)),
        None => "Approximate: not all could be counted; ≥ marks what may be more.".to_owned(),
    };
    let too_long = match prefixes.too_long_keys {
        0 => String::new(),
        keys => format!(
            " Longer ones than {} bytes are not counted; keys that have them: {}.",
            Prefixes::PREFIX_BYTES_MAX,
            thousands(keys)
        ),
    };
    let note = format!(
        "Up to {} of {delimiter:?}. {all}{too_long} None that is missing here has more than {}. Keys without one: {}, {}.",
        if prefixes.depth == 1 { "1 delimiter".to_owned() } else { format!("{} delimiters", prefixes.depth) },
        human_bytes(prefixes.unlisted_bytes_max),
        thousands(prefixes.without.keys),
        human_bytes(prefixes.without.bytes),
    );
    begin(html, "Biggest prefixes", &note);
    let mut table =
        Table::begin(html, "Biggest prefixes", &["Prefix", ">Bytes", "<Share", ">Keys", "<Bytes a key"]);
    let longest = prefixes.biggest.first().map_or(0, |prefix| prefix.bytes);
    for prefix in &prefixes.biggest {
        let least = |missed: u64| if missed > 0 { "≥ " } else { "" };
        let cells = [
            format!("{}{}", least(prefix.missed_bytes_max), human_bytes(prefix.bytes)),
            percent(prefix.bytes, summary.totals.bytes),
            format!("{}{}", least(prefix.missed_keys_max), thousands(prefix.keys)),
            human_bytes(prefix.bytes / prefix.keys.max(1)),
        ];
        let bar = Some((prefix.bytes, longest));
        table.row(&Name { html: code(&prefix.prefix), class: "plain", bar }, &cells);
    }
    table.end();
    end(html);
}

pub(super) fn facts(html: &mut String, summary: &Summary) {
    let facts = &summary.facts;
    begin(html, "What the file says of itself", "");
    html.push_str("<dl class=\"facts\">\n");
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    };
    if let Some((magic, version)) = facts.header {
        fact("header", &format!("{}, RDB version {version}", magic.as_str()));
    }
    for (name, value) in &facts.aux {
        let (name, text) = (printable(name), printable(value));
        let said = match (name.as_str(), facts.number(&name)) {
            ("used-mem", Some(bytes)) => {
                format!("{text} ({}, of the server when it wrote this)", human_bytes(bytes))
            }
            ("ctime", Some(seconds)) => format!("{text} ({})", time(seconds.saturating_mul(1000))),
            _ => text,
        };
        fact(&name, &said);
    }
    if facts.functions > 0 {
        fact("functions", &format!("{}: {}", thousands(facts.functions), facts.function_names.join(", ")));
    }
    if facts.scripts > 0 {
        fact("Lua scripts", &thousands(facts.scripts));
    }
    for (name, module) in &facts.modules {
        let (keys, aux) = (thousands(module.keys), human_bytes(module.aux_bytes));
        fact(&format!("module {name}"), &format!("keys: {keys}; outside keys: {aux}"));
    }
    if facts.slots > 0 {
        fact("cluster", &format!("sizes of {} slots", thousands(facts.slots)));
    }
    html.push_str("</dl>\n");
    end(html);
}
