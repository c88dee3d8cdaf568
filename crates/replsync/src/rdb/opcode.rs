//! What a byte between items means when it is no type. Source: `src/rdb.h` of both products.

/// Types count up from 0, opcodes down from 255: what is unknown from here on is more likely an opcode.
pub(super) const LEAST: u8 = 224;
/// Redis 8.6: what modules attached to the key to come.
pub(super) const KEY_META: u8 = 243;
/// Valkey 9: a slot migration under way.
pub(super) const SLOT_IMPORT: u8 = 243;
pub(super) const SLOT_INFO: u8 = 244;
pub(super) const FUNCTION2: u8 = 245;
/// Functions of 7.0's release candidates: name, engine and code apart. Refused, as servers do.
pub(super) const FUNCTION_PRE_GA: u8 = 246;
pub(super) const MODULE_AUX: u8 = 247;
pub(super) const IDLE: u8 = 248;
pub(super) const FREQ: u8 = 249;
pub(super) const AUX: u8 = 250;
pub(super) const RESIZEDB: u8 = 251;
pub(super) const EXPIRETIME_MS: u8 = 252;
pub(super) const EXPIRETIME: u8 = 253;
pub(super) const SELECTDB: u8 = 254;
pub(super) const EOF: u8 = 255;

/// What `byte` is, if it is known and refused, as servers do: `RDB_OPCODE_FUNCTION_PRE_GA` in
/// `rdbLoadRioWithLoadingCtx` and `RDB_TYPE_MODULE_PRE_GA` in `rdbLoadObject`.
pub(super) fn pre_release(byte: u8) -> Option<&'static str> {
    match byte {
        MODULE_PRE_GA => Some("a module's value as Redis 4.0 release candidates wrote it"),
        FUNCTION_PRE_GA => Some("functions as Redis 7.0 release candidates wrote them"),
        _ => None,
    }
}

/// The type byte of module values that do not say where they end.
const MODULE_PRE_GA: u8 = 6;
