//! RPCs that applications define.

mod net_helpers;

use kademlua::bencode::Value;
use kademlua::net::OperationError;
use kademlua::node::{CallError, Peer};
use net_helpers::{pair, run};
use tokio::task::JoinSet;

const NO_SUCH_RPC: OperationError = OperationError::Call(CallError::NoSuchRpc);
const FAILED: OperationError = OperationError::Call(CallError::Failed);

#[test]
fn a_call_is_answered_fails_or_is_unknown() {
    run(async {
        let (server, client) = pair().await;
        let peer = Peer::from(server.local_addr());
        let call = |args| client.call(peer, b"double", args);
        assert_eq!(call(vec![]).await, Err(NO_SUCH_RPC));

        let mut calls = server.register(b"double").await.unwrap();
        let asking = client.id();
        let answering = tokio::spawn(async move {
            let call = calls.recv().await.unwrap();
            assert_eq!((call.name.as_slice(), call.from.id), (&b"double"[..], asking));
            let number = call.args[0].decode::<i64>().unwrap();
            call.answer(vec![Value::integer(2 * number), Value::bytes("done")]);
            calls.recv().await.unwrap().fail();
            drop(calls.recv().await.unwrap());
            calls
        });
        let answer = call(vec![Value::integer(21)]).await;
        assert_eq!(answer, Ok(vec![Value::integer(42), Value::bytes("done")]));
        assert_eq!(call(vec![]).await, Err(FAILED));
        assert_eq!(call(vec![]).await, Err(FAILED), "dropped");

        drop(answering.await.unwrap());
        assert_eq!(call(vec![]).await, Err(NO_SUCH_RPC));
        server.register(b"double").await.expect("the name is free again");
    });
}

#[test]
fn of_two_receivers_for_one_name_the_older_ends() {
    run(async {
        let (server, client) = pair().await;
        let mut older = server.register(b"mine").await.unwrap();
        let mut newer = server.register(b"mine").await.unwrap();
        assert!(older.recv().await.is_none());
        drop(older);
        let peer = Peer::from(server.local_addr());
        let asking = tokio::spawn(async move { client.call(peer, b"mine", vec![]).await });
        newer.recv().await.unwrap().answer(vec![]);
        assert_eq!(asking.await.unwrap(), Ok(vec![]));
    });
}

#[test]
fn the_protocols_own_names_are_not_to_be_had() {
    run(async {
        let (server, _) = pair().await;
        let outcome = server.register(b"ping").await;
        assert!(matches!(outcome, Err(OperationError::Register(_))));
    });
}

#[test]
fn calls_beyond_what_an_application_takes_fail_at_once() {
    run(async {
        let (server, client) = pair().await;
        let peer = Peer::from(server.local_addr());
        let mut calls = server.register(b"slow").await.unwrap();
        let mut asking = JoinSet::new();
        for _ in 0..100 {
            let client = client.clone();
            asking.spawn(async move { client.call(peer, b"slow", vec![]).await });
        }
        // 64 calls wait for the application, and nothing else waits for these.
        for _ in 0..36 {
            assert_eq!(asking.join_next().await.unwrap().unwrap(), Err(FAILED));
        }
        while let Ok(call) = calls.try_recv() {
            call.answer(vec![]);
        }
        let answers = asking.join_all().await;
        assert_eq!(answers, vec![Ok(vec![]); 64]);
    });
}
