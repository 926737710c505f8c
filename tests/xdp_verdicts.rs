//! Packet in, verdict, packet out: the answers of the fast path, to the byte, and the packets that
//! it leaves as they came.

#[cfg(not(fast_path))]
#[test]
fn verdicts() {
    eprintln!("skipped: no fast path on this system");
}

#[cfg(fast_path)]
mod packets;
#[cfg(fast_path)]
mod peer;

#[cfg(fast_path)]
mod verdicts {
    use std::net::SocketAddr;
    use std::time::Duration;

    use kademlua::id::Id;
    use kademlua::message::{Contact, FindValue, Request, Response, Rpc, TransactionId};
    use kademlua::wire::{Body, Dialect, Envelope, parse};
    use kademlua::xdp::{CONTACTS_MAX, Counter, HEARTBEAT_MAX, Mode, OverLimit, Trial, Verdict};

    use crate::packets::{MODES, Packet, attachment, counted, message_at, trial};
    use crate::peer::{Bench, datagram};

    const PORT: u16 = 8_001;
    const FIND_LEN: usize = 81;

    /// Where in a frame things stand.
    const AT_IP: usize = 14;
    const IPV4_LEN: usize = 20;
    const IPV6_LEN: usize = 40;

    /// The programs with the table of a node that knows fifteen others of each family.
    struct Stage {
        trial: Trial,
        bench: Bench,
    }

    impl Stage {
        fn set() -> Option<Stage> {
            let trial = trial(&attachment(PORT))?;
            let others = (1..=15).flat_map(|number| [known(number, true), known(number, false)]);
            let bench = Bench::knowing(others);
            trial.mirror(&bench.node, &[local(true), local(false)]).unwrap();
            Some(Stage { trial, bench })
        }

        fn run(&mut self, mode: Mode, frame: &[u8]) -> (Verdict, Vec<u8>, Vec<Counter>) {
            self.trial.beat(Some(Duration::ZERO));
            run(&mut self.trial, mode, frame)
        }

        /// The frame goes up as it came, under that counter or none, whichever program runs on it.
        fn passes(&mut self, frame: &[u8], counter: impl Into<Option<Counter>>, what: &str) {
            let counter = counter.into();
            MODES.into_iter().for_each(|mode| self.passes_in(mode, frame, counter, what));
        }

        fn passes_in(&mut self, mode: Mode, frame: &[u8], counter: Option<Counter>, what: &str) {
            let (verdict, out, counted) = self.run(mode, frame);
            let expected = (Verdict::Pass, counter.into_iter().collect());
            assert_eq!((verdict, counted), expected, "{mode:?} {what}");
            assert!(out == frame, "{mode:?} {what}: changed");
        }
    }

    fn run(trial: &mut Trial, mode: Mode, frame: &[u8]) -> (Verdict, Vec<u8>, Vec<Counter>) {
        let ((verdict, out), counters) = counted(trial, |trial| trial.run(mode, frame).unwrap());
        (verdict, out, counters)
    }

    fn ip(host: &str, is_ipv4: bool) -> String {
        if is_ipv4 { format!("10.0.0.{host}") } else { format!("[fd00::{host}]") }
    }

    fn at(host: &str, is_ipv4: bool, port: u16) -> SocketAddr {
        format!("{}:{port}", ip(host, is_ipv4)).parse().unwrap()
    }

    fn local(is_ipv4: bool) -> SocketAddr {
        at("9", is_ipv4, PORT)
    }

    /// A contact of the table; ports and so the lengths of contacts are odd and even.
    fn known(number: u16, is_ipv4: bool) -> Contact {
        let port = if number.is_multiple_of(2) { 900 + number } else { 9_000 + number };
        let id = Id::of_name(format!("{number} {is_ipv4}"));
        Contact { id, address: at("1", is_ipv4, port) }
    }

    fn stranger(is_ipv4: bool) -> Contact {
        Contact { id: Id::of_name("stranger"), address: at("2", is_ipv4, 7_777) }
    }

    fn message(from: Id, call: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![1];
        out.extend(from.as_bytes());
        out.extend(b"question");
        out.push(call);
        out.extend((payload.len() as u16).to_be_bytes());
        out.extend(payload);
        out
    }

    const PINGS: [&[u8]; 2] = [b"d4:name4:ping4:argslee", b"d4:argsle4:name4:pinge"];

