//! The summary as a web page: one file, no script, nothing fetched, light and dark.
//!
//! Every chart is drawn beside a table that has its figures as text. Names of keys are made printable, then escaped;
//! and the page's own policy forbids scripts and anything from outside, should an escape ever be forgotten.

mod sections;
mod table;

use std::fmt::Write;

use super::{Summary, human_bytes, percent, thousands, utc};
use crate::rdb::Checksum;

/// Escapes text for HTML, within elements and within quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The page, titled with the file's name. `filter` is what chose the keys, in words for people.
pub fn page(title: &str, filter: Option<&str>, summary: &Summary) -> String {
    let title = escape(&super::printable(title.as_bytes()));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · RDB</title>\n<style>\n{}</style>\n\
         </head>\n<body>\n<main>\n",
        include_str!("style.css")
    );
    head(&mut html, &title, filter, summary);
    tiles(&mut html, summary);
    if summary.totals.keys > 0 {
        sections::types(&mut html, summary);
        sections::expiries(&mut html, summary);
        sections::by_bytes(&mut html, summary);
        sections::prefixes(&mut html, summary);
        sections::by_elements(&mut html, summary);
        sections::databases(&mut html, summary);
    }
    sections::facts(&mut html, summary);
    html.push_str(
        "<footer>Sizes are bytes in the file, compressed where it is compressed: opcodes, name and value. What a key takes \
         in a server's memory is not in the file. Made by replsync-node inspect.</footer>\n</main>\n</body>\n</html>\n",
    );
    html
}

fn head(html: &mut String, title: &str, filter: Option<&str>, summary: &Summary) {
    let facts = &summary.facts;
    let mut words = Vec::new();
    words.extend(facts.server().map(|(product, version)| match product {
        "valkey" => format!("Valkey {version}"),
        _ => format!("Redis {version}"),
    }));
    words.extend(facts.header.map(|(_, version)| format!("RDB version {version}")));
    words.extend(facts.written_at_ms().map(|at| format!("written {}", time(at))));
    let _ = write!(html, "<header>\n<h1>{title}</h1>\n<p class=\"sub\">{}</p>\n", escape(&words.join(" · ")));
    if !summary.is_complete {
        let _ = writeln!(
            html,
            "<p class=\"warn\" role=\"alert\"><strong>Incomplete.</strong> Reading stopped at byte {}: this page is only \
             about what stands before it.</p>",
            thousands(summary.bytes)
        );
    }
    if let Some(filter) = filter {
        let _ = writeln!(
            html,
            "<p class=\"warn\"><strong>A part of the file:</strong> <code>{}</code> leaves out {} keys.</p>",
            escape(&super::printable(filter.as_bytes())),
            thousands(summary.keys_left_out)
        );
    }
    html.push_str("</header>\n");
}

fn tiles(html: &mut String, summary: &Summary) {
    let totals = &summary.totals;
    let databases = summary.databases.len();
    let plural = if databases == 1 { "database" } else { "databases" };
    let checksum = match summary.facts.checksum {
        Some(Checksum::Verified) => ("verified", "CRC-64 of the whole file"),
        Some(_) => ("none", "the file has no CRC-64"),
        None => ("not reached", "the end was not read"),
    };
    let tiles: [(&str, String, String); 4] = [
        ("Keys", thousands(totals.keys), format!("in {databases} {plural}")),
        (
            "In the file",
            human_bytes(summary.bytes),
            format!("{} of it keys and values", human_bytes(totals.bytes)),
        ),
        ("With an expiry", thousands(totals.expires), percent(totals.expires, totals.keys) + " of the keys"),
        ("Checksum", checksum.0.to_owned(), checksum.1.to_owned()),
    ];
    html.push_str("<dl class=\"tiles\">\n");
    for (name, value, note) in tiles {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>");
    }
    html.push_str("</dl>\n");
}

fn time(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Inspector, Options};
    use crate::rdb::{Reader, Slice};

    fn page_of(keys: &[&[u8]]) -> String {
        let mut file = b"REDIS0009\xfe\x00".to_vec();
        for key in keys {
            file.extend([0, key.len() as u8]);
            file.extend(*key);
            file.extend(b"\x01x");
        }
        file.extend(b"\xff\0\0\0\0\0\0\0\0");
        let mut inspector = Inspector::new(Reader::new(Slice::new(&file)), Options::default());
        while inspector.next_key().unwrap().is_some() {}
        page("<b>&.rdb", Some("--match '<i>'"), &inspector.into_summary())
    }

    /// Of what a key's name may try, nothing arrives: the tags of a page are the same whatever the names are.
    #[test]
    fn names_stay_names() {
        let tags = |html: &str| -> Vec<String> {
            html.split('<').skip(1).map(|tag| tag.split_once('>').unwrap().0.to_owned()).collect()
        };
        for hostile in [
            &b"</script><script>alert(1)</script>:"[..],
            b"\"><img src=x onerror=alert(1)>:",
            b"' onmouseover='alert(1)':",
            b"<!--:",
            b"&lt;script&gt;&#60;:",
            b"]]>:",
            b"</style></main>\0\xff\x1b[31m:",
        ] {
            let html = page_of(&[hostile, b"bbbbbb:"]);
            // as long, so that the bars are, too
            let plain = page_of(&[&[&vec![b'a'; hostile.len() - 1][..], b":"].concat(), b"bbbbbb:"]);
            assert!(tags(&html) == tags(&plain), "{}", hostile.escape_ascii());
            assert!(!html.contains("<script") && !html.contains("<img"));
        }
        assert!(page_of(&[b"</script><script>x</script>"]).contains("&lt;/script&gt;&lt;script&gt;x"));
    }

    #[test]
    fn nothing_is_fetched_or_run() {
        let html = page_of(&[b"a:b", b"c"]);
        for word in ["http://", "https://", "<script", "<link", "<img", "url(", "@import", "javascript:"] {
            assert!(!html.contains(word), "{word}");
        }
        assert!(html.contains("default-src 'none'") && html.contains("&lt;b&gt;&amp;.rdb"));
    }
}
