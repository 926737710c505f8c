//! The kernel names the same contacts as the node, for any table, target and asker.

#[cfg(not(fast_path))]
#[test]
fn differential() {
    eprintln!("skipped: no fast path on this system");
}

#[cfg(fast_path)]
mod packets;
#[cfg(fast_path)]
mod peer;

#[cfg(fast_path)]
mod differential {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use kademlua::id::Id;
    use kademlua::message::{Contact, Response, Rpc, TransactionId};
    use kademlua::wire::{Body, Dialect, Envelope, Header, emit, parse};
    use kademlua::xdp::{Trial, Verdict};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use crate::packets::{MODES, Packet, attachment, message_at, trial};
    use crate::peer::Bench;

    const PORT: u16 = 8_001;
    const TARGETS: usize = 3_000;
    const K: usize = 20;
    const SIZES: [usize; 8] = [0, 1, 19, 20, 21, 100, 256, 512];

    /// An unpadded findnode; a stranger pads it to this, so that the answer is none too long for it.
    const PADDED: usize = 500;

    fn own() -> Id {
        Id::of_name(PORT.to_string())
    }

    fn local(is_ipv4: bool) -> SocketAddr {
        let ip = if is_ipv4 { "10.0.0.9" } else { "fd00::9" };
        SocketAddr::new(ip.parse().unwrap(), PORT)
    }

    /// IPv4 addresses and ports of all lengths; IPv6 ones of which 20 seldom fit a reply.
    fn address(rng: &mut ChaCha8Rng, is_ipv4: bool) -> SocketAddr {
        let port = rng.random_range(1..=u16::MAX);
        if is_ipv4 {
            return (Ipv4Addr::from(0x0a00_0000 | rng.random::<u32>() >> 8), port).into();
        }
        let short = rng.random_ratio(1, 8);
        let host = rng.random::<u128>() >> if short { 80 } else { 8 };
        (Ipv6Addr::from(0xfd << 120 | host), port).into()
    }

    fn contact(rng: &mut ChaCha8Rng, is_ipv4: bool, id: Id) -> Contact {
        Contact { id, address: address(rng, is_ipv4) }
    }

    /// Ids that share all but the last of their bytes with the first; the 257th starts anew.
    fn siblings(rng: &mut ChaCha8Rng, count: usize) -> Vec<Id> {
        let mut ids = BTreeSet::new();
        let mut first = Id::random(rng);
        while ids.len() < count {
            if ids.len() == 256 {
                first = Id::random(rng);
            }
            let low = rng.random_range(152..=160);
            ids.insert(if low == 160 { first } else { first.random_at(low, rng) });
        }
        ids.into_iter().collect()
    }

    fn uniform(rng: &mut ChaCha8Rng, count: usize) -> Vec<Id> {
        (0..count).map(|_| Id::random(rng)).collect()
    }

    /// A node with exactly `count` contacts; their ids come from `next`.
    fn bench(
        count: usize,
        rng: &mut ChaCha8Rng,
        is_ipv4: bool,
        mut next: impl FnMut(&mut ChaCha8Rng, usize) -> Id,
    ) -> Bench {
        // The answers compared are each given at the same moment.
        let mut bench = Bench::without_limits();
        let mut tried = 0;
        while bench.node.table().good().count() < count {
            let id = next(rng, tried);
            let new = contact(rng, is_ipv4, id);
            if bench.node.table().entry(&id).is_none() {
                bench.node.introduce(bench.now, new);
            }
            tried += 1;
            assert!(tried < 100_000, "no table holds {count} of these");
        }
        bench.drain();
        bench
    }

