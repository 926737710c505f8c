// SPDX-License-Identifier: MIT
/*
 * The fast path: answers ping, findnode, and findvalues for values that are asked for often, where packets
 * arrive, from a mirror of the node's routing table and a cache of its values, and passes everything else,
 * and every packet that it is unsure of, to the node.
 *
 * One core, `serve`, behind two entry points: XDP, where a driver runs the program before the kernel
 * has looked at the packet, and tcx ingress, where a packet can also grow (lo, veth).
 * Straight down: parse, look up, verdict, count, return. A packet is not touched before it is
 * certain that it will be answered, so a packet is passed up as it came.
 *
 * It serves all nodes of an interface: a node's own data is found by its port. The node writes its
 * `struct node`; it reads that too, its events and its counters. Settings of an interface are constants
 * that the loader fills in.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "fastpath.h"
#include "siphash.h"

#define TCX_NEXT (-1)

/* The message, see src/wire/v1.rs: version, sender, rpc id, call, length, payload. */
#define VERSION 1
#define CALL_REQUEST 1
#define CALL_RESPONSE 129
#define CALL_ROUTE 4
#define CALL_ROUTED 132
#define AT_FROM 1
#define AT_RPC_ID 21
#define AT_CALL 29
#define AT_LENGTH 30
#define HEAD_LEN 32

/* A route has fields of fixed places behind the length, the key among them. */
#define ROUTE_LEN 104
#define AT_KEY 36

#define PING_NAME_FIRST "d4:name4:ping4:argslee"
#define PING_ARGS_FIRST "d4:argsle4:name4:pinge"
#define PING_LEN (sizeof(PING_NAME_FIRST) - 1)

/* Where the message begins in a frame. */
#define AT_MESSAGE_IPV4 (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr))
#define AT_MESSAGE_IPV6 (sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + sizeof(struct udphdr))

/* A findnode is a prefix, the 20 bytes of the target, and a suffix. */
#define FIND_NAME_FIRST "d4:name8:findnode4:argsl20:"
#define FIND_NAME_FIRST_END "ee"
#define FIND_ARGS_FIRST "d4:argsl20:"
#define FIND_ARGS_FIRST_END "e4:name8:findnodee"
#define FIND_LEN (sizeof(FIND_NAME_FIRST) - 1 + ID_LEN + sizeof(FIND_NAME_FIRST_END) - 1)

/* A findvalue is a prefix, the 20 bytes of the key, how many values are wanted, perhaps a token, and a
 * suffix. */
#define VALUE_NAME_FIRST "d4:name9:findvalue4:argsl20:"
#define VALUE_NAME_FIRST_END "ee"
#define VALUE_ARGS_FIRST "d4:argsl20:"
#define VALUE_ARGS_FIRST_END "e4:name9:findvaluee"
#define TOKEN_NONE "d5:token0:e"
#define TOKEN_GIVEN "d5:token16:"
#define TOKEN_LEN 16
#define LIMIT_DIGITS_MAX 4
#define VALUE_LEN_MIN (sizeof(VALUE_NAME_FIRST) - 1 + ID_LEN + sizeof(VALUE_NAME_FIRST_END) - 1)
#define VALUE_LEN_MAX                                                                            \
	(VALUE_LEN_MIN + 2 + LIMIT_DIGITS_MAX + sizeof(TOKEN_GIVEN) - 1 + TOKEN_LEN + 1)

/* Behind the contacts in the answer to one. */
#define VALUES_END_LEN 3

#define PONG "li5ee"
#define PONG_LEN (sizeof(PONG) - 1)
#define NODES_BEGIN_LEN 2
#define NODES_END_LEN 2

#define IP_DF 0x4000
#define TTL 64

/* Every network namespace has its loopback interface under that number. */
#define LOOPBACK_IFINDEX 1

/* The shortest time between two notes of a contact, and between two reports of a stranger. */
#define SEEN_EVERY_NS 1000000000ULL
#define TOLD_EVERY_NS 1000000000ULL

/* A source may use the allowance of this span at once. */
#define BURST_NS 1000000000ULL

#define NOBODY 0xffff

/* Runs of contacts that make up a reply: at most one for each contact, and each of the two that are
 * left out splits one. */
#define RUNS_MAX (K_MAX + 2)

/* Levels of the tree: bits of an id. */
#define DEPTH_MAX (8 * ID_LEN)

/* Settings of the interface. */
/* Nanoseconds that a request costs its source, and all sources together; 0: no limit. */
volatile const __u64 SOURCE_COST_NS = 0;
volatile const __u64 TOTAL_COST_NS = 0;
/* Whether packets beyond a limit are dropped here, or passed up. */
volatile const __u32 OVER_LIMIT_DROPS = 0;
/* Secret and odd: strangers must not know which sources share a bucket. */
volatile const __u64 SOURCE_SEED = 1;

struct node_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct node));
};

struct counters_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct counters));
};

/* Strangers whose requests were answered here. */
struct events_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
};

/* The maps of one node. The loader takes new ones for each, and puts them below. */
struct node_map node SEC(".maps");
struct counters_map counters SEC(".maps");
struct events_map events SEC(".maps");

/* Those of all nodes, by port. */
#define BY_PORT(kind)                                       \
	struct {                                            \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);   \
		__uint(max_entries, PORTS);                 \
		__uint(key_size, sizeof(__u32));            \
		__uint(value_size, sizeof(__u32));          \
		__array(values, struct kind##_map);         \
	} kind##_by_port SEC(".maps")

BY_PORT(node);
BY_PORT(counters);
BY_PORT(events);

/* Writing to it ends when no packet is in the program any more that was in it at the beginning. So a node
 * waits until the replaced table has no reader. No packet needs it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__array(values, struct node_map);
} gate SEC(".maps");

/* Counts packets that belong to no known node; the counters of port 0, which no node has. */
struct counters_map strays SEC(".maps");

struct told {
	__u64 fingerprint;
	__u64 at;
};

/* The strangers that nodes were told of last. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STRANGERS_MAX);
	__type(key, __u32);
	__type(value, struct told);
} strangers SEC(".maps");

/* The time until which each bucket of sources has used up its allowance; the last one is that of all.
 * Sources that share a bucket share its allowance, so the table never grows and nobody is pushed out. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SOURCES_MAX + 1);
	__type(key, __u32);
	__type(value, __u64);
} sources SEC(".maps");

/* Written once by the loader; no packet needs it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct about);
} about SEC(".maps");

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The known facts of a packet. */
struct request {
	struct endpoint source;
	/* Where the message begins in the frame, and its length. */
	__u32 at;
	__u32 len;
	__u32 payload_len;
	/* The share of the pseudo header, the ports and the protocol in the UDP checksum. */
	__u32 sum;
	/* The node's; 0 as long as it is not known. */
	__u32 port;
	__u8 call;
	bool v6;
	/* A findnode; a findvalue; both are answered with contacts. */
	bool is_find;
	bool is_value;
} __attribute__((aligned(8)));

