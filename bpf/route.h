/* SPDX-License-Identifier: MIT */
/*
 * Routes: requests that find their way to a key, and the answers that come back. src/node/routes.rs does
 * the same in user space, byte for byte, and says why; what is not sure here is left to that.
 *
 * A part of fastpath.bpf.c, whose helpers it uses.
 */
#ifndef KADEMLUA_ROUTE_H
#define KADEMLUA_ROUTE_H

/* Behind the header and the length, see src/wire/v1/route.rs. */
#define AT_FLAGS 32
#define AT_HOPS 33
#define AT_SKIP 34
#define AT_KIND 35
#define AT_ANSWER_TO 56
#define AT_BUDGET 74
#define AT_CLIENT 76
#define AT_STAMP 94
#define AT_SEAL 96

#define FLAG_DIRECT 1
#define FLAG_PROVED 2
#define FLAG_TRACE 4
#define FLAG_ITERATE 8

#define KIND_FINDVALUE 1

/* What is known of a ticket that was used: its stamp, its answers, and their bytes. */
#define USED_STAMP(used) ((used) >> 48)
#define USED_ANSWERS(used) ((used) >> 32 & 0xffff)
#define USED_BYTES(used) ((used) & 0xffffffff)
#define ONE_ANSWER (1ULL << 32)

/* Places that a ticket may be in. */
#define TICKET_PLACES 4

/* A client whose route came in here, and the station that it came from: the answer goes back there, as
 * an answer to any request does. */
struct client {
	struct endpoint endpoint;
	__u8 station[ETH_ALEN];
	__u8 pad[6];
};

/* What was relayed on a ticket. */
struct ticket {
	__u64 seal;
	__u64 used;
};

/* A line of the cache. */
struct tickets {
	struct ticket of[TICKET_PLACES];
};

/* Both have places by hash. A later client takes that of an earlier one, a ticket only that of one that has
 * expired. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CLIENTS_MAX);
	__type(key, __u32);
	__type(value, struct client);
} clients SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TICKETS_MAX / TICKET_PLACES);
	__type(key, __u32);
	__type(value, struct tickets);
} tickets SEC(".maps");

static __always_inline __u64 big_endian(const __u8 *bytes)
{
	return bpf_be64_to_cpu(word(bytes));
}

/* Whether an id is strictly nearer to the key than another. */
static __always_inline bool is_nearer(const __u8 *a, const __u8 *b, const __u8 *key)
{
	__u64 k = big_endian(key), one = big_endian(a) ^ k, other = big_endian(b) ^ k;

	if (one != other)
		return one < other;
	k = big_endian(key + 8);
	one = big_endian(a + 8) ^ k;
	other = big_endian(b + 8) ^ k;
	if (one != other)
		return one < other;
	return bpf_ntohl(half(a + 16) ^ half(key + 16)) < bpf_ntohl(half(b + 16) ^ half(key + 16));
}

/* How many bits two words have in common, the highest first. Without a branch, which nobody could foresee. */
static __always_inline __u32 common_bits(__u64 a, __u64 b)
{
	__u64 differing = a ^ b;
	__u32 bits = 0;

	if (!differing)
		return 64;
#pragma unroll
	for (__u32 half = 32; half; half >>= 1) {
		/* All ones where the upper half is zero. */
		__u32 shift = (((differing >> (64 - half)) - 1) >> 63) * half;

		barrier_var(shift);
		differing <<= shift & 63;
		bits += shift;
	}
	return bits;
}

/* How many bits an id shares with another. */
static __always_inline __u32 common_prefix(const __u8 *a, const __u8 *b)
{
	__u64 one = big_endian(a), other = big_endian(b);
	__u32 before = 0;

	if (one == other) {
		one = big_endian(a + 8);
		other = big_endian(b + 8);
		before = 64;
	}
	if (one == other) {
		one = (__u64)bpf_ntohl(half(a + 16)) << 32;
		other = (__u64)bpf_ntohl(half(b + 16)) << 32;
		before = 128;
	}
	before += common_bits(one, other);
	return before < 8 * ID_LEN ? before : 8 * ID_LEN;
}