    /// A request in one of the two orders of its keys.
    fn request(from: Id, target: &Id, number: usize, args_first: bool, len: usize) -> Vec<u8> {
        let mut out = vec![1];
        out.extend(from.as_bytes());
        out.extend((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        out.extend([1, 0, 49]);
        let (head, tail): (&[u8], &[u8]) = match args_first {
            false => (b"d4:name8:findnode4:argsl20:", b"ee"),
            true => (b"d4:argsl20:", b"e4:name8:findnodee"),
        };
        out.extend([head, target.as_bytes(), tail].concat());
        assert_eq!(out.len(), 81);
        out.resize(out.len().max(len), 0);
        out
    }

    /// Strangers, contacts, contacts' ids elsewhere and contacts' addresses under another id, with
    /// how long their requests must be to be answered in full.
    fn asker(
        rng: &mut ChaCha8Rng,
        contacts: &[Contact],
        is_ipv4: bool,
        turn: usize,
    ) -> (Contact, usize) {
        let id = Id::random(rng);
        let stranger = contact(rng, is_ipv4, id);
        if contacts.is_empty() || turn.is_multiple_of(4) {
            return (stranger, PADDED);
        }
        let known = contacts[rng.random_range(0..contacts.len())];
        match turn % 4 {
            1 => (known, 0),
            2 => (Contact { address: stranger.address, ..known }, PADDED),
            _ => (Contact { id: stranger.id, ..known }, PADDED),
        }
    }

    /// Targets everywhere, near contacts, and contacts themselves.
    fn target(rng: &mut ChaCha8Rng, contacts: &[Contact]) -> Id {
        if contacts.is_empty() || rng.random_ratio(1, 2) {
            return Id::random(rng);
        }
        let near = contacts[rng.random_range(0..contacts.len())].id;
        match rng.random_range(0..=160) {
            160 => near,
            bits => near.random_at(bits, rng),
        }
    }

    /// The answer by brute force, by the node's own codec.
    fn brute_force(contacts: &[Contact], asker: &Contact, target: &Id, request: &[u8]) -> Vec<u8> {
        let mut nearest: Vec<Contact> = contacts
            .iter()
            .filter(|contact| contact.id != asker.id && contact.address != asker.address)
            .copied()
            .collect();
        nearest.sort_by_key(|contact| contact.id.distance(target));
        let nearest: Vec<_> = nearest.into_iter().take(K).collect();
        let rpc_id = TransactionId::from_slice(&request[21..29]).unwrap();
        let mut out = Vec::new();
        let header = Header { dialect: Dialect::V1, from: own(), transaction: rpc_id, asker: None };
        emit(&mut out, &header, &Response::Nodes(nearest));
        out
    }

    fn by_node(bench: &mut Bench, asker: &Contact, request: &[u8]) -> Vec<u8> {
        let sent = bench.receive(asker.address, request);
        sent.into_iter().find(|sent| sent.request().is_none()).expect("a reply").bytes
    }

    fn named(reply: &[u8]) -> BTreeSet<Contact> {
        let Ok(Envelope { body: Body::Answer(answer), .. }) = parse(reply) else {
            panic!("a response: {reply:?}")
        };
        let Ok(Response::Nodes(nodes)) = answer.read(Rpc::FindNode) else {
            panic!("contacts: {answer:?}")
        };
        nodes.into_iter().collect()
    }

    /// Asks the kernel for many targets, and compares its answers with the reference.
    fn compare(
        trial: &mut Trial,
        contacts: &[Contact],
        is_ipv4: bool,
        rng: &mut ChaCha8Rng,
        mut reference: impl FnMut(&Contact, &Id, &[u8]) -> Vec<u8>,
    ) {
        for turn in 0..TARGETS {
            if turn.is_multiple_of(100) {
                trial.beat(Some(Duration::ZERO));
            }
            let (asker, len) = asker(rng, contacts, is_ipv4, turn);
            let target = target(rng, contacts);
            let request = request(asker.id, &target, turn, turn / 4 % 2 == 1, len);
            let expected = reference(&asker, &target, &request);
            let packet = Packet::new(asker.address, local(is_ipv4), request);
            let (verdict, out) = trial.run(MODES[turn / 8 % 2], &packet.bytes()).unwrap();
            if contacts.is_empty() {
                assert_eq!((verdict, out), (Verdict::Pass, packet.bytes()));
                continue;
            }
            assert_eq!(verdict, Verdict::Reply, "turn {turn}");
            let message = out[message_at(is_ipv4)..].to_vec();
            assert_eq!(message.len(), expected.len(), "turn {turn}");
            assert_eq!(message[..32], expected[..32], "turn {turn}");
            assert_eq!(named(&message), named(&expected), "turn {turn}");
            // Addresses, lengths and sums.
            assert!(out == packet.answered(message).bytes(), "turn {turn}");
        }
    }

    fn against_nodes(sizes: &[usize], mut next: impl FnMut(&mut ChaCha8Rng, usize) -> Id) {
        let Some(mut trial) = trial(&attachment(PORT)) else { return };
        for (size, is_ipv4) in sizes.iter().flat_map(|&size| [(size, true), (size, false)]) {
            let mut rng = ChaCha8Rng::seed_from_u64(size as u64);
            let mut bench = bench(size, &mut rng, is_ipv4, &mut next);
            trial.mirror(&bench.node, &[local(is_ipv4)]).unwrap();
            let contacts: Vec<_> = bench.node.table().good().map(|e| e.contact).collect();
            compare(&mut trial, &contacts, is_ipv4, &mut rng, |asker, _, request| {
                by_node(&mut bench, asker, request)
            });
        }
    }

    fn against_brute_force(ids: impl Fn(&mut ChaCha8Rng, usize) -> Vec<Id>) {
        let Some(mut trial) = trial(&attachment(PORT)) else { return };
        for (size, is_ipv4) in SIZES.into_iter().flat_map(|size| [(size, true), (size, false)]) {
            let mut rng = ChaCha8Rng::seed_from_u64(size as u64);
            let ids = ids(&mut rng, size);
            let contacts: Vec<_> =
                ids.into_iter().map(|id| contact(&mut rng, is_ipv4, id)).collect();
            trial.mirror_contacts(own(), K, contacts.clone(), &[local(is_ipv4)]).unwrap();
            compare(&mut trial, &contacts, is_ipv4, &mut rng, |asker, target, request| {
                brute_force(&contacts, asker, target, request)
            });
        }
    }

    /// As in a network: many far away, and all that are near. Twenty in each bucket, so that 512
    /// reach down to bucket 25.
    #[test]
    fn tables_of_a_network_are_answered_as_the_node_does() {
        against_nodes(&SIZES, |rng, tried| own().random_at(tried as u32 / K as u32 % 30, rng));
    }

    /// Ids that differ in the last byte only, among them the node's own; no table holds more than
    /// 91 of those.
    #[test]
    fn tables_of_siblings_are_answered_as_the_node_does() {
        against_nodes(&[0, 1, 19, 20, 21, 91], |rng, _| {
            own().random_at(rng.random_range(152..160), rng)
        });
    }

    /// No routing table is uniform at these sizes.
    #[test]
    fn uniform_tables_are_answered_by_distance() {
        against_brute_force(uniform);
    }

    /// Nor does a table hold that many contacts of one bucket.
    #[test]
    fn tables_of_strange_siblings_are_answered_by_distance() {
        against_brute_force(siblings);
    }

    /// A table is handed over whole: each reply comes from one table or the other.
    #[test]
    fn tables_change_over_without_a_torn_reply() {
        const CHANGES: usize = 200;
        let Some(trial) = trial(&attachment(PORT)) else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let tables = [0, 1].map(|_| {
            let ids = uniform(&mut rng, 100);
            ids.into_iter().map(|id| contact(&mut rng, true, id)).collect::<Vec<_>>()
        });
        let target = Id::random(&mut rng);
        let id = Id::random(&mut rng);
        let asker = contact(&mut rng, true, id);
        let request = request(asker.id, &target, 0, false, PADDED);
        let expected = [0, 1].map(|i| named(&brute_force(&tables[i], &asker, &target, &request)));
        let packet = Packet::new(asker.address, local(true), request);
        let mirror = |table: &Vec<Contact>| {
            trial.mirror_contacts(own(), K, table.clone(), &[local(true)]).unwrap();
        };
        mirror(&tables[0]);
        let over = std::sync::atomic::AtomicBool::new(false);
        let mut met = [0; 2];
        let began = std::time::Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for change in 1..=CHANGES {
                    mirror(&tables[change % 2]);
                    // The heart beat once at the start, and that must do.
                    if began.elapsed() > Duration::from_secs(2) {
                        break;
                    }
                }
                over.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let (verdict, out) = trial.run(MODES[met[0] % 2], &packet.bytes()).unwrap();
                assert_eq!(verdict, Verdict::Reply);
                let message = out[message_at(true)..].to_vec();
                let table = expected.iter().position(|set| *set == named(&message));
                met[table.expect("one of the two answers")] += 1;
                assert!(out == packet.answered(message).bytes(), "checksums and lengths");
            }
        });
        println!("{met:?} replies of the two tables");
        assert!(met.iter().all(|&count| count > 0), "{met:?}");
    }

    /// Whatever comes is answered as the node would answer it, or goes up as it came.
    #[test]
    fn mutated_packets_are_answered_as_the_node_does_or_passed() {
        const PACKETS: usize = 10_000;
        let Some(mut trial) = trial(&attachment(PORT)) else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let mut bench = Bench::new();
        for number in 0..100 {
            let id = own().random_at(number / 20, &mut rng);
            let contact = contact(&mut rng, true, id);
            assert!(bench.node.introduce(bench.now, contact));
        }
        trial.mirror(&bench.node, &[local(true)]).unwrap();
        let (mut answered, mut passed) = (0, 0);
        for turn in 0..PACKETS {
            if turn.is_multiple_of(100) {
                trial.beat(Some(Duration::ZERO));
            }
            let id = Id::random(&mut rng);
            let asker = contact(&mut rng, true, id);
            let target = Id::random(&mut rng);
            let mut message = request(asker.id, &target, turn, turn % 2 == 1, PADDED);
            for _ in 0..rng.random_range(0..3) {
                let at = rng.random_range(0..90);
                message[at] = rng.random();
            }
            if rng.random_ratio(1, 8) {
                message.truncate(rng.random_range(0..message.len()));
            }
            let packet = Packet::new(asker.address, local(true), message.clone());
            let (verdict, out) = trial.run(MODES[turn % 2], &packet.bytes()).unwrap();
            match verdict {
                Verdict::Pass => {
                    passed += 1;
                    assert_eq!(out, packet.bytes(), "turn {turn}");
                }
                Verdict::Reply => {
                    answered += 1;
                    let expected = by_node(&mut bench, &asker, &message);
                    let reply = out[message_at(true)..].to_vec();
                    assert_eq!(reply[..32], expected[..32], "turn {turn}");
                    assert_eq!(named(&reply), named(&expected), "turn {turn}");
                    assert!(out == packet.answered(reply).bytes(), "turn {turn}");
                }
                Verdict::Drop => panic!("turn {turn}: dropped"),
            }
        }
        println!("{answered} answered, {passed} passed");
        assert!(answered > PACKETS / 10 && passed > PACKETS / 10, "{answered}, {passed}");
    }
}
