//! An RPC of one's own: a node that keeps a guest book, and another that writes into it.
//!
//! ```sh
//! cargo run --example custom_rpc --no-default-features
//! ```
//!
//! Names of RPCs belong to the application; peers without it answer that there is none of that name.
//! Arguments and results are what bencoding can carry: integers, bytes, lists, dictionaries.

use std::error::Error;

use kademlua::bencode::Value;
use kademlua::net::{Handle, IncomingCall, OperationError, Settings, spawn};
use kademlua::node::{CallError, Peer};
use serde::{Deserialize, Serialize};

/// A guest's entry.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    guest: String,
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let host = start()?;
    let guest = start()?;

    // 1. The host offers the RPC and answers its calls one after the other.
    let mut calls = host.register(b"sign").await?;
    let book = tokio::spawn(async move {
        let mut book = Vec::new();
        while let Some(call) = calls.recv().await {
            sign(&mut book, call);
        }
        book
    });

    // 2. The guest calls it. The host is told by its address alone; with an id too, the answer would
    //    have to come from the node of that id.
    let host_peer = Peer::from(host.local_addr());
    for text in ["hello", "what a lovely table you have"] {
        let entry = Entry { guest: "ada".into(), text: text.into() };
        let number = guest.call(host_peer, b"sign", vec![Value::encode(&entry)?]).await?;
        println!("signed, entry number {}", number[0].decode::<u64>()?);
    }

    // 3. Arguments that the host cannot read fail there, and the caller is told so.
    let nonsense = guest.call(host_peer, b"sign", vec![Value::bytes("just text")]).await;
    assert!(matches!(nonsense, Err(OperationError::Call(CallError::Failed))), "{nonsense:?}");

    // 4. The guest itself offers nothing of that name.
    let guest_peer = Peer::from(guest.local_addr());
    let unknown = host.call(guest_peer, b"sign", Vec::new()).await;
    assert!(matches!(unknown, Err(OperationError::Call(CallError::NoSuchRpc))), "{unknown:?}");

    guest.stop().await;
    host.stop().await;
    for Entry { guest, text } in book.await? {
        println!("{guest}: {text}");
    }
    Ok(())
}

/// Takes one call. Whatever comes from the network may be anything.
fn sign(book: &mut Vec<Entry>, call: IncomingCall) {
    match call.args.first().map(Value::decode::<Entry>) {
        Some(Ok(entry)) => {
            println!("{} signs the book", call.from.address);
            book.push(entry);
            match Value::encode(&book.len()) {
                Ok(number) => call.answer(vec![number]),
                Err(_) => call.fail(),
            }
        }
        _ => call.fail(),
    }
}

/// A node on a free port of the loopback interface.
fn start() -> Result<Handle, Box<dyn Error>> {
    Ok(spawn(Settings { bind: "127.0.0.1:0".parse()?, ..Settings::default() })?)
}
