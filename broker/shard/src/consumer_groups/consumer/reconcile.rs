//! One member's next step from what it may own to its target (KIP-848, "member reconciliation").

use crate::consumer_groups::record::{Assignment, CurrentValue, MemberState};

/// Where the member is after this heartbeat. `owned` is what it says it owns, if it says so; `others` are where the
/// other members are.
pub(super) fn reconcile(
    current: &CurrentValue,
    target_epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    others: &[&CurrentValue],
) -> CurrentValue {
    match current.state {
        MemberState::Stable if current.member_epoch == target_epoch => current.clone(),
        // It has not said yet that it gave up what it had to.
        MemberState::UnrevokedPartitions if owned.is_none_or(|owned| overlap(owned, &current.revoking)) => {
            current.clone()
        }
        MemberState::Stable | MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
            advance(current, target_epoch, target, owned, others).after(current)
        }
    }
}

fn advance(
    current: &CurrentValue,
    target_epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    others: &[&CurrentValue],
) -> CurrentValue {
    let (kept, revoking) = split(&current.assigned, |topic, partition| contains(target, topic, partition));
    if !revoking.is_empty() && owned.is_none_or(|owned| overlap(owned, &revoking)) {
        // The epoch stays until it has given these up.
        let state = MemberState::UnrevokedPartitions;
        return CurrentValue { state, assigned: kept, revoking, ..current.clone() };
    }
    let taken = |topic: &str, partition: i32| {
        others.iter().any(|other| {
            contains(&other.assigned, topic, partition) || contains(&other.revoking, topic, partition)
        })
    };
    let (unreleased, assigned) =
        split(target, |topic, partition| !contains(&kept, topic, partition) && taken(topic, partition));
    let waits = !unreleased.is_empty();
    let moved = current.member_epoch != target_epoch;
    CurrentValue {
        member_epoch: target_epoch,
        previous_epoch: if moved { current.member_epoch } else { current.previous_epoch },
        state: if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable },
        assigned,
        ..CurrentValue::default()
    }
}

/// Those that `chosen` says, and the rest.
fn split(assignment: &Assignment, chosen: impl Fn(&str, i32) -> bool) -> (Assignment, Assignment) {
    let (mut yes, mut no) = (Assignment::new(), Assignment::new());
    for (topic, partitions) in assignment {
        for partition in partitions {
            let into = if chosen(topic, *partition) { &mut yes } else { &mut no };
            into.entry(topic.clone()).or_default().insert(*partition);
        }
    }
    (yes, no)
}

fn contains(assignment: &Assignment, topic: &str, partition: i32) -> bool {
    assignment.get(topic).is_some_and(|partitions| partitions.contains(&partition))
}

fn overlap(one: &Assignment, other: &Assignment) -> bool {
    one.iter()
        .any(|(topic, partitions)| partitions.iter().any(|partition| contains(other, topic, *partition)))
}