    fn finds(target: &Id) -> [Vec<u8>; 2] {
        [
            [b"d4:name8:findnode4:argsl20:", &target.as_bytes()[..], b"ee"].concat(),
            [b"d4:argsl20:", &target.as_bytes()[..], b"e4:name8:findnodee"].concat(),
        ]
    }

    fn target() -> Id {
        Id::of_name("target")
    }

    fn ping(from: Contact) -> Packet {
        let local = local(from.address.is_ipv4());
        Packet::new(from.address, local, message(from.id, 1, PINGS[0]))
    }

    fn find(from: Contact) -> Packet {
        let local = local(from.address.is_ipv4());
        Packet::new(from.address, local, message(from.id, 1, &finds(&target())[0]))
    }

    fn families() -> [bool; 2] {
        [true, false]
    }

    fn nodes(message: &[u8]) -> Vec<Contact> {
        let Ok(Envelope { body: Body::Answer(answer), .. }) = parse(message) else {
            panic!("a response")
        };
        let Ok(Response::Nodes(mut nodes)) = answer.read(Rpc::FindNode) else { panic!("contacts") };
        nodes.sort();
        nodes
    }

    #[test]
    fn pings_are_answered_to_the_byte() {
        let Some(mut stage) = Stage::set() else { return };
        for (is_ipv4, payload) in families().into_iter().flat_map(|f| PINGS.map(|p| (f, p))) {
            for (mode, from) in
                MODES.into_iter().flat_map(|m| [(m, known(3, is_ipv4)), (m, stranger(is_ipv4))])
            {
                let request = message(from.id, 1, payload);
                let expected = stage.bench.receive(from.address, &request).remove(0).bytes;
                let packet = Packet::new(from.address, local(is_ipv4), request);
                let (verdict, out, counted) = stage.run(mode, &packet.bytes());
                assert_eq!((verdict, counted[0]), (Verdict::Reply, Counter::AnsweredPing));
                assert_eq!(out, packet.answered(expected).bytes(), "{mode:?}");
            }
        }
    }

    #[test]
    fn findnodes_are_answered_to_the_byte() {
        let Some(mut stage) = Stage::set() else { return };
        for (is_ipv4, payload) in
            families().into_iter().flat_map(|f| finds(&target()).map(|p| (f, p)))
        {
            for mode in MODES {
                let from = known(3, is_ipv4);
                let request = message(from.id, 1, &payload);
                assert_eq!(request.len(), FIND_LEN);
                let expected = stage.bench.receive(from.address, &request).remove(0).bytes;
                let packet = Packet::new(from.address, local(is_ipv4), request);
                let (verdict, out, counted) = stage.run(mode, &packet.bytes());
                assert_eq!(
                    (verdict, &*counted),
                    (Verdict::Reply, &[Counter::AnsweredFindNode][..])
                );
                let message = out[message_at(is_ipv4)..].to_vec();
                assert_eq!(message[..32], expected[..32], "the head");
                assert_eq!(nodes(&message), nodes(&expected));
                assert_eq!(nodes(&message).len(), 14);
                assert!(out == packet.answered(message).bytes(), "{mode:?}");
            }
        }
    }

    #[test]
    fn a_reply_has_a_class_and_a_life_of_its_own() {
        let Some(mut stage) = Stage::set() else { return };
        for (family, mode) in families().into_iter().flat_map(|f| MODES.map(|m| (f, m))) {
            let plain = ping(known(3, family));
            let (_, expected, _) = stage.run(mode, &plain.bytes());
            let marked = Packet { class: 0xbb, ttl: 1, fragment: 0x4000, ..plain };
            assert_eq!(stage.run(mode, &marked.bytes()).1, expected, "{mode:?}");
        }
    }

    /// Whatever the sum comes to, even zero, which stands for none.
    #[test]
    fn checksums_are_right_for_every_rpc_id() {
        let Some(mut stage) = Stage::set() else { return };
        for is_ipv4 in families() {
            // The two bytes that make the answer's sum zero are computed from the sum without them.
            let mut packet = ping(known(3, is_ipv4));
            packet.message[22..24].copy_from_slice(&[0, 0]);
            let (_, out, _) = stage.run(Mode::Native, &packet.bytes());
            let check = message_at(is_ipv4) - 2;
            let sum = [out[check], out[check + 1]];
            packet.message[22..24].copy_from_slice(&sum);
            // The id begins at an odd place, so its second byte is the high one of a word.
            for mode in MODES {
                let (_, out, _) = stage.run(mode, &packet.bytes());
                assert_eq!(out[check..check + 2], [0xff, 0xff], "{mode:?}");
            }
        }
    }

