//! What benchmarks move: the same at every run, but for expiries, which count from now.

use anyhow::{Result, ensure};
use fastrand::Rng;

use crate::client::Batch;
use crate::fill::fill;
use crate::server::TestServer;
use crate::settle::expire;

/// Where all of it comes from.
pub const SEED: u64 = 1;
/// Keys of the small set.
const SMALL_KEYS: u32 = 2_000_000;
/// Keys of the mixed set: about 500 MB of a server's memory (`used_memory` of Redis 7.4).
const MIXED_KEYS: u32 = 265_000;
/// Keys a command.
const MSET_KEYS: u32 = 1_000;

/// A data set of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSet {
    /// Two million strings of 16 to 32 bytes, without expiry, in one database.
    Small,
    /// Every type and encoding, small and large, over three databases; 15 % expire, an hour or more from now, and so
    /// do fields of hashes where the version has that.
    Mixed,
}

impl DataSet {
    /// As it is called in the output.
    pub fn name(self) -> &'static str {
        match self {
            DataSet::Small => "small strings",
            DataSet::Mixed => "mixed keys",
        }
    }

    /// How many times as long as native replication it may take.
    pub fn native_aim(self) -> f64 {
        match self {
            DataSet::Small => 1.3,
            DataSet::Mixed => 2.0,
        }
    }

    /// Fills an empty server.
    pub fn fill(self, server: &TestServer, percent: u32) -> Result<()> {
        match self {
            DataSet::Small => small(server, SMALL_KEYS / 100 * percent),
            DataSet::Mixed => {
                fill(&server.url(), MIXED_KEYS / 100 * percent, SEED)?;
                // The few brief keys in it go before anything is measured.
                expire(&server.url())
            }
        }
    }
}

fn small(server: &TestServer, keys: u32) -> Result<()> {
    let (mut rng, mut conn) = (Rng::with_seed(SEED), server.client(0));
    for first in (0..keys).step_by(MSET_KEYS as usize) {
        let mut mset = vec!["MSET".to_owned()];
        for number in first..(first + MSET_KEYS).min(keys) {
            mset.push(format!("key:{number:07}"));
            let len = rng.usize(16..=32);
            mset.push((0..len).map(|_| rng.alphanumeric()).collect());
        }
        let mut batch = Batch::default();
        batch.add(&mset);
        conn.send_all(batch)?;
    }
    ensure!(conn.keys()? == u64::from(keys), "the source was not empty");
    Ok(())
}
