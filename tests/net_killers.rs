//! Bytes that stopped other readers of bencode, over a real socket. In a file of its own, so that it
//! does not run beside tests that flood a node.

mod killers;
mod net_helpers;
mod vectors;

use kademlua::net::Handle;
use kademlua::wire::parse;
use killers::{MAX_UDP, framed, in_requests, in_responses};
use net_helpers::{Stranger, run, start};

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
                let asked =
                    parse(&buffer[..len]).unwrap().transaction.as_bytes().try_into().unwrap();
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
