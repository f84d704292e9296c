//! What a coordinator finds: the whole log of its partition.

use super::{Driver, Halt};
use crate::limits;
use crate::payload::OutReply;
use raftline_proto::batch::BatchView;
use raftline_proto::ids::Offset;
use raftline_proto::time::Monotonic;
use raftline_raft::types::Role;
use raftline_shard::consumer_groups::codec::{RecordError, earlier};
use raftline_shard::consumer_groups::record::GroupRecord;
use raftline_shard::types::{Event, GroupDescription, Reply};

impl Driver {
    /// Reads the whole log, once all of it is committed. While it reads, requests are told to come again.
    pub(super) async fn load(&mut self) -> Result<u64, Halt> {
        let end = loop {
            let described = self.describe().await?;
            if described.role != Role::Leader || described.term != self.term {
                return Err(Halt::Deposed);
            }
            if described.commit >= described.last.index {
                break described.high_watermark;
            }
            // An election leaves an entry of its own, which is committed within a round trip.
            self.put_off();
            tokio::time::sleep(limits::GROUP_LOAD_PAUSE).await;
        };
        let (mut from, mut records) = (None, 0);
        let mut outputs = Vec::new();
        loop {
            let at = from.unwrap_or(Offset::ZERO);
            let (batches, start) = self.read(at).await?;
            let Some(batches) = batches else {
                // Retention or compaction took the beginning away.
                from = Some(start);
                continue;
            };
            for batch in &batches {
                let view = BatchView::open(batch).map_err(|error| Halt::Log(error.to_string()))?;
                for record in view.records() {
                    let record = record.map_err(|error| Halt::Log(error.to_string()))?;
                    for decoded in self.read_record(record.key.unwrap_or_default(), record.value)? {
                        self.groups.apply(self.clock.now(), &decoded, &mut outputs);
                    }
                    records += 1;
                }
                // Not after its last record: compaction may have left none.
                from = Some(view.header().next_offset());
            }
            self.put_off();
            if batches.is_empty() || from.is_some_and(|from| from >= end) {
                return Ok(records);
            }
        }
    }

    /// What a record says; keys of an earlier version's layout are remembered.
    fn read_record(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Vec<GroupRecord>, Halt> {
        let unknown = |error: RecordError| Halt::Log(error.to_string());
        if !earlier::is_earlier(key) {
            return GroupRecord::decode(key, value).map(|record| vec![record]).map_err(unknown);
        }
        let records = earlier::decode(key, value).map_err(unknown)?;
        if value.is_some() {
            self.earlier.insert(key.to_vec());
        } else {
            self.earlier.remove(key);
        }
        Ok(records)
    }

    async fn describe(&self) -> Result<GroupDescription, Halt> {
        let group = self.group;
        let reply = self.shards.ask(|request| Event::Describe { request, group }).await;
        match reply.map_err(|_| Halt::Deposed)? {
            OutReply::Described { description, .. } => Ok(*description),
            _ => Err(Halt::Deposed),
        }
    }

    /// Batches from an offset on; `None` and the log's start, if it starts later.
    async fn read(&self, from: Offset) -> Result<(Option<Vec<bytes::Bytes>>, Offset), Halt> {
        let group = self.group;
        let event = |request| Event::Fetch {
            request,
            group,
            from,
            bytes_min: 0,
            bytes_max: limits::GROUP_LOAD_BYTES,
            deadline: Monotonic::ZERO,
        };
        match self.shards.ask(event).await.map_err(|_| Halt::Deposed)? {
            OutReply::Fetched(found) => Ok((Some(found.batches), found.start_offset)),
            OutReply::Shard(Reply::Fetched(Ok(empty))) => Ok((Some(Vec::new()), empty.start_offset)),
            OutReply::Shard(Reply::Fetched(Err(error))) => match error {
                raftline_shard::types::FetchError::OffsetOutOfRange { asked, start_offset, .. }
                    if asked < start_offset =>
                {
                    Ok((None, start_offset))
                }
                raftline_shard::types::FetchError::Storage(why) => Err(Halt::Log(why)),
                _ => Err(Halt::Deposed),
            },
            _ => Err(Halt::Deposed),
        }
    }
}
