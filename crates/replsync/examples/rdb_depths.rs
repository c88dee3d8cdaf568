//! Reads an RDB file at each depth, and says how long that took.
//!
//! ```sh
//! cargo run --release --example rdb_depths -- dump.rdb
//! ```
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use replsync::digest::replsync_1::{KeyHasher, Sum};
use replsync::files::RdbFile;
use replsync::rdb::{Checker, Error, Item, Limits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("the path of an RDB file is missing")?;
    let wanted = std::env::args().nth(2);
    let file = RdbFile::open(Path::new(&path))?;
    let (mut checker, mut hasher) = (Checker::default(), KeyHasher::new());
    for depth in ["boundaries", "structure", "values"] {
        if wanted.as_ref().is_some_and(|wanted| wanted != depth) {
            continue;
        }
        let start = Instant::now();
        let (mut keys, mut elements, mut findings) = (0u64, 0u64, 0u64);
        let mut digest = Sum::default();
        let mut reader = file.reader(Limits::default());
        while let Some(item) = reader.next_item()? {
            let Item::Entry(entry) = item else { continue };
            keys += 1;
            match depth {
                "structure" => {
                    let checked = reader.check_value(&mut checker, &mut |finding| println!("{finding:?}"))?;
                    elements += checked.elements;
                    findings += checked.findings;
                }
                "values" => {
                    hasher.start(reader.key(), entry.expiry_ms);
                    reader.decode_value(&mut |_, element| {
                        elements += 1;
                        hasher.element(&element);
                        Ok::<_, Error>(())
                    })?;
                    digest += hasher.finish(entry.kind.data_type()).data;
                }
                _ => {}
            }
        }
        let (seconds, megabytes) = (start.elapsed().as_secs_f64(), reader.offset() as f64 / 1e6);
        println!(
            "{depth:10} {seconds:6.3} s {:6.0} MB/s, {keys} keys, {elements} elements, {findings} findings, {:032x}",
            megabytes / seconds,
            digest.0
        );
    }
    Ok(())
}