/* What is done for a packet and too large for the stack: a search in a table, and what came of it. */
struct search {
	struct request request;
	__u64 now;
	/* Who asks, and where. */
	__u8 from[ID_LEN];
	struct endpoint destination;
	/* Of a route: who else is in it, where it leaves, and what is sealed. */
	struct endpoint other;
	struct way way;
	bool by_neighbour;
	bool is_unfinished;
	__u64 sealed[SEALED_WORDS];
	/* Room behind the 20 bytes keeps every index below 32 inside. */
	__u8 target[32];
	/* Contacts to leave out, the smaller number first. */
	__u32 skip_a;
	__u32 skip_b;
	__u32 want;
	/* Of a findvalue: its payload, with room for every index, how many values are wanted, and
	 * whether its sender knows of tokens, and has one. */
	__u8 payload[160];
	__u32 limit;
	bool is_extended;
	bool has_token;
	/* The contacts found, and their bytes. */
	__u32 bytes;
	__u32 count;
	struct run {
		__u16 from;
		__u16 to;
	} runs[RUNS_MAX];
};

/* The search under way on each processor: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct search);
} searches SEC(".maps");

static __always_inline void count(__u32 port, enum counter what)
{
	__u32 zero = 0;
	void *of_node = bpf_map_lookup_elem(&counters_by_port, &port);
	struct counters *all = of_node ? bpf_map_lookup_elem(of_node, &zero) : NULL;
	__u32 number = what;

	/* Said for the verifier, which loses sight of a number that the compiler keeps in a byte. */
	barrier_var(number);
	if (all && number < COUNTERS)
		all->of[number]++;
}

/* The node on a port, or NULL. */
static __always_inline struct node *find_node(__u32 port)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&node_by_port, &port);

	return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
}

/* The table to answer from. */
static __always_inline const struct table *table_of(const struct node *node, bool v6)
{
	__u32 which = (v6 ? BUFFERS : 0) + (node->current[v6 ? 1 : 0] & (BUFFERS - 1));

	/* The bounded register itself must be the one that is multiplied. */
	barrier_var(which);
	return &node->tables[0][0] + (which & (2 * BUFFERS - 1));
}

static __always_inline bool same(const __u8 *a, const __u8 *b, __u32 len)
{
	return !__builtin_memcmp(a, b, len);
}

/* At once, wherever it stands: the machines that this is for can, and byte by byte it takes ten times as
 * long. On the stack the verifier wants it aligned. */
static __always_inline __u64 word(const void *bytes)
{
	return *(const __u64 *)bytes;
}

static __always_inline __u32 half(const void *bytes)
{
	return *(const __u32 *)bytes;
}

static __always_inline bool same_id(const __u8 *a, const __u8 *b)
{
	return word(a) == word(b) && word(a + 8) == word(b + 8) && half(a + 16) == half(b + 16);
}

static __always_inline bool same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	return word(a->address + 8) == word(b->address + 8) &&
	       word(a->address) == word(b->address) && a->port == b->port;
}

static __always_inline __u64 mix(__u64 value, __u64 seed)
{
	value *= seed;
	return value ^ (value >> 32);
}

static __always_inline __u64 hash_id(const __u8 *id, __u64 seed)
{
	return mix(word(id) ^ word(id + 8) ^ half(id + 16), seed);
}

static __always_inline __u64 hash_endpoint(const struct endpoint *who, __u64 seed)
{
	return mix(mix(word(who->address) + who->port, seed) ^ word(who->address + 8), seed);
}

/* The sum of 16-bit words in wire order, from the sum in the machine's order. */
static __always_inline __u32 sum_words(__u32 a)
{
	return bpf_ntohs(a & 0xffff) + bpf_ntohs(a >> 16);
}

static __always_inline __u32 sum_address(const __u8 *address)
{
	__u32 sum = 0;

#pragma unroll
	for (__u32 i = 0; i < 16; i += 4)
		sum += sum_words(half(address + i));
	return sum;
}

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* 1 if the contact lies in the range, else 0. Without a branch: in a loop each one doubles the paths
 * that the verifier has to walk. */
static __always_inline __u32 lies_in(__u32 contact, __u32 from, __u32 to)
{
	return ((__u64)(__u32)(contact - from) - (__u64)(__u32)(to - from)) >> 63;
}

/* How many contacts of a range may be named. */
static __always_inline __u32 size(const struct search *s, __u32 from, __u32 to)
{
	return to - from - lies_in(s->skip_a, from, to) - lies_in(s->skip_b, from, to);
}

/* One of two numbers, without a branch. */
static __always_inline __u32 choose(bool first, __u32 a, __u32 b)
{
	return b ^ ((a ^ b) & -(__u32)first);
}

static __always_inline bool push(const struct table *t, struct search *s, __u32 from, __u32 to)
{
	__u32 number = s->count;

	if (from >= to)
		return true;
	if (number >= RUNS_MAX || from >= CONTACTS_MAX || to > CONTACTS_MAX)
		return false;
	s->runs[number].from = from;
	s->runs[number].to = to;
	s->count = number + 1;
	s->bytes += t->marks[to].offset - t->marks[from].offset;
	return true;
}

/* Adds a range, without the contacts to leave out, to what is to be copied. Returns whether it made
 * sense: a search never wants more than there is room for. */
static __always_inline bool take(const struct table *t, struct search *s, __u32 from, __u32 to)
{
	if (lies_in(s->skip_a, from, to)) {
		if (!push(t, s, from, s->skip_a))
			return false;
		from = s->skip_a + 1;
	}
	if (lies_in(s->skip_b, from, to)) {
		if (!push(t, s, from, s->skip_b))
			return false;
		from = s->skip_b + 1;
	}
	return push(t, s, from, to);
}

/* Where a search is in the tree: at the node that splits this range, with `need` contacts still
 * missing. */
struct place {
	const struct table *table;
	struct search *search;
	__u32 from;
	__u32 to;
	__u32 node;
	__u32 need;
	bool found;
};

