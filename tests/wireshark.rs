//! A node's own capture as tshark reads it, with the dissector of `lua/wireshark/`.

#![cfg(feature = "shell")]

mod shell;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use kademlua::net::{Existing, Handle};
use serde_json::Value;
use shell::{free_port, kademlua, network, texts};

const DISSECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lua/wireshark/kademlua.lua");

/// A folder for a capture, where tshark finds no settings or plugins of the user's either.
struct Folder(PathBuf);

impl Folder {
    /// `None` where there is no tshark; where skipping is forbidden, there must be.
    fn new(test: &str) -> Option<Folder> {
        if Command::new("tshark").arg("--version").output().is_err() {
            let reason = "tshark is missing; on Debian: apt-get install tshark";
            assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        let name = format!("kademlua-wireshark-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Some(Folder(folder))
    }

    fn capture(&self) -> PathBuf {
        self.0.join("node.pcap")
    }

    /// The output of tshark for the capture.
    fn tshark(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tshark");
        command.env("WIRESHARK_CONFIG_DIR", &self.0).env("LC_ALL", "C.UTF-8");
        command.arg("-r").arg(self.capture()).args(["-X", &format!("lua_script:{DISSECTOR}")]);
        let output = command.args(arguments).output().unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{arguments:?}: {err}");
        // As root it warns, and goes on.
        assert!(!out.contains("Lua Error") && !err.contains("Lua"), "{err}{out}");
        out
    }

    /// These fields of each packet.
    fn fields(&self, names: &[&str], more: &[&str]) -> Vec<Vec<String>> {
        let mut arguments = vec!["-T", "fields"];
        names.iter().for_each(|name| arguments.extend(["-e", name]));
        arguments.extend(more);
        let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
        self.tshark(&arguments).lines().map(cells).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node that joins these, captures what it asks of them, and returns the output of `packets`.
fn captured(nodes: &[Handle], file: &Path) -> Vec<Value> {
    let port = nodes[1].local_addr().port();
    let chunk = format!(
        "capture('{}')
        packets(false) packets()
        ping({port}) getsocket({port})
        findnode(sha1('anything'))
        add(sha1('key'), {{text = 'va\\27lue', list = {{1, -2, ''}}}})
        assert(#findvalue(sha1('key'), 10).values > 0)
        for i = 1, 8 do route(sha1('key ' .. i), 'locate') end
        pcall(call, {port}, 'absent', 'argument')
        local last = packets(1000)
        capture(false)
        return last",
        file.display()
    );
    let (bootstrap, own) = (nodes[0].local_addr().to_string(), free_port().to_string());
    let arguments = ["--json", "--bootstrap", &bootstrap, &own, "-e", &chunk];
    let output = kademlua().args(arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(err, "");
    serde_json::from_str(&out).unwrap()
}

fn text<'a>(packet: &'a Value, name: &str) -> &'a str {
    packet[name].as_str().unwrap_or_default()
}

#[test]
fn tshark_reads_what_packets_says() {
    let Some(folder) = Folder::new("same") else { return };
    let nodes = network(3);
    let packets = captured(&nodes, &folder.capture());
    let names = [
        "kademlua.rpc_id",
        "kademlua.call",
        "kademlua.rpc",
        "kademlua.from",
        "kademlua.time",
        "frame.time_epoch",
        "udp.srcport",
        "udp.dstport",
        "udp.length",
        "udp.checksum.status",
        "kademlua.version",
        "_ws.expert.message",
        "kademlua.route.key",
        "kademlua.route.answer_ip",
        "kademlua.route.hops",
    ];
    let check = ["-o", "udp.check_checksum:TRUE"];
    let rows = folder.fields(&names, &check);
    // The ring began a moment after the capture, which ended a moment after the ring was read.
    let is_first = |row: &Vec<String>| row[0] == format!("0x{}", text(&packets[0], "call"));
    let first = rows.iter().position(is_first).expect("the capture has what packets() has");
    let rows = &rows[first..];
    assert!(packets.len() >= 24 && rows.len() >= packets.len(), "{packets:?}");
    let (mut named, mut routes) = (0, 0);
    for (packet, row) in packets.iter().zip(rows) {
        let calls = [
            ("request", "1"),
            ("answer", "129"),
            ("no such rpc", "130"),
            ("route", "4"),
            ("route answer", "132"),
        ];
        let kind = calls.iter().find(|(kind, _)| *kind == text(packet, "kind")).unwrap();
        assert_eq!(row[0], format!("0x{}", text(packet, "call")));
        assert_eq!(row[1], kind.1, "{packet}");
        if packet["rpc"].is_string() {
            assert_eq!(row[2], text(packet, "rpc"));
            named += 1;
        }
        let near = |a: &str, b: &Value| (a.parse::<f64>().unwrap() - b.as_f64().unwrap()).abs();
        if packet["ms"].is_f64() {
            assert!(near(&row[4], &packet["ms"]) < 1e-4, "{} {}", row[4], packet["ms"]);
        }
        assert!(near(&row[5], &packet["time"]) < 2e-6, "{} {}", row[5], packet["time"]);
        let peer = &packet["peer"];
        let ports = if text(packet, "direction") == "in" { &row[6] } else { &row[7] };
        assert_eq!(*ports, peer["port"].to_string());
        if peer["id"].is_string() {
            assert_eq!(row[3].replace(':', ""), text(peer, "id"));
        }
        assert_eq!(row[8].parse::<u64>().unwrap(), packet["size"].as_u64().unwrap() + 8);
        assert_eq!((&*row[9], &*row[10], &*row[11]), ("1", "1", ""), "{packet}");
        if packet["route"].is_object() {
            let route = &packet["route"];
            assert_eq!(row[12].replace(':', ""), text(route, "key"));
            assert_eq!(row[13], format!("::ffff:{}", text(&route["answer_to"], "address")));
            assert_eq!(row[14], route["hops_left"].to_string());
            routes += 1;
        }
    }
    assert!(routes >= 4, "{routes}");
    assert!(named >= 24, "{named}");
}

#[test]
fn tshark_shows_payloads_and_pairs() {
    let Some(folder) = Folder::new("shows") else { return };
    let nodes = network(3);
    captured(&nodes, &folder.capture());
    let filter = "kademlua.rpc == \"store\" && kademlua.call == 1 && udp.dstport == ";
    let filter = format!("{filter}{}", nodes[1].local_addr().port());
    let tree = folder.tshark(&["-V", "-Y", &filter]);
    let tree: Vec<_> = tree.lines().map(str::trim_start).collect();
    let id = kademlua::id::Id::of_name("key").to_string();
    for line in [
        "Call: Request (1)",
        "Dictionary, 2 items",
        "name: \"store\"",
        "args: List, 4 items",
        &format!("[1] {id}"),
        "[2] Dictionary, 2 items",
        "list: List, 3 items",
        "[2] -2",
        "[3] \"\"",
        "text: \"va\\x1blue\"",
        "[4] Dictionary, 1 item",
        "token: \"\"",
        "[RPC: store]",
    ] {
        assert!(tree.contains(&line), "{line}: {tree:#?}");
    }
    let summary = folder.tshark(&["-Y", "kademlua.rpc == \"absent\""]);
    assert!(summary.contains("absent request, ") && summary.contains("absent no such rpc, "));

    // In two passes a request knows its answer.
    let names = ["frame.number", "kademlua.response_in", "kademlua.request_in"];
    let pairs = folder.fields(&names, &["-2", "-R", "kademlua.rpc == \"getsocket\""]);
    assert_eq!(pairs.len(), 2);
    assert_eq!((&pairs[0][1], &pairs[1][2]), (&pairs[1][0], &pairs[0][0]));
}

/// Broken datagrams, and what the dissector says of each. The first of all is whole: with it the
/// whole conversation is taken for ours.
fn broken() -> Vec<(Vec<u8>, &'static str)> {
    let header = |call: u8| [&[1][..], &[b'F'; 20], b"rpc-id-7", &[call]].concat();
    let framed =
        |payload: &[u8]| [&header(1)[..], &(payload.len() as u16).to_be_bytes(), payload].concat();
    let ping = |args: &[u8]| framed(&[b"d4:name4:ping4:args", args, b"e"].concat());
    let long = [&b"li"[..], &[b'9'; 15_000], b"ee"].concat();
    vec![
        (ping(b"le"), ""),
        (framed(b"d4:argsl0:dei-5ee4:name4:pinge"), ""),
        (ping(&long), ""),
        (vec![1], "ends inside of the header"),
        (header(1)[..29].to_vec(), "ends inside of the header"),
        ([&[2][..], &header(1)[1..]].concat(), "not version 1"),
        (header(77), "unknown call number 77"),
        ([&header(1)[..], &[0]].concat(), "ends inside of the length"),
        ([&header(1)[..], &[0, 9], b"d4:na"].concat(), "cut short: 5 of 9 bytes"),
        (framed(b"d4:name4:ping4:argsl"), "ends inside"),
        (framed(b"d4:name99999:x"), "no value at byte"),
        (framed(b"dle1:xe"), "no key at byte 1"),
        (framed(b"d4:name4:ping4:argslee5:after"), "bytes follow the value"),
        (ping(b"li1.5ee"), "no integer at byte"),
        (ping(&[[b'l'; 100], [b'e'; 100]].concat()), "nested deeper than 64 levels"),
        (framed(&[b'l'; 16_000]), "nested deeper than 64 levels"),
        (framed(&[b'd'; 16_000]), "no key at byte 1"),
        (ping(&[&b"l"[..], &b"i1e".repeat(5_000), b"e"].concat()), "more items than are shown"),
        (framed(b"d4:name8:\x1b[2J\xff\xe2\x80\xae4:argsl2:\x9bJei"), "no key at byte"),
    ]
}

#[tokio::test]
async fn broken_datagrams_are_marked_and_bounded() {
    let Some(folder) = Folder::new("broken") else { return };
    let node = network(1).remove(0);
    node.capture(&folder.capture(), Existing::Keep).await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut tap = node.tap().await.unwrap();
    let port = stranger.local_addr().unwrap().port();
    for (datagram, _) in broken() {
        stranger.send_to(&datagram, node.local_addr()).unwrap();
        // One by one, so that none is lost for want of room in the socket.
        while !matches!(tap.next().await, Some(kademlua::net::Sight::Packet(seen)) if *seen.bytes == *datagram)
        {
        }
    }
    node.end_capture().await.unwrap();

    let from = format!("udp.srcport == {port}");
    let names = ["_ws.expert.message", "_ws.col.Protocol", "_ws.col.Info"];
    let rows = folder.fields(&names, &["-Y", &from]);
    assert_eq!(rows.len(), broken().len());
    for ((datagram, problem), row) in broken().iter().zip(&rows) {
        let begin = &datagram[..datagram.len().min(80)];
        assert_eq!(row[1], "Kademlua", "{begin:?}");
        assert!(row[0].contains(problem), "{begin:?}: {row:?}");
        assert_eq!(row[0].is_empty(), problem.is_empty(), "{begin:?}: {row:?}");
        let malformed = !problem.is_empty() && !problem.contains("than are shown");
        assert_eq!(row[2].starts_with("Malformed: "), malformed, "{row:?}");
    }
    let tree = folder.tshark(&["-V", "-Y", &from]);
    assert!(!tree.contains(|char: char| char.is_control() && char != '\n'));
    assert!(!tree.contains('\u{202e}'));
    // 2000 items of one, 64 levels of others, and a few lines for each.
    assert!(tree.lines().count() < 6_000, "{}", tree.lines().count());
    assert!(tree.lines().all(|line| line.len() < 1_000));
}

#[tokio::test]
async fn decode_as_takes_what_the_first_bytes_do_not_tell() {
    let Some(folder) = Folder::new("decode") else { return };
    let node = network(1).remove(0);
    node.capture(&folder.capture(), Existing::Keep).await.unwrap();
    let mut tap = node.tap().await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"\x01short", node.local_addr()).unwrap();
    tap.next().await.unwrap();
    node.end_capture().await.unwrap();
    assert!(!folder.tshark(&[]).contains("Kademlua"));
    let port = node.local_addr().port();
    let told = folder.tshark(&["-d", &format!("udp.port=={port},kademlua")]);
    assert!(told.contains("Kademlua") && told.contains("ends inside of the header"), "{told}");
}
