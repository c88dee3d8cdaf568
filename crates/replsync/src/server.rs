//! Which server is meant: the product and its version.
//!
//! What a server reads and writes follows from these two alone, so every table in the library (type bytes,
//! RDB versions, commands and their options) is asked with a [`Server`].

use std::fmt;
use std::str::FromStr;

/// The two families of servers. They share RDB up to version 11 and then part ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Product {
    /// Redis, of any licence.
    Redis,
    /// Valkey, which forked from Redis 7.2.4.
    Valkey,
}

/// A product in a version, such as Redis 7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Redis or Valkey.
    pub product: Product,
    /// Major, minor, patch.
    pub version: (u16, u16, u16),
}

impl Server {
    /// Redis `major.minor`.
    pub const fn redis(major: u16, minor: u16) -> Self {
        Self { product: Product::Redis, version: (major, minor, 0) }
    }

    /// Valkey `major.minor`.
    pub const fn valkey(major: u16, minor: u16) -> Self {
        Self { product: Product::Valkey, version: (major, minor, 0) }
    }

    /// Whether this server has what came with Redis `redis` and, where Valkey has it at all, with Valkey
    /// `valkey` (each `(major, minor)`). What Redis had by 7.2 is in every Valkey.
    pub fn has(&self, redis: (u16, u16), valkey: Option<(u16, u16)>) -> bool {
        let version = (self.version.0, self.version.1);
        match self.product {
            Product::Redis => version >= redis,
            Product::Valkey => redis <= (7, 2) || valkey.is_some_and(|since| version >= since),
        }
    }

    /// The RDB version that this server writes by itself: the number after the magic of its dumps. Of a version
    /// that nobody tried, the newest that an older one is known to write: it reads that for certain.
    ///
    /// Source: `RDB_VERSION` in `src/rdb.h` of each release.
    pub fn rdb_version(&self) -> u16 {
        match (self.product, self.version.0, self.version.1) {
            (Product::Valkey, 0..=8, _) => 11,
            (Product::Valkey, _, _) => 80,
            (Product::Redis, 0..=2, 0..=4) => 2,
            (Product::Redis, 0..=3, _) => 6,
            (Product::Redis, 4, _) => 8,
            (Product::Redis, 5..=6, _) => 9,
            (Product::Redis, 7, 0..=1) => 10,
            (Product::Redis, 7, 2..=3) => 11,
            (Product::Redis, 7, _) => 12,
            (Product::Redis, 8, 0..=5) => 12,
            (Product::Redis, _, _) => 13,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        let product = match self.product {
            Product::Redis => "Redis",
            Product::Valkey => "Valkey",
        };
        write!(f, "{product} {major}.{minor}.{patch}")
    }
}

/// A server as people name it on a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no server (expected redis-7.4, valkey-9 or the like)")]
pub struct NameError(pub String);

impl FromStr for Server {
    type Err = NameError;

    /// `redis-7.4`, `redis-7.4.1`, `valkey-9`: a product and at least the first number of its version.
    fn from_str(name: &str) -> Result<Self, NameError> {
        let wrong = || NameError(name.to_owned());
        let (product, numbers) = name.split_once('-').ok_or_else(wrong)?;
        let product = match product.to_ascii_lowercase().as_str() {
            "redis" => Product::Redis,
            "valkey" => Product::Valkey,
            _ => return Err(wrong()),
        };
        let mut version = [0; 3];
        for (at, number) in numbers.split('.').enumerate() {
            let place = version.get_mut(at).ok_or_else(wrong)?;
            *place = number.parse().map_err(|_| wrong())?;
        }
        Ok(Self { product, version: version.into() })
    }
}

/// A version that is not three numbers, such as `255.255.255-dev`'s unreadable cousins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a server version (expected major.minor.patch)")]
pub struct VersionError(pub String);

/// Reads `major.minor[.patch]`; what follows the patch number (`-rc1`) is left out.
pub fn parse_version(text: &str) -> Result<(u16, u16, u16), VersionError> {
    let mut numbers = text.trim().splitn(3, '.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        u16::from_str(&part[..digits]).map_err(|_| VersionError(text.to_owned()))
    });
    let mut next = || numbers.next();
    let major = next().ok_or_else(|| VersionError(text.to_owned()))??;
    let minor = next().ok_or_else(|| VersionError(text.to_owned()))??;
    let patch = next().transpose()?.unwrap_or(0);
    Ok((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("7.4.1"), Ok((7, 4, 1)));
        assert_eq!(parse_version("8.6"), Ok((8, 6, 0)));
        assert_eq!(parse_version("9.0.0-rc1\r"), Ok((9, 0, 0)));
        assert!(parse_version("unstable").is_err());
        assert!(parse_version("7").is_err());
    }

    #[test]
    fn servers_are_named() {
        assert_eq!("redis-7.4".parse(), Ok(Server::redis(7, 4)));
        assert_eq!("Valkey-9".parse(), Ok(Server::valkey(9, 0)));
        assert_eq!("redis-7.4.1".parse(), Ok(Server { product: Product::Redis, version: (7, 4, 1) }));
        for wrong in ["", "redis", "7.4", "redis-", "redis-x", "redis-7.4.1.2", "keydb-6", "redis-7."] {
            assert_eq!(wrong.parse::<Server>(), Err(NameError(wrong.to_owned())));
        }
    }

    #[test]
    fn valkey_has_what_redis_had_when_they_parted() {
        assert!(Server::valkey(8, 0).has((7, 0), None));
        assert!(!Server::valkey(8, 1).has((7, 4), Some((9, 0))));
        assert!(Server::valkey(9, 0).has((7, 4), Some((9, 0))));
        assert!(!Server::redis(7, 2).has((7, 4), Some((9, 0))));
    }
}