/* One step down. Returns 1 at the end: all are found, or the table makes no sense. */
static long descend(__u32 level __attribute__((unused)), struct place *p)
{
	const struct table *t = p->table;
	struct search *s = p->search;
	__u32 from = p->from, to = p->to, node = p->node, need = p->need;
	const struct split *split;
	__u32 middle, near_from, near_to, near_size;
	bool right, deeper;

	if (size(s, from, to) <= need) {
		p->found = take(t, s, from, to);
		return 1;
	}
	if (node >= CONTACTS_MAX)
		return 1;
	split = &t->splits[node];
	middle = node + 1;
	right = s->target[(split->bit >> 3) & 31] >> (~split->bit & 7) & 1;
	near_from = choose(right, middle, from);
	near_to = choose(right, to, middle);
	near_size = size(s, near_from, near_to);
	deeper = near_size >= need;
	if (!deeper) {
		if (!take(t, s, near_from, near_to))
			return 1;
		p->need = need - near_size;
	}
	/* On into the right side: the near one, or the far one where the near is the left. */
	right = right == deeper;
	p->from = choose(right, middle, from);
	p->to = choose(right, to, middle);
	p->node = choose(right, split->right, split->left);
	return 0;
}

/*
 * Finds the contacts nearest to the target: exactly as many as are wanted, or all if there are fewer.
 * Returns 0 if the table makes no sense.
 *
 * Goes down the tree toward the target. Of a node's two sides one has the target's bit there; all
 * of that side is nearer than anything of the other, whatever bits were skipped above, since those
 * are the same on both sides. If the near side alone has enough, on into it; else all of it is taken,
 * and the missing contacts are sought in the far side.
 *
 * A global function with the loop in a callback: the verifier proves each once, by itself, instead
 * of along every path to it.
 */
__noinline int find_closest(const struct table *t, struct search *s)
{
	struct place place = {};

	if (!t || !s)
		return 0;
	s->count = 0;
	s->bytes = 0;
	place.table = t;
	place.search = s;
	place.to = t->count;
	place.node = t->root;
	place.need = s->want;
	bpf_loop(DEPTH_MAX + K_MAX, descend, &place, 0);
	return place.found;
}

/* The contact of that id, or NOBODY. */
static __always_inline __u32 find_id(const struct table *t, const __u8 *id)
{
	__u32 bucket = hash_id(id, t->id_seed) & (INDEX_BUCKETS - 1);

	for (__u32 i = 0; i < INDEX_DEPTH; i++) {
		__u32 number = t->by_id[bucket][i];

		if (!number || number > CONTACTS_MAX)
			break;
		if (same_id(t->contacts[number - 1].id, id))
			return number - 1;
	}
	return NOBODY;
}

/* The contact at that endpoint, or NOBODY. */
static __always_inline __u32 find_endpoint(const struct table *t, const struct endpoint *who)
{
	__u32 bucket = hash_endpoint(who, t->endpoint_seed) & (INDEX_BUCKETS - 1);

	for (__u32 i = 0; i < INDEX_DEPTH; i++) {
		__u32 number = t->by_endpoint[bucket][i];

		if (!number || number > CONTACTS_MAX)
			break;
		if (same_endpoint(&t->contacts[number - 1].endpoint, who))
			return number - 1;
	}
	return NOBODY;
}

static __always_inline bool is_local(const struct table *t, const struct endpoint *destination)
{
	for (__u32 i = 0; i < LOCALS_MAX; i++) {
		if (i >= t->locals_count)
			break;
		if (word(t->locals[i]) == word(destination->address) &&
		    word(t->locals[i] + 8) == word(destination->address + 8))
			return true;
	}
	return false;
}

static __always_inline bool is_loopback(const struct endpoint *who, bool v6)
{
	const __u8 *a = who->address;

	if (!v6)
		return a[12] == 127;
	return !word(a) && word(a + 8) == bpf_cpu_to_be64(1);
}

/*
 * Whether an address can be answered and named: a unicast address of its family, not bound to one
 * link, a port.
 *
 * The kernel drops few of those that cannot. Of IPv6 it lets ::, ::a.b.c.d and ::ffff:a.b.c.d in at
 * every interface (of TCP alone it refuses the mapped ones), so a source that is an IPv4 address in
 * IPv6's clothes is the node's to drop.
 */
static __always_inline bool is_sendable(const struct endpoint *who, bool v6)
{
	const __u8 *a = who->address;

	if (!who->port)
		return false;
	if (!v6)
		return a[12] != 0 && a[12] < 224;
	/* Of ::/64 only ::1 is one; ::/96 and ::ffff:0:0/96 lie there, and nothing else is assigned. */
	if (!word(a) && !is_loopback(who, true))
		return false;
	return a[0] != 0xff && !(a[0] == 0xfe && (a[1] & 0xc0) == 0x80);
}

/*
 * Whether its source and its destination are possible. A loopback source needs no proof and knows no
 * limit, so it is believed only on the loopback interface, where nobody else can be.
 *
 * From elsewhere the kernel drops ::1, source or destination, always. It drops 127.0.0.0/8 unless
 * route_localnet is set there; then that is a destination like any other, and a source too where
 * rp_filter is off (127.0.0.1 itself with accept_local).
 */
static __always_inline bool is_believed(const struct request *r,
					const struct endpoint *destination, __u32 interface)
{
	return interface == LOOPBACK_IFINDEX ||
	       (!is_loopback(&r->source, r->v6) && !is_loopback(destination, r->v6));
}

static __always_inline bool is_alive(const struct node *node, __u64 now)
{
	__u64 last = *(volatile const __u64 *)&node->heartbeat.at;

	/* The node reads a finer clock, so it may be a little ahead. */
	return last && (__s64)(now - last) < (__s64)HEARTBEAT_MAX_NS;
}

/*
 * Whether a token bucket has something left, and takes it (the generic cell rate algorithm). Two
 * processors may take the same token: the limit is that much off then.
 */
static __always_inline bool within(__u32 bucket, __u64 cost, __u64 now)
{
	__u64 *used_until = bpf_map_lookup_elem(&sources, &bucket);
	__u64 start;

	if (!used_until)
		return true;
	start = *used_until > now ? *used_until : now;
	if (start - now > BURST_NS)
		return false;
	*used_until = start + cost;
	return true;
}

/* An IPv4 address or the network half of an IPv6 one. */
static __always_inline __u32 source_bucket(const struct request *r)
{
	__u64 source = r->v6 ? word(r->source.address) : half(r->source.address + 12);

	/* Twice: once leaves the last bytes of a /64 in bits that are not looked at. */
	return (mix(mix(source + r->v6, SOURCE_SEED), SOURCE_SEED) >> 8) % SOURCES_MAX;
}

