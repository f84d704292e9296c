//! Deletion of records by request.

use crate::world::{End, N1, N2, N3, World};
use raftline_proto::ids::{GroupId, NodeId, Offset};
use raftline_shard::types::{DeleteError, DeleteUpTo, Event, FetchError, OffsetQuery, Reply, RequestId};
use std::time::Duration;

impl World {
    fn delete(&mut self, node: NodeId, group: GroupId, up_to: DeleteUpTo) -> RequestId {
        let deadline = self.deadline(Duration::from_secs(2));
        self.ask(node, |request| Event::DeleteRecords { request, group, up_to, deadline })
    }

    fn deleted(&mut self, request: RequestId) -> Result<Offset, DeleteError> {
        match self.shard_answer(request) {
            Reply::RecordsDeleted(outcome) => outcome,
            other => panic!("not a deletion's answer: {other:?}"),
        }
    }

    fn delete_now(&mut self, group: GroupId, up_to: DeleteUpTo) -> Result<Offset, DeleteError> {
        let leader = self.leader(group);
        let request = self.delete(leader, group, up_to);
        self.deleted(request)
    }

    fn earliest(&mut self, group: GroupId) -> Offset {
        let leader = self.leader(group);
        let query = OffsetQuery::Earliest;
        let request = self.ask(leader, |request| Event::ListOffset { request, group, query });
        match self.shard_answer(request) {
            Reply::Offset(Ok(offset)) => offset,
            other => panic!("not an offset: {other:?}"),
        }
    }

    fn fetch_at(&mut self, group: GroupId, from: u64) -> Result<Vec<String>, FetchError> {
        let leader = self.leader(group);
        let request = self.fetch_from(leader, group, from, 0, Duration::ZERO);
        self.fetched(request).map(|(texts, _)| texts)
    }
}

fn ten_records() -> (World, GroupId) {
    let (mut world, group) = World::with_topic();
    for nth in 0..10 {
        world.produce(group, &format!("record-{nth}")).expect("acknowledged");
    }
    (world, group)
}

const fn upto(offset: u64) -> DeleteUpTo {
    DeleteUpTo::Offset(Offset(offset))
}

#[test]
fn what_is_deleted_is_out_of_range_and_its_files_go() {
    let (mut world, group) = ten_records();
    assert_eq!(world.delete_now(group, upto(4)), Ok(Offset(4)));
    assert_eq!(world.earliest(group), Offset(4));
    let out_of_range = FetchError::OffsetOutOfRange {
        asked: Offset(3),
        start_offset: Offset(4),
        high_watermark: Offset(10),
    };
    assert_eq!(world.fetch_at(group, 3), Err(out_of_range));
    assert_eq!(world.fetch_at(group, 4).expect("there").len(), 6);
    world.run_for(Duration::from_secs(1));
    for node in [N1, N2, N3] {
        assert_eq!(
            world.nodes[&node].disk.live[&group].log.start.offset,
            Offset(4),
            "whole segments are gone"
        );
        assert_eq!(world.describe(node, group).expect("here").start_offset, Offset(4));
    }
    assert_eq!(world.delete_now(group, upto(2)), Ok(Offset(4)), "deleted already");
    assert_eq!(world.delete_now(group, DeleteUpTo::HighWatermark), Ok(Offset(10)));
    assert_eq!(world.fetch_at(group, 10), Ok(Vec::new()));
    let produced = world.produce(group, "more").expect("acknowledged");
    assert_eq!(produced.base_offset, Offset(10), "offsets go on");
    world.assert_no_alarms();
}

