//! Nodes on loopback, through their handles.

mod net_helpers;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::StoreMode;
use kademlua::net::{Handle, OperationError};
use kademlua::node::{CallError, Peer};
use net_helpers::{pair, run, start, start_at};

async fn store_and_find(from: &Handle, at: &Handle) {
    let key = Id::of_name("key");
    let value = Value::bytes("value");
    let report = from.store(key, value.clone(), StoreMode::Add).await.unwrap();
    assert_eq!(report.stored.len(), 1);
    assert_eq!(report.stored[0].address, at.local_addr());
    let record = at.find_value(key, 1, 6).await.unwrap();
    assert_eq!(record.values.iter().map(|found| &found.value).collect::<Vec<_>>(), [&value]);
}

#[test]
fn two_nodes_ping_store_and_find() {
    run(async {
        let (first, second) = pair().await;
        second.ping(Peer::from(first.local_addr())).await.unwrap();
        store_and_find(&second, &first).await;
        let record = first.find_node(second.id()).await.unwrap();
        assert_eq!(record.closest[0].id, second.id());
        assert_eq!(first.snapshot().await.unwrap().v1().contacts, 1);
    });
}

#[test]
fn ids_on_loopback_are_those_of_original_nodes() {
    let node = start(&[]);
    assert_eq!(node.id(), Id::of_name(node.local_addr().port().to_string()));
}

#[test]
fn a_node_is_told_its_own_address() {
    run(async {
        let (first, second) = pair().await;
        let seen = second.get_socket(Peer::from(first.local_addr())).await.unwrap();
        assert_eq!(seen, second.local_addr());
    });
}

#[test]
fn a_silent_peer_times_out() {
    run(async {
        let node = start(&[]);
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = Peer::from(silent.local_addr().unwrap());
        let outcome = node.ping(peer).await;
        assert_eq!(outcome, Err(OperationError::Call(CallError::TimedOut)));
        // Nor does an ICMP error end the node.
        drop(silent);
        node.ping(peer).await.unwrap_err();
        assert!(!node.stopped());
    });
}

#[test]
fn a_value_that_is_too_large_is_refused() {
    run(async {
        let node = start(&[]);
        let value = Value::bytes(vec![0; 20_000]);
        let outcome = node.store(Id::of_name("key"), value, StoreMode::Add).await;
        assert!(matches!(outcome, Err(OperationError::Store(_))), "{outcome:?}");
    });
}

#[test]
fn a_node_joins_as_soon_as_the_one_it_joins_through_appears() {
    run(async {
        // A port that is free, and most likely still is a moment later.
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let early = start(&[port]);
        early.bootstrap(vec![port]).await.unwrap();
        let late = start_at(&port.to_string(), &[]);
        while early.snapshot().await.unwrap().v1().contacts == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        late.stop().await;
    });
}

#[test]
fn nobody_joins_through_itself() {
    run(async {
        let node = start(&[]);
        let joined = node.bootstrap(vec![node.local_addr()]).await.unwrap();
        assert_eq!((joined.answered, joined.silent.len()), (0, 0));
    });
}

#[test]
fn nodes_meet_over_ipv6() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no [::1]");
        return;
    }
    run(async {
        let first = start_at("[::1]:0", &[]);
        let second = start_at("[::1]:0", &[first.local_addr()]);
        second.bootstrap(vec![first.local_addr()]).await.unwrap();
        store_and_find(&second, &first).await;
    });
}

#[test]
fn an_ipv6_node_is_an_ipv4_node_too() {
    if std::net::UdpSocket::bind("[::]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    run(async {
        let both = start_at("[::]:0", &[]);
        let four = start(&[]);
        let address = ([127, 0, 0, 1], both.local_addr().port()).into();
        assert_eq!(four.bootstrap(vec![address]).await.unwrap().answered, 1);
        let seen = both.get_socket(Peer::from(four.local_addr())).await.unwrap();
        assert_eq!(seen, address);
    });
}
