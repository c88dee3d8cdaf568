//! Writing into a target.
