//! A run of entries, as peers send them and recovery finds them. The checksums of the input are made right first:
//! otherwise nothing would ever be seen of what lies behind them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use raftline_proto::entry::{self, EntryHeader};

fuzz_target!(|bytes: &[u8]| {
    let _ = entry::decode_run(&Bytes::copy_from_slice(bytes));
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    let run = Bytes::from(bytes);
    let Ok(entries) = entry::decode_run(&run) else { return };
    // What was read is what would be written.
    let mut rest = run;
    for entry in entries {
        let whole = rest.split_to(usize::try_from(entry.header.entry_bytes()).expect("it was all there"));
        let payload = &whole[entry::HEADER_BYTES..];
        if let Some(encoded) = entry.body.encode_payload() {
            assert_eq!(encoded, payload);
        }
        assert_eq!(entry.header.encode(&[payload])[..], whole[..entry::HEADER_BYTES]);
    }
    assert!(rest.is_empty());
});

fn seal(bytes: &mut [u8]) {
    let mut at = 0;
    while let Ok(header) = EntryHeader::decode(&bytes[at..]) {
        let end = at + usize::try_from(header.entry_bytes()).expect("bounded");
        let Some(whole) = bytes.get_mut(at..end) else { return };
        let crc = crc32fast::hash(&whole[4..]);
        whole[..4].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}
