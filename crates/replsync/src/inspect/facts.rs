//! What a file says of itself: its header, its aux fields, functions, modules.
//!
//! Source of the names: `rdbSaveInfoAuxFields` in `src/rdb.c` of both products.

use std::collections::BTreeMap;

use crate::rdb::{Checksum, Magic, ModuleAux, ModuleId};

/// Facts about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `REDIS` or `VALKEY`, and the RDB version; nothing before they were read.
    pub header: Option<(Magic, u16)>,
    /// The first [`Facts::AUX_MAX`] aux fields in the order of the file, of each at most [`Facts::AUX_BYTES_MAX`] bytes;
    /// without the scripts.
    pub aux: Vec<(Vec<u8>, Vec<u8>)>,
    /// Aux fields beyond these.
    pub aux_left_out: u64,
    /// Lua scripts (EVAL's), which servers before 7.0 write.
    pub scripts: u64,
    /// Function libraries.
    pub functions: u64,
    /// The names of the first [`Facts::FUNCTIONS_MAX`] of them.
    pub function_names: Vec<String>,
    /// Modules' types, by name: at most [`Facts::MODULES_MAX`] of them.
    pub modules: BTreeMap<String, ModuleFacts>,
    /// Values and aux of modules beyond these.
    pub modules_left_out: u64,
    /// Slots whose sizes are told: the server ran in cluster mode.
    pub slots: u64,
    /// Slot migrations that were under way.
    pub slot_imports: u64,
    /// What the end says of the bytes before it; nothing before the end was read.
    pub checksum: Option<Checksum>,
}

/// What there is of a module's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleFacts {
    /// Keys with values of that type; of those that were looked at.
    pub keys: u64,
    /// What the module keeps outside keys: how many times.
    pub aux: u64,
    /// What that takes in the file, in bytes.
    pub aux_bytes: u64,
}

impl Facts {
    /// So many aux fields are kept.
    pub const AUX_MAX: usize = 64;
    /// So many bytes of each are kept.
    pub const AUX_BYTES_MAX: usize = 256;
    /// So many functions' names are kept.
    pub const FUNCTIONS_MAX: usize = 256;
    /// So many modules' types are told apart.
    pub const MODULES_MAX: usize = 64;

    /// The value of an aux field.
    pub fn aux(&self, name: &str) -> Option<&[u8]> {
        let found = self.aux.iter().find(|(key, _)| key == name.as_bytes())?;
        Some(&found.1)
    }

    /// An aux field that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        std::str::from_utf8(self.aux(name)?).ok()?.parse().ok()
    }

    /// `redis` or `valkey`, and the version of the server that wrote the file, where it says so.
    pub fn server(&self) -> Option<(&'static str, String)> {
        let named = |product, name| Some((product, super::printable(self.aux(name)?)));
        named("valkey", "valkey-ver").or_else(|| named("redis", "redis-ver"))
    }

    /// When the file was written, in milliseconds since the epoch; the file says it in seconds.
    pub fn written_at_ms(&self) -> Option<u64> {
        self.number("ctime")?.checked_mul(1000)
    }

    pub(super) fn add_aux(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if key == b"lua" {
            self.scripts += 1;
        } else if self.aux.len() < Self::AUX_MAX {
            let cut = |mut text: Vec<u8>| {
                text.truncate(Self::AUX_BYTES_MAX);
                text.shrink_to_fit();
                text
            };
            self.aux.push((cut(key), cut(value)));
        } else {
            self.aux_left_out += 1;
        }
    }

    pub(super) fn add_function(&mut self, code: &[u8]) {
        self.functions += 1;
        if self.function_names.len() < Self::FUNCTIONS_MAX {
            self.function_names.push(library_name(code));
        }
    }

    pub(super) fn add_module_aux(&mut self, aux: &ModuleAux) {
        if let Some(module) = self.module(aux.id) {
            module.aux += 1;
            module.aux_bytes += aux.raw.len() as u64;
        }
    }

    pub(super) fn add_module_key(&mut self, id: ModuleId) {
        if let Some(module) = self.module(id) {
            module.keys += 1;
        }
    }

    fn module(&mut self, id: ModuleId) -> Option<&mut ModuleFacts> {
        let name = id.name();
        if self.modules.len() >= Self::MODULES_MAX && !self.modules.contains_key(&name) {
            self.modules_left_out += 1;
            return None;
        }
        Some(self.modules.entry(name).or_default())
    }
}

/// The name in a library's first line, `#!lua name=…` (`extractLibraryMetaData` in `src/functions.c`).
fn library_name(code: &[u8]) -> String {
    const SHOWN_BYTES: usize = 256;
    let line = code.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    let name = words.find_map(|word| word.strip_prefix(b"name=")).unwrap_or(b"?");
    super::printable(&name[..name.len().min(SHOWN_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_who_wrote_it() {
        let mut facts = Facts::default();
        for (key, value) in [("redis-ver", "7.2.4"), ("ctime", "1700000000"), ("lua", "return 1")] {
            facts.add_aux(key.into(), value.into());
        }
        assert_eq!(facts.server(), Some(("redis", "7.2.4".to_owned())));
        assert_eq!((facts.written_at_ms(), facts.scripts, facts.aux.len()), (Some(1_700_000_000_000), 1, 2));
        facts.add_aux(b"valkey-ver".to_vec(), b"9.0.0".to_vec());
        assert_eq!(facts.server(), Some(("valkey", "9.0.0".to_owned())));
        for n in 0..100 {
            facts.add_aux(format!("x{n}").into_bytes(), vec![b'x'; 1000]);
        }
        assert_eq!((facts.aux.len(), facts.aux[10].1.len(), facts.aux_left_out), (64, 256, 39));
    }

    #[test]
    fn libraries_have_names() {
        assert_eq!(library_name(b"#!lua name=mylib\nreturn 1"), "mylib");
        assert_eq!(library_name(b"#!lua\nname=no"), "?");
    }
}
