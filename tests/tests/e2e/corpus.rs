//! Input for the tests: the real log files where they are at hand, and a generated set of the same shape.

use crate::cluster;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// One file: a topic's name, and every byte.
pub struct Input {
    pub topic: String,
    pub bytes: Vec<u8>,
}

impl Input {
    /// The lines, split at LF alone: a CR stays with its line, and what follows the last LF is a line too.
    pub fn lines(&self) -> Vec<&[u8]> {
        self.bytes.split(|byte| *byte == b'\n').collect()
    }
}

/// The 16 real files, if they are on this machine.
pub fn real() -> Option<Vec<Input>> {
    let folder = cluster::loghub()?;
    let mut inputs = Vec::new();
    for file in std::fs::read_dir(folder).expect("the folder can be listed") {
        let path = file.expect("listed").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let topic = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            inputs.push(Input { topic, bytes: std::fs::read(&path).expect("the file can be read") });
        }
    }
    inputs.sort_by(|left, right| left.topic.cmp(&right.topic));
    Some(inputs)
}

/// Four files of the real ones' shape: CR LF, bare CRs, empty lines, very long lines, bytes that are no text, and a
/// last line without its LF.
pub fn generated(seed: u64) -> Vec<Input> {
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut draw = |below: u64| chance.next_u64() % below;
    let mut inputs = Vec::new();
    for file in 0..4 {
        let mut bytes = Vec::new();
        for line in 0..1000 {
            let length = match draw(100) {
                0..5 => 0,
                5..97 => 40 + draw(160),
                97..99 => 2_000 + draw(3_000),
                _ => 60_000 + draw(80_000),
            };
            bytes.extend_from_slice(format!("{line:06} ").as_bytes());
            for _ in 0..length {
                bytes.push(match draw(50) {
                    0 if file == 1 => b'\r',
                    1 if file == 2 => u8::try_from(128 + draw(128)).expect("below 256"),
                    other => b'a' + u8::try_from(other % 26).expect("below 26"),
                });
            }
            bytes.extend_from_slice(if file == 3 { b"\n" } else { b"\r\n" });
        }
        bytes.extend_from_slice(b"the last line ends without a line feed");
        inputs.push(Input { topic: format!("generated-{file}"), bytes });
    }
    inputs
}
