//! What `replsync-node doctor --json` says, and questions to it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::node::Node;
use crate::server::TestServer;

const PATIENCE: Duration = Duration::from_secs(30);

/// What `doctor --json` said.
pub struct Said(pub Value);

/// Asks about a source, and a target where one is given. The exit code must fit what is said.
pub fn doctor(source: &str, target: Option<&str>) -> Result<Said> {
    let mut args = vec!["doctor", source, "--json"];
    args.extend(target.iter().flat_map(|target| ["--to", target]));
    let outcome = Node::run(&args, PATIENCE)?;
    let said = Said(outcome.json()?);
    let expected = if said.0["ok"] == true { 0 } else { 1 };
    outcome.assert(expected, &[]);
    Ok(said)
}

/// Asks about a pair.
pub fn of_pair(source: &TestServer, target: &TestServer) -> Result<Said> {
    doctor(&source.url(), Some(&target.url()))
}

impl Said {
    fn messages(&self, severity: &str) -> Vec<String> {
        let findings = self.0["findings"].as_array().cloned().unwrap_or_default();
        let of = findings.iter().filter(|finding| finding["severity"] == severity);
        of.filter_map(|finding| finding["message"].as_str().map(str::to_owned)).collect()
    }

    /// The one finding of that severity that says all of these.
    pub fn one(&self, severity: &str, words: &[&str]) -> Result<String> {
        let messages = self.messages(severity);
        let mut found = messages.iter().filter(|message| words.iter().all(|word| message.contains(word)));
        match (found.next(), found.next()) {
            (Some(message), None) => Ok(message.clone()),
            (first, _) => {
                anyhow::bail!(
                    "{} {severity} says {words:?}: {:#}",
                    first.map_or("no", |_| "more than one"),
                    self.0
                )
            }
        }
    }

    /// Fails when a finding holds that word.
    pub fn says_nothing_of(&self, word: &str) -> Result<()> {
        ensure!(
            !self.0["findings"].to_string().contains(word),
            "it speaks of {word:?}: {:#}",
            self.0["findings"]
        );
        Ok(())
    }
}