    #[test]
    fn what_is_behind_the_payload_or_the_packet_is_not_answered() {
        let Some(mut stage) = Stage::set() else { return };
        for (is_ipv4, mode) in families().into_iter().flat_map(|f| MODES.map(|m| (f, m))) {
            let plain = ping(known(3, is_ipv4));
            let (_, expected, _) = stage.run(mode, &plain.bytes());
            let mut padded = plain.clone();
            padded.message.extend([0; 300]);
            let frame_padded = [plain.bytes(), vec![0; 5]].concat();
            for frame in [padded.bytes(), frame_padded] {
                let (verdict, out, _) = stage.run(mode, &frame);
                assert_eq!((verdict, &out), (Verdict::Reply, &expected), "{mode:?}");
            }
        }
    }

    #[test]
    fn other_packets_are_none_of_its_business() {
        let Some(mut stage) = Stage::set() else { return };
        for is_ipv4 in families() {
            let plain = ping(known(3, is_ipv4));
            let frame = plain.bytes();
            let vlan = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
            stage.passes(&vlan, None, "VLAN tag");
            stage.passes(&[&frame[..12], &[8, 6], &frame[14..]].concat(), None, "ARP");
            let mut tcp = frame.clone();
            tcp[if is_ipv4 { AT_IP + 9 } else { AT_IP + 6 }] = 6;
            stage.passes(&tcp, None, "TCP");
            for port in [0, PORT - 1, PORT + 1, PORT.swap_bytes()] {
                let destination = SocketAddr::new(plain.destination.ip(), port);
                stage.passes(&Packet { destination, ..plain.clone() }.bytes(), None, "port");
            }
        }
    }

    #[test]
    fn odd_headers_pass() {
        let Some(mut stage) = Stage::set() else { return };
        let frame = ping(known(3, true)).bytes();
        let mut options = frame.clone();
        options[AT_IP] = 0x46;
        options.splice(AT_IP + IPV4_LEN..AT_IP + IPV4_LEN, [1, 1, 1, 1]);
        stage.passes(&options, Counter::PassedHeaders, "IP options");
        for (fragment, what) in [(0x2000, "first"), (0x0001, "last"), (0x8000, "reserved bit")] {
            let packet = Packet { fragment, ..ping(known(3, true)) };
            stage.passes(&packet.bytes(), Counter::PassedHeaders, what);
        }
        let mut version = frame.clone();
        version[AT_IP] = 0x55;
        stage.passes(&version, Counter::PassedHeaders, "IP version 5");

        let frame = ping(known(3, false)).bytes();
        for (number, what) in
            [(0, "hop-by-hop"), (43, "routing"), (44, "fragment"), (60, "destination options")]
        {
            let mut extended = frame.clone();
            extended[AT_IP + 6] = number;
            let behind = AT_IP + IPV6_LEN;
            extended.splice(behind..behind, [17, 0, 1, 4, 0, 0, 0, 0]);
            stage.passes(&extended, Counter::PassedHeaders, what);
        }
        let mut unsummed = frame;
        unsummed[AT_IP + IPV6_LEN + 6..AT_IP + IPV6_LEN + 8].fill(0);
        stage.passes(&unsummed, Counter::PassedLength, "no checksum over IPv6");
    }

