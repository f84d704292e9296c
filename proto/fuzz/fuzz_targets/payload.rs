//! Membership, metadata and command payloads: there is one encoding of each value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raftline_proto::command::Command;
use raftline_proto::payload;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(membership) = payload::decode_membership(bytes) {
        assert_eq!(payload::encode_membership(&membership).as_deref(), Ok(bytes));
    }
    if let Ok(records) = payload::decode_metadata(bytes) {
        assert_eq!(payload::encode_metadata(&records).as_deref(), Ok(bytes));
    }
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(command.encode(), bytes);
    }
});
