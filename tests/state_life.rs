//! The parts of a node that last from one life to the next, and for how long.

mod net_helpers;
mod state_helpers;

use std::time::Duration;

use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::net::{Handle, Settings, spawn};
use kademlua::wire::Dialect;

use net_helpers::{Stranger, run};
use state_helpers::{Folder, missing, start, store};

fn mortal(folder: &Folder, seconds: u64) -> Handle {
    let expire = kademlua::time::Duration::from_secs(seconds);
    spawn(Settings {
        bind: "127.0.0.1:0".parse().unwrap(),
        config: Config { expire, ..Config::default() },
        state: Some(folder.0.clone()),
        ..Settings::default()
    })
    .unwrap()
}

#[test]
fn values_go_on_ageing_while_a_node_is_down() {
    let folder = Folder::new("ageing");
    run(async {
        let node = mortal(&folder, 6);
        let mut stranger = Stranger::new();
        store(&mut stranger, node.local_addr(), 0);
        let born = tokio::time::Instant::now();
        tokio::time::sleep_until(born + Duration::from_secs(2)).await;
        node.stop().await;

        let node = mortal(&folder, 6);
        store(&mut Stranger::new(), node.local_addr(), 1);
        assert_eq!(missing(&node, 2).await, [0; 0]);
        // Six seconds after it was stored, not after the start.
        tokio::time::sleep_until(born + Duration::from_millis(6_500)).await;
        assert_eq!(missing(&node, 2).await, [0]);
        node.stop().await;

        tokio::time::sleep_until(born + Duration::from_millis(9_500)).await;
        let node = mortal(&folder, 6);
        assert_eq!(missing(&node, 2).await, [0, 1]);
        // Taking a value off the disk takes a little while.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(node.snapshot().await.unwrap().v1().stored.bytes, 0);
        node.stop().await;
    });
}

#[test]
fn an_id_lasts_and_another_is_refused() {
    let folder = Folder::new("id");
    let settings = |id: Id| Settings {
        bind: "127.0.0.1:0".parse().unwrap(),
        ids: [(Dialect::V1, id)].into(),
        state: Some(folder.0.clone()),
        ..Settings::default()
    };
    run(async {
        let id = Id::of_name("chosen");
        spawn(settings(id)).unwrap().stop().await;
        // On another port, which would give it another id.
        let node = start(&folder.0).unwrap();
        assert_eq!(node.id(), id);
        node.stop().await;
        let other = Id::of_name("other");
        let error = spawn(settings(other)).unwrap_err().to_string();
        let expected = format!("is that of node {id}, not of {other}; leave the id out");
        assert!(error.contains(&expected), "{error}");
        let node = spawn(settings(id)).unwrap();
        assert_eq!(node.id(), id);
        node.stop().await;
    });
}

/// Entries for a file that has lost its name are lost, and the node says so.
#[test]
fn a_folder_that_is_removed_under_a_node_is_noticed() {
    let folder = Folder::new("removed");
    run(async {
        let node = start(&folder.0).unwrap();
        let mut stranger = Stranger::new();
        store(&mut stranger, node.local_addr(), 0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(node.state().unwrap().problem, None);
        std::fs::remove_dir_all(&folder.0).unwrap();
        store(&mut stranger, node.local_addr(), 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let problem = node.state().unwrap().problem.expect("a problem");
        assert!(problem.contains("removed or replaced"), "{problem}");
        assert_eq!(missing(&node, 2).await, [0; 0], "it serves on");
        node.stop().await;
    });
}
