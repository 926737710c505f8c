//! Datagrams that nobody should send.

mod net_helpers;

use kademlua::id::Id;
use kademlua::message::Request;
use net_helpers::{Stranger, run, start};

#[test]
fn garbage_of_any_size_stops_nothing() {
    run(async {
        let node = start(&[]);
        let mut stranger = Stranger::new();
        for first in [0, 1, b'd', 0xff] {
            for len in [0, 1, 29, 30, 31, 32, 1_400, 16_384, 16_385, 65_507] {
                let mut datagram = vec![0xa5; len];
                datagram.iter_mut().take(1).for_each(|byte| *byte = first);
                datagram.iter_mut().skip(29).take(1).for_each(|byte| *byte = 1);
                stranger.socket.send_to(&datagram, node.local_addr()).unwrap();
            }
            assert!(stranger.ping(node.local_addr()));
        }
        assert!(!node.stopped());
    });
}

#[test]
fn one_who_asks_and_never_listens_holds_up_nobody() {
    run(async {
        let node = start(&[]);
        let mut deaf = Stranger::new();
        for number in 0_u32..20_000 {
            let target = Id::of_name(number.to_string());
            deaf.send(node.local_addr(), &Request::FindNode { target });
        }
        // The queue may be full for a moment still.
        let is_served = || (0..5).any(|_| Stranger::new().ping(node.local_addr()));
        assert!(is_served());
        // ICMP tells of a peer that is gone.
        let mut gone = Stranger::new();
        (0..100).for_each(|_| _ = gone.send(node.local_addr(), &Request::Ping));
        drop(gone);
        assert!(is_served());
        assert!(!node.stopped());
    });
}

#[test]
fn orders_are_served_under_a_flood() {
    run(async {
        let node = start(&[]);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let address = node.local_addr();
        let flood = std::thread::spawn(move || {
            let mut stranger = Stranger::new();
            while stopped.try_recv().is_err() {
                stranger.send(address, &Request::Ping);
            }
        });
        for _ in 0..100 {
            node.snapshot().await.unwrap();
            node.find_node(Id::of_name("anything")).await.unwrap();
        }
        node.stop().await;
        stop.send(()).unwrap();
        flood.join().unwrap();
    });
}