/* A way down the tree, to the contact that has `nearer` others before it. */
struct walk {
	const struct table *table;
	const struct search *search;
	__u32 from;
	__u32 to;
	__u32 node;
	__u32 nearer;
	__u32 found;
};

/* Levels that are gone down without a call for each: those of a bucket. */
#define LEVELS_AT_ONCE 8

/* Returns 1 at the end, be it that the contact is found or that the table makes no sense. */
static __always_inline long step(struct walk *w)
{
	const struct table *t = w->table;
	__u32 from = w->from, to = w->to, node = w->node;
	const struct split *split;
	__u32 middle, near_size;
	bool right, near;

	if (to - from <= 1) {
		w->found = from;
		return 1;
	}
	/* The checked register itself must be the one that is used. */
	barrier_var(node);
	if (node >= CONTACTS_MAX)
		return 1;
	split = &t->splits[node];
	middle = node + 1;
	right = w->search->target[(split->bit >> 3) & 31] >> (~split->bit & 7) & 1;
	near_size = choose(right, to - middle, middle - from);
	near = w->nearer < near_size;
	w->nearer -= choose(near, 0, near_size);
	/* Into the right side: the near one, or the far one where the near is the left. */
	right = right == near;
	w->from = choose(right, middle, from);
	w->to = choose(right, to, middle);
	w->node = choose(right, split->right, split->left);
	return 0;
}

static long step_down(__u32 level __attribute__((unused)), struct walk *w)
{
	return step(w);
}

/* The rest of a long way. */
static __noinline __u32 walk_on(struct walk *w)
{
	bpf_loop(DEPTH_MAX, step_down, w, 0);
	return w->found;
}

/*
 * The contact that has `want` others before it in the order of distance to the target, or NOBODY if the
 * node itself is certainly nearer than that contact.
 *
 * A contact that shares fewer bits with the node than the target does is farther from the target than the
 * node. So the way begins at the contacts that share as many bits as the target.
 */
__noinline int find_nth(const struct table *t, struct search *s)
{
	struct walk walk = {}, rest;
	const struct start *start;
	__u32 bits;

	if (!t || !s)
		return NOBODY;
	bits = common_prefix(t->own_id, s->target);
	barrier_var(bits);
	if (bits > 8 * ID_LEN)
		return NOBODY;
	start = &t->starts[bits];
	walk.table = t;
	walk.search = s;
	walk.from = start->from;
	walk.to = start->to;
	walk.node = start->node;
	walk.nearer = s->want;
	walk.found = NOBODY;
	if (walk.nearer >= walk.to - walk.from)
		return NOBODY;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < LEVELS_AT_ONCE; i++) {
		if (step(&walk))
			return walk.found;
	}
	rest = walk;
	return walk_on(&rest);
}

/* Sum of bytes in the order of the machine, which the Internet checksum allows (RFC 1071, section 2). */
static __always_inline __u64 sum_as_they_are(const __u8 *bytes, __u32 len)
{
	__u64 sum = 0;

#pragma unroll
	for (__u32 i = 0; i + 4 <= len; i += 4) {
		sum += half(bytes + i);
		/* One after the other: the compiler would load all, and run out of places for them. */
		barrier_var(sum);
	}
	return sum;
}

/* Sum of those parts of a route that change on its way: the sender's id with what stands around it, flags
 * and hops, where the answer goes, and what its entry writes. */
static __always_inline __u64 sum_of_parts(const __u8 *m, bool is_entry)
{
	__u64 sum = sum_as_they_are(m, 24) + sum_as_they_are(m + AT_FLAGS, 4) +
		    sum_as_they_are(m + AT_ANSWER_TO, 20);

	return is_entry ? sum + sum_as_they_are(m + AT_CLIENT, ROUTE_LEN - AT_CLIENT) : sum;
}

/* What has to be added to a sum where one thing takes the place of another. */
static __always_inline __u32 change(__u64 before, __u64 after)
{
	return fold(after + (0xffff ^ fold(before)));
}

/* What an address adds to a sum; the mark of a mapped one is as good as zero. */
static __always_inline __u64 sum_of_address(const struct endpoint *e, bool v6)
{
	return v6 ? sum_as_they_are(e->address, 16) : half(e->address + 12);
}

static __always_inline bool is_nobody(const __u8 *id)
{
	return !word(id) && !word(id + 8) && !half(id + 16);
}