/* Tells the node of a stranger, unless it was told a moment ago. */
static __always_inline void tell(const struct request *r, const struct search *s, __u64 now)
{
	__u64 fingerprint = hash_id(s->from, SOURCE_SEED) ^
			    hash_endpoint(&r->source, SOURCE_SEED) ^ mix(r->port, SOURCE_SEED);
	__u32 place = (fingerprint >> 40) % STRANGERS_MAX;
	struct told *told = bpf_map_lookup_elem(&strangers, &place);
	__u32 port = r->port;
	struct stranger *event;
	void *events;

	if (!told || (told->fingerprint == fingerprint && now - told->at < TOLD_EVERY_NS))
		return;
	events = bpf_map_lookup_elem(&events_by_port, &port);
	if (!events)
		return;
	event = bpf_ringbuf_reserve(events, sizeof(*event), 0);
	if (!event) {
		/* More strangers than the node can take in. */
		count(port, STRANGERS_UNTOLD);
		return;
	}
	__builtin_memcpy(event->id, s->from, ID_LEN);
	event->endpoint = r->source;
	bpf_ringbuf_submit(event, 0);
	told->fingerprint = fingerprint;
	told->at = now;
	count(port, STRANGERS_TOLD);
}

/* Notes when something happened last. */
static __always_inline void note(__u64 *at, __u64 now)
{
	/* Most packets only read: processors need not quarrel about the line. */
	if (now - *at > SEEN_EVERY_NS)
		*at = now;
}

#define ADVANCE(cursor, size, end)                 \
	({                                         \
		void *_here = (cursor);            \
		(cursor) += (size);                \
		(cursor) > (end) ? NULL : _here;   \
	})

/* The result of parsing; a counter means that the packet is passed up for that reason. */
enum parsed {
	NOT_OURS = -2,
	OURS = -1,
};

static __always_inline void map_ipv4(__u8 *address, __be32 ip)
{
	__u32 marker = bpf_htonl(0xffff);

	__builtin_memset(address, 0, 8);
	__builtin_memcpy(address + 8, &marker, 4);
	__builtin_memcpy(address + 12, &ip, 4);
}

/*
 * Reads the headers. The length of a message is that of IP and UDP, not of the frame, which may be
 * padded. Request checksums are not verified: senders on this machine leave them to hardware, and here
 * is none.
 */
static __always_inline int parse_headers(void *data, void *end, struct request *r,
					 struct endpoint *destination, struct node **node)
{
	void *cursor = data;
	struct ethhdr *eth = ADVANCE(cursor, sizeof(*eth), end);
	struct udphdr *udp;
	__u32 udp_len, ip_payload_len;

	if (!eth)
		return NOT_OURS;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = ADVANCE(cursor, sizeof(*ip), end);

		if (!ip || ip->protocol != IPPROTO_UDP)
			return NOT_OURS;
		if (ip->version != 4 || ip->ihl != 5 ||
		    ip->frag_off & ~bpf_htons(IP_DF))
			return PASSED_HEADERS;
		udp = ADVANCE(cursor, sizeof(*udp), end);
		if (!udp)
			return NOT_OURS;
		ip_payload_len = bpf_ntohs(ip->tot_len) - sizeof(*ip);
		map_ipv4(r->source.address, ip->saddr);
		map_ipv4(destination->address, ip->daddr);
		r->sum = sum_words(ip->saddr) + sum_words(ip->daddr);
		r->v6 = false;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = ADVANCE(cursor, sizeof(*ip), end);

		if (!ip)
			return NOT_OURS;
		if (ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
			return ip->nexthdr == IPPROTO_HOPOPTS || ip->nexthdr == IPPROTO_ROUTING ||
				       ip->nexthdr == IPPROTO_FRAGMENT ||
				       ip->nexthdr == IPPROTO_DSTOPTS ?
			       PASSED_HEADERS : NOT_OURS;
		udp = ADVANCE(cursor, sizeof(*udp), end);
		if (!udp)
			return NOT_OURS;
		ip_payload_len = bpf_ntohs(ip->payload_len);
		__builtin_memcpy(r->source.address, &ip->saddr, 16);
		__builtin_memcpy(destination->address, &ip->daddr, 16);
		r->sum = sum_address(r->source.address) +
			 sum_address(destination->address);
		r->v6 = true;
	} else {
		return NOT_OURS;
	}
	*node = find_node(bpf_ntohs(udp->dest));
	if (!*node)
		return NOT_OURS;
	r->port = bpf_ntohs(udp->dest);
	udp_len = bpf_ntohs(udp->len);
	/* Over IPv6 a missing checksum is an error, which the kernel deals with. */
	if (ip_payload_len != udp_len || (r->v6 && !udp->check))
		return PASSED_LENGTH;
	r->source.port = udp->source;
	r->source.pad = 0;
	destination->port = udp->dest;
	destination->pad = 0;
	r->sum += bpf_ntohs(udp->source) + r->port + IPPROTO_UDP;
	/* Said as constants, not as a difference of pointers, for the verifier's sake. */
	r->at = r->v6 ? AT_MESSAGE_IPV6 : AT_MESSAGE_IPV4;
	r->len = udp_len - sizeof(*udp);
	/* To a group or to another machine: this one does not answer. */
	if (eth->h_dest[0] & 1 || !is_sendable(&r->source, r->v6))
		return PASSED_ADDRESS;
	if (udp_len < sizeof(*udp) + AT_LENGTH)
		return PASSED_LENGTH;
	return OURS;
}

/* Reads the message behind the headers. */
static __always_inline int parse_message(void *data, void *end, struct request *r,
					 struct search *s)
{
	__u8 *m = data + (r->v6 ? AT_MESSAGE_IPV6 : AT_MESSAGE_IPV4);
	__u8 *payload;
	__u32 len;

