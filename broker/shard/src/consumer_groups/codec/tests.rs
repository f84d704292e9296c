use super::*;
use crate::consumer_groups::record::{
    Assignment, ClassicMemberValue, ClassicSupport, ClassicValue, ConsumerMemberValue, ConsumerValue,
    CurrentValue, MemberState, OffsetValue, PartitionEpochs,
};
use crate::consumer_groups::testing::Chance;
use crate::consumer_groups::types::GroupProtocol;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use raftline_proto::time::Timestamp;

fn text(chance: &mut Chance) -> String {
    let letters = ["", "a", "orders", "ü", "日本", "x-y_z.9"];
    format!("{}{}", letters[chance.index(letters.len())], letters[chance.index(letters.len())])
}

fn optional(chance: &mut Chance) -> Option<String> {
    (chance.below(2) == 0).then(|| text(chance))
}

fn int32(chance: &mut Chance) -> i32 {
    [0, 1, -1, i32::MIN, i32::MAX, 77][chance.index(6)]
}

fn int64(chance: &mut Chance) -> i64 {
    [0, 1, -1, i64::MIN, i64::MAX, 77][chance.index(6)]
}

fn byte_string(chance: &mut Chance) -> Vec<u8> {
    (0..chance.below(20)).map(|_| u8::try_from(chance.below(256)).expect("a byte")).collect()
}

fn assignment(chance: &mut Chance) -> Assignment {
    (0..chance.below(3))
        .map(|_| (text(chance), (0..chance.below(4)).map(|_| int32(chance)).collect()))
        .collect()
}

fn epochs(chance: &mut Chance) -> PartitionEpochs {
    (0..chance.below(3))
        .map(|_| (text(chance), (0..chance.below(4)).map(|_| (int32(chance), int32(chance))).collect()))
        .collect()
}

fn member(chance: &mut Chance) -> ClassicMemberValue {
    ClassicMemberValue {
        member_id: text(chance),
        instance_id: optional(chance),
        client_id: text(chance),
        client_host: text(chance),
        session_timeout_ms: int32(chance).cast_unsigned(),
        rebalance_timeout_ms: int32(chance).cast_unsigned(),
        subscription: byte_string(chance),
        assignment: byte_string(chance),
    }
}

fn protocol(chance: &mut Chance) -> GroupProtocol {
    GroupProtocol { name: text(chance), metadata: byte_string(chance) }
}

fn record(chance: &mut Chance) -> GroupRecord {
    let group = text(chance);
    let live = chance.below(4) > 0;
    match chance.below(6) {
        0 => {
            let value = live.then(|| OffsetValue {
                offset: int64(chance),
                leader_epoch: int32(chance),
                metadata: text(chance),
                commit_timestamp: Timestamp(int64(chance)),
            });
            GroupRecord::Offset { group, topic: text(chance), partition: int32(chance), value }
        }
        1 => {
            let value = live.then(|| ClassicValue {
                generation: int32(chance),
                protocol_type: text(chance),
                protocol: optional(chance),
                leader: optional(chance),
                state_timestamp: Timestamp(int64(chance)),
                members: (0..chance.below(4)).map(|_| member(chance)).collect(),
            });
            GroupRecord::Classic { group, value }
        }
        2 => {
            let value = live.then(|| ConsumerValue {
                epoch: int32(chance),
                target_epoch: int32(chance),
                topics_digest: int64(chance).cast_unsigned(),
                epoch_timestamp: Timestamp(int64(chance)),
            });
            GroupRecord::Consumer { group, value }
        }
        3 => {
            let speaks_classic = chance.below(3) == 0;
            let value = live.then(|| ConsumerMemberValue {
                instance_id: optional(chance),
                rack_id: optional(chance),
                client_id: text(chance),
                client_host: text(chance),
                rebalance_timeout_ms: int32(chance).cast_unsigned(),
                subscribed_topics: (0..chance.below(4)).map(|_| text(chance)).collect(),
                subscribed_regex: optional(chance).filter(|_| !speaks_classic),
                server_assignor: optional(chance),
                classic: speaks_classic.then(|| ClassicSupport {
                    session_timeout_ms: int32(chance).cast_unsigned(),
                    protocols: (0..chance.below(4)).map(|_| protocol(chance)).collect(),
                }),
            });
            GroupRecord::ConsumerMember { group, member_id: text(chance), value }
        }
        4 => {
            let value = live.then(|| assignment(chance));
            GroupRecord::ConsumerTarget { group, member_id: text(chance), value }
        }
        _ => {
            let states =
                [MemberState::Stable, MemberState::UnrevokedPartitions, MemberState::UnreleasedPartitions];
            let value = live.then(|| CurrentValue {
                member_epoch: int32(chance),
                previous_epoch: int32(chance),
                state: states[chance.index(3)],
                assigned: assignment(chance),
                revoking: assignment(chance),
                earlier_epochs: epochs(chance),
            });
            GroupRecord::ConsumerCurrent { group, member_id: text(chance), value }
        }
    }
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..3_000 {
        let record = record(&mut Chance::new(seed));
        let (key, value) = record.encode();
        assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(record), "seed {seed}");
    }
}

#[test]
fn the_key_says_nothing_of_the_value() {
    for seed in 0..500 {
        let record = record(&mut Chance::new(seed));
        let (key, _) = record.encode();
        let tombstone = GroupRecord::decode(&key, None).expect("a tombstone");
        assert_eq!(tombstone.encode(), (key, None), "seed {seed}");
    }
}

