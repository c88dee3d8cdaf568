//! `bench-reader HOW FILE`: reads an RDB file in one way and prints how many keys it found; `bench-files` takes the
//! time. A process for each, so that its memory is its own.
//!
//! HOW: `plain` (read to the end, nothing else), `rdb` and `librdb` (the crates of these names, values decoded into
//! nothing), `boundaries` (replsync: items and the file's CRC).

use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use librdb::{KeyInfo, Parser, RdbHandlers};
use replsync::files::RdbFile;
use replsync::rdb::{Checksum, Item, Limits};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [how, path] = &args[..] else { bail!("usage: bench-reader plain|rdb|librdb|boundaries FILE") };
    let path = Path::new(path);
    let keys = match &how[..] {
        "plain" => plain(path)?,
        "rdb" => rdb_crate(path)?,
        "librdb" => librdb_crate(path)?,
        "boundaries" => boundaries(path)?,
        _ => bail!("{how}: nothing that it could be read with"),
    };
    println!("{keys}");
    Ok(())
}

/// The whole file in reads of 128 KiB, as the others read it.
fn plain(path: &Path) -> Result<u64> {
    let (mut file, mut buffer) = (File::open(path)?, vec![0; 128 * 1024]);
    while file.read(&mut buffer)? > 0 {
        black_box(&buffer);
    }
    Ok(0)
}

fn boundaries(path: &Path) -> Result<u64> {
    let file = RdbFile::open(path)?;
    let mut reader = file.reader(Limits::default());
    let (mut keys, mut sum) = (0, None);
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Entry(_) => keys += 1,
            Item::End { checksum } => sum = Some(checksum),
            _ => {}
        }
    }
    ensure!(sum == Some(Checksum::Verified), "the checksum was not verified");
    Ok(keys)
}

/// Checks no CRC; what it does not know (streams, functions) it skips.
fn rdb_crate(path: &Path) -> Result<u64> {
    let file = BufReader::with_capacity(128 * 1024, File::open(path)?);
    let decoder = rdb::RdbDecoder::new(file, rdb::Simple::new()).context("the header")?;
    let mut values = 0;
    for value in decoder {
        black_box(value.context("a value")?);
        values += 1;
    }
    Ok(values)
}

/// Counts keys. The crate's other callbacks do nothing, but the values come to them.
struct Count(u64);

impl RdbHandlers for Count {
    fn handle_new_key(&mut self, _: &[u8], _: &KeyInfo) -> librdb::Result<()> {
        self.0 += 1;
        Ok(())
    }
}

/// Verifies the CRC, as it does unless told otherwise.
fn librdb_crate(path: &Path) -> Result<u64> {
    let mut parser = Parser::new(Count(0)).context("a parser")?;
    parser.parse_fd(File::open(path)?.into()).context("the file")?;
    Ok(parser.into_handler().0)
}
