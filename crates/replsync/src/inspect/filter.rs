//! Which keys are looked at.

use super::Glob;
use crate::rdb::{DataType, ModuleId};

/// A key passes when it passes each part that is set.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Its name.
    pub glob: Option<Glob>,
    /// Its type: one of these.
    pub types: Vec<TypeFilter>,
    /// Its database: one of these.
    pub databases: Vec<u32>,
}

/// A type to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeFilter {
    /// All values of that type.
    Type(DataType),
    /// The values of one module's type, by the name that `TYPE` answers.
    Module(String),
}

impl Filter {
    /// Whether every key passes.
    pub fn is_all(&self) -> bool {
        self.glob.is_none() && self.types.is_empty() && self.databases.is_empty()
    }

    /// What can be said before the value is read. A module's type is not known then.
    pub(super) fn passes(&self, db: u32, data_type: DataType, name: &[u8]) -> bool {
        (self.databases.is_empty() || self.databases.contains(&db))
            && (self.types.is_empty() || self.types.iter().any(|one| one.may_be(data_type)))
            && self.glob.as_ref().is_none_or(|glob| glob.matches(name))
    }

    pub(super) fn passes_module(&self, module: ModuleId) -> bool {
        self.types.is_empty()
            || self.types.iter().any(|one| match one {
                TypeFilter::Type(data_type) => *data_type == DataType::Module,
                TypeFilter::Module(name) => *name == module.name(),
            })
    }
}

impl TypeFilter {
    /// The words that `TYPE` answers, `module` for all modules' types; every other word is the name of one of these.
    pub fn named(name: &str) -> Self {
        use DataType::{Array, Hash, List, Module, Set, Stream, String, Zset};
        let known = [String, List, Set, Zset, Hash, Stream, Module, Array];
        match known.into_iter().find(|data_type| data_type.name() == name) {
            Some(data_type) => Self::Type(data_type),
            None => Self::Module(name.to_owned()),
        }
    }

    fn may_be(&self, data_type: DataType) -> bool {
        match self {
            Self::Type(own) => *own == data_type,
            Self::Module(_) => data_type == DataType::Module,
        }
    }
}