#[test]
fn damaged_bytes_are_refused_or_read_and_never_panic() {
    for seed in 0..3_000 {
        let chance = &mut Chance::new(seed);
        let (mut key, value) = record(chance).encode();
        let mut value = value.unwrap_or_default();
        for bytes in [&mut key, &mut value] {
            for _ in 0..chance.below(3) {
                if !bytes.is_empty() {
                    let at = chance.index(bytes.len());
                    bytes[at] = u8::try_from(chance.below(256)).expect("a byte");
                }
            }
            bytes.truncate(bytes.len() - chance.index(bytes.len().min(2) + 1));
        }
        let _ = GroupRecord::decode(&key, Some(&value));
    }
}

#[test]
fn every_cut_is_refused() {
    for seed in 0..300 {
        let (key, value) = record(&mut Chance::new(seed)).encode();
        let Some(value) = value else { continue };
        for cut in 0..value.len() {
            assert!(GroupRecord::decode(&key, Some(&value[..cut])).is_err(), "seed {seed}, cut {cut}");
        }
        for cut in 0..key.len() {
            assert!(GroupRecord::decode(&key[..cut], Some(&value)).is_err(), "seed {seed}, key cut {cut}");
        }
    }
}

/// The layout is a promise to logs already written: this test may only grow.
#[test]
fn the_layout_stands() {
    let value =
        OffsetValue { offset: 5, leader_epoch: -1, metadata: "m".into(), commit_timestamp: Timestamp(9) };
    let record =
        GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 2, value: Some(value) };
    let (key, value) = record.encode();
    assert_eq!(key, [1, 1, 0, b'g', 1, 0, b't', 2, 0, 0, 0]);
    let expected = [1, 5, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 1, 0, b'm', 9, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(value.as_deref(), Some(expected.as_slice()));
    assert_eq!(GroupRecord::decode(&[9], None), Err(RecordError::Kind { found: 9 }));
    assert_eq!(GroupRecord::decode(&[3, 1, 0, b'g'], Some(&[2])), Err(RecordError::Version { found: 2 }));
    assert_eq!(GroupRecord::decode(&key, Some(&[2])), Err(RecordError::Version { found: 2 }));
}

/// A member's value has a version of its own if it has a regular expression, and no other layout if it has none.
#[test]
fn a_member_with_an_expression_has_the_second_version() {
    let member = |subscribed_regex: Option<&str>| {
        let value = ConsumerMemberValue {
            rebalance_timeout_ms: 7,
            subscribed_topics: ["t".into()].into(),
            subscribed_regex: subscribed_regex.map(String::from),
            ..ConsumerMemberValue::default()
        };
        GroupRecord::ConsumerMember { group: "g".into(), member_id: "m".into(), value: Some(value) }
    };
    let rest = [0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0, b't', 0];
    let (key, value) = member(None).encode();
    let first: Vec<u8> = [1].into_iter().chain(rest).collect();
    assert_eq!(value, Some(first));
    let (same_key, value) = member(Some("a.")).encode();
    let second: Vec<u8> = [2].into_iter().chain(rest).chain([2, 0, b'a', b'.']).collect();
    assert_eq!((&same_key, value.as_ref()), (&key, Some(&second)));
    assert_eq!(GroupRecord::decode(&key, Some(&second)), Ok(member(Some("a."))));
    let next: Vec<u8> = [4].into_iter().chain(rest).collect();
    assert_eq!(GroupRecord::decode(&key, Some(&next)), Err(RecordError::Version { found: 4 }));
}

/// A member that speaks the classic protocol has the third version.
#[test]
fn a_member_of_the_classic_protocol_has_the_third_version() {
    let protocols = vec![GroupProtocol { name: "r".into(), metadata: vec![8, 9] }];
    let value = ConsumerMemberValue {
        rebalance_timeout_ms: 7,
        classic: Some(ClassicSupport { session_timeout_ms: 6, protocols }),
        ..ConsumerMemberValue::default()
    };
    let record = GroupRecord::ConsumerMember { group: "g".into(), member_id: "m".into(), value: Some(value) };
    let (key, value) = record.encode();
    let first = [3, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let said = [6, 0, 0, 0, 1, 0, 0, 0, 1, 0, b'r', 2, 0, 0, 0, 8, 9];
    assert_eq!(value, Some([&first[..], &said].concat()));
    assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(record));
}

/// Where a member is has a version of its own if it has had partitions since an earlier epoch, and no other layout if not.
#[test]
fn a_member_with_earlier_epochs_has_the_second_version() {
    let current = |earlier_epochs: PartitionEpochs| {
        let value = CurrentValue {
            member_epoch: 5,
            previous_epoch: 4,
            assigned: [("t".into(), [3].into())].into(),
            earlier_epochs,
            ..CurrentValue::default()
        };
        GroupRecord::ConsumerCurrent { group: "g".into(), member_id: "m".into(), value: Some(value) }
    };
    let epochs: PartitionEpochs = [("t".into(), [(3, 2)].into())].into();
    let rest = [5, 0, 0, 0, 4, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, b't', 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
    let (key, value) = current(PartitionEpochs::new()).encode();
    let first: Vec<u8> = [1].into_iter().chain(rest).collect();
    assert_eq!(value, Some(first));
    let (same_key, value) = current(epochs.clone()).encode();
    let earlier = [1, 0, 0, 0, 1, 0, b't', 1, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0];
    let second: Vec<u8> = [2].into_iter().chain(rest).chain(earlier).collect();
    assert_eq!((&same_key, value.as_ref()), (&key, Some(&second)));
    assert_eq!(GroupRecord::decode(&key, Some(&second)), Ok(current(epochs)));
    let third: Vec<u8> = [3].into_iter().chain(rest).collect();
    assert_eq!(GroupRecord::decode(&key, Some(&third)), Err(RecordError::Version { found: 3 }));
}
