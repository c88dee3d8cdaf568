//! Rules that can be switched off, to see that a test fails without them. Never in a build for use.

/// Whether the rule of this name is switched off: by `REPLSYNC_MUTANT`, and only in a build with the feature `mutants`.
#[cfg(feature = "mutants")]
pub(super) fn lacks(rule: &str) -> bool {
    static LACKED: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var("REPLSYNC_MUTANT").unwrap_or_default());
    *LACKED == rule
}

/// No rule is.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(super) fn lacks(_rule: &str) -> bool {
    false
}
