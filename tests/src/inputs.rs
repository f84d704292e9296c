//! Real input for the end-to-end tests: log files as they are found, line by line and back without losing a byte.

use std::path::{Path, PathBuf};

use crate::sim::chance::Chance;

/// One file, cut into lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// A topic's name.
    pub name: String,
    /// What stands between line feeds: carriage returns stay, empty lines too. After a final line feed there is one
    /// more, empty line, so that joining by line feeds gives the file again.
    pub lines: Vec<Vec<u8>>,
}

impl Input {
    /// Cuts a file's content.
    #[must_use]
    pub fn new(name: &str, content: &[u8]) -> Self {
        let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        Self { name: name.to_owned(), lines }
    }

    /// The file's content again.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.lines.join(&b'\n')
    }
}

/// Names the folder with the real log files; by default it is looked for beside the workspace.
pub const FOLDER_VARIABLE: &str = "RAFTLINE_LOGHUB";

/// The real log files; `None` where there are none.
#[must_use]
pub fn loghub() -> Option<Vec<Input>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/loghub");
    let folder = std::env::var_os(FOLDER_VARIABLE).map_or(beside, PathBuf::from);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    let inputs: Vec<Input> = paths
        .iter()
        .filter_map(|path| Some(Input::new(path.file_stem()?.to_str()?, &std::fs::read(path).ok()?)))
        .collect();
    (!inputs.is_empty()).then_some(inputs)
}

/// Files of the same shape made from a seed: lines that end in CR LF, bare carriage returns, bytes that are no UTF-8,
/// very long lines, empty ones, a file without a last line feed, and an empty file.
#[must_use]
pub fn generated(seed: u64) -> Vec<Input> {
    let mut chance = Chance::from_seed(seed);
    let mut inputs: Vec<Input> = (0..14)
        .map(|file| {
            let mut content = Vec::new();
            for line in 0..chance.between(200, 600) {
                generate_line(&mut chance, file, line, &mut content);
            }
            if file == 3 {
                content.pop();
            }
            Input::new(&format!("generated-{file}"), &content)
        })
        .collect();
    inputs.push(Input::new("generated-empty", b""));
    inputs.push(Input::new("generated-blank", b"\n\n\r\n\r\r\n\n"));
    inputs
}

fn generate_line(chance: &mut Chance, file: u64, line: u64, content: &mut Vec<u8>) {
    match chance.between(0, 19) {
        0 => {}
        1 => content.extend_from_slice(b"progress 10%\rprogress 50%\rdone"),
        2 => {
            let count = usize::try_from(chance.between(1, 200)).expect("small");
            content.extend([0xff, 0xfe, 0x00, 0xc3].into_iter().cycle().take(count));
        }
        3 if line.is_multiple_of(7) => {
            let long = usize::try_from(chance.between(20_000, 200_000)).expect("small");
            content.extend(std::iter::repeat_n(b'x', long));
        }
        _ => {
            let words =
                format!("2024-01-01 00:00:{:02} file {file} line {line} value {}", line % 60, chance.any());
            content.extend_from_slice(words.as_bytes());
        }
    }
    content.extend_from_slice(if file % 3 == 1 { b"\r\n" } else { b"\n" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_join_to_the_same_bytes() {
        for content in [&b""[..], b"\n", b"a\r\n\rb\n\n", b"no end", b"\xff\xfe\n"] {
            assert_eq!(Input::new("x", content).content(), content);
        }
    }

    #[test]
    fn generated_files_have_every_shape() {
        let inputs = generated(1);
        assert_eq!(inputs.len(), 16);
        let lines = || inputs.iter().flat_map(|input| &input.lines);
        assert!(lines().any(|line| line.ends_with(b"\r")));
        assert!(lines().any(|line| line.len() > 20_000));
        assert!(lines().any(Vec::is_empty));
        assert!(lines().any(|line| std::str::from_utf8(line).is_err()));
        assert_eq!(inputs, generated(1), "the same seed, the same files");
    }
}
