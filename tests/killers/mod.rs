//! Bytes that are known to have broken other implementations, and the places in a datagram where
//! they can stand.
#![allow(dead_code, reason = "no test needs all of it")]

/// The largest datagram UDP carries over IPv4.
pub(crate) const MAX_UDP: usize = 65_507;

/// Makes a test of each known killer, which calls `$check` with its bytes and whether they must be
/// refused; some are merely odd, and taken.
macro_rules! known_killers {
    ($check:path) => {
        killers::known_killers! { $check =>
            (dictionary_of_26_bytes_with_a_length_of_2_64_less_1, true, "d18446744073709551615:abce"),
            (string_length_of_2_64_less_1, true, "18446744073709551615:abc"),
            (string_length_of_2_64, true, "18446744073709551616:abc"),
            (string_length_of_2_63, true, "9223372036854775808:abc"),
            (string_length_of_40_digits, true, "9999999999999999999999999999999999999999:a"),
            (string_length_of_1000_digits, true, format!("{}:a", "9".repeat(1_000))),
            (string_of_4000000000_bytes, true, "4000000000:abc"),
            (negative_length, true, "-1:a"),
            (padded_length, true, "03:abc"),
            (padded_length_of_nothing, true, "00:"),
            (lists_nested_1000_deep, true, killers::nested("l", 1_000, "e")),
            (lists_nested_10000_deep, true, killers::nested("l", 10_000, "e")),
            (lists_nested_30000_deep, true, killers::nested("l", 30_000, "e")),
            (lists_nested_60000_deep_and_left_open, true, killers::nested("l", 60_000, "")),
            (dictionaries_nested_1000_deep, true, killers::nested("d1:a", 1_000, "e")),
            (dictionaries_nested_10000_deep, true, killers::nested("d1:a", 10_000, "e")),
            (dictionaries_nested_16000_deep_and_left_open, true, killers::nested("d1:a", 16_000, "")),
            (dictionaries_as_keys_nested_60000_deep, true, killers::nested("d", 60_000, "")),
            (nesting_just_too_deep, true, killers::nested("l", 65, "e")),
            (integer_keys, false, "di1e1:ai-2e1:be"),
            (integer_key_without_a_value, true, "di1ee"),
            (list_as_a_key, true, "dlei1ee"),
            (dictionary_as_a_key, true, "ddei1ee"),
            (key_without_a_value, true, "d1:ae"),
            (duplicate_keys, false, "d1:ai1e1:ai2e1:ai3ee"),
            (duplicate_integer_keys, false, "di1e1:ai01e1:bi-0e1:ci0e1:de"),
            (unsorted_keys, false, "d1:bi1e1:ai2ee"),
            (minus_zero, false, "i-0e"),
            (padded_integer, false, "i007e"),
            (integer_of_1000_digits, false, format!("i{}e", "9".repeat(1_000))),
            (integer_of_60000_digits, false, format!("i-{}e", "9".repeat(60_000))),
            (integer_of_1000_digits_as_a_key, false, format!("di{}ei1ee", "9".repeat(1_000))),
            (integer_without_an_end, true, format!("i{}", "9".repeat(1_000))),
            (integer_without_digits, true, "ie"),
            (integer_of_a_sign, true, "i-e"),
            (integer_of_two_signs, true, "i--5e"),
            (integer_with_a_plus, true, "i+1e"),
            (integer_with_a_space, true, "i 1e"),
            (fraction, true, "i1.5e"),
            (exponent, true, "i1e+15e"),
            (not_a_number, true, "i-nane"),
            (end_of_nothing, true, "e"),
        }
    };
    ($check:path => $(($name:ident, $refused:expr, $bytes:expr),)*) => {$(
        #[test]
        fn $name() {
            $check(AsRef::<[u8]>::as_ref(&$bytes), $refused);
        }
    )*};
}
pub(crate) use known_killers;

/// `open` as often as there are `levels`, and as many ends.
pub(crate) fn nested(open: &str, levels: usize, close: &str) -> String {
    [open.repeat(levels), close.repeat(levels)].concat()
}

const ID: &str = "20:aaaaaaaaaaaaaaaaaaaa";

/// Payloads of requests: the killer itself, and where a name, the arguments or one argument of an RPC
/// belongs. Only those that a datagram can carry.
pub(crate) fn in_requests(killer: &[u8]) -> Vec<Vec<u8>> {
    let store = format!("d4:name5:store4:argsl{ID}");
    around(
        killer,
        &[
            ("", ""),
            ("d4:name", "4:argslee"),
            ("d4:name4:ping4:args", "e"),
            ("d4:name4:ping4:argsl", "ee"),
            ("d4:name8:findnode4:argsl", "ee"),
            (&format!("d4:name9:findvalue4:argsl{ID}"), "ee"),
            (&store, "ee"),
            (&format!("{store}1:v"), "ee"),
            (&format!("{store}i1ei0ed3:agei1e5:owner"), "eee"),
            (&format!("{store}i1ei0ed3:age"), "eee"),
            ("d4:name3:rpc4:argsl", "ee"),
        ],
    )
}

/// Payloads of responses: the killer itself, and where a list of contacts, a contact, a part of one,
/// values, a value, an address or an application's return value belongs.
pub(crate) fn in_responses(killer: &[u8]) -> Vec<Vec<u8>> {
    around(
        killer,
        &[
            ("", ""),
            ("l", "e"),
            ("ll", "ee"),
            ("lll", &format!("i8001e{ID}eee")),
            ("lll9:127.0.0.1", &format!("{ID}eee")),
            ("lll9:127.0.0.1i8001e", "eee"),
            ("ld6:values", "7:closestleee"),
            ("ld6:valuesl", "e7:closestleee"),
            ("ld6:valuesle7:closest", "ee"),
            ("ld6:valuesle7:closestl", "eee"),
            ("ld", "ee"),
            ("ll9:127.0.0.1", "ee"),
        ],
    )
}

fn around(killer: &[u8], places: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let payloads =
        places.iter().map(|(front, back)| [front.as_bytes(), killer, back.as_bytes()].concat());
    payloads.filter(|payload| payload.len() <= MAX_UDP - 32).collect()
}

/// A datagram around a payload: call 1 is a request, 129 a response.
pub(crate) fn framed(rpc_id: [u8; 8], call: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [&[1], &[7; 20][..], &rpc_id, &[call], &length, payload].concat()
}