    #[test]
    fn other_messages_pass() {
        let Some(mut stage) = Stage::set() else { return };
        for from in families().map(|family| known(3, family)) {
            let to = local(from.address.is_ipv4());
            let mut pass = |message: Vec<u8>, counter, what: &str| {
                stage.passes(&Packet::new(from.address, to, message).bytes(), counter, what);
            };
            for version in [0, 2, 255] {
                let mut other = message(from.id, 1, PINGS[0]);
                other[0] = version;
                pass(other, Counter::PassedVersion, "version");
            }
            for call in [0, 2, 129, 130, 131, 255] {
                pass(message(from.id, call, PINGS[0]), Counter::PassedReply, "call");
            }
            pass(message(from.id, 130, b"")[..30].to_vec(), Counter::PassedReply, "no such RPC");
            for payload in finds(&target()).iter().map(|find| &find[..]).chain(PINGS) {
                let good = message(from.id, 1, payload);
                let mut longer = good.clone();
                longer[31] += 1;
                pass(longer, Counter::PassedLength, "a length beyond the end");
                let mut shorter = good.clone();
                shorter[31] -= 1;
                pass(shorter, Counter::PassedRequest, "a length in front of the end");
                // The target alone may be anything.
                let is_target = |at: usize| {
                    let find = payload.windows(3).position(|three| three == b"20:");
                    find.is_some_and(|start| (start + 3..start + 23).contains(&at))
                };
                for at in (0..payload.len()).filter(|at| !is_target(*at)) {
                    let mut odd = good.clone();
                    odd[32 + at] ^= 1;
                    pass(odd, Counter::PassedRequest, &format!("byte {at} of the payload"));
                }
            }
            for (request, counter) in [
                (Request::FindValue(FindValue::new(target(), 1)), Counter::PassedNotCached),
                (Request::GetSocket, Counter::PassedRequest),
            ] {
                let bytes = datagram(from.id, TransactionId::new(*b"question"), &request);
                pass(bytes, counter, "another RPC");
            }
            for payload in [
                &b"d4:name4:ping4:argsli1eee"[..],
                b"d4:name4:pong4:argslee",
                b"d4:name8:findnode4:argsl20:aaaaaaaaaaaaaaaaaaaai1eee",
                b"d4:name8:findnode4:argsl19:aaaaaaaaaaaaaaaaaaaee",
                b"d4:name8:findnode4:argsl21:aaaaaaaaaaaaaaaaaaaaaee",
                b"d4:argsl20:aaaaaaaaaaaaaaaaaaaai1ee4:name8:findnodee",
                b"d4:argsle4:name4:ping1:xlee",
            ] {
                pass(message(from.id, 1, payload), Counter::PassedRequest, "odd payload");
            }
        }
    }

    #[test]
    fn truncated_packets_pass_wherever_they_end() {
        let Some(mut stage) = Stage::set() else { return };
        for packet in families().into_iter().flat_map(|f| [ping(known(3, f)), find(known(3, f))]) {
            // The frame ends too early, whatever the headers say. For tcx the kernel tries no frame
            // that is shorter than its IP header.
            let whole = packet.bytes();
            let headers = message_at(packet.source.is_ipv4());
            for len in AT_IP + 1..whole.len() {
                let counter = (len >= headers).then_some(Counter::PassedLength);
                let what = format!("cut to {len}");
                stage.passes_in(Mode::Native, &whole[..len], counter, &what);
                if len >= headers - 8 {
                    stage.passes_in(Mode::Tcx, &whole[..len], counter, &what);
                }
            }
            // The message ends too early, and the headers say so.
            for len in 0..packet.message.len() {
                let cut = Packet { message: packet.message[..len].to_vec(), ..packet.clone() };
                stage.passes(&cut.bytes(), Counter::PassedLength, &format!("message of {len}"));
            }
            // IP and UDP disagree on the length.
            for (at, what) in
                [(headers - 4, "UDP"), (AT_IP + if headers == 42 { 2 } else { 4 }, "IP")]
            {
                for change in [1, 255] {
                    let mut odd = whole.clone();
                    odd[at + 1] = odd[at + 1].wrapping_add(change);
                    stage.passes(&odd, Counter::PassedLength, what);
                }
            }
        }
    }

    #[test]
    fn addresses_that_are_not_ours_or_cannot_be_answered_pass() {
        let Some(mut stage) = Stage::set() else { return };
        for is_ipv4 in families() {
            let plain = ping(stranger(is_ipv4));
            let mut pass = |packet: Packet, what: &str| {
                stage.passes(&packet.bytes(), Counter::PassedAddress, what);
            };
            pass(Packet { destination: at("8", is_ipv4, PORT), ..plain.clone() }, "destination");
            pass(Packet { to_mac: [1, 0, 0x5e, 0, 0, 1], ..plain.clone() }, "multicast MAC");
            pass(Packet { to_mac: [0xff; 6], ..plain.clone() }, "broadcast MAC");
            pass(Packet { source: at("2", is_ipv4, 0), ..plain.clone() }, "port 0");
            let unusable: &[&str] = match is_ipv4 {
                true => &["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255"],
                false => &[
                    "::",
                    "ff02::1",
                    "ff0e::7",
                    "fe80::1",
                    "febf::1",
                    "::ffff:10.0.0.2",
                    "::ffff:127.0.0.1",
                    "::10.0.0.2",
                    "::127.0.0.1",
                    "::2",
                ],
            };
            for ip in unusable {
                let source = SocketAddr::new(ip.parse().unwrap(), 7_777);
                pass(Packet { source, ..plain.clone() }, ip);
            }
        }
    }

