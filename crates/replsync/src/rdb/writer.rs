//! Who wrote an RDB.

use super::item::Item;
use super::kind::Magic;
use crate::server::{Product, Server, parse_version};

/// Who wrote an RDB, as its first items say: to be shown each item up to the first key.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    header: Option<(Magic, u16)>,
    named: Option<Server>,
}

impl Writer {
    /// What the next item says of it.
    pub fn see(&mut self, item: &Item) {
        match item {
            Item::Header { magic, version } => self.header = Some((*magic, *version)),
            Item::Aux { key, value } => {
                let product = match &key[..] {
                    b"redis-ver" => Product::Redis,
                    b"valkey-ver" => Product::Valkey,
                    _ => return,
                };
                let version = std::str::from_utf8(value).ok().and_then(|text| parse_version(text).ok());
                if let Some(version) = version {
                    self.named = Some(Server { product, version });
                }
            }
            _ => {}
        }
    }

    /// The server that the file names. A file that names none is by the first server that is known to write its RDB
    /// version; nothing before the header.
    ///
    /// Source: `rdbSaveInfoAuxFields` in `src/rdb.c` of both products; `redis-ver` came with Redis 3.2.
    pub fn server(&self) -> Option<Server> {
        let by_version = |(magic, version)| match (magic, version) {
            (Magic::Valkey, _) => Server::valkey(9, 0),
            (Magic::Redis, ..=2) => Server::redis(2, 4),
            (Magic::Redis, 3..=6) => Server::redis(2, 6),
            (Magic::Redis, 7) => Server::redis(3, 2),
            (Magic::Redis, 8) => Server::redis(4, 0),
            (Magic::Redis, 9) => Server::redis(5, 0),
            (Magic::Redis, 10) => Server::redis(7, 0),
            (Magic::Redis, 11) => Server::redis(7, 2),
            (Magic::Redis, 12) => Server::redis(7, 4),
            (Magic::Redis, _) => Server::redis(8, 6),
        };
        self.named.or_else(|| self.header.map(by_version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(magic: Magic, version: u16, aux: &[(&str, &str)]) -> Option<Server> {
        let mut writer = Writer::default();
        writer.see(&Item::Header { magic, version });
        for (key, value) in aux {
            writer.see(&Item::Aux { key: key.as_bytes().to_vec(), value: value.as_bytes().to_vec() });
        }
        writer.server()
    }

    #[test]
    fn the_name_in_the_file_counts_before_its_version() {
        assert_eq!(Writer::default().server(), None);
        assert_eq!(writer(Magic::Redis, 12, &[]), Some(Server::redis(7, 4)));
        assert_eq!(writer(Magic::Valkey, 80, &[("redis-bits", "64")]), Some(Server::valkey(9, 0)));
        assert_eq!(writer(Magic::Redis, 11, &[("redis-ver", "unstable")]), Some(Server::redis(7, 2)));
        let eight = Server { product: Product::Valkey, version: (8, 0, 1) };
        assert_eq!(writer(Magic::Redis, 11, &[("valkey-ver", "8.0.1")]), Some(eight));
        let old = Server { product: Product::Redis, version: (6, 2, 14) };
        assert_eq!(writer(Magic::Redis, 9, &[("redis-ver", "6.2.14"), ("ctime", "1")]), Some(old));
    }
}
