//! The simulated directories: names as a process sees them, and as a power cut leaves them.

use super::Rng;
use super::file::FileBytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

/// A file or a directory, apart from its names.
#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Mutex<FileBytes>>),
    Dir(Arc<Mutex<Tree>>),
}

/// One directory and all below it.
#[derive(Clone, Default)]
pub(super) struct Tree {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// What is left of a disk.
pub(super) enum Survival {
    /// Everything, with its durability as it was: the process was killed.
    Live,
    /// What was synced, and nothing else.
    Durable,
    /// What was synced, and some of the rest.
    Random(Rng),
}

impl Node {
    /// The size of the files in it.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.lock().len(),
            Self::Dir(dir) => dir.lock().bytes(),
        }
    }

    /// Tells nodes apart, for as long as they live.
    fn id(&self) -> usize {
        match self {
            Self::File(file) => Arc::as_ptr(file).addr(),
            Self::Dir(dir) => Arc::as_ptr(dir).addr(),
        }
    }
}

impl Tree {
    pub(super) fn bytes(&self) -> u64 {
        self.live.values().map(Node::bytes).sum()
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        let mut names = names(dir)?.into_iter();
        let Some(first) = names.next() else { return Ok(()) };
        let mut at = self.child_dir(first)?;
        for name in names {
            let next = at.lock().child_dir(name)?;
            at = next;
        }
        Ok(())
    }

    /// The directory `name`, made if it is missing.
    fn child_dir(&mut self, name: &str) -> io::Result<Arc<Mutex<Self>>> {
        let made = || Node::Dir(Arc::new(Mutex::new(Self::default())));
        match self.live.entry(name.to_owned()).or_insert_with(made) {
            Node::Dir(dir) => Ok(Arc::clone(dir)),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn list(&mut self, dir: &Path) -> io::Result<Vec<String>> {
        self.within(dir, |tree| Ok(tree.live.keys().cloned().collect()))
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Arc<Mutex<FileBytes>>> {
        self.at(path, |tree, name| {
            if tree.live.contains_key(name) {
                return Err(exists(path));
            }
            let file = Arc::new(Mutex::new(FileBytes::default()));
            tree.live.insert(name.to_owned(), Node::File(Arc::clone(&file)));
            Ok(file)
        })
    }

    pub(super) fn file(&mut self, path: &Path) -> io::Result<Arc<Mutex<FileBytes>>> {
        self.at(path, |tree, name| match tree.live.get(name) {
            Some(Node::File(file)) => Ok(Arc::clone(file)),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(missing(path)),
        })
    }

    /// Returns what the name stood for before.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Option<Node>> {
        let node = self.at(from, |tree, name| tree.live.remove(name).ok_or_else(|| missing(from)))?;
        self.at(to, |tree, name| Ok(tree.live.insert(name.to_owned(), node)))
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<Node> {
        self.at(path, |tree, name| match tree.live.get(name) {
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) | None => tree.live.remove(name).ok_or_else(|| missing(path)),
        })
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<Node> {
        self.at(path, |tree, name| match tree.live.get(name) {
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            Some(Node::Dir(_)) | None => tree.live.remove(name).ok_or_else(|| missing(path)),
        })
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.within(dir, |tree| {
            tree.durable = tree.live.clone();
            Ok(())
        })
    }

    /// Calls with the directory that holds `path`, and the name in it.
    fn at<T>(&mut self, path: &Path, call: impl FnOnce(&mut Self, &str) -> io::Result<T>) -> io::Result<T> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        self.descend(path, &names, |tree| call(tree, name))
    }

    fn within<T>(&mut self, dir: &Path, call: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.descend(dir, &names(dir)?, call)
    }

    fn descend<T>(
        &mut self,
        path: &Path,
        names: &[&str],
        call: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let Some((first, rest)) = names.split_first() else { return call(self) };
        match self.live.get(*first) {
            Some(Node::Dir(dir)) => dir.lock().descend(path, rest, call),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(missing(path)),
        }
    }

    /// A new tree, sharing nothing with this one, with what survives.
    pub(super) fn rebuilt(&self, survival: &mut Survival) -> Self {
        match survival {
            Survival::Live => self.copied(&mut BTreeMap::new()),
            Survival::Durable => self.of_names(&self.durable.clone(), survival),
            Survival::Random(rng) => {
                let names = self.surviving_names(rng);
                self.of_names(&names, survival)
            }
        }
    }

    fn of_names(&self, names: &BTreeMap<String, Node>, survival: &mut Survival) -> Self {
        let mut live = BTreeMap::new();
        for (name, node) in names {
            let node = match node {
                Node::File(file) => {
                    let file = match survival {
                        Survival::Random(rng) => file.lock().crashed(rng),
                        Survival::Live | Survival::Durable => file.lock().durable_only(),
                    };
                    Node::File(Arc::new(Mutex::new(file)))
                }
                Node::Dir(dir) => Node::Dir(Arc::new(Mutex::new(dir.lock().rebuilt(survival)))),
            };
            live.insert(name.clone(), node);
        }
        Self { durable: live.clone(), live }
    }

    /// Names that differ from their durable state fall either way, those of one node together: a rename happened or
    /// did not, but a file does not vanish because it was renamed.
    fn surviving_names(&self, rng: &mut Rng) -> BTreeMap<String, Node> {
        let mut happened: BTreeMap<usize, bool> = BTreeMap::new();
        let mut survivors = BTreeMap::new();
        let names: BTreeSet<&String> = self.live.keys().chain(self.durable.keys()).collect();
        for name in names {
            let (live, durable) = (self.live.get(name), self.durable.get(name));
            let Some(decider) = live.or(durable) else { continue };
            let same = live.map(Node::id) == durable.map(Node::id);
            let outcome = if same || *happened.entry(decider.id()).or_insert_with(|| rng.coin()) {
                live
            } else {
                durable
            };
            if let Some(node) = outcome {
                survivors.insert(name.clone(), node.clone());
            }
        }
        survivors
    }

    /// A deep copy. A node with two names, live and durable, stays one node.
    fn copied(&self, copies: &mut BTreeMap<usize, Node>) -> Self {
        let mut copy = |names: &BTreeMap<String, Node>| -> BTreeMap<String, Node> {
            names.iter().map(|(name, node)| (name.clone(), copied_node(node, copies))).collect()
        };
        Self { live: copy(&self.live), durable: copy(&self.durable) }
    }
}

fn copied_node(node: &Node, copies: &mut BTreeMap<usize, Node>) -> Node {
    if let Some(copy) = copies.get(&node.id()) {
        return copy.clone();
    }
    let copy = match node {
        Node::File(file) => Node::File(Arc::new(Mutex::new(file.lock().clone()))),
        Node::Dir(dir) => Node::Dir(Arc::new(Mutex::new(dir.lock().copied(copies)))),
    };
    copies.insert(node.id(), copy.clone());
    copy
}

/// The names on the way to a path, from the root.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file or directory", path.display()))
}

fn exists(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: exists already", path.display()))
}
