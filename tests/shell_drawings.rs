//! Drawings of tables, ids and numbers: how they look, and that they are data.

#![cfg(feature = "shell")]

mod shell;

use std::path::PathBuf;
use std::process::Stdio;

use rexpect::session::spawn_command;
use shell::{assert_golden, kademlua, shown, sim, texts};

/// Each drawing once, in a network under its seed.
const ALL: &str = "
    local n = net{nodes = 120, seed = 7, latency = {20, 80}, k = 8}
    local me = n:node(n:join(1)[1])
    n:run(60)
    n:kill(0.1)
    local function draw(what, ...) print('> ' .. what) pprint(...) end
    draw('routing()', me.routing())
    draw('tree()', me.tree())
    draw('tree(key)', me.tree(sha1('key')))
    draw('ring()', me.ring())
    draw('estimate()', me.estimate())
    draw('estimate(), none yet', n:node(n:alive()[1]).estimate())
    draw('explain(a, b)', explain(sha1('8001'), sha1('8061')))
    draw('explain(a, a)', explain(sha1('a'), sha1('a')))
    local waves = {}
    for i = 1, 300 do waves[i] = i * math.sin(i / 20) end
    draw('plot(waves)', plot(waves))
    draw('hist(waves)', hist(waves))
    draw('hist of whole numbers', hist{1, 2, 2, 3, 3, 3, 9})
    draw('bars(table)', bars{apples = 3, plums = 5.25, ['no pears'] = 0, debts = -2})
    draw('bars(list)', bars{10, 20, 40, 80})";

fn drawn(environment: &[(&str, &str)]) -> String {
    let mut command = kademlua();
    command.envs(environment.iter().copied()).args(["sim", "-e", ALL]);
    let (out, err) = texts(&command.output().unwrap());
    assert_eq!(err, "");
    out
}

fn assert_fits(text: &str, columns: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= columns, "more than {columns} columns: {line}");
        assert_eq!(line.trim_end(), line);
    }
}

