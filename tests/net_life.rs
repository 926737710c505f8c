//! How nodes begin and end.

mod net_helpers;

use std::net::UdpSocket;

use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::net::{OperationError, Settings, SpawnError, Stopped, spawn};
use kademlua::node::Peer;
use net_helpers::{pair, run, start, start_at};

#[test]
fn an_address_in_use_is_a_clear_error() {
    let first = start(&[]);
    let bind = first.local_addr();
    let error = spawn(Settings { bind, ..Settings::default() }).unwrap_err();
    assert!(matches!(&error, SpawnError::Bind { address, .. } if *address == bind));
    let expected = format!(
        "cannot bind {bind}: address already in use — is another node running there? Choose \
         another port"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_address_of_another_machine_is_a_clear_error() {
    let bind = "192.0.2.1:8001".parse().unwrap();
    let error = spawn(Settings { bind, ..Settings::default() }).unwrap_err();
    let expected = "cannot bind 192.0.2.1:8001: no interface of this machine has that address";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn constants_out_of_range_are_a_clear_error() {
    let config = Config { alpha: 0, ..Config::default() };
    let error = spawn(Settings { config, ..Settings::default() }).unwrap_err();
    assert_eq!(error.to_string(), "alpha: expected a whole number from 1 to 64, got 0");
}

#[test]
fn a_stopped_node_is_gone_and_its_port_is_free() {
    run(async {
        let (first, second) = pair().await;
        let address = first.local_addr();
        assert!(!first.stopped());
        first.stop().await;
        assert!(first.stopped());
        UdpSocket::bind(address).expect("the port is free");
        assert_eq!(first.snapshot().await.unwrap_err(), Stopped);
        assert_eq!(first.find_node(Id::of_name("x")).await.unwrap_err(), Stopped);
        let outcome = first.ping(Peer::from(second.local_addr())).await;
        assert_eq!(outcome, Err(OperationError::Stopped(Stopped)));
        first.stop().await;
    });
}

#[test]
fn operations_under_way_end_when_the_node_stops() {
    run(async {
        let node = start(&[]);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = Peer::from(silent.local_addr().unwrap());
        let asker = node.clone();
        let asking = tokio::spawn(async move { asker.ping(peer).await });
        // The request is out once the silent peer has it.
        let asked = tokio::task::spawn_blocking(move || silent.recv(&mut [0; 100]));
        asked.await.unwrap().unwrap();
        node.stop().await;
        assert_eq!(asking.await.unwrap(), Err(OperationError::Stopped(Stopped)));
    });
}

#[test]
fn a_dropped_future_abandons_the_answer_alone() {
    run(async {
        let (first, second) = pair().await;
        for _ in 0..100 {
            let lookup = first.find_node(Id::of_name("x"));
            let moment = std::time::Duration::from_micros(1);
            let _ = tokio::time::timeout(moment, lookup).await;
        }
        second.ping(Peer::from(first.local_addr())).await.unwrap();
    });
}

#[test]
fn the_last_handle_takes_the_node_with_it() {
    run(async {
        let node = start(&[]);
        let address = node.local_addr();
        drop(node.clone());
        assert!(node.snapshot().await.is_ok());
        drop(node);
        // The thread ends by itself, some time soon.
        while UdpSocket::bind(address).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        start_at(&address.to_string(), &[]).stop().await;
    });
}
