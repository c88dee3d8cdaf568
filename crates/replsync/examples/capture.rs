//! An exact copy of a live server as an RDB, without a fork: `capture redis://host:port FILE`.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::File;

use replsync::capture::{AttachOptions, Options, Store, capture};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(path)) = (args.next(), args.next()) else {
        return Err("usage: capture redis://host:port FILE".into());
    };
    let options = Options::default();
    let store = Store::new(options.spool.clone());
    let how = AttachOptions::default();
    let (progress, _watch) = watch::channel(Default::default());
    let mut captured = capture(&url.parse()?, &how, options, store, progress).await?;
    let server = captured.source.server;
    let began = std::time::Instant::now();
    captured.output.write_rdb(File::create(&path)?, server, &[], &mut |_| {})?;
    println!("{:#?} written in {:?}", captured.report, began.elapsed());
    Ok(())
}
