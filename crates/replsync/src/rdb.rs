//! RDB: the format of dumps, on disk and on the wire.
