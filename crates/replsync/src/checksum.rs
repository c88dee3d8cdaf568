//! CRC-64 as Redis computes it, over RDB files and DUMP payloads; and CRC-16, which chooses a key's slot in a cluster.
//!
//! CRC-64: the polynomial is Jones's, reflected, with initial value and final XOR 0 (`src/crc64.c` of the server).
//! CRC-16: XMODEM's, polynomial 0x1021, not reflected, with initial value and final XOR 0 (`src/crc16.c`).

use crc_fast::{CrcAlgorithm, Digest};

/// A CRC-64 in the making. Feed it large pieces: each update has a fixed cost that dwarfs 16 bytes.
#[derive(Clone, Debug)]
pub struct Crc64(Digest);

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc64 {
    /// The checksum of nothing: 0.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Redis))
    }

    /// Appends `bytes` to what is summed.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

/// The checksum of `bytes`.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Redis, bytes)
}

/// Slots of a cluster.
pub const SLOTS: u16 = 16384;

/// The slot of a key: by its hash tag, what is between the first `{` and the next `}`, if there is anything; else by all of it.
///
/// Source: `keyHashSlot` in `src/cluster.c` (`src/cluster.h` from 7.4).
pub fn key_slot(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let inside = &key[open + 1..];
        inside.get(..memchr::memchr(b'}', inside)?).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ CRC16[usize::from(crc >> 8 ^ u16::from(*byte))])
}

/// By the byte that leaves on the left.
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The checksum of two pieces one after the other, from the checksum of each and the length of the second: pieces of a
/// file can be summed by several threads.
pub fn combine(first: u64, second: u64, second_len: u64) -> u64 {
    // Each byte behind it multiplies a checksum by x^8, modulo the polynomial: squares of squares make
    // that quick, where crc-fast squares matrices: a fifth of the time of verifying small keys.
    let (mut square, mut rest, mut moved) = (X_TO_THE_8, second_len, first);
    while rest > 0 {
        if rest & 1 == 1 {
            moved = multiply(square, moved);
        }
        square = multiply(square, square);
        rest >>= 1;
    }
    moved ^ second
}

/// Jones's polynomial, its bits reversed: the highest bit stands for x^0.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
const X_TO_THE_8: u64 = 1 << (63 - 8);

/// The product of two polynomials, modulo the one of the checksum.
fn multiply(a: u64, mut b: u64) -> u64 {
    let (mut product, mut rest) = (0, a);
    while rest != 0 {
        // the coefficients of a, from x^0 on; b moves along
        if rest >> 63 == 1 {
            product ^= b;
        }
        rest <<= 1;
        b = b >> 1 ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_servers_own_test_vector() {
        assert_eq!(crc64(b"123456789"), 0xe9c6d914c4b8d9ca);
    }

    /// The first is from the comment above the server's `crc16`.
    #[test]
    fn slots_are_the_servers_own() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in SLOTS_SEEN {
            assert_eq!(key_slot(key), slot, "{}", key.escape_ascii());
        }
    }

    /// What CLUSTER KEYSLOT of Redis 7.4 and Valkey 9 answers.
    const SLOTS_SEEN: [(&[u8], u16); 11] = [
        (b"123456789", 12739),
        (b"foo{bar}", 5061),
        (b"foo{bar}{zap}", 5061),
        (b"{user1000}.following", 3443),
        (b"foo{}{bar}", 8363),
        (b"foo{{bar}}zap", 4015),
        (b"{}", 15257),
        (b"", 0),
        (b"a{b", 13340),
        (b"}{x}", 16287),
        (b"user:1", 10778),
    ];

    proptest! {
        #[test]
        fn equals_the_crc64_crate_in_any_pieces(bytes: Vec<u8>, cut: prop::sample::Index) {
            let cut = if bytes.is_empty() { 0 } else { cut.index(bytes.len()) };
            let mut crc = Crc64::new();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..]);
            prop_assert_eq!(crc.value(), crc64::crc64(0, &bytes));
        }

        #[test]
        fn checksums_of_pieces_combine(first: Vec<u8>, second: Vec<u8>, third: Vec<u8>) {
            let whole = crc64::crc64(0, &[&first[..], &second, &third].concat());
            let two = combine(crc64(&first), crc64(&second), second.len() as u64);
            prop_assert_eq!(combine(two, crc64(&third), third.len() as u64), whole);
            let rest = combine(crc64(&second), crc64(&third), third.len() as u64);
            prop_assert_eq!(combine(crc64(&first), rest, (second.len() + third.len()) as u64), whole);
        }
    }
}
