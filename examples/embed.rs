//! Three nodes in one program: one stores a value, another finds it.
//!
//! ```sh
//! cargo run --example embed
//! ```
//!
//! A real program runs one node, on a port that others know, and joins through the address of
//! any node of the network that it wants to be part of.

use std::error::Error;
use std::net::SocketAddr;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::StoreMode;
use kademlua::net::{Handle, Settings, spawn};
use kademlua::node::Peer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // 1. Start three nodes. The first knows nobody; the others join through it.
    let first = start(vec![])?;
    let second = start(vec![first.local_addr()])?;
    let third = start(vec![first.local_addr()])?;
    println!("nodes: {first:?}\n       {second:?}\n       {third:?}");

    // 2. A node joins by itself, behind its owner's back. To learn how that went, join again, and
    //    wait.
    for node in [&second, &third] {
        let joined = node.bootstrap(vec![first.local_addr()]).await?;
        assert_eq!(joined.answered, 1);
    }

    // 3. A ping, and the time it takes.
    let rtt = third.ping(Peer::from(second.local_addr())).await?;
    println!("the second answers the third after {rtt:?}");

    // 4. Store a value under a key. Values can be anything that serde can write and bencoding can
    //    carry: integers, text, lists, dictionaries.
    let key = Id::of_name("fruit");
    let report = second.store(key, Value::encode(&["apple", "pear"])?, StoreMode::Add).await?;
    println!("stored on {} other nodes", report.stored.len());

    // 5. Find it from another node: one node that has values will do, up to six values. In a
    //    network as small as this one every node keeps a copy, the one that asks included.
    let found = third.find_value(key, 1, 6).await?;
    for value in &found.values {
        let fruit: Vec<String> = value.value.decode()?;
        match value.holder {
            Some(holder) => println!("found {fruit:?} at {holder:?} after {:?}", value.after),
            None => println!("found {fruit:?} among the node's own copies"),
        }
    }
    assert!(!found.values.is_empty());

    // 6. Offer an RPC of one's own, and answer it from a task.
    let mut calls = first.register(b"shout").await?;
    let answering = tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            match call.args.first().map(Value::decode::<String>) {
                Some(Ok(text)) => call.answer(vec![Value::bytes(text.to_uppercase())]),
                _ => call.fail(),
            }
        }
    });
    let peer = Peer::from(first.local_addr());
    let shouted = second.call(peer, b"shout", vec![Value::bytes("hello")]).await?;
    println!("the first answers {shouted:?}");

    // 7. Stop. Every node's thread has ended and its port is free when this returns.
    for node in [first, second, third] {
        node.stop().await;
    }
    answering.await?;
    Ok(())
}

/// A node on a free port of the loopback interface.
fn start(bootstrap: Vec<SocketAddr>) -> Result<Handle, Box<dyn Error>> {
    let bind = "127.0.0.1:0".parse()?;
    let bootstrap = bootstrap.into_iter().map(Into::into).collect();
    Ok(spawn(Settings { bind, bootstrap, ..Settings::default() })?)
}
