//! What a capture costs the source in memory that counts under its `maxmemory`.

use crate::server::Server;

/// Replies in flight from a source that is full: it can still answer, but not much at a time.
pub(super) const IN_FLIGHT_MIN_BYTES: u64 = 16 * 1024;
/// Connections at a time, beside the one that looks how much is free and is there for everything beside: the link, one that
/// copies, and one for the pause; before that, two for priming.
const CONNECTIONS: u64 = 3;
/// What a connection takes: the client, and buffers of 16 KiB and 20 KiB for replies and requests. By `used_memory` of
/// Redis 7.4 and Valkey 9.
const CONNECTION_BYTES: u64 = 40 * 1024;
/// … and of Redis 6.2, where the one for requests has 32 KiB.
const CONNECTION_BYTES_BEFORE_7: u64 = 52 * 1024;
/// The stream that waits for us: from 7.0 on it is allocated in blocks of 16 KiB and more (`feedReplicationBuffer` in
/// `src/replication.c`).
const STREAM_BYTES: u64 = 2 * 20 * 1024;
/// From 7.0 on a server makes a histogram of each command that is called for the first time, and keeps it
/// (`updateCommandLatencyHistogram` in `src/server.c`; `latency-tracking`).
const HISTOGRAM_BYTES: u64 = 25 * 1024;
/// The commands of a capture, as `INFO latencystats` names them.
const COMMANDS: [&str; 31] = [
    "info",
    "config|get",
    "acl|dryrun",
    "replconf",
    "psync",
    "select",
    "publish",
    "command|info",
    "client|no-touch",
    "client|pause",
    "client|unpause",
    "scan",
    "type",
    "memory|usage",
    "getrange",
    "dump",
    "pexpiretime",
    "function|dump",
    "hscan",
    "sscan",
    "zscan",
    "lrange",
    "hmget",
    "smismember",
    "zmscore",
    "hpexpiretime",
    "xrange",
    "xpending",
    "xinfo|stream",
    "xinfo|groups",
    "xinfo|consumers",
];

/// How many of a capture's commands are new to a server that has answered INFO latencystats with this: it will make
/// histograms of them.
pub(super) fn new_commands(latencystats: &str) -> u64 {
    let has = |name: &str| latencystats.contains(&format!("latency_percentiles_usec_{name}:"));
    // INFO itself is there where anything is kept.
    if !has("info") {
        return 0;
    }
    COMMANDS.iter().filter(|name| !has(name)).count() as u64
}

/// What it takes at the most from a source that is full, and to which so many commands are new.
pub(super) fn needs_bytes(server: Server, new_commands: u64) -> u64 {
    let connection = match server.has((7, 0), None) {
        true => CONNECTION_BYTES,
        false => CONNECTION_BYTES_BEFORE_7,
    };
    CONNECTIONS * connection + STREAM_BYTES + 2 * IN_FLIGHT_MIN_BYTES + new_commands * HISTOGRAM_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_commands_are_those_without_a_histogram() {
        let line =
            |name: &str| format!("latency_percentiles_usec_{name}:p50=1.003,p99=5.023,p99.9=5.023\r\n");
        let all: String = COMMANDS.iter().map(|name| line(name)).collect();
        assert_eq!(new_commands(&all), 0);
        let other: String = ["info", "set", "xinfo|streams", "getrange"].map(line).concat();
        assert_eq!(new_commands(&other), COMMANDS.len() as u64 - 2);
        assert_eq!(new_commands("# Latencystats\r\n"), 0, "latency-tracking no");
    }

    #[test]
    fn a_source_that_knows_us_needs_no_more_than_a_quarter_of_a_mebibyte() {
        assert!(needs_bytes(Server::redis(7, 4), 0) <= 256 << 10);
        assert!(needs_bytes(Server::redis(6, 2), 0) > needs_bytes(Server::redis(7, 4), 0));
    }
}
