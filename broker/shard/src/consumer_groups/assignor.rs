//! The two server-side assignors of the new protocol. Pure: the same members, topics and earlier target give the same
//! target everywhere.

use super::consumer::Topics;
use super::expressions::Matches;
use super::record::{Assignment, ConsumerMemberValue};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Assignor {
    /// As evenly as subscriptions allow, moving as few as it takes. The default.
    Uniform,
    /// Topic by topic, neighbours together: members of two topics with equal counts get equal numbers.
    Range,
}

impl Assignor {
    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name.
    pub fn find(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }
}

/// The assignor that most members ask for.
pub(super) fn preferred(members: &BTreeMap<String, ConsumerMemberValue>) -> Assignor {
    let asked = members.values().filter_map(|member| Assignor::find(member.server_assignor.as_deref()?));
    let range = asked.clone().filter(|assignor| *assignor == Assignor::Range).count();
    if range > asked.count() - range { Assignor::Range } else { Assignor::Uniform }
}

/// Shares out all partitions of the topics that anybody subscribes to; `matches` is what members' expressions match.
pub(super) fn assign(
    assignor: Assignor,
    members: &BTreeMap<String, ConsumerMemberValue>,
    matches: &Matches,
    earlier: &BTreeMap<String, Assignment>,
    topics: &Topics,
) -> BTreeMap<String, Assignment> {
    let shares = Shares::new(members, matches, topics);
    match assignor {
        Assignor::Uniform => shares.uniform(earlier),
        Assignor::Range => shares.range(),
    }
}

/// Members by number: arithmetic instead of names in the inner loops.
struct Shares<'a> {
    ids: Vec<&'a String>,
    /// What is before another in a range: static members keep their place under a new id.
    ranks: Vec<&'a String>,
    /// Who subscribes to each topic that exists, and how many partitions it has.
    topics: BTreeMap<&'a String, (i32, Vec<usize>)>,
    /// How many partitions each member has.
    loads: Vec<usize>,
}

impl<'a> Shares<'a> {
    fn new(
        members: &'a BTreeMap<String, ConsumerMemberValue>,
        matches: &Matches,
        images: &'a Topics,
    ) -> Self {
        let ids: Vec<&String> = members.keys().collect();
        let ranks = members.iter().map(|(id, member)| member.instance_id.as_ref().unwrap_or(id)).collect();
        let mut topics: BTreeMap<&String, (i32, Vec<usize>)> = BTreeMap::new();
        for (number, member) in members.values().enumerate() {
            let matched = member.subscribed_regex.as_ref().and_then(|text| matches.get(text));
            for name in
                member.subscribed_topics.iter().chain(matched.into_iter().flat_map(|names| names.iter()))
            {
                if let Some((name, image)) = images.get_key_value(name) {
                    let subscribers = &mut topics.entry(name).or_insert((image.partitions, Vec::new())).1;
                    // A topic may be named and matched.
                    if subscribers.last() != Some(&number) {
                        subscribers.push(number);
                    }
                }
            }
        }
        let loads = vec![0; ids.len()];
        Self { ids, ranks, topics, loads }
    }

    fn range(mut self) -> BTreeMap<String, Assignment> {
        let mut target = self.nothing();
        let topics = core::mem::take(&mut self.topics);
        for (topic, (count, mut subscribers)) in topics {
            subscribers.sort_by_key(|number| self.ranks[*number]);
            let (Ok(count), members) = (usize::try_from(count), subscribers.len()) else { continue };
            let (each, more) = (count / members, count % members);
            let mut partitions = 0_i32..;
            for (place, number) in subscribers.into_iter().enumerate() {
                let share = each + usize::from(place < more);
                let taken: alloc::collections::BTreeSet<i32> = partitions.by_ref().take(share).collect();
                if !taken.is_empty() {
                    target.entry(self.ids[number].clone()).or_default().insert(topic.clone(), taken);
                }
            }
        }
        target
    }