/* The endpoint in a route. */
static __always_inline void read_endpoint(struct endpoint *e, const __u8 *m)
{
	__builtin_memcpy(e->address, m, 16);
	__builtin_memcpy(&e->port, m + 16, 2);
	e->pad = 0;
}

static __always_inline void write_endpoint(__u8 *m, const struct endpoint *e)
{
	__builtin_memcpy(m, e->address, 16);
	__builtin_memcpy(m + 16, &e->port, 2);
}

/* Whether something can be sent there from here: of the family of the packet, and as far away. */
static __always_inline bool is_within_reach(const struct endpoint *e, const struct search *s, bool v6)
{
	bool is_v4 = !word(e->address) && half(e->address + 8) == bpf_htonl(0xffff);

	return is_v4 == !v6 && is_sendable(e, v6) &&
	       is_loopback(e, v6) == is_loopback(&s->destination, v6);
}

static __always_inline bool may_hold(const struct node *node, const __u8 *key)
{
	__u32 bit = hash_id(key, node->held_seed) & ((1 << HELD_BITS) - 1);

	return node->held[bit >> 6] >> (bit & 63) & 1;
}

static __always_inline __u16 stamp_of(const struct node *node, __u64 now)
{
	return (now + node->clock) / 1000 >> STAMP_BITS;
}

/* Whether a stamp is at most `max` units old, and no further ahead than clocks differ. */
static __always_inline bool is_fresh(__u16 now, __u16 made, __u16 max)
{
	return (__u16)(now + STAMPS_AHEAD - made) <= max + STAMPS_AHEAD;
}

/* The hash of what stands in `sealed`: rpc id, client, stamp and budget. */
static __always_inline __u64 seal(struct search *s, const __u64 *key, __u64 rpc_id,
				  const struct endpoint *client, __be16 stamp, __be16 budget)
{
	s->sealed[0] = rpc_id;
	s->sealed[1] = word(client->address);
	s->sealed[2] = word(client->address + 8);
	s->sealed[3] = client->port | (__u64)stamp << 16 | (__u64)budget << 32 |
		       (__u64)SEALED_LEN << 56;
	return siphash(key, s->sealed);
}

static __always_inline struct client *client_place(const struct endpoint *who)
{
	__u32 place = (hash_endpoint(who, SOURCE_SEED) >> 20) % CLIENTS_MAX;

	return bpf_map_lookup_elem(&clients, &place);
}

static __always_inline void remember_client(const struct endpoint *who, const __u8 *station)
{
	struct client *client = client_place(who);

	/* Most packets only read: processors need not quarrel about the line. */
	if (!client || (same_endpoint(&client->endpoint, who) &&
			!__builtin_memcmp(client->station, station, ETH_ALEN)))
		return;
	client->endpoint = *who;
	__builtin_memcpy(client->station, station, ETH_ALEN);
}

/*
 * Whether one more answer, of `len` bytes, may be relayed on a ticket: OURS, or the counter of what
 * becomes of it. Answers that are passed up after all have counted too: the node knows of those alone.
 */
static __always_inline int use_ticket(__u64 seal, __u16 now, __u16 stamp, __u32 len, __u32 budget)
{
	__u32 place = (seal ^ SOURCE_SEED) % (TICKETS_MAX / TICKET_PLACES);
	struct tickets *all = bpf_map_lookup_elem(&tickets, &place);
	struct ticket *ticket = NULL, *free = NULL;
	__u64 used, before = 0;

	if (!all)
		return PASSED_ROUTE;
#pragma unroll
	for (__u32 i = 0; i < TICKET_PLACES; i++) {
		struct ticket *there = &all->of[i];

		if (there->seal == seal) {
			ticket = there;
			break;
		}
		if (!free && (!there->seal ||
			      !is_fresh(now, USED_STAMP(there->used), TICKET_STAMPS))) {
			free = there;
			before = there->seal;
		}
	}
	if (!ticket) {
		/* Full, or another processor was faster: the node has a memory of its own. */
		if (!free || __sync_val_compare_and_swap(&free->seal, before, seal) != before)
			return PASSED_ROUTE;
		ticket = free;
		ticket->used = (__u64)stamp << 48;
	}
	used = __sync_fetch_and_add(&ticket->used, ONE_ANSWER | len);
	if (USED_ANSWERS(used) < RELAYS_MAX && USED_BYTES(used) + len <= budget)
		return OURS;
	__sync_fetch_and_add(&ticket->used, -(ONE_ANSWER | len));
	return DROPPED_TICKET;
}

