//! Packing and unpacking the records of a batch, in the framings that Kafka's clients use.
//!
//! Unpacking is bounded three times: nothing is allocated by a length that the packed bytes merely claim, output
//! ends at the bound, and so does the work. It runs at the edges (clients, tools), never in a shard.

use super::{BatchError, Codec};
use crate::cursor::Reader;
use std::io::{Read, Write};

/// Packs `records`. Never fails: the codecs write to memory.
pub(super) fn pack(codec: Codec, records: &[u8]) -> Vec<u8> {
    let packed = match codec {
        Codec::None => Ok(records.to_vec()),
        Codec::Gzip => pack_gzip(records),
        Codec::Snappy => pack_snappy(records),
        Codec::Lz4 => pack_lz4(records),
        Codec::Zstd => zstd::bulk::compress(records, zstd::DEFAULT_COMPRESSION_LEVEL),
    };
    packed.expect("packing into memory cannot fail")
}

/// Unpacks what [`pack`] or another Kafka client packed, to at most `bytes_max`.
///
/// # Errors
/// [`BatchError::Unpack`] if it is not `codec`'s format, [`BatchError::UnpackedTooLarge`] beyond the bound.
pub(super) fn unpack(codec: Codec, packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let unpacked = match codec {
        Codec::None => packed.to_vec(),
        Codec::Gzip => read_capped(codec, flate2::read::MultiGzDecoder::new(packed), packed, bytes_max)?,
        Codec::Snappy => unpack_snappy(packed, bytes_max)?,
        Codec::Lz4 => read_capped(codec, lz4_flex::frame::FrameDecoder::new(packed), packed, bytes_max)?,
        Codec::Zstd => {
            // The decoder takes the frame's window (at most 128 MiB) as address space; memory follows the output.
            let decoder =
                zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| BatchError::Unpack { codec })?;
            read_capped(codec, decoder, packed, bytes_max)?
        }
    };
    if unpacked.len() > bytes_max { Err(too_large(codec, bytes_max)) } else { Ok(unpacked) }
}

fn read_capped(
    codec: Codec,
    decoder: impl Read,
    packed: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, BatchError> {
    let guess = packed.len().saturating_mul(UNPACKED_GUESS).min(bytes_max);
    let mut unpacked = Vec::with_capacity(guess);
    // One byte more than the bound tells "too large" from "just fits".
    let cap = (bytes_max as u64).saturating_add(1);
    decoder.take(cap).read_to_end(&mut unpacked).map_err(|_| BatchError::Unpack { codec })?;
    if unpacked.len() > bytes_max { Err(too_large(codec, bytes_max)) } else { Ok(unpacked) }
}

fn too_large(codec: Codec, bytes_max: usize) -> BatchError {
    BatchError::UnpackedTooLarge { codec, max: bytes_max as u64 }
}

fn pack_gzip(records: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(records)?;
    encoder.finish()
}

fn pack_lz4(records: &[u8]) -> std::io::Result<Vec<u8>> {
    // Kafka's Java client reads independent blocks only.
    let info = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Independent)
        .block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(records)?;
    encoder.finish().map_err(std::io::Error::from)
}

fn pack_snappy(records: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(records.len() / 2);
    packed.extend_from_slice(&XERIAL_MAGIC);
    packed.extend_from_slice(&XERIAL_VERSION.to_be_bytes());
    packed.extend_from_slice(&XERIAL_VERSION.to_be_bytes());
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let block = snap::raw::Encoder::new().compress_vec(block)?;
        let size = u32::try_from(block.len()).expect("a block is small");
        packed.extend_from_slice(&size.to_be_bytes());
        packed.extend_from_slice(&block);
    }
    Ok(packed)
}

/// Xerial-framed as Java and librdkafka write it, or one bare block as some other clients do.
fn unpack_snappy(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut unpacked = Vec::new();
    let Some(framed) = packed.strip_prefix(&XERIAL_MAGIC) else {
        unpack_snappy_block(packed, bytes_max, &mut unpacked)?;
        return Ok(unpacked);
    };
    let malformed = |_| BatchError::Unpack { codec: Codec::Snappy };
    let mut reader = Reader::new(framed);
    // The version and the oldest compatible one; no other framing than version 1 was ever made.
    reader.array::<8>().map_err(malformed)?;
    while !reader.is_empty() {
        let size = u32::from_be_bytes(reader.array().map_err(malformed)?);
        let block = reader.bytes(size as usize).map_err(malformed)?;
        unpack_snappy_block(block, bytes_max, &mut unpacked)?;
    }
    Ok(unpacked)
}