	if ((void *)m + AT_LENGTH > end)
		return PASSED_LENGTH;
	if (m[0] != VERSION)
		return PASSED_VERSION;
	r->call = m[AT_CALL];
	if (r->call == CALL_ROUTE || r->call == CALL_ROUTED) {
		if (r->len < ROUTE_LEN || (void *)m + ROUTE_LEN > end)
			return PASSED_LENGTH;
		len = m[AT_LENGTH] << 8 | m[AT_LENGTH + 1];
		if (len < ROUTE_LEN - HEAD_LEN || HEAD_LEN + len > r->len)
			return PASSED_LENGTH;
		__builtin_memcpy(s->from, m + AT_FROM, ID_LEN);
		__builtin_memcpy(s->target, m + AT_KEY, ID_LEN);
		return OURS;
	}
	if (r->call != CALL_REQUEST)
		return PASSED_REPLY;
	if (r->len < HEAD_LEN + PING_LEN || (void *)m + HEAD_LEN + PING_LEN > end)
		return PASSED_LENGTH;
	__builtin_memcpy(s->from, m + AT_FROM, ID_LEN);
	len = m[AT_LENGTH] << 8 | m[AT_LENGTH + 1];
	if (HEAD_LEN + len > r->len)
		return PASSED_LENGTH;
	payload = m + HEAD_LEN;
	r->payload_len = len;
	if (len >= VALUE_LEN_MIN && len <= VALUE_LEN_MAX) {
		if ((void *)payload + VALUE_LEN_MIN > end)
			return PASSED_LENGTH;
		r->is_value = same(payload, (const __u8 *)VALUE_NAME_FIRST,
				   sizeof(VALUE_NAME_FIRST) - 1) ||
			      same(payload, (const __u8 *)VALUE_ARGS_FIRST,
				   sizeof(VALUE_ARGS_FIRST) - 1);
		r->is_find = r->is_value;
		return r->is_value ? OURS : PASSED_REQUEST;
	}
	r->is_find = len == FIND_LEN;
	if (len == PING_LEN)
		return same(payload, (const __u8 *)PING_NAME_FIRST, PING_LEN) ||
				       same(payload, (const __u8 *)PING_ARGS_FIRST, PING_LEN) ?
			       OURS : PASSED_REQUEST;
	if (len != FIND_LEN)
		return PASSED_REQUEST;
	if ((void *)payload + FIND_LEN > end)
		return PASSED_LENGTH;
	if (same(payload, (const __u8 *)FIND_NAME_FIRST, sizeof(FIND_NAME_FIRST) - 1)) {
		__builtin_memcpy(s->target, payload + sizeof(FIND_NAME_FIRST) - 1, ID_LEN);
		return same(payload + sizeof(FIND_NAME_FIRST) - 1 + ID_LEN,
			    (const __u8 *)FIND_NAME_FIRST_END, sizeof(FIND_NAME_FIRST_END) - 1) ?
			       OURS : PASSED_REQUEST;
	}
	if (!same(payload, (const __u8 *)FIND_ARGS_FIRST, sizeof(FIND_ARGS_FIRST) - 1))
		return PASSED_REQUEST;
	__builtin_memcpy(s->target, payload + sizeof(FIND_ARGS_FIRST) - 1, ID_LEN);
	return same(payload + sizeof(FIND_ARGS_FIRST) - 1 + ID_LEN,
		    (const __u8 *)FIND_ARGS_FIRST_END, sizeof(FIND_ARGS_FIRST_END) - 1) ?
		       OURS : PASSED_REQUEST;
}

static __always_inline int load(void *ctx, bool xdp, __u32 at, void *to, __u32 len)
{
	return xdp ? bpf_xdp_load_bytes(ctx, at, to, len) : bpf_skb_load_bytes(ctx, at, to, len);
}

static __always_inline int store(void *ctx, bool xdp, __u32 at, const void *from, __u32 len)
{
	return xdp ? bpf_xdp_store_bytes(ctx, at, (void *)from, len) :
		     bpf_skb_store_bytes(ctx, at, from, len, 0);
}

/*
 * Reads what stands behind the key of a findvalue: how many values are wanted, one if nothing is said, and
 * behind that perhaps a token. Returns whether it is nothing else.
 *
 * A global function, like the search: the verifier proves it once.
 */
__noinline int read_search(struct search *s, __u32 at, __u32 end)
{
	const __u8 *p;
	__u32 first;

	if (!s)
		return 0;
	s->limit = 1;
	s->is_extended = false;
	s->has_token = false;
	if (at == end)
		return 1;
	if (s->payload[at & 127] != 'i')
		return 0;
	first = ++at;
	s->limit = 0;
	for (__u32 i = 0; i < LIMIT_DIGITS_MAX; i++) {
		__u32 digit = s->payload[at & 127] - '0';

		if (digit > 9)
			break;
		s->limit = 10 * s->limit + digit;
		at++;
	}
	/* No number, one with a zero before it, or too long a one: user space knows what to say. */
	if (at == first || (at > first + 1 && s->payload[first & 127] == '0') ||
	    s->payload[at & 127] != 'e')
		return 0;
	at++;
	if (at == end)
		return 1;
	p = s->payload + (at & 127);
	s->is_extended = true;
	if (at + sizeof(TOKEN_NONE) - 1 == end)
		return same(p, (const __u8 *)TOKEN_NONE, sizeof(TOKEN_NONE) - 1);
	s->has_token = true;
	return at + sizeof(TOKEN_GIVEN) + TOKEN_LEN == end &&
	       same(p, (const __u8 *)TOKEN_GIVEN, sizeof(TOKEN_GIVEN) - 1) &&
	       p[sizeof(TOKEN_GIVEN) - 1 + TOKEN_LEN] == 'e';
}

/* Reads a findvalue. Returns OURS, or why it is passed up. */
static __always_inline int parse_search(void *ctx, bool xdp, const struct request *r, struct search *s)
{
	__u32 len = r->payload_len, at, end;
	bool is_right;

	/* The checked register itself must be the one that is passed. */
	barrier_var(len);
	if (len < VALUE_LEN_MIN || len > VALUE_LEN_MAX ||
	    load(ctx, xdp, r->at + HEAD_LEN, s->payload, len))
		return PASSED_LENGTH;
	/* The first letter of `args`, or of `name`. */
	if (s->payload[3] == 'a') {
		at = sizeof(VALUE_ARGS_FIRST) - 1;
		end = len - (sizeof(VALUE_ARGS_FIRST_END) - 1);
		is_right = same(s->payload + (end & 127), (const __u8 *)VALUE_ARGS_FIRST_END,
				sizeof(VALUE_ARGS_FIRST_END) - 1);
	} else {
		at = sizeof(VALUE_NAME_FIRST) - 1;
		end = len - (sizeof(VALUE_NAME_FIRST_END) - 1);
		is_right = same(s->payload + (end & 127), (const __u8 *)VALUE_NAME_FIRST_END,
				sizeof(VALUE_NAME_FIRST_END) - 1);
	}
	__builtin_memcpy(s->target, s->payload + at, ID_LEN);
	return is_right && read_search(s, at + ID_LEN, end) ? OURS : PASSED_REQUEST;
}

