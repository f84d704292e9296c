//! One regular expression over topic names, as a finite automaton.
//!
//! The automaton is built as a whole before it is used: its size is bounded, and after that a name costs one step for
//! each of its bytes, whatever the expression. Names are ASCII, and so are the expression's classes.

use super::limits::{EXPRESSION_AUTOMATON_BYTES_MAX, EXPRESSION_BYTES_MAX, EXPRESSION_NESTING_MAX};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

/// An expression that compiles.
#[derive(Debug)]
pub(super) struct Expression {
    automaton: dense::DFA<Vec<u32>>,
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("it is {} bytes long, and may have {EXPRESSION_BYTES_MAX}", text.len()));
        }
        let expression = parse(&without_quotes(text))?;
        let too_large = || {
            format!(
                "its automaton would pass {EXPRESSION_AUTOMATON_BYTES_MAX} bytes, or take too long to build"
            )
        };
        let states = thompson::Config::new()
            .utf8(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(EXPRESSION_AUTOMATON_BYTES_MAX / STATES_SHARE));
        let states = thompson::Compiler::new().configure(states).build_from_hir(&expression);
        let states = states.map_err(|_| too_large())?;
        // `All`: the whole name decides, not which alternative comes first.
        let table = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All)
            .dfa_size_limit(Some(EXPRESSION_AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(EXPRESSION_AUTOMATON_BYTES_MAX / BUILDING_SHARE));
        let table = dense::Builder::new().configure(table).build_from_nfa(&states);
        let automaton = table.map_err(|_| too_large())?;
        Ok(Self { automaton })
    }

    /// Whether it matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        let anchored = start::Config::new().anchored(Anchored::Yes);
        let Ok(mut state) = self.automaton.start_state(&anchored) else { return false };
        for byte in name.bytes() {
            state = self.automaton.next_state(state, byte);
            if self.automaton.is_dead_state(state) {
                return false;
            }
        }
        self.automaton.is_match_state(self.automaton.next_eoi_state(state))
    }

    /// What it takes of the memory.
    pub fn bytes(&self) -> usize {
        self.automaton.memory_usage()
    }
}

fn parse(text: &str) -> Result<Hir, String> {
    let mut parser =
        ParserBuilder::new().unicode(false).utf8(false).nest_limit(EXPRESSION_NESTING_MAX).build();
    parser.parse(text).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
    })
}

/// The same without RE2's `\Q…\E`, between which every character stands for itself.
fn without_quotes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('\\') {
        plain += before;
        if let Some(quoted) = from.strip_prefix('Q') {
            let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            plain += &regex_syntax::escape(quoted);
            rest = after;
        } else {
            // The backslash and what it is about, which may be another one.
            let about = from.chars().next().map_or(0, char::len_utf8);
            plain.push('\\');
            plain += &from[..about];
            rest = &from[about..];
        }
    }
    plain + rest
}

/// The part of the bound on an automaton that the states which it is made of may take.
const STATES_SHARE: usize = 8;

