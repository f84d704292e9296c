//! What an entry's encoding and verification cost beside the work that cannot be avoided: one pass of a bare
//! checksum and one `memcpy` over the same bytes, in the same run. The ratio is the figure that travels between
//! machines: `encode / crc32` close to 1 says that the codec adds nothing to its checksum.
//!
//! `cargo bench -p raftline-benches --bench codec`
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftline_proto::batch::{self, Builder, Codec};
use raftline_proto::entry::{self, EntryBody, EntryInfo};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Term};
use raftline_proto::time::Timestamp;
use std::hint::black_box;

/// A record's value: the length of an access-log line.
const VALUE_BYTES: usize = 200;

/// A batch of about `bytes`, as a client sends it.
fn client_batch(bytes: usize) -> Bytes {
    let mut builder = Builder::new(Codec::None);
    let mut state = 1_u64;
    while builder.batch_bytes() + VALUE_BYTES <= bytes {
        // Bytes that differ from record to record; xorshift is enough.
        let value: [u8; VALUE_BYTES] = std::array::from_fn(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        });
        builder.push(Timestamp(1_700_000_000_000), None, Some(&value), &[]).expect("the bound is far away");
    }
    builder.build()
}

fn entry_codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("entry");
    for (name, bytes) in [("1KiB", 1 << 10), ("16KiB", 16 << 10), ("1MiB", 1 << 20)] {
        let client = client_batch(bytes);
        let info = batch::validate(&client).expect("a built batch is valid");
        let id = EntryId::new(Term(3), Index(4));
        let parts = batch::stamped(&client, Offset(5), id.term);
        let header = EntryInfo::new(GroupId(6), id, Offset(5), EntryBody::Data(info)).header;
        let encoded: Bytes = [&header.encode(&[&parts[0], &parts[1]])[..], &parts.concat()].concat().into();
        let mut target = vec![0; encoded.len()];

        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(BenchmarkId::new("memcpy", name), |bencher| {
            bencher.iter(|| target.copy_from_slice(black_box(&encoded)));
        });
        group.bench_function(BenchmarkId::new("crc32", name), |bencher| {
            bencher.iter(|| crc32fast::hash(black_box(&encoded)));
        });
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                let parts = batch::stamped(black_box(&client), Offset(5), id.term);
                header.encode(&[&parts[0], &parts[1]])
            });
        });
        group.bench_function(BenchmarkId::new("decode_run", name), |bencher| {
            bencher.iter(|| entry::decode_run(black_box(&encoded)).expect("an encoded entry is valid"));
        });
    }
    group.finish();
}

fn batch_codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    for (name, bytes) in [("1KiB", 1 << 10), ("16KiB", 16 << 10), ("1MiB", 1 << 20)] {
        let client = client_batch(bytes);
        group.throughput(Throughput::Bytes(client.len() as u64));
        group.bench_function(BenchmarkId::new("crc32c", name), |bencher| {
            bencher.iter(|| crc32c::crc32c(black_box(&client)));
        });
        group.bench_function(BenchmarkId::new("validate", name), |bencher| {
            bencher.iter(|| batch::validate(black_box(&client)).expect("a built batch is valid"));
        });
    }
    group.finish();
}

criterion_group!(benches, entry_codec, batch_codec);
criterion_main!(benches);
