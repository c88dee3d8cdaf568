//! `replsync-node backup` under mixed writers, proved on every server: a stock one continues from its RDB by a partial
//! sync and ends equal to the master. `scripts/prove-captures.sh` is the long run of the same.

use anyhow::Result;
use replsync_tests::bootable::{Case, Verdict};
use replsync_tests::job::setting;
use replsync_tests::workspace;
use replsync_tests::writer::Load;

/// Some captures need another try where writes cannot be paused.
fn is_exact(name: &str, rate: u32, load: Load, args: &[&str], may_refuse: bool) -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    let case = Case {
        server: name.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        keys: 1_500,
        rate,
        load,
        seed,
    };
    let kept = workspace().join(format!("target/prove-captures/{name}-{seed}"));
    match case.run(&kept)? {
        Verdict::Equal(proof) => println!("{name}, seed {seed}: {proof}"),
        Verdict::Refused(why) if may_refuse => println!("{name}, seed {seed}: refused: {why}"),
        other => panic!("{name}, seed {seed}: {other:?}"),
    }
    Ok(())
}

macro_rules! captures {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() -> Result<()> { is_exact($name, 2_000, Load::ForCapture, &[], false) })*
    };
}

captures! {
    a_backup_of_redis_6_2_is_exact "redis-6.2"
    a_backup_of_redis_7_0_is_exact "redis-7.0"
    a_backup_of_redis_7_2_is_exact "redis-7.2"
    a_backup_of_redis_7_4_is_exact "redis-7.4"
    a_backup_of_redis_8_0_is_exact "redis-8.0"
    a_backup_of_redis_8_6_is_exact "redis-8.6"
    a_backup_of_valkey_8_0_is_exact "valkey-8.0"
    a_backup_of_valkey_8_1_is_exact "valkey-8.1"
    a_backup_of_valkey_9_is_exact "valkey-9"
}

/// They know no pause for writes.
#[test]
fn a_backup_of_redis_5_0_is_exact_or_refused() -> Result<()> {
    is_exact("redis-5.0", 100, Load::ForCapture, &[], true)
}

#[test]
fn a_backup_of_redis_6_0_is_exact_or_refused() -> Result<()> {
    is_exact("redis-6.0", 100, Load::ForCapture, &[], true)
}

/// Scripts that travel as scripts do not say what they write.
#[test]
fn a_backup_under_scripts_that_name_no_keys_is_exact() -> Result<()> {
    let args = ["--lua-replicate-commands", "no"];
    is_exact("redis-6.2", 1_000, Load::WithVerbatimScripts, &args, false)
}
