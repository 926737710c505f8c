//! Datagrams that nobody should send.

mod killers;
mod net_helpers;
mod vectors;

use kademlua::id::Id;
use kademlua::message::Request;
use kademlua::net::Handle;
use kademlua::wire::v1::Frame;
use killers::{MAX_UDP, framed, in_requests, in_responses};
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
        assert!(Stranger::new().ping(node.local_addr()));
        // One who is gone is told of by ICMP.
        let mut gone = Stranger::new();
        (0..100).for_each(|_| _ = gone.send(node.local_addr(), &Request::Ping));
        drop(gone);
        assert!(Stranger::new().ping(node.local_addr()));
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

/// Over a real socket: as requests, and as replies to what a node asked.
mod known_killers {
    use super::*;

    killers::known_killers!(check);

    fn check(killer: &[u8], _refused: bool) {
        run(async {
            let mut stranger = Stranger::new();
            let node = start(&[]);
            for payload in in_requests(killer) {
                send(&stranger, &node, &framed([7; 8], 1, &payload));
                assert!(stranger.ping(node.local_addr()));
            }
            for payload in in_responses(killer) {
                // A node that joins asks for the way to its own id.
                let liar = Stranger::new();
                let joining = start(&[liar.socket.local_addr().unwrap()]);
                let mut buffer = [0; MAX_UDP];
                let (len, _) = liar.socket.recv_from(&mut buffer).unwrap();
                let asked = Frame::parse(&buffer[..len]).unwrap().header.rpc_id.0;
                send(&liar, &joining, &framed(asked, 129, &payload));
                assert!(stranger.ping(joining.local_addr()));
                assert!(!joining.stopped());
            }
            assert!(!node.stopped());
        });
    }
}

fn send(from: &Stranger, to: &Handle, bytes: &[u8]) {
    from.socket.send_to(bytes, to.local_addr()).unwrap();
}

#[test]
fn recorded_packets_cut_anywhere_and_with_any_bit_flipped_stop_nothing() {
    run(async {
        let node = start(&[]);
        let mut stranger = Stranger::new();
        for entry in vectors::recorded().into_iter().chain(vectors::malformed()) {
            let packet = vectors::datagram(&entry);
            if packet.len() > 200 {
                continue;
            }
            for len in 0..packet.len() {
                send(&stranger, &node, &packet[..len]);
                for bit in 0..8 {
                    let mut flipped = packet.clone();
                    flipped[len] ^= 1 << bit;
                    send(&stranger, &node, &flipped);
                }
                // No faster than the node reads, else the system throws datagrams away.
                assert!(stranger.ping(node.local_addr()), "{}", vectors::name(&entry));
            }
        }
        assert!(!node.stopped());
    });
}
