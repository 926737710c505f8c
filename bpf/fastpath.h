/* SPDX-License-Identifier: MIT */
/*
 * The shapes of the maps that the fast path in the kernel and the node in user space share.
 *
 * src/xdp/layout.rs says the same in Rust; both sides assert the sizes. Addresses and ports are as
 * on the wire, all else is in the order of the machine, which is little-endian.
 */
#ifndef KADEMLUA_FASTPATH_H
#define KADEMLUA_FASTPATH_H

/* Bumped when a shape below or a rule of the program changes: a node must not work with a program of
 * another version. */
#define LAYOUT_VERSION 5

#define ID_LEN 20

/* Numbers that a UDP port can have. */
#define PORTS 65536

/* Contacts of one address family. A routing table holds some 20 for each doubling of the network,
 * so this is enough for one of 2^25 nodes. A longer table is left to user space. */
#define CONTACTS_MAX 512

/* `l39:` + the longest IPv6 literal + `i65535e` + `20:` + id + `e`. */
#define CONTACT_BYTES_MAX 74

/* Contacts in a reply: k. */
#define K_MAX 20

/* Largest reply, as the node's own. */
#define REPLY_MAX 1400

/* An address that is not validated gets at most this multiple of the bytes that it sent; RFC 9000,
 * section 8.1. The node's ping that validates it is among what it gets. */
#define AMPLIFICATION_MAX 3
#define PING_BYTES 54

/* Buckets of the two indices, and contacts in each. With 512 contacts spread at random more than
 * eight hardly ever meet; where they do, the node draws another seed. */
#define INDEX_BUCKETS 512
#define INDEX_DEPTH 8

/* Places of the memory of sightings: twice as many as contacts of both families, so that
 * a place can rest for a while before another contact gets it. */
#define SEEN_MAX 2048

/* Tables of one family: one is read while the other is written. */
#define BUFFERS 2

/* Addresses that a node on a wildcard address answers for. */
#define LOCALS_MAX 16

/* Bits that say which keys a node holds something under, as a power of two: with 10,000 keys one of a
 * hundred others is taken for held, and left to the node. */
#define HELD_BITS 20
#define HELD_WORDS (1 << (HELD_BITS - 6))

/* Clients whose answers are relayed; and tickets that were used: some 10,000 a second. */
#define CLIENTS_MAX 4096
#define TICKETS_MAX 65536

/* Routes; src/guard/tickets.rs and src/node/forwarding.rs give the reasons for these numbers. */
#define STAMP_BITS 20
#define TICKET_STAMPS 4
#define TOKEN_STAMPS 300
#define STAMPS_AHEAD 1
#define RELAYS_MAX 2
#define HOPS_MAX 16

/* Values that are answered here: by key, in sets of a few places, and the bytes of an answer before its
 * contacts. Values of one key have 1,000 bytes together at most. */
#define HOT_SETS 128
#define HOT_WAYS 4
#define HOT_MAX (HOT_SETS * HOT_WAYS)
#define HOT_BYTES 1024

/* The longest entries that tell of more values, for which the node leaves room in its answer where the asker
 * knows of them. */
#define REST_MAX 131

/* Token buckets of sources. */
#define SOURCES_MAX 16384

/* Strangers that the node was told of lately. */
#define STRANGERS_MAX 4096

/* Bytes of the ring of strangers to tell the node of: some 5,000. */
#define EVENTS_BYTES (256 * 1024)

/* Without a heartbeat for this long the node is taken for dead. */
#define HEARTBEAT_MAX_NS 3000000000ULL

/* IPv4 stands in the last four bytes behind ::ffff:0:0/96, as in a mapped address. */
struct endpoint {
	__u8 address[16];
	__u16 port;
	__u16 pad;
};

struct contact {
	__u8 id[ID_LEN];
	struct endpoint endpoint;
	/* Where `seen` keeps when it was last seen. */
	__u16 slot;
	/* Another contact has the same endpoint: user space is to sort that out. */
	__u16 ambiguous;
};

/*
 * An inner node of the Patricia tree over the sorted ids. Node i stands between contacts i and
 * i + 1, the first two that differ at its bit in the range that it splits: contacts to the left of it
 * have the bit clear, those to the right have it set. So a subtree is a range of contacts, and only the
 * inner nodes are kept.
 */
struct split {
	__u16 bit;
	__u16 left;
	__u16 right;
	__u16 pad;
};

/* The contacts that share a number of bits with the own id, as a range, and the node that splits it. */
struct start {
	__u16 from;
	__u16 to;
	__u16 node;
	__u16 pad;
};

/* Where a contact begins in `bytes`, and the sum of all before it as the Internet checksum has it:
 * bytes at even places count 256-fold. Not folded, so that differences are exact. */
struct mark {
	__u32 offset;
	__u32 sum;
};

/* The data to answer for one address family, replaced as a whole. */
struct table {
	/* Anything but LAYOUT_VERSION: nothing may be answered. */
	__u32 version;
	__u32 count;
	__u32 k;
	/* There are more contacts than fit; pings may be answered, lookups may not. */
	__u32 incomplete;
	__u8 own_id[ID_LEN];
	/* Sum of the first 21 bytes of a reply: the version and the own id. */
	__u32 head_sum;
	__u32 root;
	__u32 locals_count;
	/* Bytes of the shortest contact, and of the longest. */
	__u32 shortest;
	__u32 longest;
	/* Multipliers of the two indices, odd. */
	__u64 id_seed;
	__u64 endpoint_seed;
	/* The addresses that the node answers for. */
	__u8 locals[LOCALS_MAX][16];
	struct split splits[CONTACTS_MAX];
	/* By how many bits they share at least. */
	struct start starts[8 * ID_LEN + 1];
	struct mark marks[CONTACTS_MAX + 1];
	/* Contact number + 1; 0 ends a bucket. */
	__u16 by_id[INDEX_BUCKETS][INDEX_DEPTH];
	__u16 by_endpoint[INDEX_BUCKETS][INDEX_DEPTH];
	struct contact contacts[CONTACTS_MAX];
	/* The contacts as replies carry them, in the order of their ids. The room behind the last one
	 * lets the verifier see that no copy runs over the end. */
	__u8 bytes[CONTACTS_MAX * CONTACT_BYTES_MAX + REPLY_MAX];
};