/* The word of the rate limits: OURS, or the counter of the packet's fate. */
static __always_inline int check_limits(const struct request *r, __u64 now)
{
	if (is_loopback(&r->source, r->v6))
		return OURS;
	if (SOURCE_COST_NS && !within(source_bucket(r), SOURCE_COST_NS, now))
		return OVER_LIMIT_DROPS ? DROPPED_LIMIT_SOURCE : PASSED_LIMIT_SOURCE;
	if (TOTAL_COST_NS && !within(SOURCES_MAX, TOTAL_COST_NS, now))
		return OVER_LIMIT_DROPS ? DROPPED_LIMIT_TOTAL : PASSED_LIMIT_TOTAL;
	return OURS;
}

/* The values under a key, if they are here, and may be told for a moment still. */
static __always_inline struct hot *find_hot(struct node *node, const struct search *s)
{
	__u64 hash = hash_id(s->target, node->held_seed);
	__u32 set = (hash >> 32) % HOT_SETS, place = HOT_MAX;
	struct hot *hot;

#pragma unroll
	for (__u32 way = 0; way < HOT_WAYS; way++) {
		if (node->hot_tags[set][way] == (hash | 1))
			place = set * HOT_WAYS + way;
	}
	/* The bounded register itself must be the one that is multiplied. */
	barrier_var(place);
	if (place >= HOT_MAX)
		return NULL;
	hot = &node->hot[place];
	if (!same_id(hot->key, s->target) || (__s64)(hot->expires - s->now - node->clock) <= 0)
		return NULL;
	note(&node->hot_asked[place], s->now);
	return hot;
}

/*
 * Finds as many of the nearest contacts as there is room for: user space writes them nearest first
 * until one does not fit, which comes to the same set. Returns OURS, or why it is passed up.
 */
__noinline int find(const struct table *t, struct search *s, __u32 by_endpoint, __u32 room)
{
	__u32 by_id, want;

	if (!t || !s)
		return PASSED_INCOMPLETE;
	by_id = find_id(t, s->from);
	want = t->k;
	if (by_id == by_endpoint)
		by_id = NOBODY;
	s->skip_a = by_id < by_endpoint ? by_id : by_endpoint;
	s->skip_b = by_id < by_endpoint ? by_endpoint : by_id;
	if (want > K_MAX)
		return PASSED_INCOMPLETE;
	/* No more than fit if all are short. */
	if (want * t->longest > room && want > room / t->shortest)
		want = room / t->shortest;
	for (__u32 i = 0; i < K_MAX; i++) {
		__u32 less;

		s->want = want < t->count ? want : t->count;
		if (!find_closest(t, s))
			return PASSED_INCOMPLETE;
		if (s->bytes <= room)
			return OURS;
		/* At least as many less as would do if all were long. */
		less = (s->bytes - room + t->longest - 1) / t->longest;
		if (!less || less >= want)
			break;
		want -= less;
	}
	return PASSED_INCOMPLETE;
}

/* Gives the frame this length. If that fails it stays as it was. Nobody else bounds a growing frame by
 * what the link carries: past the limit it is lost on the way out, where the node's own socket
 * sends fragments. */
static __always_inline int resize(void *ctx, bool xdp, __u32 old_len, __u32 new_len)
{
	int more = (int)new_len - (int)old_len;
	__u32 mtu = 0;

	if (more > 0 && bpf_check_mtu(ctx, 0, &mtu, more, 0))
		return -1;
	return xdp ? bpf_xdp_adjust_tail(ctx, more) : bpf_skb_change_tail(ctx, new_len, 0);
}

/* Copies the contacts found to a place in the payload, which begins at `at`. Returns their checksum, or
 * less than zero. */
static __always_inline int copy_contacts(void *ctx, bool xdp, const struct table *t,
					  const struct search *s, __u32 at, __u32 place)
{
	__u64 sum = 0;

	for (__u32 i = 0; i < RUNS_MAX; i++) {
		__u32 from, to, start, len, part;

		if (i >= s->count)
			break;
		from = s->runs[i].from;
		to = s->runs[i].to;
		if (from >= CONTACTS_MAX || to > CONTACTS_MAX)
			return -1;
		start = t->marks[from].offset;
		len = t->marks[to].offset - start;
		part = fold(t->marks[to].sum - t->marks[from].sum);
		/* The checked register itself must be the one that is passed. */
		barrier_var(len);
		if (start >= CONTACTS_MAX * CONTACT_BYTES_MAX || len < 1 || len > REPLY_MAX)
			return -1;
		if (store(ctx, xdp, at + place, t->bytes + start, len))
			return -1;
		/* Bytes that were at even places of the table and are at odd ones now. */
		if ((start ^ place) & 1)
			part = (part & 0xff) << 8 | part >> 8;
		sum += part;
		place += len;
	}
	return sum;
}

/* Each a global function, as the search is. */
__noinline int copy_contacts_xdp(struct xdp_md *ctx, const struct table *t, const struct search *s,
				 __u32 at, __u32 place)
{
	return t && s ? copy_contacts(ctx, true, t, s, at, place) : -1;
}

__noinline int copy_contacts_tcx(struct __sk_buff *ctx, const struct table *t, const struct search *s,
				 __u32 at, __u32 place)
{
	return t && s ? copy_contacts(ctx, false, t, s, at, place) : -1;
}

/* Writes the values of an answer. Returns their checksum. */
static __always_inline long copy_values(void *ctx, bool xdp, const struct hot *hot, __u32 at)
{
	__u32 len = hot->len;

	barrier_var(len);
	if (len < 1 || len > HOT_BYTES || store(ctx, xdp, at, hot->bytes, len))
		return -1;
	return hot->sum;
}

/* The sum of bytes that are all the same, from a place on. */
static __always_inline __u32 sum_same(__u32 place, __u8 byte, __u32 count)
{
	__u32 even = (count + !(place & 1)) / 2;

	return byte * (even * 256 + count - even);
}

/* The sum of a reply's head behind the version and the own id, of which `head_sum` is. */
static __always_inline __u32 sum_rest_of_head(const __u8 *m, __u32 payload_len)
{
	__u32 sum = m[AT_RPC_ID];

#pragma unroll
	for (__u32 i = AT_RPC_ID + 1; i < AT_CALL - 1; i += 2)
		sum += m[i] << 8 | m[i + 1];
	return sum + (m[AT_CALL - 1] << 8 | CALL_RESPONSE) + payload_len;
}

