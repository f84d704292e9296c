//! The bounds of what a Kafka client may send. What is over a bound is refused with both numbers, never cut.

use raftline_proto::limits::BATCH_BYTES_MAX;

/// One request or answer, without the four bytes of its size: 100 MiB, as Kafka's `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: u32 = 100 << 20;

/// The least that is reserved for a frame of which little has arrived: 64 KiB.
pub const FRAME_RESERVE_BYTES_MIN: usize = 64 << 10;

/// The body of any request but Produce: 16 MiB.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Any text, in either direction: what a 16-bit size can state, and Kafka's own bound where sizes are varints.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// Array elements of one request, over all its arrays and their nesting.
pub const REQUEST_ELEMENTS_MAX: usize = 1 << 18;

/// Tagged fields of one request that nobody here knows; clients of today send none.
pub const REQUEST_TAGS_MAX: usize = 256;

/// What the arrays of one request may take in memory once decoded: 16 MiB.
pub const DECODED_BYTES_MAX: usize = 16 << 20;

/// What a decoded request takes at most for a byte of its body, tagged fields aside: see [`crate::screen`].
pub const DECODED_FACTOR_MAX: usize = 64;

/// What a tagged field that nobody knows is counted as: a map's first node and the field.
pub const TAG_DECODED_BYTES: usize = 512;

/// Structures within structures.
pub const NESTING_MAX: usize = 6;

const _: () = assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX, "the largest batch fits a request");
const _: () = assert!(BODY_BYTES_MAX < FRAME_BYTES_MAX as usize);
const _: () = assert!(REQUEST_TAGS_MAX * TAG_DECODED_BYTES < DECODED_BYTES_MAX, "tags alone stay in bounds");
