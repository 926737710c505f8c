//! The promise: `docs/protocol.md` is enough to write a client from. The client at its end, which knows
//! nothing else, stores and finds values in a network of ours.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::StoreMode;
use kademlua::net::{Handle, Settings, spawn};

const NODES: usize = 30;

fn start(bootstrap: Vec<SocketAddr>) -> Handle {
    let bind = "127.0.0.1:0".parse().unwrap();
    let bootstrap = bootstrap.into_iter().map(Into::into).collect();
    spawn(Settings { bind, bootstrap, ..Settings::default() }).unwrap()
}

fn has_python() -> bool {
    if Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success())
    {
        return true;
    }
    assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "python3 is missing");
    eprintln!("skipped: python3 is missing");
    false
}

#[tokio::test]
async fn a_client_written_from_the_page_stores_and_finds() {
    if !has_python() {
        return;
    }
    let page = fs::read_to_string("docs/protocol.md").unwrap();
    let (_, code) = page.split_once("```python\n").expect("the client");
    let (code, _) = code.split_once("```").unwrap();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("protocol-page-client.py");
    fs::write(&file, code).unwrap();

    let first = start(Vec::new());
    let address = first.local_addr();
    let mut nodes = vec![first];
    for _ in 1..NODES {
        let node = start(vec![address]);
        node.bootstrap(vec![address]).await.unwrap();
        nodes.push(node);
    }
    // The nodes have threads of their own, so that waiting here holds nobody up.
    let client = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.arg(&file).arg(address.port().to_string()).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };

    assert_eq!(client(&["put", "fruit", "apple"]), "kept at 20\n");
    let found = nodes[NODES - 1].find_value(Id::of_name("fruit"), 1, 6).await.unwrap();
    assert_eq!(found.values[0].value.decode::<String>().unwrap(), "apple");

    let pear = Value::encode(&"pear").unwrap();
    nodes[7].store(Id::of_name("tree"), pear, StoreMode::Add).await.unwrap();
    assert_eq!(client(&["get", "tree"]), "pear\n");
    assert_eq!(client(&["get", "nothing"]), "\n");

    for node in nodes {
        node.stop().await;
    }
}
