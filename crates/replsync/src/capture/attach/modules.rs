//! Modules that a server has loaded, and which of them keep data outside of keys.

use std::collections::BTreeSet;

use crate::endpoint::{Client, Error};
use crate::resp::Reply;

/// They come with the server and keep no data outside of keys: vector sets (Redis 8), Lua (Valkey 9).
const BUILT_IN: [&str; 2] = ["vectorset", "lua"];

/// All that these hold is in what DUMP gives of their keys: shown by `tests/tests/attach.rs` with the modules of Redis
/// Stack 7.4. The same test shows why others are none of them: RediSearch (`search`) keeps its indexes beside the keys, as
/// module aux fields of an RDB, and RedisTimeSeries (`timeseries`) leaves compaction rules out of DUMP, though not out of
/// an RDB of its own.
const IN_KEYS: [&str; 2] = ["ReJSON", "bf"];

/// The modules of a server, less those that come with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modules {
    /// Their names.
    Told(BTreeSet<String>),
    /// Its error when asked.
    Untold(String),
}

impl Modules {
    /// Those that may keep data outside of keys.
    pub fn outside_keys(&self) -> Vec<String> {
        match self {
            Modules::Told(names) => {
                names.iter().filter(|name| !IN_KEYS.contains(&name.as_str())).cloned().collect()
            }
            Modules::Untold(_) => Vec::new(),
        }
    }

    /// Their names, where they are known.
    pub fn names(&self) -> Option<&BTreeSet<String>> {
        match self {
            Modules::Told(names) => Some(names),
            Modules::Untold(_) => None,
        }
    }

    /// Reads the reply of `MODULE LIST`.
    pub fn of_list(reply: &Reply) -> Self {
        let items = |reply: &Reply| match reply {
            Reply::Array(items) => items.clone(),
            _ => Vec::new(),
        };
        // name, <its name>, ver, <its version>, …
        let name = |module: &Reply| items(module).get(1).and_then(Reply::text);
        Self::told(items(reply).iter().filter_map(name))
    }

    /// Reads the section `modules` of INFO (6.0 and newer): lines like `module:name=bf,ver=20802,…`.
    fn of_info(text: &str) -> Option<Self> {
        let names = text.lines().filter_map(|line| line.strip_prefix("module:name=")?.split(',').next());
        text.contains("# Modules").then(|| Self::told(names.map(|name| name.trim().to_owned())))
    }

    fn told(names: impl Iterator<Item = String>) -> Self {
        Modules::Told(names.filter(|name| !BUILT_IN.contains(&name.as_str())).collect())
    }
}

/// Asks a server. INFO needs no permission that we have not already.
pub(super) async fn ask(client: &mut Client) -> Result<Modules, Error> {
    let section = client.ask_text(&["INFO", "modules"]).await?;
    if let Some(modules) = Modules::of_info(&section) {
        return Ok(modules);
    }
    match client.ask(&["MODULE", "LIST"]).await {
        Ok(list) => Ok(Modules::of_list(&list)),
        Err(Error::Refused { reply, .. }) => Ok(Modules::Untold(reply)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_keeps_its_data_in_keys() {
        let text = "# Modules\r\nmodule:name=bf,ver=1\r\nmodule:name=vectorset,ver=1\r\nmodule:name=search,ver=2\r\n\
                    module:name=mine,ver=1\r\n";
        let modules = Modules::of_info(text).unwrap();
        assert_eq!(modules.outside_keys(), ["mine", "search"]);
        assert_eq!(Modules::of_info("\r\n# Modules\r\n").unwrap(), Modules::Told(BTreeSet::new()));
        assert_eq!(Modules::of_info(""), None, "before 6.0 there is no such section");
    }
}