/* Fills in what is the same in whatever leaves here, and the sum. */
static __always_inline void finish_ipv4(struct iphdr *ip)
{
	__u32 sum = 0;

	ip->tos = 0;
	ip->frag_off = bpf_htons(IP_DF);
	ip->ttl = TTL;
	ip->check = 0;
#pragma unroll
	for (__u32 i = 0; i < sizeof(*ip); i += 4)
		sum += sum_words(half((__u8 *)ip + i));
	ip->check = bpf_htons(~fold(sum) & 0xffff);
}

/* Turns the headers round. Addresses and ports only change places, so their sums stay. */
static __always_inline void turn_round(struct ethhdr *eth, struct udphdr *udp, bool v6,
				       __u32 udp_len)
{
	__u8 mac[ETH_ALEN];
	__be16 port = udp->source;

	__builtin_memcpy(mac, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
	udp->source = udp->dest;
	udp->dest = port;
	udp->len = bpf_htons(udp_len);
	if (v6) {
		struct ipv6hdr *ip = (void *)(eth + 1);
		struct in6_addr address = ip->saddr;

		/* No class and no flow; those of the request are its own. */
		*(__be32 *)ip = bpf_htonl(6 << 28);
		ip->saddr = ip->daddr;
		ip->daddr = address;
		ip->payload_len = bpf_htons(udp_len);
		ip->hop_limit = TTL;
	} else {
		struct iphdr *ip = (void *)(eth + 1);
		__be32 address = ip->saddr;

		ip->saddr = ip->daddr;
		ip->daddr = address;
		ip->tot_len = bpf_htons(sizeof(*ip) + udp_len);
		finish_ipv4(ip);
	}
}

/* The kernel makes pointers of these numbers, so the compiler must not keep halves of them. */
static __always_inline void *start_of(void *ctx, bool xdp)
{
	void *start = xdp ? (void *)(long)((struct xdp_md *)ctx)->data :
			    (void *)(long)((struct __sk_buff *)ctx)->data;

	barrier_var(start);
	return start;
}

static __always_inline void *end_of(void *ctx, bool xdp)
{
	void *end = xdp ? (void *)(long)((struct xdp_md *)ctx)->data_end :
			  (void *)(long)((struct __sk_buff *)ctx)->data_end;

	barrier_var(end);
	return end;
}

/*
 * Makes the reply of a frame that has the right length already. The body of a lookup's answer is in the
 * frame, its sum is `body_sum`, but for the first bytes of a findnode's; a pong is written here. Returns 0, or the counter of the failure.
 */
static __always_inline int write_reply(void *ctx, bool xdp, const struct table *t,
				       const struct request *r, __u32 payload_len, __u64 body_sum)
{
	void *data = start_of(ctx, xdp), *end = end_of(ctx, xdp);
	__u32 at = r->v6 ? AT_MESSAGE_IPV6 : AT_MESSAGE_IPV4;
	__u32 udp_len = sizeof(struct udphdr) + HEAD_LEN + payload_len;
	struct udphdr *udp;
	__u8 *m = data + at;
	__u64 sum;

	/* A list of nobody is shorter than a pong. */
	if ((void *)m + HEAD_LEN + NODES_BEGIN_LEN > end ||
	    (!r->is_find && (void *)m + HEAD_LEN + PONG_LEN > end))
		return -1;
	udp = (void *)m - sizeof(*udp);
	turn_round(data, udp, r->v6, udp_len);
	__builtin_memcpy(m + AT_FROM, t->own_id, ID_LEN);
	m[AT_CALL] = CALL_RESPONSE;
	m[AT_LENGTH] = payload_len >> 8;
	m[AT_LENGTH + 1] = payload_len;
	if (r->is_find) {
		if (!r->is_value) {
			m[HEAD_LEN] = 'l';
			m[HEAD_LEN + 1] = 'l';
			body_sum += 'l' << 8 | 'l';
		}
	} else {
		__builtin_memcpy(m + HEAD_LEN, PONG, PONG_LEN);
		body_sum = ('l' << 8 | 'i') + ('5' << 8 | 'e') + ('e' << 8);
	}
	/* The length counts in the pseudo header and in the UDP header. */
	sum = (__u64)r->sum + 2 * udp_len + t->head_sum + sum_rest_of_head(m, payload_len) +
	      body_sum;
	if (xdp) {
		__u32 check = ~fold(sum) & 0xffff;

		udp->check = bpf_htons(check ? check : 0xffff);
		return 0;
	}
	/*
	 * Where the sender left the checksum to hardware, so must we: the hardware adds the data to
	 * the sum that stands here. The helper knows whether that is so, and turns the sum of the
	 * pseudo header (without the ports) into the full checksum where it is not. A checksum of zero
	 * goes out as all ones, since zero stands for none.
	 */
	__u32 pseudo = fold((__u64)r->sum - bpf_ntohs(udp->source) - bpf_ntohs(udp->dest) + udp_len);

	udp->check = bpf_htons(pseudo);
	return bpf_l4_csum_replace(ctx, at - sizeof(*udp) + offsetof(struct udphdr, check), 0,
				   bpf_htons(fold(sum + pseudo)), BPF_F_MARK_MANGLED_0);
}

/* The fate of a packet. */
enum verdict {
	PASS,
	/* Out by the interface where it came in. */
	SEND,
	/* The same, and the kernel finds the station that it goes to. */
	SEND_BY_NEIGHBOUR,
	DROP,
};

static __always_inline int pass(const struct request *r, int why)
{
	count(r->port, why);
	return PASS;
}

static __always_inline int drop(const struct request *r, int why)
{
	count(r->port, why);
	return DROP;
}

static __always_inline __u32 interface_of(void *ctx, bool xdp)
{
	return xdp ? ((struct xdp_md *)ctx)->ingress_ifindex : ((struct __sk_buff *)ctx)->ifindex;
}

#include "route.h"

static __always_inline int serve(void *ctx, bool xdp, __u32 frame_len)
{
	struct request r = {};
	struct search *s;
	__u32 payload_len = PONG_LEN, begin_len = NODES_BEGIN_LEN, end_len = NODES_END_LEN;
	__u32 new_len, least_len, by_endpoint, zero = 0;
	const struct contact *known = NULL;
	const struct hot *hot = NULL;
	const struct table *t;
	struct node *node = NULL;
	long sum = 0;
	__u64 now;
	bool is_proved;
	int parsed;

	s = bpf_map_lookup_elem(&searches, &zero);
	if (!s)
		return PASS;

	/* 1. Is it a request that the fast path knows? */
	parsed = parse_headers(start_of(ctx, xdp), end_of(ctx, xdp), &r, &s->destination,
			       &node);
	if (parsed == NOT_OURS)
		return PASS;
	if (parsed == OURS && r.at + r.len > frame_len)
		parsed = PASSED_LENGTH;
	if (parsed == OURS)
		parsed = parse_message(start_of(ctx, xdp), end_of(ctx, xdp), &r, s);
	if (parsed == OURS && !is_believed(&r, &s->destination, interface_of(ctx, xdp)))
		parsed = PASSED_ADDRESS;
	if (parsed != OURS || !node)
		return pass(&r, parsed);

	/* 2. Does the node live, and want it answered under that address? */
	now = bpf_ktime_get_coarse_ns();
	if (!is_alive(node, now))
		return pass(&r, PASSED_NO_HEARTBEAT);
	t = table_of(node, r.v6);
	if (t->version != LAYOUT_VERSION || !t->count || t->count > CONTACTS_MAX)
		return pass(&r, PASSED_EMPTY);
	if (!is_local(t, &s->destination))
		return pass(&r, PASSED_ADDRESS);
	s->now = now;
	/* Its ticket was given out for a route that counted. */
	if (r.call == CALL_ROUTED)
		return serve_route(ctx, xdp, &r, s, node, t);

	/* 3. May it be answered? */
	if (r.is_value) {
		parsed = parse_search(ctx, xdp, &r, s);
		if (parsed != OURS)
			return pass(&r, parsed);
		/* Which of several values an answer has is the node's to choose. */
		hot = find_hot(node, s);
		if (!hot || s->limit < hot->count)
			return pass(&r, PASSED_NOT_CACHED);
		begin_len = hot->len;
		end_len = VALUES_END_LEN;
	}
	parsed = check_limits(&r, now);
	/* The user asked for this when attaching: the node would spend ten times as much on it. */
	if (parsed == DROPPED_LIMIT_SOURCE || parsed == DROPPED_LIMIT_TOTAL)
		return drop(&r, parsed);
	if (parsed != OURS)
		return pass(&r, parsed);
	if (r.call == CALL_ROUTE)
		return serve_route(ctx, xdp, &r, s, node, t);
	by_endpoint = find_endpoint(t, &r.source);
	if (by_endpoint < CONTACTS_MAX) {
		if (t->contacts[by_endpoint].ambiguous)
			return pass(&r, PASSED_AMBIGUOUS);
		if (same_id(t->contacts[by_endpoint].id, s->from))
			known = &t->contacts[by_endpoint];
	}
	is_proved = known || is_loopback(&r.source, r.v6);
	/* The node learns from a token that an address is the sender's. */
	if (r.is_value && s->has_token && !is_proved)
		return pass(&r, PASSED_UNPROVED);

	/* 4. What is the answer, and how long? */
	if (r.is_find) {
		if (t->incomplete)
			return pass(&r, PASSED_INCOMPLETE);
		if (begin_len > HOT_BYTES)
			return pass(&r, PASSED_NOT_CACHED);
		parsed = find(t, s, by_endpoint, REPLY_MAX - HEAD_LEN - begin_len - end_len);
		if (parsed != OURS)
			return pass(&r, parsed);
		payload_len = begin_len + s->bytes + end_len;
		least_len = begin_len + end_len + (r.is_value && s->is_extended ? REST_MAX : 0);
		if (least_len < payload_len)
			least_len = payload_len;
		if (!is_proved && HEAD_LEN + least_len + PING_BYTES > AMPLIFICATION_MAX * r.len)
			return pass(&r, PASSED_UNPROVED);
	}

	/* 5. Is there room for it? From here on the packet is no longer as it came, so a failure, for
	 * want of memory, cannot be passed up. */
	new_len = r.at + HEAD_LEN + payload_len;
	if (resize(ctx, xdp, frame_len, new_len))
		return pass(&r, PASSED_NO_ROOM);
	if (r.is_find) {
		__u32 eee = 'e' | 'e' << 8 | 'e' << 16;
		long contacts, values = 0;

		contacts = xdp ? copy_contacts_xdp(ctx, t, s, r.at + HEAD_LEN, begin_len) :
				 copy_contacts_tcx(ctx, t, s, r.at + HEAD_LEN, begin_len);
		if (hot)
			values = copy_values(ctx, xdp, hot, r.at + HEAD_LEN);
		if (contacts < 0 || values < 0 ||
		    store(ctx, xdp, new_len - end_len, &eee, hot ? VALUES_END_LEN : NODES_END_LEN))
			return drop(&r, DROPPED_FAILED);
		sum = contacts + values + sum_same(begin_len + s->bytes, 'e', end_len);
	}
	if (write_reply(ctx, xdp, t, &r, payload_len, sum))
		return drop(&r, DROPPED_FAILED);

	/* 6. The node hears of the asker, and the packet is counted. */
	if (known)
		note(&node->seen[known->slot % SEEN_MAX], now);
	else
		tell(&r, s, now);
	count(r.port, r.is_value ? ANSWERED_FINDVALUE : r.is_find ? ANSWERED_FINDNODE : ANSWERED_PING);
	return SEND;
}

SEC("xdp")
int kademlua_xdp(struct xdp_md *ctx)
{
	switch (serve(ctx, true, end_of(ctx, true) - start_of(ctx, true))) {
	case SEND:
		return XDP_TX;
	case DROP:
		return XDP_DROP;
	default:
		return XDP_PASS;
	}
}

/* Headers and message of the longest request that is answered, less what follows a route's fields. */
#define READ_MAX (AT_MESSAGE_IPV6 + ROUTE_LEN)

SEC("classifier")
int kademlua_tcx(struct __sk_buff *skb)
{
	__u32 wanted = skb->len < READ_MAX ? skb->len : READ_MAX;

	/* A tag that the card took off is still a tag; several datagrams in one are not ours. */
	if (skb->vlan_present || skb->gso_segs > 1)
		return TCX_NEXT;
	if ((void *)(long)skb->data + wanted > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, wanted);
	switch (serve(skb, false, skb->len)) {
	case SEND:
		return bpf_redirect(skb->ifindex, 0);
	case SEND_BY_NEIGHBOUR:
		return bpf_redirect_neigh(skb->ifindex, NULL, 0, 0);
	case DROP:
		return TC_ACT_SHOT;
	default:
		return TCX_NEXT;
	}
}
