//! What the demo writes: the lines of a file, or access-log lines made here, the same every time.

use crate::lines::Lines;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

/// Lines that are made where no file is given.
pub const GENERATED_LINES: usize = 200_000;

/// Reads a file's lines.
///
/// # Errors
/// The file cannot be read, or has no lines.
pub fn read(path: &Path) -> anyhow::Result<Vec<Bytes>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Result<Vec<Bytes>, _> = Lines::new(file).collect();
    let lines = lines.with_context(|| format!("cannot read {}", path.display()))?;
    if lines.is_empty() {
        bail!("{} has no lines: give a file with some, or none to have lines made", path.display());
    }
    Ok(lines)
}

/// Makes `count` lines of a web server's access log.
pub fn generate(count: usize) -> Vec<Bytes> {
    let mut chance = Chance(0x5eed);
    let mut seconds = 0;
    let mut lines = Vec::with_capacity(count);
    for _ in 0..count {
        seconds += u64::from(chance.below(10) == 0);
        lines.push(Bytes::from(line(&mut chance, seconds)));
    }
    lines
}

fn line(chance: &mut Chance, seconds: u64) -> String {
    let mut line = String::with_capacity(200);
    let client = chance.below(4096);
    let method = chance.pick(&["GET", "GET", "GET", "GET", "POST", "HEAD"]);
    let section = chance.pick(&["", "products/", "products/", "basket/", "static/img/", "api/v1/orders/"]);
    let page = chance.below(20_000);
    let status = chance.pick(&[200, 200, 200, 200, 200, 301, 304, 404, 500]);
    let size = chance.below(60_000);
    let agent = chance.pick(&[
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
        "curl/8.5.0",
    ]);
    let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    write!(
        line,
        "10.{}.{}.{} - - [22/Nov/2026:{hours:02}:{minutes:02}:{seconds:02} +0000] \"{method} /{section}{page} HTTP/1.1\" \
         {status} {size} \"-\" \"{agent}\"",
        client >> 8,
        client >> 4 & 15,
        client & 255
    )
    .expect("writing to a string cannot fail");
    line
}

/// Splitmix64: a fixed sequence, so that two runs write the same bytes.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = usize::try_from(self.below(choices.len() as u64)).expect("an index of the slice");
        choices[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_every_time() {
        let lines = generate(1000);
        assert_eq!(lines, generate(1000));
        assert!(lines.iter().all(|line| line.len() > 60 && !line.contains(&b'\n')));
        let text = String::from_utf8(lines[0].to_vec()).expect("text");
        assert!(text.starts_with("10.") && text.contains("HTTP/1.1"), "{text}");
    }
}
