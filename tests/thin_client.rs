//! Clients without a node: they store, find and locate by way of any node, through the library, the program,
//! and thirty lines of Python. A node that dies on the way holds up nobody.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{RouteAnswer, StoreMode};
use kademlua::net::{Found, Handle, Settings, ThinClient, ThinError, spawn};

const NODES: usize = 30;

fn start(bootstrap: Vec<SocketAddr>) -> Handle {
    let bind = "127.0.0.1:0".parse().unwrap();
    let bootstrap = bootstrap.into_iter().map(Into::into).collect();
    spawn(Settings { bind, bootstrap, ..Settings::default() }).unwrap()
}

async fn network() -> Vec<Handle> {
    let first = start(Vec::new());
    let address = first.local_addr();
    let mut nodes = vec![first];
    for _ in 1..NODES {
        let node = start(vec![address]);
        node.bootstrap(vec![address]).await.unwrap();
        nodes.push(node);
    }
    nodes
}

/// The node whose id is nearest to a key.
fn nearest<'n>(nodes: &'n [Handle], key: &Id) -> &'n Handle {
    nodes.iter().min_by_key(|node| key.distance(&node.id())).unwrap()
}

#[tokio::test]
async fn values_are_stored_found_and_located_by_way_of_any_node() {
    let nodes = network().await;
    let key = Id::of_name("fruit");
    let value = Value::bytes("apple");
    let mut client = ThinClient::new(nodes[3].local_addr()).unwrap();
    assert_eq!(client.put(key, &value).unwrap().answer, RouteAnswer::Stored);
    for node in &nodes {
        let mut client = ThinClient::new(node.local_addr()).unwrap();
        client.trace(true);
        let found = client.get(key).unwrap();
        assert_eq!(found.answer, RouteAnswer::Values(vec![value.clone()]));
        let [attempt] = &found.attempts[..] else { panic!("{found:?}") };
        let last = attempt.hops.last().unwrap();
        assert!(attempt.hops.len() <= 4, "{found:?}");
        assert_eq!(last.id, kademlua::id::IdPrefix::of(&found.by));
        let located = client.locate(Id::of_name("a node near this")).unwrap().answer;
        let nearest = nearest(&nodes, &Id::of_name("a node near this"));
        let RouteAnswer::Located(contact) = located else { panic!("{located:?}") };
        assert_eq!((contact.id, contact.address), (nearest.id(), nearest.local_addr()));
    }
    let Found { answer, attempts, .. } = client.get(Id::of_name("nothing")).unwrap();
    assert_eq!(answer, RouteAnswer::Nothing);
    assert!(attempts.last().unwrap().iterates, "final only after a lookup");
    // A value that fits no answer to a route is fetched from its holder.
    let large = Value::bytes("x".repeat(9_000));
    assert_eq!(client.put(Id::of_name("large"), &large).unwrap().answer, RouteAnswer::Stored);
    let found = client.get(Id::of_name("large")).unwrap();
    assert_eq!(found.answer, RouteAnswer::Values(vec![large]));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_has_died_on_the_way_is_passed_over_at_once() {
    let mut nodes = network().await;
    let key = Id::of_name("what the dead one held");
    let value = Value::bytes("still there");
    nodes[0].store(key, value.clone(), StoreMode::Add).await.unwrap();
    let dead = nodes.iter().position(|node| node.id() == nearest(&nodes, &key).id()).unwrap();
    let dead = nodes.remove(dead);
    dead.stop().await;
    // An entry that keeps no copy hands the route on, to the dead node first.
    let far = nodes.iter().max_by_key(|node| key.distance(&node.id())).unwrap();
    let mut client = ThinClient::new(far.local_addr()).unwrap();
    let found = client.get(key).unwrap();
    assert_eq!(found.answer, RouteAnswer::Values(vec![value]));
    assert_eq!(found.attempts.len(), 1, "{found:?}");
    for node in nodes {
        node.stop().await;
    }
}

#[test]
fn nobody_and_silence_are_told_apart() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let error = ThinClient::new(address).unwrap().locate(Id::of_name("x")).unwrap_err();
    assert!(matches!(error, ThinError::Nobody(at) if at == address), "{error:?}");
    let large = Value::bytes("x".repeat(16_001));
    let error = ThinClient::new(address).unwrap().put(Id::of_name("x"), &large).unwrap_err();
    assert!(matches!(error, ThinError::TooLarge { .. }), "{error:?}");
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
async fn thirty_lines_of_another_language_do_the_same() {
    if !has_python() {
        return;
    }
    let nodes = network().await;
    nodes[5].store(Id::of_name("tree"), Value::bytes("pear"), StoreMode::Add).await.unwrap();
    let via = nodes[9].local_addr().to_string();
    for (name, expected) in [("tree", "ld6:retvall4:peareee\n"), ("nothing", "ldee\n")] {
        let mut client = Command::new("python3");
        client.args([concat!(env!("CARGO_MANIFEST_DIR"), "/examples/thin.py"), &via, name]);
        let output = client.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[cfg(feature = "shell")]
fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kademlua")).args(arguments).output().unwrap()
}

#[cfg(feature = "shell")]
#[tokio::test]
async fn the_program_says_how_it_ended_by_its_status() {
    let nodes = network().await;
    let via = nodes[4].local_addr().to_string();
    let asked = |arguments: &[&str]| {
        let output = program(&[arguments, &["--via", &via]].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let fine = |text: &str| (0, text.to_owned(), String::new());
    assert_eq!(asked(&["put", "greeting", "hello"]), fine(""));
    assert_eq!(asked(&["get", "greeting"]), fine("hello\n"));
    let key = Id::of_name("greeting");
    assert_eq!(asked(&["get", &key.to_string()]), fine("hello\n"), "the key itself");
    let (status, out, _) = asked(&["locate", "greeting", "--json"]);
    assert_eq!(status, 0);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["found"], &json["key"]), (&true.into(), &key.to_string().into()));
    let located = json["answer"]["located"]["id"].as_str().unwrap();
    assert!(nodes.iter().any(|node| node.id().to_string() == located), "{out}");
    let (status, out, error) = asked(&["get", "nothing"]);
    assert_eq!((status, &*out), (1, ""));
    assert!(error.contains("nothing is stored under this key"), "{error}");
    let (status, _, error) = asked(&["get", "greeting", "-v"]);
    assert_eq!(status, 0);
    assert!(error.contains("try 1, straight: found after"), "{error}");
    for node in nodes {
        node.stop().await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(asked(&["get", "greeting"]).0, 3);
    assert_eq!(program(&["get", "greeting"]).status.code(), Some(2), "no way in");
}