/// Appends one raw block's content to `unpacked`.
fn unpack_snappy_block(block: &[u8], bytes_max: usize, unpacked: &mut Vec<u8>) -> Result<(), BatchError> {
    let malformed = BatchError::Unpack { codec: Codec::Snappy };
    let size = snap::raw::decompress_len(block).map_err(|_| malformed)?;
    // A block states its size; it is believed only as far as its bytes can give.
    if size > block.len().saturating_mul(SNAPPY_EXPANSION_MAX) {
        return Err(malformed);
    }
    let from = unpacked.len();
    let up_to = from.checked_add(size).filter(|up_to| *up_to <= bytes_max);
    let up_to = up_to.ok_or_else(|| too_large(Codec::Snappy, bytes_max))?;
    unpacked.resize(up_to, 0);
    let written =
        snap::raw::Decoder::new().decompress(block, &mut unpacked[from..]).map_err(|_| malformed)?;
    if written == size { Ok(()) } else { Err(malformed) }
}

/// The framing of xerial's snappy-java.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_VERSION: u32 = 1;
/// As snappy-java's default.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// Snappy's best element gives 64 bytes for 3.
const SNAPPY_EXPANSION_MAX: usize = 32;
/// First allocation for the output, in sizes of the input: what text commonly packs to.
const UNPACKED_GUESS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn text(lines: usize) -> Vec<u8> {
        (0..lines).flat_map(|line| format!("GET /path/{} 200\n", line * 7919 % 1000).into_bytes()).collect()
    }

    #[test]
    fn what_is_packed_unpacks() {
        for codec in CODECS {
            for records in [Vec::new(), b"a".to_vec(), text(10), text(20_000)] {
                let packed = pack(codec, &records);
                assert_eq!(unpack(codec, &packed, records.len()), Ok(records), "{codec}");
            }
        }
    }

    #[test]
    fn the_framings_are_those_that_kafka_clients_read() {
        // RFC 1952; RFC 8878; LZ4 frame version 1, independent blocks, no checksums, blocks of 64 KiB.
        let starts: [(Codec, &[u8]); 3] = [
            (Codec::Gzip, &[0x1f, 0x8b, 8]),
            (Codec::Zstd, &[0x28, 0xb5, 0x2f, 0xfd]),
            (Codec::Lz4, &[0x04, 0x22, 0x4d, 0x18, 0b0110_0000, 0x40]),
        ];
        for (codec, start) in starts {
            assert!(pack(codec, &text(100)).starts_with(start), "{codec}");
        }
        // Xerial: magic, version 1, compatible with 1; then a size and a block: 4 bytes, all of them literal.
        let xerial = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06\x04\x0cabcd";
        assert_eq!(pack(Codec::Snappy, b"abcd"), xerial);
        assert_eq!(unpack(Codec::Snappy, xerial, 4), Ok(b"abcd".to_vec()));
    }

    #[test]
    fn output_ends_at_the_bound() {
        // 8 MiB of zeros pack to some kilobytes.
        let bomb = vec![0; 8 << 20];
        for codec in CODECS {
            let packed = pack(codec, &bomb);
            let max = bomb.len() as u64 - 1;
            assert_eq!(
                unpack(codec, &packed, bomb.len() - 1),
                Err(BatchError::UnpackedTooLarge { codec, max }),
                "{codec}"
            );
            assert!(unpack(codec, &packed, bomb.len()).is_ok(), "{codec}");
        }
    }

    #[test]
    fn work_ends_at_the_bound_too() {
        // An endless stream: only the cap ends it.
        let error = read_capped(Codec::Gzip, std::io::repeat(0), b"", 1000);
        assert_eq!(error, Err(BatchError::UnpackedTooLarge { codec: Codec::Gzip, max: 1000 }));
    }

    #[test]
    fn a_snappy_block_without_framing_is_read() {
        let packed = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(unpack(Codec::Snappy, &packed, 100), Ok(b"hello hello hello".to_vec()));
    }

    #[test]
    fn a_snappy_block_is_not_believed_beyond_what_it_can_hold() {
        // Claims 2^32 - 1 bytes in a varint, then holds nothing.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(unpack(Codec::Snappy, &claim, 64 << 20), Err(BatchError::Unpack { codec: Codec::Snappy }));
    }

    #[test]
    fn a_stream_cut_short_is_refused() {
        let records = text(1000);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
            let packed = pack(codec, &records);
            let cut = &packed[..packed.len() - 1];
            assert_eq!(unpack(codec, cut, 1 << 20), Err(BatchError::Unpack { codec }), "{codec}");
        }
    }
}
