//! What the tests of a node's state on disk share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{FindValue, Request, Response, StoreMode, StoreRequest};
use kademlua::net::{Handle, Settings, SpawnError, spawn};
use kademlua::wire::{Body, parse};

use crate::net_helpers::Stranger;

/// A folder of the test's own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        Folder::within(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
    }

    /// In memory, where the system has a place for that: for tests that do not depend on the disk,
    /// and use it often.
    pub fn in_memory(name: &str) -> Folder {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Folder::within(memory, name) } else { Folder::new(name) }
    }

    fn within(place: &Path, name: &str) -> Folder {
        let path = place.join(format!("state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The files in a folder, as they were once.
#[derive(Clone, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    pub fn of(folder: &Path) -> Files {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        files.sort();
        Files(files)
    }

    pub fn get(&mut self, name: &str) -> &mut Vec<u8> {
        let file = self.0.iter_mut().find(|(path, _)| path.file_name().unwrap() == name);
        &mut file.unwrap_or_else(|| panic!("no file {name}")).1
    }

    /// Puts the folder back as it was.
    pub fn put_back(&self, folder: &Path) {
        fs::remove_dir_all(folder).unwrap();
        fs::create_dir_all(folder).unwrap();
        for (path, bytes) in &self.0 {
            fs::write(folder.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
}

/// A node on a free port that keeps its state in a folder, alone.
pub fn start(state: &Path) -> Result<Handle, SpawnError> {
    let bind = "127.0.0.1:0".parse().unwrap();
    spawn(Settings { bind, state: Some(state.to_owned()), ..Settings::default() })
}

pub fn key(number: usize) -> Id {
    Id::of_name(format!("key {number}"))
}

pub fn value(number: usize) -> Value {
    Value::bytes(format!("value {number}"))
}

/// Stores a value at one node, and waits for the node's word that it has it.
pub fn store(stranger: &mut Stranger, to: SocketAddr, number: usize) {
    let value = value(number);
    let store = StoreRequest {
        key: key(number),
        value: value.item(),
        mode: StoreMode::Add,
        copy: None,
        token: None,
    };
    let response = ask(stranger, to, &Request::Store(store)).expect("an answer to a store");
    assert_eq!(response, Response::Stored);
}

/// Whether a node answers that it keeps a value itself.
pub fn has(stranger: &mut Stranger, from: SocketAddr, number: usize) -> bool {
    let request = Request::FindValue(FindValue::new(key(number), 20));
    match ask(stranger, from, &request).expect("an answer to a findvalue") {
        Response::Values { values, .. } => values.contains(&value(number)),
        other => panic!("{other:?} to a findvalue"),
    }
}

/// Asks a node something; `None` if no answer comes.
pub fn ask(stranger: &mut Stranger, to: SocketAddr, request: &Request<'_>) -> Option<Response> {
    let asked = stranger.send(to, request);
    let mut buffer = [0; 65_535];
    loop {
        let (len, _) = stranger.socket.recv_from(&mut buffer).ok()?;
        let frame = parse(&buffer[..len]).expect("nodes send v1 only");
        if frame.transaction != asked {
            continue;
        }
        let Body::Answer(answer) = frame.body else { panic!("{:?}", frame.body) };
        return Some(answer.read(request.kind()).unwrap());
    }
}

/// The numbers of the values that a node does not keep itself.
pub async fn missing(node: &Handle, count: usize) -> Vec<usize> {
    let mut missing = Vec::new();
    for number in 0..count {
        if !node.kept(key(number)).await.unwrap().contains(&value(number)) {
            missing.push(number);
        }
    }
    missing
}
