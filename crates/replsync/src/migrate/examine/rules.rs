//! The rules of an ACL user before 7.0, where no server tries a command on request (`ACL DRYRUN`).
//!
//! Source: `ACLSetUser` and `ACLDescribeUserCommandRules` in `src/acl.c` of Redis 6: rules hold from left to right.

use std::collections::HashMap;

use super::needs::Need;

/// `+@all -@dangerous +config|get`, with the commands of each category that is named.
pub(super) struct Rules {
    rules: Vec<String>,
    categories: HashMap<String, Vec<String>>,
}

impl Rules {
    /// The categories that rules name, whose commands are to be asked for (`ACL CAT`).
    pub fn categories(rules: &str) -> Vec<String> {
        let names = rules.split_whitespace().filter_map(|rule| rule.get(1..)?.strip_prefix('@'));
        names.filter(|name| *name != "all").map(str::to_owned).collect()
    }

    /// Rules, and the commands of the categories that they name.
    pub fn new(rules: &str, categories: HashMap<String, Vec<String>>) -> Self {
        Self { rules: rules.split_whitespace().map(str::to_owned).collect(), categories }
    }

    /// Whether they let a user run this.
    pub fn allow(&self, need: &Need) -> bool {
        let name = need.name().to_ascii_lowercase();
        let (base, sub) = name.split_once(' ').map_or((&name[..], None), |(base, sub)| (base, Some(sub)));
        let mut allowed = false;
        for rule in &self.rules {
            let (Some(sign), Some(what)) = (rule.chars().next(), rule.get(1..)) else { continue };
            let concerns = match what.strip_prefix('@') {
                Some("all") => true,
                Some(category) => {
                    self.categories.get(category).is_some_and(|names| names.iter().any(|name| name == base))
                }
                None => match what.split_once('|') {
                    Some((container, rule_sub)) => container == base && Some(rule_sub) == sub,
                    None => what == base,
                },
            };
            if concerns {
                allowed = sign == '+';
            }
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    fn missing(rules: &str) -> Vec<String> {
        let dangerous = ["psync", "replconf", "client", "config"].map(str::to_owned).to_vec();
        let categories = HashMap::from([("dangerous".to_owned(), dangerous)]);
        let rules = Rules::new(rules, categories);
        let needs = super::super::needs::of_source(Server::redis(6, 2));
        needs.iter().filter(|need| !rules.allow(need)).map(Need::name).collect()
    }

    #[test]
    fn rules_hold_from_left_to_right() {
        assert_eq!(missing("+@all"), [""; 0]);
        assert_eq!(missing("+@all -psync"), ["PSYNC"]);
        assert_eq!(missing("+@all -@dangerous +replconf"), ["PSYNC", "CLIENT PAUSE", "CLIENT UNPAUSE"]);
        assert_eq!(missing("+@all -@dangerous +psync +replconf +client|pause"), ["CLIENT UNPAUSE"]);
        assert_eq!(missing("+@all -@all").len(), missing("-@all").len());
        assert_eq!(Rules::categories("+@all -@dangerous +config|get -@admin"), ["dangerous", "admin"]);
    }
}