#[test]
fn a_deletion_that_cannot_be_is_refused() {
    let (mut world, group) = ten_records();
    let error = DeleteError::OffsetOutOfRange { asked: Offset(11), high_watermark: Offset(10) };
    assert_eq!(world.delete_now(group, upto(11)), Err(error));
    let leader = world.leader(group);
    let other = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("one of two");
    let request = world.delete(other, group, upto(5));
    match world.deleted(request) {
        Err(DeleteError::NotLeader { leader: known, .. }) => assert_eq!(known, Some(leader)),
        outcome => panic!("{outcome:?}"),
    }
    let request = world.delete(leader, GroupId(4713), upto(5));
    assert_eq!(world.deleted(request), Err(DeleteError::UnknownGroup));
    let request = world.delete(leader, GroupId::COORDINATOR, upto(0));
    assert_eq!(world.deleted(request), Err(DeleteError::UnknownGroup));
    let command = world.topic("state", Some(1), &[("cleanup.policy", "compact")]);
    world.command(command).expect("created");
    let compacted = world.group("state", 0);
    assert_eq!(world.delete_now(compacted, DeleteUpTo::HighWatermark), Err(DeleteError::CompactedOnly));
    assert_eq!(world.earliest(group), Offset(0));
}

#[test]
fn a_deletion_is_answered_by_a_majority_or_not_at_all() {
    let (mut world, group) = ten_records();
    let leader = world.leader(group);
    world.muted.insert(group);
    let request = world.delete(leader, group, upto(5));
    world.run_for(Duration::from_millis(10));
    world.isolate(leader);
    world.muted.clear();
    match world.deleted(request) {
        Err(DeleteError::TimedOut | DeleteError::LeadershipLost { .. }) => {}
        outcome => panic!("{outcome:?}"),
    }
    world.until("another leader", |world| Some(world.leader(group)).filter(|new| *new != leader));
    assert_eq!(world.earliest(group), Offset(0));
    world.heal();
    world.converged(group);
    assert_eq!(world.earliest(group), Offset(0));
}

#[test]
fn what_was_deleted_stays_so_over_restarts_and_new_leaders() {
    let (mut world, group) = ten_records();
    assert_eq!(world.delete_now(group, upto(7)), Ok(Offset(7)));
    for how in [End::Killed, End::PowerCut, End::Killed] {
        let leader = world.leader(group);
        world.end(leader, how);
        world.start(leader);
        world.produce(group, "x").expect("acknowledged");
        assert_eq!(world.earliest(group), Offset(7));
        let leader = world.leader(group);
        assert!(world.fetch_at(group, 6).is_err());
        assert_eq!(world.describe(leader, group).expect("here").start_offset, Offset(7));
    }
    for node in [N1, N2, N3] {
        world.end(node, End::PowerCut);
    }
    for node in [N1, N2, N3] {
        world.start(node);
    }
    world.produce(group, "y").expect("acknowledged");
    assert_eq!(world.earliest(group), Offset(7));
    world.assert_no_alarms();
}

#[test]
fn a_compaction_does_not_forget_what_was_deleted() {
    let mut world = World::registered();
    let configs = [("cleanup.policy", "compact,delete"), ("segment.bytes", "4096")];
    let command = world.topic("both", Some(1), &configs);
    world.command(command).expect("created");
    let group = world.group("both", 0);
    for nth in 0..20 {
        world.produce(group, &format!("key-{nth}={}", "x".repeat(300))).expect("acknowledged");
    }
    // The files stay, as those of a segment do that is written to still.
    for node in [N1, N2, N3] {
        world.node(node).keeps_files = true;
    }
    assert_eq!(world.delete_now(group, upto(5)), Ok(Offset(5)));
    world.run_for(Duration::from_secs(65));
    let trims = |world: &World, node| {
        let log = &world.nodes[&node].disk.live[&group].log;
        assert!(!world.nodes[&node].compactions.is_empty(), "compacted");
        log.entries.iter().filter(|stored| format!("{:?}", stored.info.body).contains("TrimTo")).count()
    };
    for node in [N1, N2, N3] {
        assert_eq!(trims(&world, node), 0, "the command itself is compacted");
        world.end(node, End::PowerCut);
    }
    for node in [N1, N2, N3] {
        world.start(node);
    }
    world.produce(group, "key-1=new").expect("acknowledged");
    assert_eq!(world.earliest(group), Offset(5));
}