/// Without what turns styles on and off.
fn unstyled(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

#[test]
fn drawings_fill_the_width_there_is() {
    let narrow = drawn(&[]);
    assert_fits(&narrow, 80);
    assert_golden("drawings-80.txt", &narrow);
    let wide = drawn(&[("COLUMNS", "200")]);
    assert_fits(&wide, 200);
    assert!(wide.lines().any(|line| line.chars().count() > 190));
    assert_golden("drawings-200.txt", &wide);
    assert_fits(&drawn(&[("COLUMNS", "60")]), 60);
    assert_fits(&drawn(&[("COLUMNS", "40")]), 80);
    assert_eq!(drawn(&[("COLUMNS", "wide")]), narrow);
}

#[test]
fn colours_change_nothing_but_colours() {
    let plain = drawn(&[]);
    let coloured = drawn(&[("CLICOLOR_FORCE", "1")]);
    assert_eq!(unstyled(&coloured), plain);
    assert_golden("drawings-colours.txt", &coloured.replace('\x1b', "\\e"));
    assert_eq!(drawn(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
}

#[test]
fn where_the_locale_knows_ascii_alone_drawings_are_ascii() {
    let plain = drawn(&[("LC_ALL", "C")]);
    assert!(plain.is_ascii());
    assert_fits(&plain, 80);
    assert_golden("drawings-ascii.txt", &plain);
    assert_eq!(drawn(&[("LC_ALL", ""), ("LC_CTYPE", ""), ("LANG", "")]), plain);
    assert_eq!(drawn(&[("LC_ALL", ""), ("LC_CTYPE", ""), ("LANG", "de_DE.utf8")]), drawn(&[]));
}

/// The bytes that a terminal of this kind gets for a drawing with colours.
fn at_a_terminal(environment: &[(&str, &str)]) -> String {
    let mut command = kademlua();
    // A terminal's output is read back as bytes here.
    command.env("LC_ALL", "C").envs(environment.iter().copied()).stdin(Stdio::inherit());
    command.args(["sim", "-e", "explain(sha1('a'), sha1('b'))"]);
    spawn_command(command, Some(20_000)).unwrap().exp_eof().unwrap()
}

#[test]
fn terminals_get_colours_unless_told_otherwise() {
    let coloured = at_a_terminal(&[("TERM", "xterm")]);
    assert!(coloured.contains("\x1b[32m^\x1b[0m"), "{coloured}");
    let plain = unstyled(&coloured);
    assert!(plain.contains("     ^\r\n"), "{plain}");
    assert_eq!(at_a_terminal(&[("TERM", "dumb")]), plain);
    assert_eq!(at_a_terminal(&[("TERM", "xterm"), ("NO_COLOR", "1")]), plain);
}

#[test]
fn print_and_tostring_never_have_colours() {
    let mut command = kademlua();
    let chunk = "local t = explain(sha1('a'), sha1('b')) print(t) print(#tostring(t))";
    command.envs([("CLICOLOR_FORCE", "1"), ("COLUMNS", "200")]).args(["sim", "-e", chunk]);
    let out = texts(&command.output().unwrap()).0;
    assert!(!out.contains('\x1b'));
    assert_fits(&out, 80);
}

/// Whatever stands in a result, a terminal is given no orders but those of drawings.
#[test]
fn nothing_that_is_drawn_forges_styles() {
    let chunk = "local n = net{nodes = 30}
        local table = n:node(1):tree(sha1('key'))
        local evil = '\\27[2J\\27[31m\\27]0;title\\7\\27own;'
        table.buckets[1].contacts[1].address = evil
        table.nearest[1].who = {address = evil, port = evil}
        setmetatable(table, getmetatable(n:node(1):routing()))
        pprint(table)
        setmetatable(table, getmetatable(n:node(1):tree()))
        pprint(table, bars{[evil] = 1}, hist{1, 2}, {evil})
        n:add(2, sha1('key'), evil)
        pprint(n:findvalue(3, sha1('key')))
        table.buckets = 5
        pprint(table)";
    let mut command = kademlua();
    let output = command.env("CLICOLOR_FORCE", "1").args(["sim", "-e", chunk]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(err, "");
    assert!(out.matches("\\x1b[2J\\x1b[31m\\x1b]0;title\\x07\\x1bown;").count() >= 4, "{out}");
    assert!(out.ends_with("<a changed tree>\n"), "{out}");
    for part in out.split('\x1b').skip(1) {
        let styles = ["[0m", "[1m", "[2m", "[31m", "[32m", "[35m"];
        assert!(styles.iter().any(|style| part.starts_with(style)), "{part}");
    }
}

#[test]
fn numbers_that_cannot_be_drawn_are_refused() {
    for (chunk, message) in [
        ("hist()", "-e:1: hist: expected a list of numbers, got nothing. Try hist{1, 2, 2, 3}"),
        ("hist{1, 0/0}", "-e:1: hist: expected finite numbers, got NaN at 2"),
        ("plot{1, -1/0}", "-e:1: plot: expected finite numbers, got -inf at 2"),
        ("bars{a = 'x'}", "-e:1: bars: expected finite numbers, got a string of 1 byte at \"a\""),
        ("hist{a = 1}", "got a table with nothing at 1. Try bars"),
        ("plot('x')", "plot: expected a list of numbers, got a string of 1 byte"),
        ("bars(1)", "bars: expected a table of numbers, got 1. Try bars{a = 1, b = 2}"),
        ("plot{1.7e308, -1.7e308}", "plot: the numbers are too far apart to draw"),
        ("bars{1.7e308, -1.7e308}", "bars: the numbers are too far apart to draw"),
        (
            "explain('a')",
            "-e:1: explain: a: expected a 20-byte string or 40 hex digits, got a string",
        ),
        ("net{}:tree(1, 'x')", "-e:1: tree: key: expected a 20-byte string or 40 hex digits, got"),
        ("net{}:node(1).tree('x')", "-e:1: tree: key: expected a 20-byte string"),
        ("net{}:ring(101)", "-e:1: n:ring: node: expected a whole number from 1 to 100, got 101"),
        ("tree()", "tree: there is no node here"),
        ("estimate()", "estimate: there is no node here"),
    ] {
        // A call in the place of a statement, so that its line is known.
        let chunk = format!("local _ = {chunk}");
        let output = kademlua().args(["sim", "-e", &chunk]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{chunk}");
        let error = texts(&output).1;
        assert!(error.contains(message), "{chunk}: {error}");
    }
}

#[test]
fn all_other_numbers_are_drawn() {
    let chunk = "print(hist{}, plot{}, bars{})
        print(hist{809.5}) print(hist{5, 5}) print(bars{0, 0}) print(bars{-1, -2})
        for _, list in ipairs{{0.1, 0.12, 0.3}, {-1e300, 1e300}, {1e17, 1e17 + 100}, {5e-324, 0},
            {math.maxinteger, math.mininteger}, {1000000.01, 1000000.02}, {-0.0, 0.25, 1}, {7}} do
            local h, counted = hist(list), 0
            for _, bin in ipairs(h.bins) do counted = counted + bin.count end
            assert(counted == #list and h.count == #list and #h.bins <= 21, tostring(h))
            for _, drawing in ipairs{h, plot(list), bars(list)} do
                local text = tostring(drawing)
                assert(not text:find('changed'), text)
                for line in text:gmatch('[^\\n]+') do assert(utf8.len(line) <= 80, line) end
            end
        end
        local long, many = {}, {}
        for i = 1, 200000 do long[i] = i % 977 end
        for i = 1, 5000 do many['name ' .. i] = i end
        print(#tostring(plot(long)) < 6000, #tostring(hist(long)) < 6000)
        print(select(2, tostring(bars(many)):gsub('\\n', '\\n')))
        print(tostring(bars(many)):match('[^\\n]+$'))";
    let bar = |columns| "█".repeat(columns);
    let expected = [
        "no numbers to draw\tno numbers to draw\tno numbers to draw",
        &format!("809.5 {} 1", bar(71)),
        "1 number from 809.5 to 809.5, half of them at most 809.5",
        &format!("5 {} 2", bar(75)),
        "2 numbers from 5 to 5, half of them at most 5",
        "1 0",
        "2 0",
        &format!("1 {}{} -1", " ".repeat(37), bar(37)),
        &format!("2 {} -2", bar(74)),
        "true\ttrue",
        "200",
        "and 4800 more\n",
    ];
    assert_eq!(sim(&["-e", chunk]), expected.join("\n"));
}

#[test]
fn a_table_of_160_buckets_and_one_of_none_are_drawn() {
    let chunk = "local n = net{nodes = 1, k = 1}
        local me = n:node(1)
        pprint(me:routing(), me:tree(me.id), me:ring(), me:estimate())
        for bits = 1, 159 do n:join(1, me.id, bits) end
        n:run(5)
        local tree = me:tree(me.id)
        assert(#tree.buckets == 160 and tree.bucket == 160 and #tree.nearest == 1)
        for i, bucket in ipairs(tree.buckets) do
            assert(#bucket.prefix == math.min(i, 159) and bucket.first <= bucket.last)
            for _, contact in ipairs(bucket.contacts) do
                assert(bucket.first <= contact.id and contact.id <= bucket.last)
            end
        end
        pprint(tree, me:routing(), me:ring(), me:estimate())";
    let out = sim(&["-e", chunk]);
    assert!(!out.contains("changed") && out.lines().count() > 480, "{out}");
    assert_fits(&out, 80);
}

#[test]
fn drawings_are_tables() {
    let out = sim(&["--json", "-e", "explain(sha1('a'), sha1('b')), bars{x = 1}, hist{1, 1, 3}"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains(r#""bits":1,"bucket":1,"number":2"#), "{out}");
    assert_eq!(lines[1], r#"{"bars":[{"label":"x","value":1}]}"#);
    assert!(lines[2].contains(r#"{"count":0,"from":2,"to":3}"#), "{out}");
    let chunk = "local n = net{nodes = 100, seed = 3}
        local me = n:node(8)
        local tree, key = me.tree(sha1('key')), tohex(sha1('key'))
        local own = tree.buckets[tree.bucket]
        assert(own.first <= key and key <= own.last and tree.key == key)
        for i, near in ipairs(tree.nearest) do
            assert(near.distance == tohex(xor(near.who.id, key)))
            assert(near.bits == getbucketno(near.who.id, key) - 1)
            assert(i == 1 or tree.nearest[i - 1].distance < near.distance)
        end
        local held = 0
        for _, bucket in ipairs(me.routing().buckets) do held = held + #bucket.contacts end
        assert(held == #me.contacts() and held == #me.ring().known and #tree.nearest == tree.k)
        local estimate = me.estimate()
        assert(estimate.from == 'routing table' and estimate.nodes == me.node().estimate)
        me.findnode(sha1('elsewhere'))
        estimate = me.estimate()
        assert(estimate.from == 'lookups' and estimate.samples[1].target == tohex(sha1('elsewhere')))
        local distances = estimate.samples[1].distances
        assert(#distances == 20 and distances[1] < distances[20] and distances[20] < 1)
        assert(math.type(estimate.counted) == 'integer' and estimate.error > 0)
        return 'fine'";
    assert_eq!(sim(&["-e", chunk]), "\"fine\"\n");
}

#[test]
fn a_real_node_draws_as_a_simulated_one_does() {
    let chunk = "local c = cluster(3)
        c:add(1, sha1('key'), 'value')
        local text = tostring(tree(sha1('key')))
        assert(text:find('└─── …', 1, true) and text:find('own id', 1, true) and text:find('◀ key', 1, true), text)
        findnode(node().id)
        assert(#tree(sha1('key')).nearest == 3 and #ring().known == 3)
        -- Members that join at the same time may not have heard of each other yet.
        for i = 1, 3 do c:findnode(i, c:node(i).id) end
        assert(tostring(c:tree(2)):find('own id') and #c:ring(2).known == 3)
        assert(tostring(c:estimate(1)):find('^about 4 nodes'), c:estimate(1))
        return tostring(estimate())";
    let out = shown(chunk);
    assert!(out.starts_with("\"about 4 nodes"), "{out}");
}

#[test]
fn the_readme_shows_a_drawing_as_it_prints() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(file).unwrap();
    let chunk = "net{nodes = 1000, seed = 7, k = 5}:node(500).tree(sha1(\"key\"))";
    let out = sim(&["-e", chunk]);
    assert_fits(&out, 80);
    assert!(readme.contains(&format!("> {chunk}\n{out}```\n")), "the README is to show:\n{out}");
}
