//! The regular expressions of all groups, compiled, with the topics that each matches. A leader's alone: what is
//! replicated is their text.
//!
//! Each text is compiled once and matched once for each change of the topics, as long as all of them fit into
//! [`EXPRESSIONS_MAX`] and [`EXPRESSIONS_BYTES_MAX`]; what does not fit is made again whenever it is asked for.

use super::consumer::Topics;
use super::expression::Expression;
use super::limits::{EXPRESSIONS_BYTES_MAX, EXPRESSIONS_MAX, MATCHED_TOPICS_MAX};
use super::types::GroupError;
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// Topics by name.
pub(super) type TopicNames = BTreeSet<String>;

/// What each of some expressions matches.
pub(super) type Matches = BTreeMap<String, Arc<TopicNames>>;

/// Expressions by their text. Invariant: `bytes` is the sum of those kept, and at most [`EXPRESSIONS_BYTES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Expressions {
    kept: BTreeMap<String, Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    expression: Expression,
    /// `None`: topics have changed since.
    matched: Option<Arc<TopicNames>>,
}

/// The cluster's topics, and what expressions match of them.
pub(super) struct Catalog<'a> {
    pub topics: &'a Topics,
    pub expressions: &'a mut Expressions,
}

impl Expressions {
    /// Takes in an expression that a member brings; `in_use` are those that groups have.
    ///
    /// # Errors
    /// It does not compile, or there is no room for another one.
    pub fn admit(&mut self, text: &str, in_use: impl FnOnce() -> BTreeSet<String>) -> Result<(), GroupError> {
        if self.kept.contains_key(text) {
            return Ok(());
        }
        let expression =
            Expression::compile(text).map_err(|reason| GroupError::InvalidRegularExpression {
                reason: format!("the regular expression `{}` is not valid: {reason}", shown(text)),
            })?;
        let bytes = expression_bytes(text, &expression);
        if !self.has_room(bytes) {
            let in_use = in_use();
            self.kept.retain(|text, _| in_use.contains(text));
            // What they match can be found again.
            self.forget_matches();
        }
        if !self.has_room(bytes) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        self.keep(text, expression);
        Ok(())
    }

    /// Topics came or went.
    pub fn forget_matches(&mut self) {
        for kept in self.kept.values_mut() {
            kept.matched = None;
        }
        self.count();
    }

    /// The topics that an expression matches, at most [`MATCHED_TOPICS_MAX`] of them, the first ones by name.
    fn matched(&mut self, text: &str, topics: &Topics) -> Arc<TopicNames> {
        if let Some(Kept { matched: Some(matched), .. }) = self.kept.get(text) {
            return matched.clone();
        }
        if let Some(kept) = self.kept.get_mut(text) {
            let matched = Arc::new(search(&kept.expression, topics));
            let bytes = names_bytes(&matched);
            if self.bytes + bytes <= EXPRESSIONS_BYTES_MAX {
                kept.matched = Some(matched.clone());
                self.bytes += bytes;
            }
            return matched;
        }
        // Whoever brought it had it compiled, be it at an earlier leader.
        let Ok(expression) = Expression::compile(text) else { return Arc::default() };
        if self.has_room(expression_bytes(text, &expression)) {
            self.keep(text, expression);
            return self.matched(text, topics);
        }
        Arc::new(search(&expression, topics))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= EXPRESSIONS_BYTES_MAX && self.kept.len() < EXPRESSIONS_MAX
    }

    fn keep(&mut self, text: &str, expression: Expression) {
        self.bytes += expression_bytes(text, &expression);
        self.kept.insert(text.to_owned(), Kept { expression, matched: None });
    }

    fn count(&mut self) {
        self.bytes = self.kept.iter().map(|(text, kept)| kept.bytes(text)).sum();
    }
}

impl Kept {
    fn bytes(&self, text: &str) -> usize {
        expression_bytes(text, &self.expression) + self.matched.as_ref().map_or(0, |names| names_bytes(names))
    }
}

impl Catalog<'_> {
    /// The topics that an expression matches, at most [`MATCHED_TOPICS_MAX`] of them, the first ones by name.
    pub fn matched(&mut self, text: &str) -> Arc<TopicNames> {
        self.expressions.matched(text, self.topics)
    }
}

fn search(expression: &Expression, topics: &Topics) -> TopicNames {
    topics.keys().filter(|name| expression.matches(name)).take(MATCHED_TOPICS_MAX).cloned().collect()
}

fn expression_bytes(text: &str, expression: &Expression) -> usize {
    NODE_BYTES + text.len() + expression.bytes()
}

fn names_bytes(names: &TopicNames) -> usize {
    names.iter().map(|name| NODE_BYTES + name.len()).sum()
}

/// The beginning of a text that somebody else wrote.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// What a map takes for an item beside the item's own bytes, about.
const NODE_BYTES: usize = 64;

/// How much of an expression is repeated to whoever sent it.
const SHOWN_BYTES_MAX: usize = 200;