/* Whether the sender left the checksum to hardware that is not there. What the driver gets knows nothing
 * of it any more. */
static __always_inline bool is_unfinished(const struct search *s, const struct udphdr *udp, bool v6)
{
	__u64 sum = sum_of_address(&s->request.source, v6) + sum_of_address(&s->destination, v6) +
		    bpf_htons(IPPROTO_UDP) + udp->len;

	return fold(sum) == udp->check;
}

/*
 * Sends a frame on to another endpoint, from the one that it came to. `change` is what the head of the
 * message sums to more than before. Returns 0, or what failed.
 */
static __always_inline int send_on(void *ctx, bool xdp, bool v6, struct search *s,
				   const struct endpoint *to, __u32 more)
{
	void *data = start_of(ctx, xdp), *end = end_of(ctx, xdp);
	__u32 at = (v6 ? AT_MESSAGE_IPV6 : AT_MESSAGE_IPV4) - sizeof(struct udphdr);
	struct ethhdr *eth = data;
	struct udphdr *udp = data + at;
	__u32 pseudo;

	if ((void *)(udp + 1) > end)
		return -1;
	/* The own address stays, and takes the place of the source; the other one takes its. */
	pseudo = change(sum_of_address(&s->request.source, v6), sum_of_address(to, v6));
	more = change(udp->source, (__u64)to->port + more);
	udp->source = udp->dest;
	udp->dest = to->port;
	if (v6) {
		struct ipv6hdr *ip = (void *)(eth + 1);

		*(__be32 *)ip = bpf_htonl(6 << 28);
		ip->saddr = ip->daddr;
		__builtin_memcpy(&ip->daddr, to->address, 16);
		ip->hop_limit = TTL;
	} else {
		struct iphdr *ip = (void *)(eth + 1);

		ip->saddr = ip->daddr;
		ip->daddr = half(to->address + 12);
		finish_ipv4(ip);
	}
	__builtin_memcpy(eth->h_source, s->way.from, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, s->way.to, ETH_ALEN);
	if (xdp) {
		/* None may stay none, over IPv4. */
		if (s->is_unfinished) {
			udp->check = 0;
		} else if (udp->check) {
			__u32 check = fold((__u64)(0xffff ^ udp->check) + pseudo + more) ^ 0xffff;

			udp->check = check ? check : 0xffff;
		}
		return 0;
	}
	/* Whoever finishes an unfinished one adds all but the pseudo header; the helper knows. */
	at += offsetof(struct udphdr, check);
	if (bpf_l4_csum_replace(ctx, at, 0, pseudo, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0))
		return -1;
	return bpf_l4_csum_replace(ctx, at, 0, more, BPF_F_MARK_MANGLED_0);
}

/* Where a frame leaves: by the interface that it came in by, or it is left to the node. */
static __always_inline bool find_way(void *ctx, bool xdp, struct search *s)
{
	const struct way *way = &s->way;
	bool has_station = half(way->to) || way->to[4] || way->to[5];

	s->by_neighbour = way->ifindex != LOOPBACK_IFINDEX && !has_station;
	return way->ifindex == interface_of(ctx, xdp) && !(xdp && s->by_neighbour);
}

