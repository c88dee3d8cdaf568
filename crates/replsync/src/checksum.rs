//! CRC-64 as Redis computes it, over RDB files and DUMP payloads.
//!
//! The polynomial is Jones's, reflected, with initial value and final XOR 0 (`src/crc64.c` of the server).

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_servers_own_test_vector() {
        assert_eq!(crc64(b"123456789"), 0xe9c6d914c4b8d9ca);
    }

    proptest! {
        #[test]
        fn equals_the_crc64_crate_in_any_pieces(bytes: Vec<u8>, cut: prop::sample::Index) {
            let cut = if bytes.is_empty() { 0 } else { cut.index(bytes.len()) };
            let mut crc = Crc64::new();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..]);
            prop_assert_eq!(crc.value(), crc64::crc64(0, &bytes));
        }
    }
}
