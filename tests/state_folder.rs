//! A state is its owner's alone. A link, pipe or file that others put in its place is neither
//! followed, nor waited for, nor written to.

#![cfg(all(unix, feature = "shell"))]

mod net_helpers;
mod network_helpers;
mod state_helpers;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use net_helpers::{Stranger, run as run_future};
use network_helpers::{PROGRAM, free_ports, run, text};
use state_helpers::{Files, Folder, start, store};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a node that ends at once; its exit status, and its complaint.
fn tried(state: &Path) -> (Option<i32>, String) {
    let port = free_ports(1).to_string();
    let mut command = Command::new("timeout");
    command.args(["30", PROGRAM, &port, "--bootstrap", &port, "-e", "1"]);
    command.arg("--state").arg(state).stdin(Stdio::null()).env_remove("RUST_LOG");
    let output = run(command);
    (output.status.code(), text(&output.stderr))
}

/// A state with a value in it.
fn filled(folder: &Path) {
    run_future(async {
        let node = start(folder).unwrap();
        store(&mut Stranger::new(), node.local_addr(), 1);
        node.stop().await;
    });
}

#[test]
fn a_state_is_made_for_its_owner_alone() {
    let folder = Folder::new("made");
    let state = folder.0.join("a/state");
    filled(&state);
    assert_eq!((mode(&state), mode(&folder.0.join("a"))), (0o700, 0o700));
    for file in fs::read_dir(&state).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
}

#[test]
fn a_state_that_was_open_to_others_is_closed_and_that_is_said() {
    let folder = Folder::new("open");
    let state = folder.0.join("state");
    filled(&state);
    for mode in [0o755, 0o777, 0o750] {
        set_mode(&state, mode);
        fs::read_dir(&state).unwrap().for_each(|file| set_mode(&file.unwrap().path(), 0o644));
        let (status, said) = tried(&state);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("was open to other users"), "{said}");
        assert_eq!(self::mode(&state), 0o700);
        for file in fs::read_dir(&state).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(self::mode(&path), 0o600, "{path:?}");
        }
    }
}

#[test]
fn a_folder_of_other_things_that_others_may_write_to_is_refused_and_left_alone() {
    let folder = Folder::new("shared");
    fs::write(folder.0.join("thing"), "thing").unwrap();
    for mode in [0o777, 0o1777] {
        set_mode(&folder.0, mode);
        let (status, said) = tried(&folder.0);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("take a folder of its own"), "{said}");
        assert_eq!(self::mode(&folder.0), mode);
    }
}

/// Things that may lie there instead of a file.
const KINDS: [&str; 7] = [
    "a link",
    "a link to nothing",
    "a link to a device",
    "another name of a file",
    "a pipe",
    "a socket",
    "a folder",
];

fn make(kind: &str, path: &Path, target: &Path) {
    match kind {
        "a link" => symlink(target, path).unwrap(),
        "a link to nothing" => symlink("nowhere", path).unwrap(),
        "a link to a device" => symlink("/dev/zero", path).unwrap(),
        "another name of a file" => fs::hard_link(target, path).unwrap(),
        // Its address would have to be short.
        "a socket" => mknod(path, SFlag::S_IFSOCK, Mode::S_IRWXU, 0).unwrap(),
        "a pipe" => mkfifo(path, Mode::S_IRWXU).unwrap(),
        _ => fs::create_dir(path).unwrap(),
    }
}

#[test]
fn what_is_no_plain_file_is_an_error_and_never_waited_for() {
    let folder = Folder::new("kinds");
    let target = folder.0.join("target");
    fs::write(&target, "precious").unwrap();
    let of_target = mode(&target);
    // A new folder, and one with a state.
    for before in [false, true] {
        for name in ["state.mark", "state.redb", "state.1.log"] {
            for kind in KINDS {
                let state = folder.0.join("state");
                let _ = fs::remove_dir_all(&state);
                if before {
                    filled(&state);
                } else {
                    fs::create_dir(&state).unwrap();
                }
                let path = state.join(name);
                let _ = fs::remove_file(&path);
                make(kind, &path, &target);
                let (status, said) = tried(&state);
                let what = format!("{kind} as {name}, a state before: {before}: {said}");
                assert_eq!(fs::read(&target).unwrap(), b"precious", "{what}");
                assert_eq!(mode(&target), of_target, "{what}");
                // Once there is a log, nothing is looked for in a database.
                if before && name == "state.redb" {
                    assert_eq!(status, Some(0), "{what}");
                    continue;
                }
                assert_eq!(status, Some(1), "{what}");
                assert!(said.contains("the state in"), "{what}");
            }
        }
    }
}

/// Files that are made anew replace whatever is there.
#[test]
fn what_lies_where_a_file_is_made_is_not_written_to() {
    let folder = Folder::new("links");
    let target = folder.0.join("target");
    fs::write(&target, "precious").unwrap();
    let state = folder.0.join("state");
    filled(&state);
    for name in ["state.2.log", "state.redb.new"] {
        symlink(&target, state.join(name)).unwrap();
        tried(&state);
        assert_eq!(fs::read(&target).unwrap(), b"precious", "{name}");
        let _ = fs::remove_file(state.join(name));
        assert_eq!(tried(&state).0, Some(0), "{name}");
    }
}

#[test]
fn a_folder_that_somebody_may_have_put_there_is_refused() {
    let folder = Folder::new("place");
    let (shared, own) = (folder.0.join("shared"), folder.0.join("own"));
    fs::create_dir(&shared).unwrap();
    filled(&own);
    set_mode(&shared, 0o1777);
    let link = shared.join("state");
    symlink(&own, &link).unwrap();
    let before = Files::of(&own);
    for path in [link.clone(), link.join("")] {
        let (status, said) = tried(&path);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("is a link in a place where others may write"), "{said}");
    }
    assert!(before == Files::of(&own));
    fs::remove_file(&link).unwrap();
    mkfifo(&link, Mode::S_IRWXU).unwrap();
    let (status, said) = tried(&link);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("is no folder"), "{said}");
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "only root can give away");
        eprintln!("skipped: only root can give something away");
        return;
    }
    let folder = Folder::new("others");
    for name in ["", "state.mark", "state.1.log"] {
        let state = folder.0.join("state");
        let _ = fs::remove_dir_all(&state);
        filled(&state);
        std::os::unix::fs::chown(state.join(name), Some(12_345), None).unwrap();
        let (status, said) = tried(&state);
        assert_eq!(status, Some(1), "{name}: {said}");
        assert!(said.contains("belongs to another user"), "{name}: {said}");
    }
}