/* Lets a client's route into the network: what only its entry may say is written anew. */
static __always_inline void let_in(__u8 *m, struct search *s, const struct node *node, bool v6)
{
	const struct request *r = &s->request;
	__u16 now = stamp_of(node, s->now), given = m[AT_STAMP] << 8 | m[AT_STAMP + 1];
	__u32 budget = AMPLIFICATION_MAX * r->len;
	__be16 stamp = bpf_htons(now), sealed_budget;
	__u64 ticket;
	bool proved;

	proved = is_loopback(&r->source, v6) ||
		 (is_fresh(now, given, TOKEN_STAMPS) &&
		  seal(s, node->secrets.token, 0, &r->source, bpf_htons(given), 0) ==
			  word(m + AT_SEAL));
	if (proved || budget > REPLY_MAX)
		budget = REPLY_MAX;
	sealed_budget = bpf_htons(budget);
	m[AT_FLAGS] = (m[AT_FLAGS] & ~FLAG_PROVED) | (proved ? FLAG_PROVED : 0);
	write_endpoint(m + AT_ANSWER_TO,
		       m[AT_FLAGS] & FLAG_DIRECT ? &r->source : &s->destination);
	__builtin_memcpy(m + AT_BUDGET, &sealed_budget, 2);
	write_endpoint(m + AT_CLIENT, &r->source);
	__builtin_memcpy(m + AT_STAMP, &stamp, 2);
	ticket = seal(s, node->secrets.ticket, word(m + AT_RPC_ID), &r->source, stamp,
		      sealed_budget);
	__builtin_memcpy(m + AT_SEAL, &ticket, 8);
}

/* Hands a route to a contact that is nearer to the key. */
static __always_inline int hand_on(void *ctx, bool xdp, bool v6, struct search *s, struct node *node,
				   const struct table *t)
{
	const struct request *r = &s->request;
	void *data = start_of(ctx, xdp), *end = end_of(ctx, xdp);
	__u8 *m = data + (v6 ? AT_MESSAGE_IPV6 : AT_MESSAGE_IPV4);
	bool is_entry = is_nobody(s->from);
	const struct contact *next;
	__u32 number, slot;
	__u64 before;

	if ((void *)m + ROUTE_LEN > end)
		return pass(r, PASSED_LENGTH);
	if (is_entry)
		remember_client(&r->source, ((struct ethhdr *)data)->h_source);
	if (m[AT_KIND] > KIND_FINDVALUE || m[AT_FLAGS] & (FLAG_TRACE | FLAG_ITERATE) ||
	    !m[AT_HOPS] || t->incomplete)
		return pass(r, PASSED_ROUTE);
	if (is_entry) {
		if (bpf_htons(node->own_port) != s->destination.port)
			return pass(r, PASSED_ROUTE);
	} else {
		if (!is_nearer(t->own_id, s->from, s->target))
			return drop(r, DROPPED_NEARER);
		read_endpoint(&s->other, m + AT_ANSWER_TO);
		if (!word(s->other.address) && !word(s->other.address + 8) && !s->other.port)
			s->other = r->source;
		if (!is_within_reach(&s->other, s, v6))
			return pass(r, PASSED_ROUTE);
	}
	if (may_hold(node, s->target))
		return pass(r, PASSED_HELD);
	s->want = m[AT_SKIP];
	number = find_nth(t, s);
	if (number >= CONTACTS_MAX)
		return pass(r, PASSED_NEAREST);
	next = &t->contacts[number];
	if (!is_nearer(next->id, t->own_id, s->target))
		return pass(r, PASSED_NEAREST);
	slot = next->slot % SEEN_MAX;
	s->way = node->ways[slot];
	if (!is_within_reach(&next->endpoint, s, v6) || !find_way(ctx, xdp, s))
		return pass(r, PASSED_WAY);
	s->is_unfinished = xdp && is_unfinished(s, (void *)m - sizeof(struct udphdr), v6);
	if (s->is_unfinished && v6)
		return pass(r, PASSED_WAY);

	before = sum_of_parts(m, is_entry);
	__builtin_memcpy(m + AT_FROM, t->own_id, ID_LEN);
	m[AT_HOPS] = (m[AT_HOPS] < HOPS_MAX ? m[AT_HOPS] : HOPS_MAX) - 1;
	if (is_entry)
		let_in(m, s, node, v6);
	else
		write_endpoint(m + AT_ANSWER_TO, &s->other);
	if (send_on(ctx, xdp, v6, s, &next->endpoint, change(before, sum_of_parts(m, is_entry))))
		return drop(r, DROPPED_FAILED);
	note(&node->used[slot], s->now);
	count(r->port, is_entry ? FORWARDED_ENTERED : FORWARDED_PASSED);
	return s->by_neighbour ? SEND_BY_NEIGHBOUR : SEND;
}