/* A peer that asked and is not in the table at this address. */
struct stranger {
	__u8 id[ID_LEN];
	struct endpoint endpoint;
};

/* The attached program, for those who find the maps: of an interface, with port 0, and of each node. */
struct about {
	__u32 version;
	__u32 ifindex;
	__u8 interface[16];
	__u16 port;
	/* Where packets are met; the numbers are those of src/xdp/layout.rs. */
	__u8 mode;
	__u8 over_limit_drops;
	/* The number of the program. */
	__u32 program;
	/* Requests a second; 0: no limit. */
	__u64 source_rate;
	__u64 total_rate;
};

/* The fates of packets. Names and meanings: src/xdp/layout.rs. */
enum counter {
	ANSWERED_PING,
	ANSWERED_FINDNODE,
	ANSWERED_FINDVALUE,
	FORWARDED_ENTERED,
	FORWARDED_PASSED,
	FORWARDED_RELAYED,
	PASSED_REQUEST,
	PASSED_NOT_CACHED,
	PASSED_REPLY,
	PASSED_VERSION,
	PASSED_HEADERS,
	PASSED_LENGTH,
	PASSED_ADDRESS,
	PASSED_NO_HEARTBEAT,
	PASSED_EMPTY,
	PASSED_INCOMPLETE,
	PASSED_AMBIGUOUS,
	PASSED_UNPROVED,
	PASSED_NO_ROOM,
	PASSED_LIMIT_SOURCE,
	PASSED_LIMIT_TOTAL,
	PASSED_ROUTE,
	PASSED_HELD,
	PASSED_NEAREST,
	PASSED_WAY,
	DROPPED_LIMIT_SOURCE,
	DROPPED_LIMIT_TOTAL,
	DROPPED_FAILED,
	DROPPED_NEARER,
	DROPPED_TICKET,
	STRANGERS_TOLD,
	STRANGERS_UNTOLD,
	COUNTERS,
};

/* The node's sign of life, with the size of its mirror for `status`. */
struct heartbeat {
	/* On the monotonic clock; 0: the node has left. */
	__u64 at;
	/* IPv4, IPv6. */
	__u32 contacts[2];
	__u32 incomplete;
	/* Keys whose values are answered here, and bytes of these. */
	__u32 hot;
	__u64 hot_bytes;
};

struct counters {
	__u64 of[COUNTERS];
};

/* Where packets to a contact leave. */
struct way {
	/* 0: not known. */
	__u32 ifindex;
	/* The station that they go to, and the own one; zeros if the kernel is to find it. */
	__u8 to[6];
	__u8 from[6];
};

/* What a node knows tickets and tokens by, src/guard/tickets.rs. */
struct secrets {
	__u64 ticket[2];
	__u64 token[2];
};

/* What lies under a key, as answers carry it. */
struct hot {
	/* On the clock of stamps, in nanoseconds. */
	__u64 expires;
	__u8 key[ID_LEN];
	/* Values there. */
	__u16 count;
	__u16 len;
	/* The sum of the bytes, of which the first stands at an even place. */
	__u32 sum;
	__u32 pad;
	/* Everything before the contacts. */
	__u8 bytes[HOT_BYTES];
};

/* All that a node and the program tell one another. The node has it in its own memory. */
struct node {
	struct heartbeat heartbeat;
	/* The tables to read, IPv4 and IPv6. */
	__u32 current[2];
	struct secrets secrets;
	/* By how much the clock of stamps is ahead of the monotonic one, in nanoseconds. */
	__s64 clock;
	/* The port at which others reach it; 0: it knows of none. */
	__u32 own_port;
	__u32 pad;
	/* Multiplier of the hash of held keys, odd. */
	__u64 held_seed;
	__u64 held[HELD_WORDS];
	struct way ways[SEEN_MAX];
	/* Which places of `hot` count, by the hashes of their keys; 0: the place is empty, or rests until no
	 * packet reads it any more. */
	__u64 hot_tags[HOT_SETS][HOT_WAYS];
	struct hot hot[HOT_MAX];
	/* When each was last asked for. Written by the program. */
	__u64 hot_asked[HOT_MAX];
	/* When contacts of the table were last handed a route, by their slot. Written by the program. */
	__u64 used[SEEN_MAX];
	/* When contacts of the table last asked something, by their slot. Written by the program. */
	__u64 seen[SEEN_MAX];
	struct table tables[2][BUFFERS];
};

#define ASSERT_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
ASSERT_SIZE(endpoint, 20);
ASSERT_SIZE(contact, 44);
ASSERT_SIZE(split, 8);
ASSERT_SIZE(start, 8);
ASSERT_SIZE(mark, 8);
ASSERT_SIZE(stranger, 40);
ASSERT_SIZE(about, 48);
ASSERT_SIZE(heartbeat, 32);
ASSERT_SIZE(counters, 256);
ASSERT_SIZE(way, 16);
ASSERT_SIZE(secrets, 32);
ASSERT_SIZE(hot, 1064);
ASSERT_SIZE(table, 88016);
ASSERT_SIZE(node, 1101728);

#endif
