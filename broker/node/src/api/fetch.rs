//! Fetch, subscribe and offset queries.

use super::Broker;
use super::errors::{self, Place};
use crate::limits;
use crate::payload::{FetchedBatches, OutReply, Payload};
use bytes::Bytes;
use raftline_proto::api::fetch_request::From as FetchFrom;
use raftline_proto::api::list_offset_request::At;
use raftline_proto::api::{Error, ErrorCode, FetchReply, FetchRequest, ListOffsetReply, ListOffsetRequest};
use raftline_proto::batch::BatchHeader;
use raftline_proto::ids::{GroupId, Offset};
use raftline_proto::time::Timestamp;
use raftline_shard::types::{Event, FetchError, OffsetQuery, Reply, RequestId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Status;

/// One fetch, its offset resolved.
#[derive(Clone, Copy, Debug)]
struct Order {
    group: GroupId,
    from: Offset,
    bytes_min: u64,
    bytes_max: u64,
    wait: Duration,
}

/// Answers once.
pub(super) async fn fetch(broker: &Broker, request: FetchRequest) -> FetchReply {
    let place = Place { topic: &request.topic, partition: request.partition };
    match order(broker, place, &request).await {
        Ok(order) => match read(broker, place, order).await {
            Ok(batches) => reply(broker, order.from, &batches).await,
            Err(error) => failed(error),
        },
        Err(error) => failed(error),
    }
}

/// Answers until the client goes away or an error comes. The first answer comes at once, be it empty: it tells the
/// offset that the request resolved to.
pub(super) async fn subscribe(
    broker: Arc<Broker>,
    request: FetchRequest,
    replies: mpsc::Sender<Result<FetchReply, Status>>,
) {
    let place = Place { topic: &request.topic, partition: request.partition };
    let mut order = match order(&broker, place, &request).await {
        Ok(order) => Order { wait: Duration::ZERO, ..order },
        Err(error) => return drop(replies.send(Ok(failed(error))).await),
    };
    let mut first = true;
    loop {
        let found = tokio::select! {
            found = read(&broker, place, order) => found,
            () = replies.closed() => return,
        };
        let batches = match found {
            Ok(batches) => batches,
            Err(error) => return drop(replies.send(Ok(failed(error))).await),
        };
        let next = match next_offset(place, &batches) {
            Ok(next) => next.unwrap_or(order.from),
            Err(error) => return drop(replies.send(Ok(failed(error))).await),
        };
        // The channel holds one reply: a slow client stops the reading here.
        if first || next > order.from {
            let reply = reply(&broker, order.from, &batches).await;
            if replies.send(Ok(reply)).await.is_err() {
                return;
            }
        }
        first = false;
        order.from = next;
        order.wait = limits::SUBSCRIBE_WAIT;
    }
}

/// Answers an offset query.
pub(super) async fn list_offset(broker: &Broker, request: ListOffsetRequest) -> ListOffsetReply {
    let place = Place { topic: &request.topic, partition: request.partition };
    let found = async {
        let group = broker.group(place)?;
        let query = match request.at {
            Some(At::Start(_)) => OffsetQuery::Earliest,
            Some(At::End(_)) => OffsetQuery::Latest,
            Some(At::TimestampMs(ms)) => OffsetQuery::AtOrAfter(Timestamp(ms)),
            None => return Err(missing("at", "start, end or timestamp_ms")),
        };
        offset(broker, place, group, query).await
    };
    match found.await {
        Ok(offset) => ListOffsetReply { offset: offset.0, error: None },
        Err(error) => ListOffsetReply { offset: 0, error: Some(error) },
    }
}

async fn order(broker: &Broker, place: Place<'_>, request: &FetchRequest) -> Result<Order, Error> {
    let group = broker.group(place)?;
    let from = match request.from {
        Some(FetchFrom::Offset(offset)) => Offset(offset),
        Some(FetchFrom::TimestampMs(ms)) => {
            offset(broker, place, group, OffsetQuery::AtOrAfter(Timestamp(ms))).await?
        }
        Some(FetchFrom::Start(_)) => offset(broker, place, group, OffsetQuery::Earliest).await?,
        Some(FetchFrom::End(_)) => offset(broker, place, group, OffsetQuery::Latest).await?,
        None => return Err(missing("from", "offset, timestamp_ms, start or end")),
    };
    let bytes_max = match request.max_bytes {
        0 => limits::FETCH_BYTES,
        asked => u64::from(asked).min(limits::FETCH_BYTES_MAX),
    };
    let bytes_min = u64::from(request.min_bytes).clamp(1, bytes_max);
    let wait = Duration::from_millis(u64::from(request.max_wait_ms)).min(limits::FETCH_WAIT_MAX);
    Ok(Order { group, from, bytes_min, bytes_max, wait })
}

async fn read(broker: &Broker, place: Place<'_>, order: Order) -> Result<FetchedBatches, Error> {
    let Order { group, from, bytes_min, bytes_max, wait } = order;
    let deadline = broker.clock.after(wait);
    let event = |request| Event::Fetch { request, group, from, bytes_min, bytes_max, deadline };
    let answer = tokio::select! {
        answer = ask_until_known(broker, event) => answer?,
        // Else a long poll would hold up the stop.
        () = broker.stop.cancelled() => return Err(errors::stopping()),
    };
    match answer {
        OutReply::Fetched(batches) => Ok(batches),
        OutReply::Shard(Reply::Fetched(Ok(empty))) => Ok(FetchedBatches {
            batches: Vec::new(),
            start_offset: empty.start_offset,
            high_watermark: empty.high_watermark,
        }),
        OutReply::Shard(Reply::Fetched(Err(found))) => Err(errors::fetch(place, &found)),
        other => Err(errors::unexpected(&other)),
    }
}

async fn offset(
    broker: &Broker,
    place: Place<'_>,
    group: GroupId,
    query: OffsetQuery,
) -> Result<Offset, Error> {
    let event = |request| Event::ListOffset { request, group, query };
    match ask_until_known(broker, event).await? {
        OutReply::Shard(Reply::Offset(Ok(offset))) => Ok(offset),
        // Every record is older: what comes next will be the first that is not.
        OutReply::FoundOffset { found, high_watermark } => {
            Ok(found.map_or(high_watermark, |(offset, _)| offset))
        }
        OutReply::Shard(Reply::Offset(Err(found)) | Reply::Fetched(Err(found))) => {
            Err(errors::fetch(place, &found))
        }
        other => Err(errors::unexpected(&other)),
    }
}

/// Asks a partition; again while its leader is too new to know how much is committed. The shard lets each question wait for
/// that, so this does not spin.
async fn ask_until_known(
    broker: &Broker,
    event: impl Fn(RequestId) -> Event<Payload>,
) -> Result<OutReply, Error> {
    let until = broker.clock.after(limits::NEW_LEADER_WAIT);
    loop {
        let answer = broker.shards.ask(&event).await.map_err(|_| errors::busy())?;
        let not_yet = matches!(
            answer,
            OutReply::Shard(Reply::Fetched(Err(FetchError::NotYet)) | Reply::Offset(Err(FetchError::NotYet)))
        );
        if !not_yet || broker.clock.monotonic() >= until {
            return Ok(answer);
        }
    }
}

/// The offset after the last batch; `None` if there is none.
fn next_offset(place: Place<'_>, batches: &FetchedBatches) -> Result<Option<Offset>, Error> {
    let Some(last) = batches.batches.last() else { return Ok(None) };
    let header = BatchHeader::decode(last).map_err(|found| {
        errors::error(ErrorCode::StorageError, format!("{place} holds a batch that does not decode: {found}"))
    })?;
    Ok(Some(header.next_offset()))
}

async fn reply(broker: &Broker, from: Offset, batches: &FetchedBatches) -> FetchReply {
    FetchReply {
        batches: joined(&broker.fetch_budget, &batches.batches).await,
        start_offset: batches.start_offset.0,
        high_watermark: batches.high_watermark.0,
        from_offset: from.0,
        error: None,
    }
}

/// The message's one field. Entry headers stand between the batches in the log, so several have to be copied; the
/// copies of all replies on their way take from one budget.
async fn joined(budget: &Arc<Semaphore>, batches: &[Bytes]) -> Bytes {
    if let [] | [_] = batches {
        return batches.first().cloned().unwrap_or_default();
    }
    let total = batches.iter().map(Bytes::len).sum::<usize>();
    let kibibytes = u32::try_from(total.div_ceil(1024).min(limits::FETCH_KIBIBYTES_MAX)).unwrap_or(u32::MAX);
    // Closed never: then there is nothing to wait for.
    let permit = Arc::clone(budget).acquire_many_owned(kibibytes).await.ok();
    let mut bytes = Vec::with_capacity(total);
    for batch in batches {
        bytes.extend_from_slice(batch);
    }
    Bytes::from_owner(Budgeted { bytes, _permit: permit })
}

/// Bytes that give their part of the budget back when the reply is encoded.
struct Budgeted {
    bytes: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Budgeted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn failed(error: Error) -> FetchReply {
    FetchReply { error: Some(error), ..FetchReply::default() }
}

fn missing(field: &str, choices: &str) -> Error {
    errors::error(ErrorCode::InvalidRequest, format!("the request has no `{field}`: set one of {choices}"))
}
