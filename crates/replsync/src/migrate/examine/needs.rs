//! The commands that a migration and its options use, and what for.

use super::Agreed;
use super::facts::Facts;
use crate::server::Server;

/// What a command is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum For {
    /// Every migration of this pair: without it there is none.
    Everything,
    /// What not every source holds, or its clients write.
    SomeData,
    /// Expiries of a source before 7.0, which sends relative ones: it is asked again at the end.
    Relative,
    /// Fields that have expired, which it tells its replicas late: it is asked before the end.
    HiddenFields,
    /// `--flush-target`, and starting anew.
    Flush,
    /// `--verify`.
    Verify,
    /// `--pause-source`.
    Pause,
}

impl For {
    /// The feature, as the end of a sentence: `needed …`.
    pub fn text(self) -> &'static str {
        match self {
            For::Everything => "for every migration",
            For::SomeData => {
                "for values above --big-value-bytes, and for what the source's clients may write"
            }
            For::Flush => {
                "for --flush-target, for starting anew when the source cannot continue, and where its clients use it"
            }
            For::Relative => "for exact expiries (it sends relative ones, and is asked again at the end)",
            For::HiddenFields => {
                "for hash fields that have expired and are not deleted yet (it is asked before the end)"
            }
            For::Verify => "for --verify",
            For::Pause => "for --pause-source",
        }
    }
}

/// A command, with arguments that are valid for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub args: Vec<String>,
    pub why: For,
}

impl Need {
    fn new(line: &str, why: For) -> Self {
        Self { args: line.split(' ').map(str::to_owned).collect(), why }
    }