    #[test]
    fn without_a_table_or_a_heartbeat_all_pass() {
        let Some(mut trial) = trial(&attachment(PORT)) else { return };
        let passes = |trial: &mut Trial, counter: Counter, age: Option<Duration>| {
            for (mode, family) in MODES.into_iter().flat_map(|m| families().map(|f| (m, f))) {
                for packet in [ping(known(3, family)), find(known(3, family))] {
                    trial.beat(age);
                    let (verdict, out, counted) = run(trial, mode, &packet.bytes());
                    assert_eq!((verdict, counted), (Verdict::Pass, vec![counter]), "{mode:?}");
                    assert!(out == packet.bytes());
                }
            }
        };
        passes(&mut trial, Counter::PassedEmpty, Some(Duration::ZERO));
        let bench = Bench::knowing([known(1, true), known(1, false)]);
        trial.mirror(&bench.node, &[local(true), local(false)]).unwrap();
        let old = HEARTBEAT_MAX + Duration::from_millis(10);
        passes(&mut trial, Counter::PassedNoHeartbeat, None);
        passes(&mut trial, Counter::PassedNoHeartbeat, Some(old));
        for mode in MODES {
            trial.beat(Some(HEARTBEAT_MAX / 3));
            assert_eq!(run(&mut trial, mode, &ping(known(1, true)).bytes()).0, Verdict::Reply);
        }
        trial.mirror(&Bench::new().node, &[local(true), local(false)]).unwrap();
        passes(&mut trial, Counter::PassedEmpty, Some(Duration::ZERO));
    }

    #[test]
    fn a_table_that_does_not_fit_answers_pings_alone() {
        let Some(mut stage) = Stage::set() else { return };
        for is_ipv4 in families() {
            let crowd = (0..=CONTACTS_MAX as u16).map(|number| Contact {
                id: Id::of_name(number.to_string()),
                address: at("3", is_ipv4, 1 + number),
            });
            let own = stage.bench.node.id();
            stage.trial.mirror_contacts(own, 20, crowd.collect(), &[local(is_ipv4)]).unwrap();
            stage.passes(&find(stranger(is_ipv4)).bytes(), Counter::PassedIncomplete, "findnode");
            for mode in MODES {
                let (verdict, ..) = stage.run(mode, &ping(stranger(is_ipv4)).bytes());
                assert_eq!(verdict, Verdict::Reply, "{mode:?}");
            }
        }
    }

    #[test]
    fn who_shares_an_endpoint_is_left_to_the_node() {
        let Some(mut stage) = Stage::set() else { return };
        for is_ipv4 in families() {
            let (one, mut two) = (known(1, is_ipv4), known(2, is_ipv4));
            two.address = one.address;
            let own = stage.bench.node.id();
            let contacts = vec![one, two, known(3, is_ipv4)];
            stage.trial.mirror_contacts(own, 20, contacts, &[local(is_ipv4)]).unwrap();
            for packet in [ping(one), find(one), find(two)] {
                stage.passes(&packet.bytes(), Counter::PassedAmbiguous, "ambiguous");
            }
            assert_eq!(stage.run(Mode::Tcx, &find(known(3, is_ipv4)).bytes()).0, Verdict::Reply);
        }
    }

