//! Bootstrap nodes by their host names.

mod net_helpers;

use std::net::SocketAddr;
use std::time::Duration;

use kademlua::net::{Endpoint, Handle, Settings, spawn};

use net_helpers::{run, start, start_at};

fn start_through(bind: &str, names: &[String]) -> Handle {
    let bootstrap = names.iter().map(|name| name.parse().unwrap()).collect();
    let bind = bind.parse().unwrap();
    spawn(Settings { bind, bootstrap, ..Settings::default() }).unwrap()
}

fn localhost(node: &Handle) -> String {
    format!("localhost:{}", node.local_addr().port())
}

#[test]
fn a_node_joins_through_a_name() {
    run(async {
        let first = start(&[]);
        let second = start_through("127.0.0.1:0", &[localhost(&first)]);
        assert!(second.tried_to_join().await && second.joined().await);
        assert_eq!(second.snapshot().await.unwrap().v1().contacts, 1);
    });
}

#[test]
fn all_addresses_of_a_name_are_asked() {
    run(async {
        let name = Endpoint::Name { host: "localhost".to_owned(), port: 1 };
        let has_both = name.resolve().await.unwrap().iter().any(SocketAddr::is_ipv6);
        if !has_both {
            return eprintln!("skipped: localhost has no IPv6 address here");
        }
        // It is at that address alone, which may not be the first.
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let first = start_at(bind, &[]);
            let second = start_through("[::]:0", &[localhost(&first)]);
            assert!(second.joined().await);
        }
    });
}

#[test]
fn a_name_that_does_not_resolve_stops_no_node_and_no_other_name() {
    run(async {
        let unknown = "nowhere.invalid:8001".to_owned();
        let first = start(&[]);
        let lone = start_through("127.0.0.1:0", std::slice::from_ref(&unknown));
        assert!(!lone.tried_to_join().await);
        assert_eq!(lone.bootstrap(vec![first.local_addr()]).await.unwrap().answered, 1);
        let other = start_through("127.0.0.1:0", &[unknown, localhost(&first)]);
        assert!(other.joined().await);
        // The resolver may still be at work; nobody waits for it.
        tokio::time::timeout(Duration::from_secs(5), other.stop()).await.unwrap();
    });
}