/// The part of it that may be kept in mind while it is built: what bounds the time that takes, to some 40 ms.
const BUILDING_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer_groups::testing::Chance;
    use alloc::boxed::Box;
    use alloc::collections::BTreeSet;

    fn reason(text: &str) -> String {
        match Expression::compile(text) {
            Ok(_) => panic!("`{text}` compiles"),
            Err(reason) => reason,
        }
    }

    fn matching<'a>(text: &str, names: &[&'a str]) -> Vec<&'a str> {
        let expression = Expression::compile(text).unwrap_or_else(|reason| panic!("`{text}`: {reason}"));
        names.iter().copied().filter(|name| expression.matches(name)).collect()
    }

    #[test]
    fn the_whole_name_is_matched() {
        let names = ["orders", "orders-v2", "reorders", "Orders", "__consumer_offsets", "a.b", "axb"];
        assert_eq!(matching("orders", &names), ["orders"]);
        assert_eq!(matching("^orders", &names), ["orders"]);
        assert_eq!(matching("orders.*", &names), ["orders", "orders-v2"]);
        assert_eq!(matching("order|orders|ord", &names), ["orders"], "no alternative hides a longer one");
        assert_eq!(matching("(?i)ORDERS", &names), ["orders", "Orders"]);
        assert_eq!(matching(r"\w+", &names), ["orders", "reorders", "Orders", "__consumer_offsets", "axb"]);
        assert_eq!(matching(r"a\.b", &names), ["a.b"]);
        assert_eq!(matching(r"\Qa.b\E", &names), ["a.b"], "RE2's quotes");
        assert_eq!(matching(r"\Qa.\E[a-b]", &names), ["a.b"]);
        assert_eq!(matching(r"\\Qa", &names), [""; 0], "an escaped backslash quotes nothing");
        assert_eq!(matching("[[:alpha:]]+", &names), ["orders", "reorders", "Orders", "axb"]);
        assert_eq!(
            matching("(?:^.*rders$)|(?:^a.b$)", &names),
            ["orders", "reorders", "Orders", "a.b", "axb"]
        );
        assert_eq!(matching(".*", &names), names);
        assert_eq!(matching(r"(?P<name>ord)ers\b", &names), ["orders"]);
        assert_eq!(matching("a^b|a$b", &names), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(reason("^.*[0"), "unclosed character class");
        assert_eq!(reason("(a"), "unclosed group");
        assert_eq!(reason("a)"), "unopened group");
        assert_eq!(reason("*"), "repetition operator missing expression");
        assert_eq!(reason("\\"), "incomplete escape sequence, reached end of pattern prematurely");
        assert_eq!(reason("(?=a)"), "look-around, including look-ahead and look-behind, is not supported");
        assert_eq!(reason(r"(a)\1"), "backreferences are not supported");
        assert_eq!(reason(r"\p{Greek}"), "Unicode not allowed here");
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let automaton = "its automaton would pass 1048576 bytes, or take too long to build";
        let letters: String = ('a'..='z').flat_map(|letter| [letter, '*']).collect();
        for text in [
            "(a{1000}){1000}",
            ".{1000000}",
            "((((a{10}){10}){10}){10}){10}",
            ".*a.{20}",
            &letters.repeat(30),
        ] {
            assert_eq!(reason(text), automaton, "{text}");
        }
        let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        assert!(reason(&nested(200)).contains("exceed the maximum number of nested"));
        assert!(Expression::compile(&nested(50)).is_ok());
        assert_eq!(reason(&"a".repeat(EXPRESSION_BYTES_MAX + 1)), "it is 2049 bytes long, and may have 2048");
        assert!(Expression::compile(&"a".repeat(EXPRESSION_BYTES_MAX)).is_ok());
        // What clients make of a list: 60 names of 30 bytes, anywhere in a topic's.
        let names: Vec<String> =
            (0..60).map(|number| format!("^.*some-topic-of-a-long-name{number:03}")).collect();
        assert!(Expression::compile(&names.join("|")).is_ok());
    }

    /// An expression as a tree, for the dumb twin.
    enum Tree {
        Letter(char),
        Any,
        Class(BTreeSet<char>),
        Both(Box<Tree>, Box<Tree>),
        Either(Box<Tree>, Box<Tree>),
        Repeated(Box<Tree>, usize, Option<usize>),
    }

    impl Tree {
        fn new(chance: &mut Chance, depth: u64) -> Self {
            let letter = |chance: &mut Chance| ['a', 'b', '-', '.'][chance.index(4)];
            let below = |chance: &mut Chance| Box::new(Self::new(chance, depth.saturating_sub(1)));
            match chance.below(if depth == 0 { 3 } else { 7 }) {
                0 => Self::Letter(letter(chance)),
                1 => Self::Any,
                2 => Self::Class((0..=chance.below(2)).map(|_| letter(chance)).collect()),
                3 | 4 => Self::Both(below(chance), below(chance)),
                5 => Self::Either(below(chance), below(chance)),
                _ => {
                    let least = chance.index(3);
                    let most = (chance.below(2) == 0).then(|| least + chance.index(3));
                    Self::Repeated(below(chance), least, most)
                }
            }
        }

        fn text(&self) -> String {
            match self {
                Self::Letter(letter) => regex_syntax::escape(&letter.to_string()),
                Self::Any => ".".to_string(),
                Self::Class(letters) => {
                    let letters = letters.iter().map(|letter| regex_syntax::escape(&letter.to_string()));
                    format!("[{}]", letters.collect::<String>())
                }
                Self::Both(one, other) => format!("(?:{})(?:{})", one.text(), other.text()),
                Self::Either(one, other) => format!("(?:{}|{})", one.text(), other.text()),
                Self::Repeated(inner, least, Some(most)) => format!("(?:{}){{{least},{most}}}", inner.text()),
                Self::Repeated(inner, least, None) => format!("(?:{}){{{least},}}", inner.text()),
            }
        }

        /// Where it may end in a name if it begins at one of these places.
        fn ends(&self, name: &[char], from: &BTreeSet<usize>) -> BTreeSet<usize> {
            let one = |fits: &dyn Fn(char) -> bool| {
                from.iter()
                    .filter(|at| name.get(**at).is_some_and(|found| fits(*found)))
                    .map(|at| at + 1)
                    .collect()
            };
            match self {
                Self::Letter(letter) => one(&|found| found == *letter),
                Self::Any => one(&|_| true),
                Self::Class(letters) => one(&|found| letters.contains(&found)),
                Self::Both(first, second) => second.ends(name, &first.ends(name, from)),
                Self::Either(one, other) => &one.ends(name, from) | &other.ends(name, from),
                Self::Repeated(inner, least, most) => {
                    let mut at = from.clone();
                    for _ in 0..*least {
                        at = inner.ends(name, &at);
                    }
                    let mut all = at.clone();
                    for _ in 0..most.map_or(name.len() + 1, |most| most - least) {
                        at = inner.ends(name, &at);
                        all.extend(&at);
                    }
                    all
                }
            }
        }
    }

    #[test]
    fn a_dumb_matcher_agrees() {
        for seed in 0..2_000 {
            let chance = &mut Chance::new(seed);
            let tree = Tree::new(chance, 4);
            let text = tree.text();
            let Ok(expression) = Expression::compile(&text) else { continue };
            for _ in 0..20 {
                let name: Vec<char> =
                    (0..chance.below(7)).map(|_| ['a', 'b', '-', '.'][chance.index(4)]).collect();
                let expected = tree.ends(&name, &[0].into()).contains(&name.len());
                let name: String = name.into_iter().collect();
                assert_eq!(expression.matches(&name), expected, "seed {seed}: `{text}`, `{name}`");
            }
        }
    }

    #[test]
    fn any_text_compiles_or_is_refused_with_a_reason() {
        let pieces = [
            "a",
            "b",
            ".",
            "*",
            "+",
            "?",
            "{",
            "}",
            "{2}",
            "{9,}",
            "{1000}",
            "(",
            ")",
            "(?",
            "(?i)",
            "(?P<n>",
            "(?:",
            "|",
            "[",
            "]",
            "[^",
            "-",
            "^",
            "$",
            "\\",
            "\\Q",
            "\\E",
            "\\b",
            "\\d",
            "\\pL",
            "\\x{41}",
            "[[:alpha:]]",
            "&&",
            "é",
            "\u{0}",
            "\n",
            "(?x)",
            "#",
            " ",
        ];
        let mut compiled = 0;
        for seed in 0..5_000 {
            let chance = &mut Chance::new(seed);
            let text: String = (0..chance.below(12)).map(|_| pieces[chance.index(pieces.len())]).collect();
            match Expression::compile(&text) {
                Ok(expression) => {
                    compiled += 1;
                    assert!(expression.bytes() <= EXPRESSION_AUTOMATON_BYTES_MAX, "seed {seed}: `{text}`");
                    expression.matches("ab-");
                }
                Err(reason) => assert!(!reason.is_empty() && !reason.contains('\n'), "seed {seed}: {reason}"),
            }
        }
        assert!(compiled > 500, "{compiled}");
    }
}