    #[test]
    fn who_has_proved_nothing_gets_three_times_its_bytes_with_the_ping_or_goes_up() {
        let Some(mut stage) = Stage::set() else { return };
        for is_ipv4 in families() {
            let elsewhere = Contact { address: stranger(is_ipv4).address, ..known(3, is_ipv4) };
            let masked = Contact { id: Id::of_name("mask"), ..known(3, is_ipv4) };
            for from in [stranger(is_ipv4), elsewhere, masked] {
                let mut packet = find(from);
                stage.passes(&packet.bytes(), Counter::PassedUnproved, "unpadded");
                packet.message.resize(500, 0);
                let (verdict, out, _) = stage.run(Mode::Native, &packet.bytes());
                assert_eq!(verdict, Verdict::Reply);
                let all = out.len() - message_at(is_ipv4) + Dialect::V1.sizes().ping;
                // To the byte.
                packet.message.resize(all.div_ceil(3), 0);
                for mode in MODES {
                    assert_eq!(stage.run(mode, &packet.bytes()).0, Verdict::Reply, "{mode:?}");
                }
                packet.message.truncate(all.div_ceil(3) - 1);
                stage.passes(&packet.bytes(), Counter::PassedUnproved, "a byte too few");
            }
            let loopback = Contact {
                address: if is_ipv4 { "127.0.0.1:7777" } else { "[::1]:7777" }.parse().unwrap(),
                ..stranger(is_ipv4)
            };
            for mode in MODES {
                assert_eq!(stage.run(mode, &find(loopback).bytes()).0, Verdict::Reply, "{mode:?}");
            }
        }
    }

    /// An interface other than lo with room for frames of that size, in a network namespace of this
    /// thread's own, which ends with it.
    fn elsewhere(mtu: u32) -> u32 {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let made = std::process::Command::new("ip")
            .args([
                "link",
                "add",
                "here",
                "mtu",
                &mtu.to_string(),
                "type",
                "veth",
                "peer",
                "name",
                "there",
            ])
            .status();
        assert!(made.unwrap().success());
        nix::net::if_::if_nametoindex("here").unwrap()
    }

    #[test]
    fn a_loopback_address_is_believed_on_loopback_alone() {
        let Some(mut stage) = Stage::set() else { return };
        let loopbacks = |is_ipv4: bool| -> &[&str] {
            if is_ipv4 { &["127.0.0.1", "127.0.0.2", "127.255.9.9"] } else { &["::1"] }
        };
        let mut locals = vec![local(true), local(false)];
        let all = families().into_iter().flat_map(loopbacks);
        locals.extend(all.map(|ip| SocketAddr::new(ip.parse().unwrap(), PORT)));
        stage.trial.mirror(&stage.bench.node, &locals).unwrap();
        for (is_ipv4, ip) in
            families().into_iter().flat_map(|f| loopbacks(f).iter().map(move |ip| (f, ip)))
        {
            let from = Contact {
                address: SocketAddr::new(ip.parse().unwrap(), 7_777),
                ..stranger(is_ipv4)
            };
            let to = SocketAddr::new(ip.parse().unwrap(), PORT);
            for packet in
                [ping(from), find(from), Packet { destination: to, ..ping(stranger(is_ipv4)) }]
            {
                for mode in MODES {
                    assert_eq!(stage.run(mode, &packet.bytes()).0, Verdict::Reply, "{mode:?} {ip}");
                }
            }
        }
        stage.trial.strangers().unwrap();
        stage.trial.come_in_at(elsewhere(1_500));
        for is_ipv4 in families() {
            for ip in loopbacks(is_ipv4) {
                let from = Contact {
                    address: SocketAddr::new(ip.parse().unwrap(), 7_777),
                    ..stranger(is_ipv4)
                };
                let to = SocketAddr::new(ip.parse().unwrap(), PORT);
                for packet in
                    [ping(from), find(from), Packet { destination: to, ..ping(stranger(is_ipv4)) }]
                {
                    stage.passes(&packet.bytes(), Counter::PassedAddress, "loopback from outside");
                }
            }
            assert_eq!(stage.trial.strangers().unwrap(), [], "nobody was seen");
            for mode in MODES {
                let (verdict, ..) = stage.run(mode, &find(known(3, is_ipv4)).bytes());
                assert_eq!(verdict, Verdict::Reply, "{mode:?}");
            }
        }
    }

    #[test]
    fn a_reply_that_the_link_does_not_carry_is_left_to_the_node() {
        let Some(mut stage) = Stage::set() else { return };
        stage.trial.come_in_at(elsewhere(300));
        for is_ipv4 in families() {
            let frame = find(known(3, is_ipv4)).bytes();
            stage.passes(&frame, Counter::PassedNoRoom, "findnode");
            for mode in MODES {
                let (verdict, ..) = stage.run(mode, &ping(known(3, is_ipv4)).bytes());
                assert_eq!(verdict, Verdict::Reply, "{mode:?}");
            }
        }
    }

