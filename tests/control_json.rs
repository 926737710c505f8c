//! The promise: every answer of a node is serialised in one way and reads back as the same answer, so
//! that a program in any language can use it.

mod net_helpers;

use kademlua::bencode::Value;
use kademlua::control::{Answer, Ask, Capture, Command, Filter, Look};
use kademlua::id::Id;
use kademlua::message::{RouteKind, StoreMode};
use kademlua::net::Handle;
use kademlua::node::Peer;
use net_helpers::{pair, run};

/// Asks with the question written and read back, and compares the answer with itself written and
/// read back.
async fn asked(node: &Handle, ask: Ask) -> Answer {
    let written = serde_json::to_string(&ask).unwrap();
    let read: Ask = serde_json::from_str(&written).unwrap();
    assert_eq!(read, ask, "{written}");
    let answer = node.ask(read).await.unwrap();
    let written = serde_json::to_string(&answer).unwrap();
    let mut json = serde_json::Deserializer::from_str(&written);
    let read = ask.read_answer(&mut json).unwrap_or_else(|error| panic!("{error}: {written}"));
    json.end().unwrap();
    // The node's own clock and numbers are not serialised, so the two are compared as written.
    assert_eq!(serde_json::to_string(&read).unwrap(), written);
    answer
}

#[test]
fn every_question_and_its_answer_read_back_as_they_were() {
    run(async {
        let (first, second) = pair().await;
        let (peer, key) = (Peer::from(first.local_addr()), Id::of_name("key"));
        let mut calls = first.register(b"greet").await.unwrap();
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                let args = call.args.clone();
                call.answer(args);
            }
        });
        let value = Value::parse(b"d1:\xffi1e3:hex2:ff4:listli-1e0:ee").unwrap();
        let mode = StoreMode::Replace;
        let args = vec![value.clone(), Value::bytes("")];
        let name = b"greet\xff"[..5].into();
        let commands = [
            Command::Bootstrap { addresses: vec![first.local_addr(), ([127, 0, 0, 1], 1).into()] },
            Command::Store { key, value: value.clone(), mode },
            Command::FindNode { target: key },
            Command::FindValue { key, max_nodes: 3, max_entries: usize::MAX },
            Command::FindValue { key: Id::of_name("nothing"), max_nodes: 1, max_entries: 6 },
            Command::Ping { peer },
            Command::GetSocket { peer },
            Command::Call { peer, name, args: args.clone() },
            Command::Route { key, kind: RouteKind::FindValue, trace: true },
            Command::Route { key, kind: RouteKind::Locate, trace: false },
        ];
        // So that the last packets are there to be asked for.
        second.packets().await.unwrap();
        let mut answers = Vec::new();
        for command in commands {
            answers.push(asked(&second, Ask::Run(command)).await);
        }
        assert!(matches!(&answers[7], Answer::Returned(returned) if *returned == args));
        let Answer::Lookup(found) = &answers[3] else { panic!("{:?}", answers[3]) };
        let found = found.values.as_ref().unwrap();
        assert!(found.iter().any(|found| found.value == value && found.holder.is_some()));
        for (at, has_values) in [(2, false), (3, true), (4, true)] {
            let Answer::Lookup(lookup) = &answers[at] else { panic!("{:?}", answers[at]) };
            assert_eq!((lookup.values.is_some(), lookup.more.is_some()), (has_values, has_values));
        }
        let filter = Filter { peer: Some(peer), n: Some(100), ..Filter::default() };
        let looks = [
            Look::Node,
            Look::Contacts,
            Look::Routing,
            Look::Lookups,
            Look::Estimate,
            Look::Kept { key },
            Look::Settings,
            Look::Xdp,
            Look::Packets(filter),
        ];
        for look in looks {
            asked(&second, Ask::Look(look)).await;
        }
        let file = std::env::temp_dir().join(format!("kademlua-json-{}.pcap", std::process::id()));
        let begin =
            Capture::Begin { file: file.to_str().unwrap().as_bytes().into(), replace: true };
        for capture in [Capture::Status {}, begin, Capture::Status {}, Capture::End {}] {
            asked(&second, Ask::Capture(capture)).await;
        }
        std::fs::remove_file(file).unwrap();
        asked(&second, Ask::ForgetPackets {}).await;
    });
}
