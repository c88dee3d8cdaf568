use super::*;

/// What is touched, in words.
pub(super) fn said(touched: Touched) -> String {
    let list = |keys: KeyIndices| keys.map(|key| key.to_string()).collect::<Vec<_>>().join(" ");
    match touched {
        Touched::Keys(keys) => list(keys),
        Touched::WholeDatabase => "database".to_owned(),
        Touched::EveryDatabase => "databases".to_owned(),
        Touched::SwapDatabases(a, b) => format!("swap {a} {b}"),
        Touched::OtherDatabase { here, there, db } => format!("{} and {} in {db}", list(here), list(there)),
        Touched::Functions => "functions".to_owned(),
        Touched::Nothing => "nothing".to_owned(),
        Touched::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn keys_are_found() {
    for (command, expected) in [
        ("SET k v", "1"),
        ("mset a 1 b 2", "1 3"),
        ("DEL a b c", "1 2 3"),
        ("BITOP AND d a b", "2 3 4"),
        ("XGROUP SETID x g 0", "2"),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "1 3 4"),
        ("ZUNIONSTORE d 3 a b", "unknown"),
        ("ZUNIONSTORE d 0 a b", "unknown"),
        ("ZUNIONSTORE d 18446744073709551615 a b", "unknown"),
        ("MSETEX 2 a 1 b 2 PXAT 5", "2 4"),
        ("MSETEX 9223372036854775808 a 1 b 2", "unknown"),
        ("SORT l BY nosort GET # STORE d", "1 7"),
        ("SORT l STORE d STORE e", "1 3 5"),
        ("SORT l STORE store d", "1 3 4"),
        ("SORT l BY STORE", "1"),
        ("GEORADIUS g 1 1 1 km STOREDIST d", "1 7"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS a b > >", "7 8"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS a b >", "unknown"),
        ("MIGRATE h 1 k 0 9", "3"),
        ("MIGRATE h 1 k 0 9 KEYS", "3"),
        ("MIGRATE h 1  0 9 AUTH p KEYS a b", "9 10"),
        ("MIGRATE h 1  0 9 KEYS", "unknown"),
        ("BLPOP a b 0", "1 2"),
        ("COPY a b", "1 2"),
        ("COPY a b REPLACE", "1 2"),
        ("COPY a b REPLACE DB 3", "1 and 2 in 3"),
        ("COPY a b db 3 db 4 replace", "1 and 2 in 4"),
        ("COPY db db DB 1", "1 and 2 in 1"),
        ("COPY a b DB", "unknown"),
        ("COPY a b DB x", "unknown"),
        ("COPY a b OTHER 3", "unknown"),
        ("MOVE a 3", "1 and 1 in 3"),
        ("MOVE a -3", "unknown"),
        ("SWAPDB 0 5", "swap 0 5"),
        ("FLUSHDB ASYNC", "database"),
        ("FLUSHALL", "databases"),
        ("FUNCTION FLUSH", "functions"),
        ("MULTI", "nothing"),
        ("PUBLISH c m", "nothing"),
        ("SCRIPT LOAD x", "nothing"),
        ("EVAL x 1 k", "unknown"),
        ("TRIMSLOTS RANGES 1 0 0", "unknown"),
        ("JSON.SET k $ 1", "unknown"),
        ("SET k", "unknown"),
    ] {
        assert_eq!(said(touched(&args(command))), expected, "{command}");
    }
    assert_eq!(said(touched(&[])), "unknown");
    assert_eq!(first_key(&args("ZUNIONSTORE d 1 a")), Some(&Bytes::from("d")));
    assert_eq!(first_key(&args("MOVE k 1")), Some(&Bytes::from("k")));
    assert_eq!(first_key(&args("FLUSHALL")), None);
}
