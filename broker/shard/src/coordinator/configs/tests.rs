use super::table::REFUSED;
use super::*;
use alloc::collections::BTreeSet;
use raftline_proto::limits::VOTERS_MAX;

fn configs(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What is wrong with an entry; `None` for a config that is not known.
fn refused(name: &str, value: &str) -> Option<String> {
    fault(&check_config(name, value).expect_err(name)).1
}

fn refused_together(entries: &[(&str, &str)], replicas: usize) -> String {
    for (name, value) in entries {
        check_config(name, value).expect("each by itself is right");
    }
    let error = check_together(&configs(entries), replicas).expect_err("they do not go together");
    let (name, why) = fault(&error);
    format!("{name}: {}", why.expect("it is known"))
}

fn fault(error: &CoordinatorError) -> (String, Option<String>) {
    let CoordinatorError::InvalidConfig { name, fault, .. } = error else { panic!("{error:?}") };
    match fault {
        ConfigFault::Value(why) => (name.clone(), Some(why.clone())),
        ConfigFault::Unknown => (name.clone(), None),
    }
}

#[test]
fn what_is_described_can_be_sent_back() {
    for durability in ["quorum", "memory", "leader", "none"] {
        for replicas in 1..=VOTERS_MAX {
            let set = configs(&[("raftline.durability", durability), ("retention.ms", "-1")]);
            let described: BTreeMap<String, String> =
                CONFIG_KEYS.iter().map(|key| (key.name.to_owned(), effective(key, &set, replicas))).collect();
            for (name, value) in &described {
                assert_eq!(check_config(name, value), Ok(()), "{name}={value}");
            }
            assert_eq!(check_together(&described, replicas), Ok(()), "{replicas} replicas, {durability}");
            assert_eq!(Settings::of(&described), Settings::of(&set));
        }
    }
}

#[test]
fn the_table_is_in_order_and_its_numbers_fit_their_types() {
    assert!(CONFIG_KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
    let names: BTreeSet<&str> = CONFIG_KEYS.iter().map(|key| key.name).collect();
    assert!(REFUSED.iter().all(|(name, _)| !names.contains(name)));
    for key in CONFIG_KEYS {
        if let (ConfigKind::Int, Values::Whole { min, max }) = (key.kind, key.values) {
            assert!(i32::try_from(min).is_ok() && i32::try_from(max).is_ok(), "{}", key.name);
        }
    }
}

#[test]
fn wrong_values_are_named() {
    let cases = [
        ("segment.bytes", "12", "out of range; it must be from 4096 to 1073741824"),
        ("retention.ms", "-2", "out of range; it must be -1 (no limit) or more"),
        ("segment.ms", "0", "out of range; it must be 1 or more"),
        ("max.message.bytes", "1e6", "not a whole number; it must be from 1 to 16777216"),
        ("max.message.bytes", "16777217", "out of range; it must be from 1 to 16777216"),
        ("min.insync.replicas", "0", "out of range; it must be from 1 to 9"),
        ("min.cleanable.dirty.ratio", "1.5", "out of range; it must be from 0 to 1"),
        ("min.cleanable.dirty.ratio", "NaN", "out of range; it must be from 0 to 1"),
        ("min.cleanable.dirty.ratio", "", "not a number; it must be from 0 to 1"),
        ("cleanup.policy", "compacted", "unknown here; it must be one or more of compact, delete"),
        ("cleanup.policy", " , ", "unknown here; it must be one or more of compact, delete"),
        ("message.timestamp.type", "createtime", "unknown here; it must be one of CreateTime, LogAppendTime"),
        ("raftline.durability", "all", "unknown here; it must be one of quorum, memory, leader, none"),
        (
            "compression.type",
            "lzma",
            "unknown here; it must be one of producer, uncompressed, gzip, snappy, lz4, zstd",
        ),
        ("preallocate", "yes", "unknown here; it must be one of false, true"),
        (
            "unclean.leader.election.enable",
            "true",
            "only a replica with every committed record can lead; it must be false",
        ),
        ("leader.replication.throttled.replicas", "0:1", "replication is not throttled; it must be empty"),
        ("segment.index.bytes", "3", "out of range; it must be from 4 to 2147483647"),
        ("compression.zstd.level", "3", "batches are stored as their producers packed them; leave it out"),
    ];
    for (name, value, why) in cases {
        assert_eq!(refused(name, value).as_deref(), Some(why), "{name}={value}");
    }
    assert_eq!(refused("no.such.thing", "1"), None);
    assert_eq!(refused("", ""), None);
}

#[test]
fn values_may_be_written_as_kafka_reads_them() {
    for (name, value) in [
        ("max.message.bytes", "16777216"),
        ("retention.ms", " 1000 "),
        ("segment.ms", "+1000"),
        ("unclean.leader.election.enable", "FALSE"),
        ("min.cleanable.dirty.ratio", "1"),
        ("cleanup.policy", " delete"),
        ("message.timestamp.type", "LogAppendTime"),
        ("flush.messages", "9223372036854775807"),
        // Kafka's defaults of what is kept without effect, and what Connect asks for.
        ("file.delete.delay.ms", "60000"),
        ("index.interval.bytes", "4096"),
        ("preallocate", "FALSE"),
        ("segment.index.bytes", "10485760"),
        ("segment.jitter.ms", "0"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("compression.type", "lz4"),
    ] {
        assert_eq!(check_config(name, value), Ok(()), "{name}={value}");
    }
    let set = configs(&[("retention.ms", " 1000 "), ("message.timestamp.type", " LogAppendTime ")]);
    assert_eq!(Settings::of(&set).retention_ms, Some(1000));
    assert_eq!(timestamp_type(&set), TimestampType::LogAppendTime);
}

#[test]
fn no_more_replicas_are_promised_than_a_majority() {
    for replicas in 1..=VOTERS_MAX {
        let majority = replicas / 2 + 1;
        for wanted in 1..=VOTERS_MAX {
            let set = configs(&[("min.insync.replicas", &wanted.to_string())]);
            assert_eq!(check_together(&set, replicas).is_ok(), wanted <= majority, "{wanted} of {replicas}");
        }
        let key = ConfigKey::find("min.insync.replicas").expect("a key");
        assert_eq!(effective(key, &BTreeMap::new(), replicas), majority.to_string());
        assert_eq!(effective(key, &configs(&[("raftline.durability", "leader")]), replicas), "1");
    }
    assert_eq!(
        refused_together(&[("min.insync.replicas", "3")], 3),
        "min.insync.replicas: acks=all is answered once a majority has the records, which is 2 of the topic's 3 \
         replicas: more cannot be promised"
    );
    assert_eq!(
        refused_together(&[("min.insync.replicas", "2"), ("raftline.durability", "leader")], 3),
        "min.insync.replicas: with raftline.durability=leader the leader alone answers: set that to quorum first"
    );
    let memory = configs(&[("min.insync.replicas", "2"), ("raftline.durability", "memory")]);
    assert_eq!(check_together(&memory, 3), Ok(()));
}

#[test]
fn compaction_lags_go_together() {
    assert_eq!(
        refused_together(&[("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")], 1),
        "min.compaction.lag.ms: over max.compaction.lag.ms"
    );
}

#[test]
fn settings_follow_the_configs() {
    let settings = Settings::of(&BTreeMap::new());
    assert_eq!(settings.retention_ms, Some(604_800_000));
    assert_eq!(settings.retention_bytes, None);
    assert_eq!((settings.segment_bytes, settings.segment_ms), (64 << 20, 604_800_000));
    assert_eq!(settings.message_bytes_max, (1 << 20) + 12);
    let set = [("retention.ms", "-1"), ("retention.bytes", "0"), ("segment.bytes", "nonsense")];
    let settings = Settings::of(&configs(&set));
    assert_eq!(settings.retention_ms, None);
    assert_eq!(settings.retention_bytes, Some(0));
    assert_eq!(settings.segment_bytes, 64 << 20);
    let durabilities = [
        ("quorum", Durability::Quorum),
        ("memory", Durability::Memory),
        ("leader", Durability::Leader),
        ("none", Durability::None),
        ("of a later version", Durability::Quorum),
    ];
    for (word, expected) in durabilities {
        assert_eq!(durability(&configs(&[("raftline.durability", word)])), expected);
    }
    assert_eq!(durability(&BTreeMap::new()), Durability::Quorum);
    assert_eq!(timestamp_type(&BTreeMap::new()), TimestampType::CreateTime);
}

#[test]
fn lists_are_changed_word_by_word() {
    let list = ConfigKey::find("cleanup.policy").expect("a key");
    let changed = |value, words, change| changed_list(list, value, words, change).expect("a list");
    assert_eq!(changed("delete", "delete", ListChange::Append), "delete");
    assert_eq!(changed("delete", " compact, delete", ListChange::Append), "delete,compact");
    assert_eq!(changed("delete,compact", "compact", ListChange::Subtract), "delete");
    assert_eq!(changed("delete", "delete", ListChange::Subtract), "");
    let number = ConfigKey::find("retention.ms").expect("a key");
    assert_eq!(changed_list(number, "1", "2", ListChange::Append), None);
}

#[test]
fn the_cleanup_policy_decides_what_applies() {
    let settings = |policy| {
        check_config("cleanup.policy", policy).expect(policy);
        let limits = [("retention.ms", "5"), ("retention.bytes", "6"), ("min.cleanable.dirty.ratio", "0.25")];
        Settings::of(&configs(&[&limits[..], &[("cleanup.policy", policy)]].concat()))
    };
    for (policy, cleanup) in [
        ("delete", Cleanup::Delete),
        ("compact", Cleanup::Compact),
        (" delete , compact ", Cleanup::CompactAndDelete),
        ("compact,delete,", Cleanup::CompactAndDelete),
    ] {
        let settings = settings(policy);
        assert_eq!(settings.cleanup, cleanup, "{policy}");
        let kept = (settings.retention_ms, settings.retention_bytes);
        let expected = if cleanup == Cleanup::Compact { (None, None) } else { (Some(5), Some(6)) };
        assert_eq!(kept, expected, "{policy}");
        assert_eq!(settings.dirty_ratio_millionths, 250_000);
    }
    assert_eq!(Settings::of(&BTreeMap::new()).cleanup, Cleanup::Delete);
}

#[test]
fn the_times_of_records_are_bounded_where_that_is_set() {
    let now = Timestamp(1_000_000);
    let taken = |entries: &[(&str, &str)]| {
        timestamps_taken(&configs(entries), now).map(|(first, last)| (first.get(), last.get()))
    };
    let (before, after) = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms");
    assert_eq!(taken(&[]), None);
    assert_eq!(taken(&[(after, "9223372036854775807")]), None);
    assert_eq!(taken(&[(after, "100")]), Some((i64::MIN + 1_000_001, 1_000_100)));
    assert_eq!(taken(&[(before, "100")]), Some((999_900, i64::MAX)));
    assert_eq!(taken(&[(before, "0"), (after, "0")]), Some((1_000_000, 1_000_000)));
    assert_eq!(taken(&[(before, "0"), ("message.timestamp.type", "LogAppendTime")]), None);
}