    /// `CLIENT PAUSE`: the command, with its subcommand where it is a container of them.
    pub fn name(&self) -> String {
        const CONTAINERS: [&str; 4] = ["CLIENT", "FUNCTION", "SCRIPT", "XGROUP"];
        let words = if CONTAINERS.contains(&self.base()) { 2 } else { 1 };
        self.args.iter().take(words).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// The command without its subcommand.
    pub fn base(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }
}

const SOURCE: &[(For, &[&str])] = &[
    (For::Everything, &["REPLCONF capa eof", "PSYNC ? -1"]),
    (For::Relative, &["SELECT 0", "PTTL k", "TIME"]),
    (For::HiddenFields, &["SELECT 0", "HPEXPIRETIME k FIELDS 1 f"]),
    (For::Verify, READS),
    (For::Pause, &["CLIENT PAUSE 1 WRITE", "CLIENT UNPAUSE", "PUBLISH __replsync__:probe m"]),
];

/// What `compare` asks.
const READS: &[&str] =
    &["SELECT 0", "SCAN 0", "EXISTS k", "DUMP k", "PTTL k", "TIME", "PEXPIRETIME k", "FUNCTION LIST"];

/// What `apply` sends. The sweep, which takes the shift off expiries at the end, reads and writes them: who finds out then
/// that it may not is left with keys that never expire.
const TARGET: &[(For, &[&str])] = &[
    (
        For::Everything,
        &[
            "SET k v",
            "MSET k v",
            "RESTORE k 0 v",
            "DEL k",
            "SCAN 0",
            "PTTL k",
            "TIME",
            "PEXPIRETIME k",
            "PEXPIREAT k 1",
            "HSCAN k 0",
            "HPEXPIRETIME k FIELDS 1 f",
            "HPEXPIREAT k 1 FIELDS 1 f",
        ],
    ),
    (For::SomeData, WRITES),
    (For::Flush, &["FLUSHALL", "FUNCTION FLUSH"]),
    (For::Verify, READS),
];

/// What the copy of some values takes, and what servers send their replicas (`docs/formats/stream.md`).
#[rustfmt::skip]
const WRITES: &[&str] = &[
    "UNLINK k", "APPEND k v", "RPUSH k v", "SADD k m", "ZADD k 1 m", "HSET k f v",
    "XADD k 1-1 f v", "XGROUP CREATE k g 0", "XGROUP CREATECONSUMER k g c", "XGROUP DESTROY k g", "XCLAIM k g c 0 1-1",
    "XSETID k 1-1", "FUNCTION LOAD code",
    "MULTI", "EXEC", "PERSIST k", "RENAME k l", "MOVE k 1", "COPY k l", "SWAPDB 0 1", "FLUSHDB",
    "INCR k", "INCRBY k 1", "DECR k", "DECRBY k 1", "GETSET k v", "SETRANGE k 0 v", "SETBIT k 0 1",
    "BITFIELD k SET u8 0 1", "BITOP AND k l", "PFADD k e", "PFMERGE k l",
    "LPUSH k v", "LPOP k", "RPOP k", "LPUSHX k v", "RPUSHX k v", "LSET k 0 v", "LREM k 0 v", "LTRIM k 0 1",
    "LINSERT k BEFORE p v", "RPOPLPUSH k l", "LMOVE k l LEFT LEFT",
    "SREM k m", "SMOVE k l m", "SINTERSTORE k l", "SUNIONSTORE k l", "SDIFFSTORE k l", "SORT k STORE l",
    "ZREM k m", "ZINCRBY k 1 m", "ZPOPMIN k", "ZPOPMAX k", "ZREMRANGEBYRANK k 0 1", "ZREMRANGEBYSCORE k 0 1",
    "ZREMRANGEBYLEX k [a [b", "ZUNIONSTORE k 1 l", "ZINTERSTORE k 1 l", "ZRANGESTORE k l 0 1", "GEOADD k 0 0 m",
    "HDEL k f", "HMSET k f v", "HINCRBY k f 1", "HINCRBYFLOAT k f 1", "HPERSIST k FIELDS 1 f",
    "XDEL k 1-1", "XTRIM k MAXLEN 1", "XACK k g 1-1", "XGROUP SETID k g 0", "XGROUP DELCONSUMER k g c",
];

/// The versions of Redis, and of Valkey where it has it at all, that came with a command.
type Since = ((u16, u16), Option<(u16, u16)>);

fn since(name: &str) -> Since {
    match name {
        "CLIENT PAUSE"
        | "CLIENT UNPAUSE"
        | "PUBLISH"
        | "COPY"
        | "LMOVE"
        | "ZRANGESTORE"
        | "XGROUP CREATECONSUMER" => ((6, 2), None),
        "PEXPIRETIME" | "FUNCTION LIST" | "FUNCTION LOAD" | "FUNCTION FLUSH" => ((7, 0), None),
        "HSCAN" | "HPEXPIRETIME" | "HPEXPIREAT" | "HPERSIST" => ((7, 4), Some((9, 0))),
        _ => ((0, 0), None),
    }
}

/// What is needed of a source.
pub(super) fn of_source(server: Server) -> Vec<Need> {
    in_version(SOURCE, server)
}

/// What is needed of a target, in view of what its source holds and what was agreed to.
pub(super) fn of_target(server: Server, source: &Facts, agreed: Agreed) -> Vec<Need> {
    let mut needs = in_version(TARGET, server);
    let functions = source.functions.unwrap_or(0) > 0;
    for need in &mut needs {
        let everything = match need.name().as_str() {
            "FUNCTION LOAD" => functions,
            "FLUSHALL" | "FUNCTION FLUSH" => agreed.flush_target,
            _ => false,
        };
        if everything {
            need.why = For::Everything;
        }
    }
    let databases: Vec<_> = source.info.keyspace.keys().collect();
    let highest = databases.last().copied().unwrap_or(&0);
    needs.push(Need::new(&format!("SELECT {highest}"), For::Everything));
    once(needs)
}

fn in_version(table: &[(For, &[&str])], server: Server) -> Vec<Need> {
    let needs = table.iter().flat_map(|(why, lines)| lines.iter().map(|line| Need::new(line, *why)));
    let has = |need: &Need| {
        let (redis, valkey) = since(&need.name());
        // PEXPIRETIME takes the place of PTTL and TIME.
        let is_past = ["PTTL", "TIME"].contains(&need.base()) || need.why == For::Relative;
        server.has(redis, valkey) && !(is_past && server.has((7, 0), None))
    };
    once(needs.filter(has).collect())
}

/// Each command once, for what matters most.
fn once(mut needs: Vec<Need>) -> Vec<Need> {
    needs.sort_by_key(|need| need.why);
    let mut kept: Vec<Need> = Vec::new();
    for need in needs {
        if !kept.iter().any(|other| other.name() == need.name()) {
            kept.push(need);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_their_commands() {
        let names = |server| of_source(server).iter().map(Need::name).collect::<Vec<_>>();
        let has = |server, name: &str| names(server).iter().any(|other| other == name);
        let (old, new) = (Server::redis(5, 0), Server::valkey(9, 0));
        assert!(
            has(old, "PTTL") && has(old, "TIME") && !has(old, "PEXPIRETIME") && !has(old, "CLIENT PAUSE")
        );
        assert!(
            has(new, "PEXPIRETIME") && !has(new, "PTTL") && !has(new, "TIME") && has(new, "CLIENT PAUSE")
        );
        let target = |server| in_version(TARGET, server).iter().any(|need| need.name() == "HPEXPIRETIME");
        assert!(target(new) && !target(Server::valkey(8, 1)) && !target(Server::redis(7, 2)));
    }

    #[test]
    fn each_command_is_named_once_for_what_matters_most() {
        let needs = in_version(TARGET, Server::redis(6, 2));
        let of: Vec<_> = needs.iter().filter(|need| need.name() == "SCAN").map(|need| need.why).collect();
        assert_eq!(of, [For::Everything]);
    }
}