/* Hands an answer to the client that it is for, if its ticket is one of this node's. */
static __always_inline int relay(void *ctx, bool xdp, bool v6, struct search *s, struct node *node)
{
	const struct request *r = &s->request;
	void *data = start_of(ctx, xdp), *end = end_of(ctx, xdp);
	__u8 *m = data + (v6 ? AT_MESSAGE_IPV6 : AT_MESSAGE_IPV4);
	__u16 now = stamp_of(node, s->now), stamp;
	const struct client *client;
	__be16 sealed_stamp, budget;
	__u64 before, token;
	int parsed;

	if ((void *)m + ROUTE_LEN > end)
		return pass(r, PASSED_LENGTH);
	if (m[AT_KIND] > KIND_FINDVALUE)
		return pass(r, PASSED_ROUTE);
	read_endpoint(&s->other, m + AT_CLIENT);
	__builtin_memcpy(&sealed_stamp, m + AT_STAMP, 2);
	__builtin_memcpy(&budget, m + AT_BUDGET, 2);
	stamp = bpf_ntohs(sealed_stamp);
	if (!is_fresh(now, stamp, TICKET_STAMPS) ||
	    seal(s, node->secrets.ticket, word(m + AT_RPC_ID), &s->other, sealed_stamp, budget) !=
		    word(m + AT_SEAL))
		return drop(r, DROPPED_TICKET);
	/* The node's own have none. */
	if (!is_within_reach(&s->other, s, v6))
		return pass(r, PASSED_ROUTE);
	parsed = use_ticket(word(m + AT_SEAL), now, stamp, r->len, bpf_ntohs(budget));
	if (parsed == DROPPED_TICKET)
		return drop(r, parsed);
	if (parsed != OURS)
		return pass(r, parsed);
	client = client_place(&s->other);
	if (!client || !same_endpoint(&client->endpoint, &s->other))
		return pass(r, PASSED_WAY);
	s->way.ifindex = interface_of(ctx, xdp);
	__builtin_memcpy(s->way.to, client->station, ETH_ALEN);
	__builtin_memcpy(s->way.from, ((struct ethhdr *)data)->h_dest, ETH_ALEN);
	s->is_unfinished = xdp && is_unfinished(s, (void *)m - sizeof(struct udphdr), v6);
	if (s->is_unfinished && v6)
		return pass(r, PASSED_WAY);

	before = sum_as_they_are(m + AT_CLIENT, ROUTE_LEN - AT_CLIENT);
	sealed_stamp = bpf_htons(now);
	token = seal(s, node->secrets.token, 0, &s->other, sealed_stamp, 0);
	__builtin_memcpy(m + AT_STAMP, &sealed_stamp, 2);
	__builtin_memcpy(m + AT_SEAL, &token, 8);
	if (send_on(ctx, xdp, v6, s, &s->other, change(before, sum_as_they_are(m + AT_CLIENT, ROUTE_LEN - AT_CLIENT))))
		return drop(r, DROPPED_FAILED);
	count(r->port, FORWARDED_RELAYED);
	return SEND;
}

static __always_inline int serve_family(void *ctx, bool xdp, bool v6, struct search *s,
					struct node *node, const struct table *t)
{
	return s->request.call == CALL_ROUTE ? hand_on(ctx, xdp, v6, s, node, t) :
					       relay(ctx, xdp, v6, s, node);
}

/* Each of the two by itself, for the sake of the stack, and with code for each family, so that all offsets
 * are constants. */
static __noinline int serve_route_xdp(void *ctx, struct search *s, struct node *node,
				      const struct table *t)
{
	return s->request.v6 ? serve_family(ctx, true, true, s, node, t) :
			       serve_family(ctx, true, false, s, node, t);
}

static __noinline int serve_route_tcx(void *ctx, struct search *s, struct node *node,
				      const struct table *t)
{
	return s->request.v6 ? serve_family(ctx, false, true, s, node, t) :
			       serve_family(ctx, false, false, s, node, t);
}

static __always_inline int serve_route(void *ctx, bool xdp, const struct request *r,
				       struct search *s, struct node *node, const struct table *t)
{
	s->request = *r;
	return xdp ? serve_route_xdp(ctx, s, node, t) : serve_route_tcx(ctx, s, node, t);
}

#endif