    /// Everybody keeps what it had, the rest goes to who has least, and then partitions move from who has more to who
    /// has less while that makes it more even: the last ones of a member first, so that it keeps the first, as with
    /// Kafka's assignor.
    fn uniform(mut self, earlier: &BTreeMap<String, Assignment>) -> BTreeMap<String, Assignment> {
        let topics = core::mem::take(&mut self.topics);
        let mut owners = self.kept(&topics, earlier);
        for ((topic, _), owner) in &mut owners {
            if owner.is_none() {
                *owner = topics.get(topic).and_then(|(_, subscribers)| self.least(subscribers));
                if let Some(number) = *owner {
                    self.loads[number] += 1;
                }
            }
        }
        for _ in 0..BALANCE_ROUNDS_MAX {
            let mut moved = false;
            for ((topic, _), owner) in owners.iter_mut().rev() {
                let subscribers = topics.get(topic).map(|(_, subscribers)| subscribers.as_slice());
                let (Some(from), Some(to)) = (*owner, subscribers.and_then(|all| self.least(all))) else {
                    continue;
                };
                if self.loads[from] >= self.loads[to] + 2 {
                    self.loads[from] -= 1;
                    self.loads[to] += 1;
                    *owner = Some(to);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        let mut target = self.nothing();
        for ((topic, partition), owner) in owners {
            if let Some(owner) = owner {
                let assignment = target.entry(self.ids[owner].clone()).or_default();
                assignment.entry(topic.clone()).or_default().insert(partition);
            }
        }
        target
    }

    /// All partitions, with those owners who may stay.
    fn kept(
        &mut self,
        topics: &BTreeMap<&'a String, (i32, Vec<usize>)>,
        earlier: &BTreeMap<String, Assignment>,
    ) -> BTreeMap<(&'a String, i32), Option<usize>> {
        let mut owners = BTreeMap::new();
        for (topic, (count, _)) in topics {
            owners.extend((0..*count).map(|partition| ((*topic, partition), None)));
        }
        for number in 0..self.ids.len() {
            for (topic, partitions) in earlier.get(self.ids[number]).into_iter().flatten() {
                let Some((name, (_, subscribers))) = topics.get_key_value(topic) else { continue };
                if subscribers.binary_search(&number).is_err() {
                    continue;
                }
                for partition in partitions {
                    if let Some(owner @ None) = owners.get_mut(&(*name, *partition)) {
                        *owner = Some(number);
                        self.loads[number] += 1;
                    }
                }
            }
        }
        owners
    }

    fn least(&self, subscribers: &[usize]) -> Option<usize> {
        subscribers.iter().copied().min_by_key(|number| self.loads[*number])
    }

    fn nothing(&self) -> BTreeMap<String, Assignment> {
        self.ids.iter().map(|id| ((*id).clone(), Assignment::new())).collect()
    }
}

/// Each round moves what it can; two are enough where all subscribe to the same.
const BALANCE_ROUNDS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer_groups::testing::Chance;
    use crate::consumer_groups::types::TopicImage;
    use alloc::collections::BTreeSet;
    use alloc::format;

    fn members(names: &[&str], subscribed: &[&str]) -> BTreeMap<String, ConsumerMemberValue> {
        let subscribed_topics: BTreeSet<String> = subscribed.iter().map(|name| String::from(*name)).collect();
        let member = ConsumerMemberValue { subscribed_topics, ..ConsumerMemberValue::default() };
        names.iter().map(|name| (String::from(*name), member.clone())).collect()
    }

    fn topics(counts: &[(&str, i32)]) -> Topics {
        let image = |(name, partitions): &(&str, i32)| {
            (String::from(*name), TopicImage { partitions: *partitions, id: 1 })
        };
        counts.iter().map(image).collect()
    }

    /// `member: topic-partition …` a line.
    fn shown(target: &BTreeMap<String, Assignment>) -> String {
        let mut text = String::new();
        for (id, assignment) in target {
            text += &format!("{id}:");
            for (topic, partitions) in assignment {
                for partition in partitions {
                    text += &format!(" {topic}{partition}");
                }
            }
            text += "\n";
        }
        text
    }

    #[test]
    fn range_gives_neighbours_topic_by_topic() {
        let (members, topics) = (members(&["a", "b"], &["t", "u"]), topics(&[("t", 3), ("u", 3)]));
        let target = assign(Assignor::Range, &members, &Matches::new(), &BTreeMap::new(), &topics);
        assert_eq!(shown(&target), "a: t0 t1 u0 u1\nb: t2 u2\n");
    }

    #[test]
    fn uniform_evens_out_over_topics() {
        let (members, topics) = (members(&["a", "b"], &["t", "u"]), topics(&[("t", 3), ("u", 3)]));
        let target = assign(Assignor::Uniform, &members, &Matches::new(), &BTreeMap::new(), &topics);
        assert_eq!(shown(&target), "a: t0 t2 u1\nb: t1 u0 u2\n");
    }

    #[test]
    fn uniform_moves_as_few_as_it_takes() {
        let topics = topics(&[("t", 9)]);
        let two = assign(
            Assignor::Uniform,
            &members(&["a", "b"], &["t"]),
            &Matches::new(),
            &BTreeMap::new(),
            &topics,
        );
        let three =
            assign(Assignor::Uniform, &members(&["a", "b", "c"], &["t"]), &Matches::new(), &two, &topics);
        let moved = three["c"]["t"].len();
        assert_eq!(moved, 3, "{}", shown(&three));
        for id in ["a", "b"] {
            assert!(three[id]["t"].is_subset(&two[id]["t"]), "{}", shown(&three));
        }
        let again =
            assign(Assignor::Uniform, &members(&["a", "b", "c"], &["t"]), &Matches::new(), &three, &topics);
        assert_eq!(again, three, "what is even stays");
    }

    /// As in Kafka, whose clients' own tests count on it.
    #[test]
    fn uniform_lets_a_member_keep_its_first_partitions() {
        let topics = topics(&[("t", 6)]);
        let mut target = BTreeMap::new();
        let mut seen = String::new();
        for names in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
            target = assign(Assignor::Uniform, &members(names, &["t"]), &Matches::new(), &target, &topics);
            seen += &shown(&target);
        }
        let expected = "a: t0 t1 t2 t3 t4 t5\n\
                        a: t0 t1 t2\nb: t3 t4 t5\n\
                        a: t0 t1\nb: t3 t4\nc: t2 t5\n";
        assert_eq!(seen, expected);
    }

    /// Members with subscriptions of their own, topics with counts of their own, and an earlier target that may not
    /// hold any more.
    #[test]
    fn every_partition_goes_to_one_subscriber() {
        for seed in 0..500 {
            let chance = &mut Chance::new(seed);
            let names = ["t", "u", "v"];
            let counts: Topics = names
                .iter()
                .map(|name| {
                    let partitions = i32::try_from(chance.below(9)).expect("small");
                    (String::from(*name), TopicImage { partitions, id: 1 })
                })
                .collect();
            let mut members = BTreeMap::new();
            let mut earlier = BTreeMap::new();
            for number in 0..=chance.below(5) {
                let some = |chance: &mut Chance| -> BTreeSet<String> {
                    names.iter().filter(|_| chance.below(2) == 0).map(|name| String::from(*name)).collect()
                };
                let subscribed_topics = some(chance);
                let had = some(chance);
                let had = had.into_iter().map(|topic| {
                    (topic, (0..chance.below(9)).map(|at| i32::try_from(at).expect("small")).collect())
                });
                earlier.insert(format!("m{number}"), had.collect());
                let member = ConsumerMemberValue { subscribed_topics, ..ConsumerMemberValue::default() };
                members.insert(format!("m{number}"), member);
            }
            for assignor in [Assignor::Uniform, Assignor::Range] {
                let target = assign(assignor, &members, &Matches::new(), &earlier, &counts);
                check(seed, &members, &counts, &target);
                if assignor == Assignor::Uniform {
                    check_even(seed, &members, &target);
                }
            }
        }
    }

    fn check(
        seed: u64,
        members: &BTreeMap<String, ConsumerMemberValue>,
        topics: &Topics,
        target: &BTreeMap<String, Assignment>,
    ) {
        assert!(target.keys().eq(members.keys()), "seed {seed}");
        let mut given = BTreeSet::new();
        for (id, assignment) in target {
            for (topic, partitions) in assignment {
                assert!(!partitions.is_empty(), "seed {seed}");
                assert!(members[id].subscribed_topics.contains(topic), "seed {seed}");
                for partition in partitions {
                    assert!(given.insert((topic, *partition)), "seed {seed}: {topic}{partition} twice");
                }
            }
        }
        let read = |topic: &String| members.values().any(|member| member.subscribed_topics.contains(topic));
        let all = topics.iter().filter(|(topic, _)| read(topic));
        let all =
            all.flat_map(|(topic, image)| (0..image.partitions).map(move |partition| (topic, partition)));
        assert_eq!(given, all.collect(), "seed {seed}");
    }

    /// Nobody could give one to somebody who has two less.
    fn check_even(
        seed: u64,
        members: &BTreeMap<String, ConsumerMemberValue>,
        target: &BTreeMap<String, Assignment>,
    ) {
        let load = |id: &str| target[id].values().map(BTreeSet::len).sum::<usize>();
        for (from, assignment) in target {
            for topic in assignment.keys() {
                for (to, member) in members {
                    let could = member.subscribed_topics.contains(topic);
                    assert!(!could || load(from) < load(to) + 2, "seed {seed}: {}", shown(target));
                }
            }
        }
    }
}
