//! Commits in an epoch that a heartbeat has moved meanwhile (KIP-1251).

use crate::consumer::{beat, entering, instance, owning, pair, say, world};
use crate::world::*;
use raftline_shard::consumer_groups::record::{CurrentValue, GroupRecord, PartitionEpochs};
use raftline_shard::consumer_groups::types::{GroupRequest, OffsetCommit};

/// A commit of partitions of `t` in an epoch: its code.
fn committing(world: &mut World, member_id: &str, epoch: i32, partitions: &[i32]) -> i16 {
    let one = |partition: &i32| commit(member_id, epoch, *partition, 1).offsets;
    let offsets = partitions.iter().flat_map(one).collect();
    let request = OffsetCommit { offsets, ..commit(member_id, epoch, 0, 1) };
    code(&world.call(GroupRequest::OffsetCommit(request)))
}

#[test]
fn a_commit_of_an_older_epoch_is_taken_for_what_the_member_has_had_since() {
    let mut world = world(4);
    pair(&mut world);
    for _ in 0..2 {
        assert_eq!(committing(&mut world, "a", 1, &[0, 1]), 0, "it had them in 1, and has them in 2");
        assert_eq!(committing(&mut world, "a", 1, &[2]), 113, "it gave that one up");
        assert_eq!(committing(&mut world, "a", 1, &[0, 2]), 113, "all of them, or none");
        assert_eq!(committing(&mut world, "a", 1, &[9]), 113, "it never had that one");
        assert_eq!(committing(&mut world, "a", 0, &[0]), 113);
        assert_eq!(committing(&mut world, "a", 3, &[0]), 113, "there is no such epoch yet");
        assert_eq!(committing(&mut world, "b", 1, &[2]), 113, "it has that one since 2");
        assert_eq!(committing(&mut world, "b", 1, &[0]), 113, "that is not its own");
        assert_eq!(committing(&mut world, "b", 2, &[2]), 0);
        world.fail_over();
    }
    // It gets back what it had before. In between another one has had it.
    assert_eq!(say(&mut world, beat("b", -1)), "-1");
    assert_eq!(say(&mut world, beat("a", 2)), "3 [0, 1, 2, 3]");
    assert_eq!(committing(&mut world, "a", 1, &[0, 1]), 0);
    assert_eq!(committing(&mut world, "a", 1, &[2]), 113);
    assert_eq!(committing(&mut world, "a", 2, &[2]), 113);
    assert_eq!(committing(&mut world, "a", 3, &[2]), 0);
    // What it is to give up is still its own.
    assert_eq!(say(&mut world, entering("c")), "4 []");
    assert_eq!(say(&mut world, owning("a", 3, &[0, 1, 2, 3])), "3 [0, 1]");
    assert_eq!(committing(&mut world, "a", 1, &[0, 1]), 0);
    assert_eq!(committing(&mut world, "a", 2, &[2, 3]), 113);
    assert_eq!(committing(&mut world, "a", 3, &[2, 3]), 0);
}

#[test]
fn what_a_member_is_to_give_up_it_has_had_since_it_got_it() {
    let mut world = world(4);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    world.topics(&[("t", 6, 1)]);
    assert_eq!(say(&mut world, beat("a", 1)), "2 [0, 1, 2, 3, 4, 5]");
    assert_eq!(say(&mut world, entering("b")), "3 []");
    assert_eq!(say(&mut world, beat("a", 2)), "2 [0, 1, 2]");
    for _ in 0..2 {
        assert_eq!(committing(&mut world, "a", 1, &[0, 3]), 0, "3 is to go and has not gone");
        assert_eq!(committing(&mut world, "a", 1, &[4]), 113);
        world.fail_over();
    }
    assert_eq!(say(&mut world, owning("a", 2, &[0, 1, 2])), "3");
    assert_eq!(committing(&mut world, "a", 1, &[0]), 0);
    assert_eq!(committing(&mut world, "a", 2, &[3]), 113);
}

/// Earlier versions did not write when a member got what it has.
#[test]
fn of_what_an_earlier_version_wrote_the_epoch_it_was_written_in_counts() {
    let mut world = world(4);
    pair(&mut world);
    let as_before = |record: &GroupRecord| match record.clone() {
        GroupRecord::ConsumerCurrent { group, member_id, value: Some(value) } => {
            let value = CurrentValue { earlier_epochs: PartitionEpochs::new(), ..value };
            Some(GroupRecord::ConsumerCurrent { group, member_id, value: Some(value) })
        }
        _ => None,
    };
    world.uncommitted = world.log.iter().filter_map(as_before).collect();
    world.commit_all();
    world.fail_over();
    assert_eq!(committing(&mut world, "a", 1, &[0]), 113, "it may have got it in 2");
    assert_eq!(committing(&mut world, "a", 2, &[0]), 0);
    assert_eq!(say(&mut world, entering("c")), "3 []");
    assert_eq!(say(&mut world, beat("a", 2)), "3");
    assert_eq!(committing(&mut world, "a", 1, &[0]), 113);
    assert_eq!(committing(&mut world, "a", 2, &[0]), 0);
}

#[test]
fn a_static_member_that_is_back_has_had_nothing_under_its_new_id() {
    let mut world = world(2);
    let entering = |id: &str| instance("i", entering(id));
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1]");
    world.topics(&[("t", 3, 1)]);
    assert_eq!(say(&mut world, instance("i", beat("a", 1))), "2 [0, 1, 2]");
    assert_eq!(committing(&mut world, "a", 1, &[0, 1]), 0);
    assert_eq!(say(&mut world, instance("i", beat("a", -2))), "-2");
    assert_eq!(committing(&mut world, "a", 1, &[0]), 113, "it is away");
    world.fail_over();
    assert_eq!(say(&mut world, entering("a")), "2 [0, 1, 2]", "under the same id");
    assert_eq!(committing(&mut world, "a", 1, &[0, 1]), 0, "nobody else has had them");
    assert_eq!(committing(&mut world, "a", 1, &[2]), 113);
    assert_eq!(say(&mut world, instance("i", beat("a", -2))), "-2");
    assert_eq!(say(&mut world, entering("b")), "2 [0, 1, 2]", "under another");
    assert_eq!(committing(&mut world, "b", 1, &[0]), 113);
    assert_eq!(committing(&mut world, "b", 2, &[0]), 0);
    assert_eq!(committing(&mut world, "a", 2, &[0]), 25);
}