    #[test]
    fn limits_pass_or_drop_what_is_beyond() {
        use Counter::{AnsweredPing, StrangersTold};
        let (one, other) = (stranger(true), known(5, true));
        let other = Contact { address: at("77", true, 1), ..other };
        for (over_limit, by_source) in
            [OverLimit::Pass, OverLimit::Drop].into_iter().flat_map(|o| [(o, true), (o, false)])
        {
            let (verdict, counter) = match (over_limit, by_source) {
                (OverLimit::Pass, true) => (Verdict::Pass, Counter::PassedLimitSource),
                (OverLimit::Pass, false) => (Verdict::Pass, Counter::PassedLimitTotal),
                (OverLimit::Drop, true) => (Verdict::Drop, Counter::DroppedLimitSource),
                (OverLimit::Drop, false) => (Verdict::Drop, Counter::DroppedLimitTotal),
            };
            let mut limited = attachment(PORT);
            limited.over_limit = over_limit;
            // One request a second; a second's worth may come at once, and one is under way.
            *(if by_source { &mut limited.source_rate } else { &mut limited.total_rate }) = 1;
            for mode in MODES {
                let Some(mut trial) = trial(&limited) else { return };
                let bench = Bench::knowing([known(1, true)]);
                trial.mirror(&bench.node, &[local(true)]).unwrap();
                let mut run = |from: Contact| {
                    trial.beat(Some(Duration::ZERO));
                    run(&mut trial, mode, &ping(from).bytes())
                };
                assert_eq!(run(one).2, [AnsweredPing, StrangersTold]);
                assert_eq!(run(one).2, [AnsweredPing]);
                let (actual, out, counted) = run(one);
                assert_eq!((actual, counted), (verdict, vec![counter]), "{mode:?}");
                assert!(out == ping(one).bytes());
                let is_answered = run(other).0 == Verdict::Reply;
                assert_eq!(is_answered, by_source, "another source: {mode:?}");
                let loopback = Contact { address: "127.0.0.1:7777".parse().unwrap(), ..one };
                for _ in 0..5 {
                    assert_eq!(run(loopback).0, Verdict::Reply, "loopback is exempt");
                }
            }
        }
    }

    #[test]
    fn all_ports_of_an_address_and_all_addresses_of_a_64_have_one_allowance() {
        let mut limited = attachment(PORT);
        limited.source_rate = 1;
        for (first, same, other) in [
            ("10.0.0.2:7777", "10.0.0.2:7778", "10.0.0.3:7777"),
            ("[fd00::2]:7777", "[fd00::ffff:0:0:3]:7777", "[fd00:0:0:1::2]:7777"),
        ] {
            for mode in MODES {
                let Some(mut trial) = trial(&limited) else { return };
                let is_ipv4 = !first.starts_with('[');
                let bench = Bench::knowing([known(1, is_ipv4)]);
                trial.mirror(&bench.node, &[local(is_ipv4)]).unwrap();
                let mut verdict = |address: &str| {
                    trial.beat(Some(Duration::ZERO));
                    let from = Contact { address: address.parse().unwrap(), ..stranger(is_ipv4) };
                    run(&mut trial, mode, &ping(from).bytes()).0
                };
                assert_eq!(
                    [first, first, same].map(&mut verdict),
                    [Verdict::Reply, Verdict::Reply, Verdict::Pass]
                );
                assert_eq!(verdict(other), Verdict::Reply, "{mode:?} {other}");
            }
        }
    }

    #[test]
    fn the_node_hears_who_asked() {
        let Some(mut stage) = Stage::set() else { return };
        for is_ipv4 in families() {
            assert_eq!(stage.trial.strangers().unwrap(), []);
            let (contact, stranger) = (known(3, is_ipv4), stranger(is_ipv4));
            let elsewhere = Contact { address: stranger.address, ..contact };
            let masked = Contact { id: stranger.id, ..contact };
            for from in [contact, stranger, elsewhere, masked, stranger, contact] {
                assert_eq!(stage.run(Mode::Native, &ping(from).bytes()).0, Verdict::Reply);
                assert_eq!(stage.run(Mode::Tcx, &ping(from).bytes()).0, Verdict::Reply);
            }
            assert_eq!(stage.trial.strangers().unwrap(), [stranger, elsewhere, masked]);
            assert!(stage.trial.seen().contains(&contact));
        }
        let both = families().map(|family| known(3, family));
        let mut seen = stage.trial.seen();
        seen.sort_by_key(|contact| contact.address.is_ipv6());
        assert_eq!(seen, both, "and nobody else");
    }
}
